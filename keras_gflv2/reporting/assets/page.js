// The report in the page: charts by Vega-Embed, tables, filters and pictures from the data beside it.
const { about, runs } = JSON.parse(document.getElementById("report").textContent);
const charts = JSON.parse(document.getElementById("charts").textContent);
const names = runs[0].class_names;
const SIDES = ["left", "top", "right", "bottom"];
const KINDS = {
  classification: "on an object of another class",
  localization: "too far off an object of its class (IoU 0.1 to 0.5)",
  both: "too far off an object of another class",
  duplicate: "on an object that a better detection has",
  background: "on no object (IoU up to 0.1)",
  missed: "objects that no detection comes near",
};
const byId = (id) => document.getElementById(id);
const number = (value, digits = 3) => (value === null || value === undefined ? "–" : value.toFixed(digits));

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function table(id, caption, columns, rows) {
  // Columns of words stand left, those of numbers right.
  const sides = columns.map((_, i) => (rows.every((row) => /^[-–\d.]*$/.test(row[i])) ? "number" : "words"));
  const head = element("tr", {}, ...columns.map((c, i) => element("th", { scope: "col", class: sides[i] }, c)));
  const body = rows.map(([first, ...rest]) => element("tr", {},
    element("th", { scope: "row", class: sides[0] }, String(first)),
    ...rest.map((v, i) => element("td", { class: sides[i + 1] }, String(v)))));
  byId(id).replaceChildren(element("table", { "aria-label": caption },
    element("thead", {}, head), element("tbody", {}, ...body)));
}

function options(id, values) {
  byId(id).replaceChildren(...values.map(([value, text]) => element("option", { value }, text)));
}

// === Charts ===

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function look() {
  const style = getComputedStyle(document.documentElement);
  const [text, line] = [style.getPropertyValue("--text").trim(), style.getPropertyValue("--line").trim()];
  const labels = { labelColor: text, titleColor: text, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" };
  const palette = isDark()
    ? ["#6cb2ff", "#ffb454", "#7fd962", "#ff8f8f", "#c792ea", "#59d1c8", "#f2e266", "#ff9ad5", "#c9a27e", "#b8c0cc"]
    : ["#0b62c4", "#c25700", "#1f7a33", "#b3261e", "#7b3fb5", "#007c7c", "#8a6d00", "#b0257a", "#77543a", "#5b6570"];
  return {
    background: null, view: { stroke: null }, font: "system-ui, sans-serif",
    axis: { ...labels, gridColor: line, domainColor: line, tickColor: line, labelLimit: 140 },
    legend: { ...labels, orient: "bottom", columns: innerWidth < 600 ? 2 : 4, labelLimit: 160 },
    mark: { color: palette[0] }, bar: { color: palette[0] }, line: { color: palette[0] }, point: { color: palette[0] },
    text: { color: text }, range: { category: palette },
  };
}

function draw(holder, spec) {
  return window.vegaEmbed(holder, spec, {
    mode: "vega-lite", renderer: "svg", logLevel: 1, config: look(), tooltip: { theme: isDark() ? "dark" : "light" },
    actions: { export: true, source: false, compiled: false, editor: false },
  }).then((result) => result.view);
}

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
    return predictions.map((predicted, j) => ({ truth, predicted, count: counts[i][j],
      share: total ? counts[i][j] / total : 0 })).filter((row) => row.count);
  });
  if (!confusionView) return;
  const data = Object.keys(confusionView.getState({ data: () => true, signals: () => false }).data)
    .find((name) => name.startsWith("source"));
  confusionView.data(data, rows);
  await confusionView.runAsync();
}

// === Pictures ===

const SVG = "http://www.w3.org/2000/svg";

function drawn(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function rectangle([left, top, right, bottom], kind) {
  return drawn("rect", { x: left, y: top, width: Math.max(right - left, 0), height: Math.max(bottom - top, 0), class: kind });
}

function sentence(image, detection) {
  const object = image.objects[detection.object];
  const truth = object ? `, truth ${names[object.class]}, IoU ${number(detection.iou, 2)}` : "";
  return `${names[detection.class]} ${number(detection.score, 2)}${truth}`;
}

// A box that opens on a click, Enter or the space bar.
function asButton(box, label, focusable, open) {
  const title = drawn("title", {});
  title.textContent = label;
  box.append(title);
  for (const [name, value] of Object.entries({ role: "button", "aria-label": label, tabindex: focusable ? 0 : -1 }))
    box.setAttribute(name, value);
  box.addEventListener("click", open);
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    open();
  });
  return box;
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

function drawSide(holder, i, { probabilities, start, step }, detection, object) {
  const spec = structuredClone(charts.side);
  const half = Math.abs(step) * 0.45;
  spec.description += ` ${SIDES[i]} side.`;
  spec.data.values = probabilities.map((probability, bin) => {
    const middle = start + bin * step;
    return { middle, place: middle - half, end: middle + half, probability };
  }).filter((row) => row.probability >= 0.002);
  spec.layer[1].data.values = [{ at: detection.box[i] }];
  spec.layer[2].data.values = object ? [{ at: object.box[i] }] : [];
  return draw(holder, spec);
}

// === Start ===

for (const id of ["confusion-run", "pictures-run"]) options(id, runs.map((run, i) => [i, run.name]));
if (runs.length === 1) document.querySelectorAll(".run-choice").forEach((label) => { label.hidden = true; });
describe();
setUpConfusion();
setUpPictures();
byId("theme").addEventListener("change", (event) => {
  if (event.target.value) document.documentElement.dataset.theme = event.target.value;
  else delete document.documentElement.dataset.theme;
  drawAll();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
drawAll();
