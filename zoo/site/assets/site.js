// The table that filters and sorts, and the plot of the comparison. Text only ever enters a page as
// text (textContent, setAttribute), whatever a card says.
"use strict";
document.documentElement.classList.add("js");

const list = document.getElementById("models");
if (list) listPage(list);
if (document.getElementById("plot")) comparePage();

function listPage(table) {
  const form = document.getElementById("filters");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const count = document.getElementById("count");
  const compare = document.getElementById("compare");

  function filter() {
    const words = form.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const most = (name) => (form[name].value === "" ? Infinity : Number(form[name].value));
    const params = most("params") * 1e6, error = most("error");
    let shown = 0;
    for (const row of rows) {
      const d = row.dataset;
      const fits = words.every((word) => d.words.includes(word)) &&
        (!form.family.value || d.family === form.family.value) &&
        Number(d.params) <= params &&
        (error === Infinity || (d.error !== undefined && Number(d.error) <= error)) &&
        ["streaming", "trained", "turns"].every((f) => !form[f].checked || f in d);
      row.hidden = !fits;
      shown += fits;
    }
    const what = shown === 1 ? "model" : "models";
    count.textContent = shown === rows.length ? `${shown} ${what}` : `${shown} of ${rows.length} models`;
  }

  function sort(button) {
    const head = button.closest("th");
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => row.cells[head.cellIndex].dataset.value;
    const numbers = "numeric" in head.dataset;
    const order = (a, b) => numbers ? Number(a) - Number(b) : a.localeCompare(b);
    rows.sort((a, b) => {
      const x = value(a), y = value(b);
      // What is not known stays last, whichever way the rest goes.
      if (x === "" || y === "") return (x === "") - (y === "");
      return up ? order(x, y) : order(y, x);
    });
    body.append(...rows);
  }

  function choose() {
    const names = rows.map((row) => row.querySelector(".choose")).filter((c) => c.checked);
    const query = new URLSearchParams({ models: names.map((c) => c.value).join(",") });
    compare.href = names.length ? `compare.html?${query}` : "compare.html";
  }

  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  table.tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) sort(button);
  });
  body.addEventListener("change", choose);
  filter();
  choose();
}

function comparePage() {
  const models = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("compare-form");
  const choices = document.getElementById("choose");
  const asked = new URLSearchParams(location.search).get("models");
  const wanted = asked ? new Set(asked.split(",")) : null;

  const counts = new Map();
  for (const model of models) {
    for (const r of model.results) counts.set(key(r), (counts.get(key(r)) || 0) + 1);
  }
  const data = [...counts].sort((a, b) => b[1] - a[1]);
  for (const [name, number] of data) {
    const option = make("option", `${name} (${number})`);
    option.value = name;
    form.data.append(option);
  }
  // The data set that most of the wanted models have.
  if (wanted) {
    const of = (name) => models.filter((m) => wanted.has(m.name) && m.results.some((r) => key(r) === name)).length;
    const best = data.map(([name]) => name).sort((a, b) => of(b) - of(a))[0];
    if (best) form.data.value = best;
  }
  for (const model of models.filter((m) => m.results.length)) {
    const box = make("input");
    Object.assign(box, { type: "checkbox", name: "model", value: model.name });
    box.checked = !wanted || wanted.has(model.name);
    const label = make("label");
    label.append(box, ` ${model.name}`);
    choices.append(label);
  }
  form.addEventListener("input", draw);
  form.addEventListener("submit", (event) => event.preventDefault());
  draw();

  function key(r) { return `${r.metric}, ${r.data}`; }

  function draw() {
    const chosen = new Set([...choices.querySelectorAll("input")].filter((b) => b.checked).map((b) => b.value));
    const axis = form.axis.value;
    const points = models.filter((m) => chosen.has(m.name)).flatMap((m) => {
      const result = m.results.find((r) => key(r) === form.data.value);
      return result && m[axis] !== null ? [{ ...result, model: m, x: m[axis] }] : [];
    });
    const label = form.axis.selectedOptions[0].textContent;
    document.getElementById("plot").replaceChildren(plot(points, label));
    document.getElementById("plot-table").replaceChildren(values(points, label));
    document.getElementById("told").textContent =
      points.length ? `${points.length} models on ${form.data.value}` : "No chosen model was measured on this.";
  }
}

function plot(points, label) {
  const width = 760, height = 420, left = 60, right = 150, top = 34, bottom = 48;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, class: "chart", role: "group", "aria-label": `Error rate across ${label}` });
  const mostX = 1.05 * Math.max(...points.map((p) => p.x), 1e-9);
  const mostY = 1.05 * Math.max(...points.map((p) => p.high ?? p.error), 1e-9);
  const x = (v) => left + (width - left - right) * v / mostX;
  const y = (v) => height - bottom - (height - top - bottom) * v / mostY;
  for (let i = 0; i <= 4; i++) {
    const v = mostY * i / 4, w = mostX * i / 4;
    svg.append(draw("line", { x1: left, x2: width - right, y1: y(v), y2: y(v), class: "grid" }));
    svg.append(text(v.toPrecision(2), left - 8, y(v) + 4, "end"), text(w.toPrecision(2), x(w), height - bottom + 20, "middle"));
  }
  svg.append(text(label, (left + width - right) / 2, height - 8, "middle"), text("error rate, %", 4, 12, "start"));
  let last = [];
  for (const p of [...points].sort((a, b) => a.error - b.error)) {
    const link = draw("a", { href: p.model.page, "aria-label": tell(p, label) });
    if (p.low !== null && p.high !== null) {
      link.append(draw("line", { x1: x(p.x), x2: x(p.x), y1: y(p.low), y2: y(p.high), class: "span" }));
    }
    link.append(draw("circle", { cx: x(p.x), cy: y(p.error), r: 6, class: "dot" }));
    // Names of marks that lie close together move up.
    let at = y(p.error) + 4;
    while (last.some(([a, b]) => Math.abs(a - x(p.x)) < 110 && Math.abs(b - at) < 14)) at -= 2;
    last.push([x(p.x), at]);
    link.append(text(p.model.name, x(p.x) + 10, at, "start"));
    const title = draw("title", {});
    title.textContent = tell(p, label);
    link.append(title);
    svg.append(link);
  }
  return svg;
}

function values(points, label) {
  const table = make("table");
  table.append(make("caption", "The plot's numbers"));
  const head = make("tr");
  for (const name of ["model", label, "error rate", "95 %"]) {
    const cell = make("th", name);
    cell.scope = "col";
    head.append(cell);
  }
  const body = make("tbody");
  for (const p of [...points].sort((a, b) => a.error - b.error)) {
    const row = make("tr"), name = make("th"), link = make("a", p.model.name);
    link.href = p.model.page;
    name.scope = "row";
    name.append(link);
    const span = p.low === null ? "" : `${p.low.toFixed(2)} to ${p.high.toFixed(2)}`;
    row.append(name, make("td", String(+p.x.toPrecision(4))), make("td", `${p.error.toFixed(2)} %`), make("td", span));
    body.append(row);
  }
  const top = make("thead");
  top.append(head);
  table.append(top, body);
  return table;
}

function tell(p, label) {
  const span = p.low === null ? "" : ` (${p.low.toFixed(2)} to ${p.high.toFixed(2)})`;
  return `${p.model.name}: ${p.metric} ${p.error.toFixed(2)} %${span}, ${+p.x.toPrecision(4)} ${label}`;
}

function make(name, content = "") {
  const element = document.createElement(name);
  element.textContent = content;
  return element;
}

function draw(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function text(content, x, y, anchor) {
  const element = draw("text", { x, y, "text-anchor": anchor });
  element.textContent = content;
  return element;
}
