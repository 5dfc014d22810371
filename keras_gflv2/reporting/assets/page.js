// The report in the page: charts, tables, filters and pictures from the data beside it, after viewer.js.
const { about, runs } = JSON.parse(document.getElementById("report").textContent);
const charts = JSON.parse(document.getElementById("charts").textContent);
const names = runs[0].class_names;
const KINDS = {
  classification: "on an object of another class",
  localization: "too far off an object of its class (IoU 0.1 to 0.5)",
  both: "too far off an object of another class",
  duplicate: "on an object that a better detection has",
  background: "on no object (IoU up to 0.1)",
  missed: "objects that no detection comes near",
};

// === Charts ===

let confusionView = null;

async function drawAll() {
  for (const [name, spec] of Object.entries(charts)) {
    const holder = byId(`chart-${name}`);
    if (!holder) continue;
    if (name === "sides" && !runs.some((run) => run.sides.curve)) continue;
    const view = await draw(holder, structuredClone(spec));
    if (name === "confusion") confusionView = view;
  }
  await showConfusion();
  document.documentElement.dataset.drawn = isDark() ? "dark" : "light";
}

// === Tables ===

function describe() {
  const parts = [about.data, `${runs[0].num_images} images`, `${runs[0].num_objects} objects`, about.date,
    `keras_gflv2 ${about.version}`];
  byId("about").textContent = parts.filter(Boolean).join(" · ");
  byId("best").replaceChildren(...runs.map((run) => {
    const best = run.f1.best.at(-1);
    const name = runs.length > 1 ? `${run.name}: ` : "";
    const text = best.threshold === null ? "there is no object and no detection."
      : `F1 is best at a score threshold of ${best.threshold.toFixed(2)}: ${number(best.f1)}, with a precision of `
        + `${number(best.precision)} and a recall of ${number(best.recall)} (IoU 0.5, all classes together).`;
    return element("p", {}, name + text);
  }));
  const metrics = Object.keys(runs[0].metrics);
  table("table-metrics", "COCO metrics", ["run", ...metrics],
    runs.map((run) => [run.name, ...metrics.map((m) => number(run.metrics[m]))]));
  const columns = ["AP", "AP50", "small", "medium", "large"];
  const own = (run, [first, ...rest]) => (runs.length > 1 ? [first, run.name, ...rest] : [first, ...rest]);
  const also = runs.length > 1 ? ["run"] : [];
  const perClass = (rowsOf) => names.flatMap((_, i) => runs.map((run) => own(run, rowsOf(run, i))));
  table("table-classes", "AP of each class", ["class", ...also, "objects", ...columns], perClass((run, i) => {
    const row = run.classes[i];
    return [row.class, row.objects, ...columns.map((c) => number(row[c]))];
  }));
  const best = (run, i) => {
    const row = run.f1.best[i];
    return [row.class, number(row.threshold, 2), number(row.f1), number(row.precision), number(row.recall)];
  };
  table("table-f1", "Best thresholds", ["class", ...also, "threshold", "F1", "precision", "recall"],
    [...perClass(best), ...runs.map((run) => own(run, best(run, names.length)))]);
  const recalls = runs[0].precision_recall.recall.map((_, i) => i).filter((i) => i % 5 === 0);
  table("table-precision", "Precision at recalls", ["class", ...also, ...recalls.map((i) =>
    runs[0].precision_recall.recall[i].toFixed(1))], runs.flatMap((run) =>
    run.precision_recall.lines.map((line) => own(run, [line.class, ...recalls.map((i) => number(line.precision[i]))]))));
  table("table-errors", "Errors and what they cost", ["error", ...runs.flatMap((run) => {
    const prefix = runs.length > 1 ? `${run.name}: ` : "";
    return [`${prefix}count`, `${prefix}costs AP50`];
  }), "what it is"], [
    ...Object.entries(KINDS).map(([kind, text]) =>
      [kind, ...runs.flatMap((run) => [run.errors.counts[kind], number(run.errors.costs[kind])]), text]),
    ["false positives", ...runs.flatMap((run) => ["", number(run.errors.false_positives)]), "all detections without an object"],
    ["false negatives", ...runs.flatMap((run) => ["", number(run.errors.false_negatives)]), "all objects without a detection"],
  ]);
  table("table-reliability", "Scores and precision", ["mean score", ...also, "right", "detections"],
    runs.flatMap((run) => run.reliability.rows.map((row) =>
      own(run, [number(row.score), number(row.precision), row.count]))));
  byId("note-reliability").textContent = runs.map((run) =>
    `${runs.length > 1 ? `${run.name}: ` : ""}expected calibration error `
    + `${number(run.reliability.expected_calibration_error)}.`).join(" ");
  describeSides(own, also);
}

function describeSides(own, also) {
  const told = runs.filter((run) => run.sides.sides);
  byId("note-sides").textContent = runs.map((run) => {
    const name = runs.length > 1 ? `${run.name}: ` : "";
    if (run.sides.missing) return name + run.sides.missing;
    const law = run.sides.calibrated ? "calibrated" : "not calibrated (a normal law is assumed)";
    return `${name}${law}; rank correlation of uncertainty and error ${number(run.sides.sides.all.spearman)}.`;
  }).join(" ");
  const columns = ["spearman", "normalized_std", "within", "mean_uncertainty", "mean_absolute_error", "bias"];
  table("table-sides", "Uncertainties of the sides",
    ["side", ...also, "rank correlation", "std of error / uncertainty", "within one uncertainty", "mean uncertainty (px)",
      "mean error (px)", "bias (px)"],
    told.flatMap((run) => ["all", ...SIDES].map((side) =>
      own(run, [side, ...columns.map((c) => number(run.sides.sides[side][c]))]))));
}

// === Confusion matrix ===

function setUpConfusion() {
  const slider = byId("confusion-threshold");
  const reset = () => {
    const { thresholds, best } = runs[byId("confusion-run").value].confusion;
    slider.max = thresholds.length - 1;
    slider.value = best;
  };
  reset();
  byId("confusion-run").addEventListener("change", () => { reset(); showConfusion(); });
  slider.addEventListener("input", showConfusion);
}

async function showConfusion() {
  const { thresholds, best, cells } = runs[byId("confusion-run").value].confusion;
  const at = Number(byId("confusion-threshold").value);
  const text = thresholds[at].toFixed(2) + (at === best ? " (best F1)" : "");
  byId("confusion-value").textContent = text;
  byId("confusion-threshold").setAttribute("aria-valuetext", text);
  const size = names.length + 1;
  const counts = Array.from({ length: size }, () => Array(size).fill(0));
  for (const [t, truth, predicted, count] of cells) if (t === at) counts[truth][predicted] = count;
  const [truths, predictions] = [[...names, "(background)"], [...names, "(missed)"]];
  table("table-confusion", "Confusion matrix", ["truth \\ predicted", ...predictions],
    truths.map((name, i) => [name, ...counts[i]]));
  const rows = truths.flatMap((truth, i) => {
    const total = counts[i].reduce((a, b) => a + b, 0);
    return predictions.map((predicted, j) => {
      const share = total ? counts[i][j] / total : 0;
      return { truth, predicted, count: counts[i][j], share, bright: (share > 0.5) === isDark() };
    }).filter((row) => row.count);
  });
  if (!confusionView) return;
  const data = Object.keys(confusionView.getState({ data: () => true, signals: () => false }).data)
    .find((name) => name.startsWith("source"));
  confusionView.data(data, rows);
  await confusionView.runAsync();
}

// === Pictures ===

function sentence(image, detection) {
  const object = image.objects[detection.object];
  const truth = object ? `, truth ${names[object.class]}, IoU ${number(detection.iou, 2)}` : "";
  return `${names[detection.class]} ${number(detection.score, 2)}${truth}`;
}

// A photo with boxes; `item` is what it is about, `view` (x, y, width, height) what is seen of it.
function photo(image, item, view, allFocusable, choose) {
  const svg = drawn("svg", { class: "photo", viewBox: view.join(" "), role: "group", "aria-label": `image ${image.id}` });
  svg.append(drawn("image", { href: image.picture, width: image.width, height: image.height, preserveAspectRatio: "none" }));
  const place = (i) => (i === item.detection ? 1 : 0); // the one that it is about lies above the others
  const order = image.detections.map((_, i) => i).sort((a, b) => place(a) - place(b));
  for (const i of order) {
    const detection = image.detections[i];
    const kind = i === item.detection ? "error" : "other";
    const label = `${detection.kind}: ${sentence(image, detection)}`;
    svg.append(asButton(rectangle(detection.box, kind), label, allFocusable || kind === "error", () => choose(i)));
  }
  image.objects.forEach((object, i) => {
    if (i !== item.object) svg.append(rectangle(object.box, "truth"));
    else svg.append(asButton(rectangle(object.box, "lost"), `missed: ${names[object.class]}`, true, () => choose(undefined)));
  });
  return svg;
}

// The square around a box, with some of what is beside it, inside of the image where it can be.
function around(image, [left, top, right, bottom]) {
  const longest = Math.max(right - left, bottom - top);
  const size = Math.max(longest * 2, 0.25 * Math.min(image.width, image.height));
  const begin = (center, limit) => (size > limit ? (limit - size) / 2 : Math.min(Math.max(center - size / 2, 0), limit - size));
  return [begin((left + right) / 2, image.width), begin((top + bottom) / 2, image.height), size, size];
}

function classesOf(image, item) {
  if (item.object !== undefined) return [image.objects[item.object].class];
  const detection = image.detections[item.detection];
  const object = image.objects[detection.object];
  return object ? [detection.class, object.class] : [detection.class];
}

function setUpPictures() {
  options("pictures-kind", [["", "every kind"], ...Object.keys(KINDS).map((kind) => [kind, kind])]);
  options("pictures-class", [["", "every class"], ...names.map((name, i) => [i, name])]);
  for (const id of ["pictures-run", "pictures-kind", "pictures-class"]) byId(id).addEventListener("change", showPictures);
  showPictures();
}

function showPictures() {
  const { threshold, items, images } = runs[byId("pictures-run").value].gallery;
  const [kind, label] = [byId("pictures-kind").value, byId("pictures-class").value];
  byId("note-pictures").textContent = `Detections with scores above ${threshold.toFixed(2)}, the best threshold by F1. `
    + "Of each kind the detections with the highest scores, and the largest objects that are missed at this threshold, "
    + "in turn from each class.";
  const shown = items.filter((item) => (!kind || item.kind === kind)
    && (label === "" || classesOf(images[item.image], item).includes(Number(label))));
  byId("pictures-count").textContent = `${shown.length} of ${items.length} pictures`;
  byId("gallery").replaceChildren(...shown.map((item) => card(images[item.image], item)));
}

function card(image, item) {
  const detection = image.detections[item.detection];
  const box = detection ? detection.box : image.objects[item.object].box;
  const text = detection ? sentence(image, detection) : names[image.objects[item.object].class];
  const choose = (i) => showDetail(image, i === undefined ? item : { detection: i });
  return element("figure", { "data-kind": item.kind }, photo(image, item, around(image, box), false, choose),
    element("figcaption", {}, element("strong", {}, item.kind), text, element("br"), `image ${image.id}`));
}

// === One box ===

let detailViews = [];

async function showDetail(image, item) {
  const detection = image.detections[item.detection];
  const object = image.objects[detection ? detection.object : item.object];
  byId("h-detail").textContent = detection ? `${names[detection.class]}, ${detection.kind}` : `${names[object.class]}, missed`;
  const choose = (i) => i !== undefined && showDetail(image, { detection: i });
  const whole = photo(image, item, [0, 0, image.width, image.height], true, choose);
  byId("detail-picture").replaceChildren(whole);
  table("detail-table", "The box", ["", ""], detection ? [
    ["error", KINDS[detection.kind] || "none"],
    ["score", number(detection.score)],
    ["class score C", number(detection.class_score)],
    ["quality I", number(detection.quality)],
    ["truth", object ? `${names[object.class]}, IoU ${number(detection.iou)}` : "–"],
    ["image", image.id],
  ] : [["error", KINDS.missed], ["truth", names[object.class]], ["image", image.id]]);
  const sides = (detection && detection.sides) || [];
  byId("detail-note").textContent = noteOf(detection);
  detailViews.forEach((view) => view.finalize());
  detailViews = [];
  const holders = sides.map(() => element("div", { class: "chart" }));
  byId("detail-sides").replaceChildren(...holders.map((holder, i) => {
    const spread = detection.uncertainties ? ` ± ${detection.uncertainties[i].toFixed(1)} px` : "";
    const text = `${SIDES[i]}: ${detection.box[i].toFixed(1)}${spread}`;
    return element("figure", {}, element("figcaption", {}, text), holder);
  }));
  const dialog = byId("detail");
  if (!dialog.open) dialog.showModal();
  else whole.querySelector(".error").focus();
  detailViews = await Promise.all(holders.map((holder, i) => drawSide(holder, i, sides[i], detection, object)));
}

function noteOf(detection) {
  if (!detection) return "Choose another box to see what the detector says of it.";
  if (!detection.sides) return "There are no distributions of this box: the detector has none, or several views were averaged.";
  return "The distributions of the four sides, in pixels of the image. Solid line: the predicted side; dashed: the true one.";
}

function drawSide(holder, i, side, detection, object) {
  return draw(holder, sideChart(charts.side, i, side, detection.box[i], object && object.box[i]));
}

// === Start ===

for (const id of ["confusion-run", "pictures-run"]) options(id, runs.map((run, i) => [i, run.name]));
if (runs.length === 1) document.querySelectorAll(".run-choice").forEach((label) => { label.hidden = true; });
describe();
setUpConfusion();
setUpPictures();
followTheme(drawAll);
drawAll();
