// What the report and the app share: elements, charts by Vega-Embed in the page's colors, boxes on photos.
const SIDES = ["left", "top", "right", "bottom"];
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
  const shares = isDark() ? ["#16263a", "#8cc4ff"] : ["#e8f1fb", "#0b4a99"]; // none stands out least
  return {
    background: null, view: { stroke: null }, font: "system-ui, sans-serif",
    axis: { ...labels, gridColor: line, domainColor: line, tickColor: line, labelLimit: 140 },
    legend: { ...labels, orient: "bottom", columns: innerWidth < 600 ? 2 : 4, labelLimit: 160 },
    mark: { color: palette[0] }, bar: { color: palette[0] }, line: { color: palette[0] }, point: { color: palette[0] },
    text: { color: text }, range: { category: palette, heatmap: shares },
  };
}

function draw(holder, spec, actions = { export: true, source: false, compiled: false, editor: false }) {
  return window.vegaEmbed(holder, spec, {
    mode: "vega-lite", renderer: "svg", logLevel: 1, config: look(), tooltip: { theme: isDark() ? "dark" : "light" },
    actions,
  }).then((result) => result.view);
}

// === Boxes on photos ===

const SVG = "http://www.w3.org/2000/svg";

function drawn(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function rectangle([left, top, right, bottom], kind) {
  return drawn("rect", { x: left, y: top, width: Math.max(right - left, 0), height: Math.max(bottom - top, 0), class: kind });
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

// === The distribution of a side ===

// Rows of its chart, from {probabilities, start, step}: the bins are at start + i * step.
function sideRows({ probabilities, start, step }) {
  const half = Math.abs(step) * 0.45;
  return probabilities.map((probability, bin) => {
    const middle = start + bin * step;
    return { middle, place: middle - half, end: middle + half, probability };
  }).filter((row) => row.probability >= 0.002);
}

// The chart of side i, with the predicted and, where it is known, the true place.
function sideChart(chart, i, side, predicted, truth) {
  const spec = structuredClone(chart);
  spec.description += ` ${SIDES[i]} side.`;
  spec.data.values = sideRows(side);
  spec.layer[1].data.values = [{ at: predicted }];
  spec.layer[2].data.values = truth === undefined ? [] : [{ at: truth }];
  return spec;
}

// === Light and dark ===

// Has the list of themes, and the system where none is chosen, decide the colors.
function followTheme(redraw) {
  byId("theme").addEventListener("change", (event) => {
    if (event.target.value) document.documentElement.dataset.theme = event.target.value;
    else delete document.documentElement.dataset.theme;
    redraw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}
