// The app in the page, after viewer.js: sends images, shows what was found, and asks again when NMS changes.
const settings = JSON.parse(byId("settings").textContent);
const COLORS = ["#00b7ff", "#ffb000", "#ff4d6d", "#6fe04a", "#c77dff", "#ffe14d", "#00e0b0", "#ff8ad8", "#ff7f2a", "#9ad1ff"];
const color = (detection) => COLORS[detection.class % COLORS.length];
// Ends of names tell images of a series apart.
function brief(name) {
  const stem = name.replace(/\.[^.]*$/, "");
  return stem.length > 11 ? `…${stem.slice(-10)}` : stem;
}
const megabytes = (bytes) => `${Number((bytes / 1e6).toFixed(1))} MB`;

// An image: {name, file or example} as it was chosen; {token, width, height, picture, nms, detections} once it was
// looked at; `tried`, the NMS threshold that was asked for last.
let images = [];
let current = null;
let chosen = null; // a detection of the current image
let pinned = false; // whether it stays when the pointer moves on

const scoreThreshold = () => Number(byId("score").value);
const nmsThreshold = () => Number(byId("nms").value);
const shown = (image) => (image.detections || []).filter((d) => d.result.score > scoreThreshold());

// === What goes wrong ===

function complain(text) {
  const close = element("button", { "aria-label": "Dismiss" }, "×");
  const item = element("li", {}, element("span", {}, text), close);
  close.addEventListener("click", () => item.remove());
  byId("problems").append(item);
}

async function ask(path, parameters, body) {
  let response;
  try {
    response = await fetch(`${path}?${new URLSearchParams(parameters)}`, { method: "POST", body });
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const error = new Error(answer.error || `The server answered with status ${response.status}.`);
  error.status = response.status;
  throw error;
}

// === Images come in ===

function add(files) {
  byId("problems").replaceChildren();
  const fitting = files.filter((file) => {
    if (file.size === 0) complain(`${file.name} is empty: there is nothing in the file.`);
    else if (file.size > settings.max_bytes) {
      complain(`${file.name} has ${megabytes(file.size)}, more than the ${megabytes(settings.max_bytes)} that are accepted `
        + "(--max-megabytes).");
    } else return true;
    return false;
  });
  enqueue(fitting.map((file) => ({ name: file.name, file })));
}

function enqueue(added) {
  if (!added.length) return;
  images.push(...added);
  byId("result").hidden = false;
  open(added[0]);
  work();
}

function setUpInput() {
  byId("choose").addEventListener("click", () => byId("files").click());
  byId("files").addEventListener("change", (event) => {
    add([...event.target.files]);
    event.target.value = ""; // the same file can be chosen again
  });
  const mark = (on) => document.body.classList.toggle("dropping", on);
  document.addEventListener("dragover", (event) => { event.preventDefault(); mark(true); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) mark(false); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
    const folders = new Set(items.map((item) => item.webkitGetAsEntry()).filter((e) => e && e.isDirectory).map((e) => e.name));
    const files = [...event.dataTransfer.files];
    add(files.filter((file) => !folders.has(file.name)));
    for (const name of folders) complain(`${name} is a folder: drop the images in it.`);
    if (!files.length) complain("This is no file: save the image first, or copy and paste it.");
  });
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (files.length) add(files);
    else complain("There is no image in the clipboard.");
  });
}

async function setUpExamples() {
  if (!settings.has_examples) return;
  const { names } = await (await fetch("api/examples")).json();
  byId("examples").hidden = false;
  byId("example-list").append(...names.map((name) => {
    const source = `api/thumbnail?${new URLSearchParams({ name })}`;
    const button = element("button", { title: name }, element("img", { src: source, alt: "", loading: "lazy" }), brief(name));
    button.addEventListener("click", () => {
      byId("problems").replaceChildren();
      enqueue([{ name, example: name }]);
    });
    return button;
  }));
}

// === The server is asked, for one image at a time ===

let working = null;

// Until every image is decoded with the NMS threshold that is chosen, the one that is seen first.
function work() {
  working = working || (async () => {
    for (let image; (image = stale());) await update(image);
    working = null;
    showStatus();
  })();
  return working;
}

function stale() {
  const wanting = images.filter((image) => image.tried !== nmsThreshold());
  return wanting.includes(current) ? current : wanting[0];
}

async function update(image) {
  image.tried = nmsThreshold();
  showStatus(image);
  try {
    let answer = image.token && await again(image);
    if (!answer) {
      const source = image.example === undefined ? { name: image.name } : { example: image.example };
      answer = await ask("api/detect", { ...source, nms_threshold: image.tried }, image.file);
    }
    Object.assign(image, answer);
  } catch (error) {
    complain(error.message);
    if (!image.token) images = images.filter((other) => other !== image);
    if (image === current && !image.token) open(images[0] || null);
  }
  if (image === current) showCurrent();
  showStrip();
}

// The detections of an image that the server still knows, for another threshold.
async function again(image) {
  try {
    return await ask("api/decode", { token: image.token, nms_threshold: image.tried });
  } catch (error) {
    if (error.status === 410) return null;
    throw error;
  }
}

function showStatus(busy) {
  const waiting = images.filter((image) => !image.detections).length;
  const count = images.reduce((sum, image) => sum + shown(image).length, 0);
  const many = images.length > 1 ? ` in ${images.length} images` : "";
  const all = current && current.detections && current.detections.length === settings.max_detections
    ? ` The detector tells its best ${settings.max_detections} of an image.` : "";
  byId("status").textContent = busy
    ? `Looking at ${busy.name}${waiting > 1 ? `, and ${waiting - 1} more wait` : ""} …`
    : `${count} box${count === 1 ? "" : "es"} above ${scoreThreshold().toFixed(2)}${many}.${all}`;
  document.documentElement.dataset.busy = Boolean(busy);
}

// === What was found ===

function open(image) {
  current = image;
  choose(null);
  byId("result").hidden = !images.length;
  showStrip();
  showCurrent();
}

function showStrip() {
  const focused = [...byId("images").children].indexOf(document.activeElement);
  byId("images").hidden = images.length < 2;
  byId("images").replaceChildren(...images.map((image) => {
    const picture = image.picture ? element("img", { src: image.picture, alt: "" }) : element("span", { class: "blank" });
    const count = image.detections ? `${shown(image).length} boxes` : "waiting";
    const button = element("button", { title: image.name, "aria-pressed": image === current }, picture, brief(image.name),
      element("small", {}, count));
    button.addEventListener("click", () => open(image));
    return button;
  }));
  if (focused >= 0) byId("images").children[Math.min(focused, images.length - 1)]?.focus();
}

function showCurrent() {
  const found = current ? shown(current) : [];
  if (!found.includes(chosen)) choose(chosen && (found.find((d) => isSame(d, chosen)) || null), pinned);
  byId("picture").replaceChildren(...(current && current.picture ? [photo(current, found)] : []));
  byId("legend").replaceChildren(...settings.class_names.flatMap((name, i) => {
    const count = found.filter((d) => d.class === i).length;
    if (!count) return [];
    return [element("li", {}, element("span", { class: "swatch", style: `border-color: ${color({ class: i })}` }), `${name} ${count}`)];
  }));
  const spread = settings.has_distributions ? ["uncertainties (px)"] : [];
  table("table-boxes", "Boxes", ["class", "score", "quality", "left", "top", "right", "bottom", ...spread], found.map((d) => [
    d.result.category_name, number(d.result.score), number(d.quality), ...d.box.map((side) => number(side, 1)),
    ...(spread.length ? [(d.result.uncertainties || []).map((u) => number(u, 1)).join(" / ")] : [])]));
  mark();
}

// After another NMS a box that is still there is found anew.
function isSame(one, other) {
  return one.class === other.class && one.box.every((side, i) => Math.abs(side - other.box[i]) < 0.01);
}

// The image with its boxes; small ones lie above large ones, so that all can be pointed at.
function photo(image, found) {
  const svg = drawn("svg", { class: "photo", viewBox: `0 0 ${image.width} ${image.height}`, role: "group", "aria-label": image.name });
  svg.append(drawn("image", { href: image.picture, width: image.width, height: image.height, preserveAspectRatio: "none" }));
  svg.append(drawn("g", { id: "spreads" }));
  const area = ({ result: { bbox } }) => bbox[2] * bbox[3];
  for (const detection of [...found].sort((a, b) => area(b) - area(a))) {
    svg.append(rectangle(detection.box, "under"));
    const label = `${detection.result.category_name} ${number(detection.result.score, 2)}`;
    const box = asButton(rectangle(detection.box, "box"), label, true, () => choose(detection, !(pinned && detection === chosen)));
    box.style.stroke = color(detection);
    box.detection = detection;
    for (const event of ["pointerenter", "focus"]) box.addEventListener(event, () => pinned || choose(detection));
    svg.append(box);
  }
  return svg;
}

// === One box ===

function choose(detection, pin = false) {
  [chosen, pinned] = [detection, pin && detection !== null];
  mark();
  showDetail();
}

// Shades how far the sides of the chosen box may be off, and marks it.
function mark() {
  const svg = byId("picture").firstElementChild;
  if (!svg) return;
  svg.classList.toggle("chosen-one", chosen !== null);
  for (const box of svg.querySelectorAll(".box")) box.classList.toggle("chosen", box.detection === chosen);
  byId("spreads").replaceChildren(...(chosen && chosen.result.uncertainties ? bands(chosen) : []));
}

function bands({ box: [left, top, right, bottom], result, ...detection }) {
  const [l, t, r, b] = result.uncertainties;
  return [[left - l, top, left + l, bottom], [left, top - t, right, top + t], [right - r, top, right + r, bottom],
    [left, bottom - b, right, bottom + b]].map((band) => {
    const made = rectangle(band, "spread");
    made.style.fill = color(detection);
    return made;
  });
}

function showDetail() {
  byId("h-detail").textContent = chosen ? `${chosen.result.category_name}, score ${number(chosen.result.score, 2)}` : "A box";
  byId("detail-note").textContent = noteOf(chosen);
  if (!chosen) byId("detail-table").replaceChildren();
  else {
    const [x, y, width, height] = chosen.result.bbox.map((value) => number(value, 1));
    table("detail-table", "The box", ["", ""], [
      ["score", number(chosen.result.score)],
      ["class score C", number(chosen.class_score)],
      ["quality I", number(chosen.quality)],
      ["place", `x ${x}, y ${y}`],
      ["size", `${width} × ${height} px`],
    ]);
  }
  showSides();
}

function noteOf(detection) {
  const pin = "A click or Enter keeps a box, Escape lets it go.";
  if (!detection) return `Point at a box, or reach it by Tab, to see what the detector says of it. ${pin}`;
  if (!settings.has_distributions) return "This detector has no distributions: its boxes come without uncertainties.";
  if (!detection.sides) return "The decoder of this detector does not tell the distributions of its boxes.";
  const law = settings.is_calibrated ? "calibrated" : "not calibrated";
  return `Below, the distributions of the four sides in pixels of the image; the line is the predicted side. Shaded on the image: `
    + `one standard deviation (${law}). ${pin}`;
}

// The four charts are made once, and get other data for another box.
let sideViews = null;
let drawing = Promise.resolve();

function showSides() {
  byId("detail-sides").hidden = !(chosen && chosen.sides);
  drawing = drawing.then(drawSides);
}

async function drawSides() {
  if (!(chosen && chosen.sides)) return;
  const { box, sides, result } = chosen;
  if (!sideViews) {
    const holders = SIDES.map(() => element("div", { class: "chart" }));
    byId("detail-sides").replaceChildren(...holders.map((holder) => element("figure", {}, element("figcaption"), holder)));
    sideViews = await Promise.all(holders.map((holder, i) => 
      draw(holder, { ...sideChart(settings.side_chart, i, sides[i], box[i]), height: 110 }, false)));
  } else {
    await Promise.all(sideViews.map((view, i) =>
      view.data("bars", sideRows(sides[i])).data("predicted", [{ at: box[i] }]).runAsync()));
  }
  byId("detail-sides").querySelectorAll("figcaption").forEach((caption, i) => {
    const [low, high] = result.intervals ? result.intervals[i].map((end) => end.toFixed(1)) : [];
    caption.replaceChildren(`${SIDES[i]}: ${box[i].toFixed(1)} ± ${result.uncertainties[i].toFixed(1)} px`);
    if (result.intervals) caption.append(element("small", {}, `${settings.coverage * 100}%: ${low} to ${high}`));
  });
}

// === Download ===

// What `keras-gflv2 predict --formats json` writes, of the boxes above the threshold.
async function download() {
  await work();
  const rows = images.flatMap((image, i) => shown(image).map((d) => ({ image_id: i, file_name: image.name, ...d.result })));
  const text = `[${rows.map((row) => `\n${JSON.stringify(row)}`).join(",")}\n]\n`;
  const link = element("a", { download: "detections.json", href: URL.createObjectURL(new Blob([text], { type: "application/json" })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// === Start ===

function setUpControls() {
  const [score, nms] = [byId("score"), byId("nms")];
  [score.min, score.value, nms.value] = [settings.least_score, settings.score_threshold, settings.nms_threshold];
  const say = () => {
    byId("score-value").textContent = scoreThreshold().toFixed(2);
    byId("nms-value").textContent = nmsThreshold().toFixed(2);
  };
  say();
  score.addEventListener("input", () => { say(); showCurrent(); showStrip(); if (!working) showStatus(); });
  let timer;
  nms.addEventListener("input", () => { say(); clearTimeout(timer); timer = setTimeout(work, 150); });
  byId("download").addEventListener("click", download);
  byId("clear").addEventListener("click", () => { images = []; open(null); byId("choose").focus(); });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") choose(null); });
}

byId("about").textContent = `${settings.class_names.length} class${settings.class_names.length === 1 ? "" : "es"}: `
  + `${settings.class_names.slice(0, 8).join(", ")}${settings.class_names.length > 8 ? ", …" : ""} · keras_gflv2 ${settings.version}`;
byId("limits").textContent = `Up to ${megabytes(settings.max_bytes)} and ${settings.max_megapixels} million pixels each. `
  + "They go to the machine that runs this page, and nowhere else.";
setUpControls();
setUpInput();
setUpExamples();
showDetail();
followTheme(() => { sideViews = null; showSides(); });
