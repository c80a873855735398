"use strict";
// Draws what the page's data say: rasters, potentials, rates and weights of the sample that the reader picks.
const DATA = JSON.parse(document.getElementById("data").textContent);
const ROW = 9;
const MARGIN = { left: 44, right: 8, top: 6, bottom: 30 };
const state = { sample: null, neuron: {}, cursor: {} };
const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

function bytes(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

// A place of a neuron in its layer: channel, y, x.
function place(layer, neuron) {
  const at = [];
  let rest = neuron;
  for (const size of [...layer.shape].reverse()) {
    at.unshift(rest % size);
    rest = Math.floor(rest / size);
  }
  return layer.shape.length > 1 ? `${neuron} (${at.join(", ")})` : `${neuron}`;
}

// [neuron][step] of 0 and 1; null where the sample was not kept.
function spikes(layer, text) {
  if (text === undefined || text === null) return null;
  const steps = layer.stop - layer.start;
  const packed = bytes(text);
  return layer.neurons.map((_, row) =>
    Array.from({ length: steps }, (_, step) => {
      const bit = row * steps + step;
      return (packed[bit >> 3] >> (7 - (bit & 7))) & 1;
    }));
}

function spikesOf(layer, runtime) {
  const runs = layer.runs && layer.runs[runtime];
  const text = runs && runs[state.sample];
  return text === "" ? spikes(layer, layer.runs[layer.reference][state.sample]) : spikes(layer, text);
}

function potentials(layer) {
  const found = layer.potentials && layer.potentials[state.sample];
  if (!found) return null;
  const [bits, text] = found;
  const buffer = bytes(text).buffer;
  const values = bits === 16 ? new Int16Array(buffer) : new Int32Array(buffer);
  const steps = layer.stop - layer.start;
  return layer.neurons.map((_, row) => values.subarray(row * steps, (row + 1) * steps));
}

// A canvas of its own resolution; draw(context, width, height) is called now and whenever the page changes its size or colours.
const drawings = new Set();
function picture(parent, caption, height, draw, { long = false, steps = 0 } = {}) {
  const figure = document.createElement("figure");
  const words = document.createElement("figcaption");
  const canvas = document.createElement("canvas");
  words.textContent = caption;
  figure.className = long ? "long" : "";
  canvas.style.height = height + "px";
  canvas.style.minWidth = Math.min(900, steps * 3 + MARGIN.left) + "px";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", caption);
  figure.append(words, canvas);
  parent.append(figure);
  const drawing = () => {
    const width = canvas.clientWidth, ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.font = "11px system-ui, sans-serif";
    draw(context, width, height);
  };
  canvas.drawing = drawing;
  drawings.add(canvas);
  return canvas;
}

function axes(context, width, height, { x, y, xs, ys }) {
  const { left, right, top, bottom } = MARGIN;
  context.strokeStyle = ink("line");
  context.fillStyle = ink("soft");
  context.strokeRect(left + .5, top + .5, width - left - right - 1, height - top - bottom - 1);
  context.textAlign = "center";
  for (const [at, text] of xs) context.fillText(text, at, height - bottom + 13);
  context.fillText(x, left + (width - left - right) / 2, height - 4);
  context.textAlign = "right";
  for (const [at, text] of ys) context.fillText(text, left - 4, at + 4);
  if (y) {
    context.save();
    context.translate(10, top + (height - top - bottom) / 2);
    context.rotate(-Math.PI / 2);
    context.textAlign = "center";
    context.fillText(y, 0, 0);
    context.restore();
  }
}

// About five round numbers from low to high.
function ticks(low, high) {
  const step = 10 ** Math.floor(Math.log10(Math.max((high - low) / 2, 1e-9)));
  const by = [1, 2, 5, 10].map((m) => m * step).find((each) => (high - low) / each <= 6) || step * 10;
  const found = [];
  for (let at = Math.ceil(low / by) * by; at <= high + 1e-9; at += by) found.push(+at.toPrecision(6));
  return found;
}

function stepAxis(layer, width) {
  const inner = width - MARGIN.left - MARGIN.right, steps = layer.stop - layer.start;
  const x = (step) => MARGIN.left + (step - layer.start + .5) * inner / steps;
  return { x, inner, steps, xs: ticks(layer.start, layer.stop - 1).filter(Number.isInteger).map((each) => [x(each), each]) };
}

function drawRaster(layer, key, of, reference) {
  return (context, width, height) => {
    const found = of(), other = reference ? reference() : found;
    const { x, inner, steps, xs } = stepAxis(layer, width);
    const every = Math.ceil(layer.neurons.length / Math.max(1, Math.floor((height - MARGIN.top - MARGIN.bottom) / 14)));
    const y = (row) => MARGIN.top + row * ROW;
    axes(context, width, height, {
      x: "time step", y: "", xs,
      ys: layer.neurons.map((neuron, row) => [y(row) + ROW / 2, neuron]).filter((_, row) => row % every === 0),
    });
    if (!found) {
      context.textAlign = "left";
      context.fillText("not kept for this sample", MARGIN.left + 6, MARGIN.top + 16);
      return;
    }
    const thick = Math.max(1, Math.min(3, inner / steps * .6));
    found.forEach((row, index) => row.forEach((spike, step) => {
      const expected = other ? other[index][step] : spike;
      if (!spike && !expected) return;
      const at = x(layer.start + step), middle = y(index) + ROW / 2;
      context.fillStyle = context.strokeStyle = ink(spike === expected ? "spike" : spike ? "extra" : "missing");
      if (spike === expected) {
        context.fillRect(at - thick / 2, y(index) + 1, thick, ROW - 2);
      } else if (spike) {
        context.beginPath();
        context.moveTo(at, middle - 4); context.lineTo(at + 4, middle + 4); context.lineTo(at - 4, middle + 4);
        context.fill();
      } else {
        context.beginPath();
        context.moveTo(at - 3, middle - 3); context.lineTo(at + 3, middle + 3);
        context.moveTo(at + 3, middle - 3); context.lineTo(at - 3, middle + 3);
        context.lineWidth = 1.5;
        context.stroke();
        context.lineWidth = 1;
      }
    }));
    const cursor = state.cursor[key];
    if (cursor) {
      context.strokeStyle = ink("ink");
      context.strokeRect(x(layer.start + cursor.step) - Math.max(3, inner / steps / 2), y(cursor.row) - .5,
        Math.max(6, inner / steps), ROW + 1);
    }
  };
}

function drawPotential(layer, key) {
  return (context, width, height) => {
    const all = potentials(layer), row = state.neuron[key] || 0;
    if (!all || !layer.neurons.length) return;
    const values = all[row], threshold = layer.thresholds[row], expected = spikesOf(layer, layer.reference);
    const { x, xs } = stepAxis(layer, width);
    const low = Math.min(0, ...values), high = Math.max(threshold * 1.1, ...values, 1);
    const inner = height - MARGIN.top - MARGIN.bottom;
    const y = (value) => MARGIN.top + (high - value) / (high - low || 1) * inner;
    axes(context, width, height, { x: "time step", y: "", xs, ys: ticks(low, high).map((each) => [y(each), each]) });
    context.strokeStyle = ink("missing");
    context.setLineDash([5, 4]);
    context.beginPath();
    context.moveTo(MARGIN.left, y(threshold)); context.lineTo(width - MARGIN.right, y(threshold));
    context.stroke();
    context.setLineDash([]);
    context.strokeStyle = ink("spike");
    context.lineWidth = 1.5;
    context.beginPath();
    values.forEach((value, step) => context.lineTo(x(layer.start + step), y(value)));
    context.stroke();
    context.lineWidth = 1;
    context.fillStyle = ink("extra");
    values.forEach((value, step) => {
      if (!expected || !expected[row][step]) return;
      context.beginPath();
      context.arc(x(layer.start + step), y(value), 3, 0, 7);
      context.fill();
    });
    const cursor = state.cursor[key];
    if (cursor) {
      context.strokeStyle = ink("ink");
      context.beginPath();
      context.moveTo(x(layer.start + cursor.step), MARGIN.top); context.lineTo(x(layer.start + cursor.step), height - MARGIN.bottom);
      context.stroke();
    }
  };
}

function drawRates(layer) {
  return (context, width, height) => {
    const series = Object.entries(layer.rates);
    const steps = Math.max(1, ...series.map(([, values]) => values.length));
    const high = Math.max(1e-3, ...series.flatMap(([, values]) => values)) * 1.1;
    const x = (step) => MARGIN.left + (step + .5) * (width - MARGIN.left - MARGIN.right) / steps;
    const y = (value) => MARGIN.top + (1 - value / high) * (height - MARGIN.top - MARGIN.bottom);
    axes(context, width, height, {
      x: "time step", y: "", xs: ticks(0, steps - 1).filter(Number.isInteger).map((each) => [x(each), each]),
      ys: ticks(0, high).map((each) => [y(each), each]),
    });
    series.forEach(([name, values], index) => {
      context.strokeStyle = context.fillStyle = ink(series.length > 1 && index === 0 ? "extra" : "spike");
      context.lineWidth = series.length > 1 && index === 0 ? 3 : 1.5;
      context.beginPath();
      values.forEach((value, step) => context.lineTo(x(step), y(value)));
      context.stroke();
      context.lineWidth = 1;
      context.textAlign = "left";
      context.fillText(DATA.titles[name] || name, MARGIN.left + 6, MARGIN.top + 14 + 13 * index);
    });
  };
}

function drawWeights(weights) {
  return (context, width, height) => {
    const inner = width - MARGIN.left - MARGIN.right, count = weights.counts.length;
    const high = Math.max(1, ...weights.counts, ...(weights.before || [])) * 1.1;
    const x = (bar) => MARGIN.left + bar * inner / count;
    const y = (value) => MARGIN.top + (1 - value / high) * (height - MARGIN.top - MARGIN.bottom);
    const of = (weight) => x((weight - (weights.low - 1)) / weights.step);
    axes(context, width, height, {
      x: "weight units, even numbers", y: "",
      xs: ticks(weights.low, weights.low - 1 + weights.step * count).map((each) => [of(each), each]),
      ys: ticks(0, high).filter(Number.isInteger).map((each) => [y(each), each]),
    });
    context.fillStyle = ink("spike");
    weights.counts.forEach((value, bar) => context.fillRect(x(bar), y(value), Math.max(1, inner / count - 1), y(0) - y(value)));
    if (!weights.before) return;
    context.strokeStyle = ink("extra");
    context.beginPath();
    weights.before.forEach((value, bar) => { context.lineTo(x(bar), y(value)); context.lineTo(x(bar + 1), y(value)); });
    context.stroke();
  };
}

function say(layer, key, said, found) {
  const cursor = state.cursor[key];
  if (!cursor) return;
  const neuron = layer.neurons[cursor.row], step = layer.start + cursor.step;
  const words = [`neuron ${place(layer, neuron)}, step ${step}`];
  for (const [name, values] of found) if (values) words.push(`${name}: ${values[cursor.row][cursor.step] ? "spike" : "no spike"}`);
  const v = potentials(layer);
  if (v) words.push(`potential ${v[cursor.row][cursor.step]}, threshold ${layer.thresholds[cursor.row]}`);
  said.textContent = words.join("; ");
}

// Pointing, clicking and arrow keys of one raster.
function listen(canvas, layer, key, told) {
  canvas.tabIndex = 0;
  const steps = layer.stop - layer.start, rows = layer.neurons.length;
  const redraw = () => {
    told();
    for (const each of drawings) if (each.key === key) each.drawing();
  };
  const take = () => {
    state.neuron[key] = state.cursor[key].row;
    const picker = document.getElementById(`neuron-${key}`);
    if (picker) picker.value = state.neuron[key];
    redraw();
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const step = Math.floor((event.clientX - box.left - MARGIN.left) / (box.width - MARGIN.left - MARGIN.right) * steps);
    const row = Math.floor((event.clientY - box.top - MARGIN.top) / ROW);
    if (step < 0 || step >= steps || row < 0 || row >= rows) return false;
    state.cursor[key] = { row, step };
    return true;
  };
  canvas.addEventListener("pointermove", (event) => { if (at(event)) redraw(); });
  canvas.addEventListener("click", (event) => { if (at(event)) take(); });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const from = state.cursor[key] || { row: 0, step: 0 };
    if (move) {
      const within = (value, count) => Math.min(count - 1, Math.max(0, value));
      state.cursor[key] = { row: within(from.row + move[0], rows), step: within(from.step + move[1], steps) };
      redraw();
    } else if (event.key === "Enter" || event.key === " ") {
      state.cursor[key] = from;
      take();
    } else return;
    event.preventDefault();
  });
}

function buildInputs() {
  const section = document.getElementById("went-in");
  const parent = section.querySelector(".pictures"), said = section.querySelector(".said");
  DATA.inputs.forEach((input, index) => {
    const key = `in-${index}`, of = () => spikes(input, input.samples[state.sample]);
    const height = input.neurons.length * ROW + MARGIN.top + MARGIN.bottom, steps = input.stop - input.start;
    const canvas = picture(parent, `${input.name}: ${input.neurons.length} of ${input.shape.reduce((a, b) => a * b, 1)} values`, height,
      drawRaster(input, key, of), { long: steps > 64, steps });
    canvas.key = key;
    listen(canvas, input, key, () => say(input, key, said, [[input.name, of()]]));
  });
  section.hidden = DATA.inputs.length === 0;
}

function buildLayer(layer, index) {
  const section = document.getElementById(`layer-${index}`), key = `${index}`;
  const parent = section.querySelector(".pictures"), said = section.querySelector(".said");
  if (layer.neurons) {
    section.querySelector(".shown").textContent =
      `Shown: ${layer.neurons.length} neurons, time steps ${layer.start} to ${layer.stop - 1}.`;
    const names = Object.keys(layer.runs), steps = layer.stop - layer.start;
    const height = layer.neurons.length * ROW + MARGIN.top + MARGIN.bottom, form = { long: steps > 64, steps };
    const told = () => say(layer, key, said, names.map((name) => [DATA.titles[name], spikesOf(layer, name)]));
    for (const name of names) {
      const reference = name === layer.reference ? null : () => spikesOf(layer, layer.reference);
      const canvas = picture(parent, DATA.titles[name], height, drawRaster(layer, key, () => spikesOf(layer, name), reference), form);
      canvas.key = key;
      listen(canvas, layer, key, told);
    }
    if (Object.keys(layer.potentials).length) {
      const canvas = picture(parent, "", 170, drawPotential(layer, key), form);
      canvas.key = key;
      const picker = document.createElement("select");
      picker.id = `neuron-${key}`;
      layer.neurons.forEach((neuron, row) => picker.add(new Option(place(layer, neuron), row)));
      picker.addEventListener("change", () => { state.neuron[key] = +picker.value; canvas.drawing(); });
      const label = document.createElement("label");
      label.htmlFor = picker.id;
      label.textContent = "membrane potential before the reset, threshold dashed, spikes as dots; neuron ";
      canvas.setAttribute("aria-label", "membrane potential of the chosen neuron");
      canvas.previousSibling.append(label, picker);
    }
  }
  picture(parent, "rate over time, spikes per neuron, all samples", 170, drawRates(layer));
  if (layer.weights) {
    const clamped = layer.weights.clamped ? `, ${layer.weights.clamped} clamped` : "";
    picture(parent, "weights" + (layer.weights.before ? "; line: before rounding" + clamped : ""), 170, drawWeights(layer.weights));
  }
}

function buildVotes() {
  const parent = document.getElementById("votes"), at = DATA.samples.indexOf(+state.sample);
  const rows = Object.entries(DATA.scores).filter(([, scores]) => scores[at] && scores[at].length <= 64);
  parent.hidden = rows.length === 0;
  if (parent.hidden) return;
  const table = document.createElement("table");
  table.className = "votes";
  const row = (cells, head) => {
    const line = table.insertRow();
    cells.forEach((text, index) => {
      const cell = document.createElement(head || index === 0 ? "th" : "td");
      cell.textContent = text;
      line.append(cell);
    });
    return line;
  };
  const label = DATA.labels[at];
  row([`votes in sample ${state.sample}${label === undefined ? "" : `, label ${label}`}`, ...rows[0][1][at].keys()], true);
  for (const [name, scores] of rows) {
    const most = scores[at].indexOf(Math.max(...scores[at]));
    const line = row([DATA.titles[name], ...scores[at]], false);
    line.cells[most + 1].className = `most ${label === undefined ? "" : most === label ? "good" : "bad"}`;
  }
  parent.replaceChildren(table);
}

function show(sample) {
  state.sample = `${sample}`;
  document.getElementById("sample").value = state.sample;
  buildVotes();
  for (const each of drawings) each.drawing();
}

function goToFirst(anchor) {
  const index = +anchor.split("-")[1], layer = DATA.layers[index];
  if (!layer.first || !layer.neurons) return;
  const row = layer.neurons.indexOf(layer.first.neuron), key = `${index}`;
  state.cursor[key] = { row, step: layer.first.step - layer.start };
  state.neuron[key] = row;
  const picker = document.getElementById(`neuron-${key}`);
  if (picker) picker.value = row;
  show(layer.first.sample);
  const canvas = document.querySelector(`#${anchor} canvas`);
  canvas.focus({ preventScroll: true });
  say(layer, key, document.querySelector(`#${anchor} .said`),
    Object.keys(layer.runs).map((name) => [DATA.titles[name], spikesOf(layer, name)]));
}

const picker = document.getElementById("sample");
const alone = DATA.layers.filter((each) => each.first && !DATA.samples.includes(each.first.sample));
DATA.samples.forEach((each, at) => picker.add(new Option(DATA.labels[at] === undefined ? each : `${each} (label ${DATA.labels[at]})`, each)));
for (const each of new Set(alone.map((layer) => layer.first.sample))) {
  const names = alone.filter((layer) => layer.first.sample === each).map((layer) => layer.name);
  picker.add(new Option(`${each} (first divergence of ${names.join(", ")} alone)`, each));
}
buildInputs();
DATA.layers.forEach(buildLayer);
picker.addEventListener("change", () => show(picker.value));
const walk = (by) => {
  picker.selectedIndex = Math.min(picker.length - 1, Math.max(0, picker.selectedIndex + by));
  show(picker.value);
};
document.getElementById("before").addEventListener("click", () => walk(-1));
document.getElementById("after").addEventListener("click", () => walk(1));
for (const link of document.querySelectorAll("[data-first]")) {
  link.addEventListener("click", (event) => {
    event.preventDefault(); // which would take the focus away again
    history.pushState(null, "", `#${link.dataset.first}`);
    document.getElementById(link.dataset.first).scrollIntoView();
    goToFirst(link.dataset.first);
  });
}
window.addEventListener("resize", () => drawings.forEach((each) => each.drawing()));
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawings.forEach((each) => each.drawing()));
if (picker.length) show(picker.value);
else {
  document.getElementById("picker").hidden = true;
  for (const each of drawings) each.drawing();
}
