// @ts-check
// What lesson 10's lab has beside its controls: presets, a canvas to draw a digit on, and files.

import canvas from "../../../explorers/canvas.js";
import { toMnist } from "../drawing.js";

/** @typedef {import("../explorers/lab.js").Prepared} Prepared */
/** @typedef {import("../shell.js").Running} Running */

const [SIDE, PEN] = [112, 8]; // as in quant_tutorial/drawing.py

/**
 * @param {Running} running
 * @param {Prepared} prepared
 * @param {HTMLElement} panel
 */
export function extend(running, prepared, panel) {
  panel.classList.add("explorer-lab");
  const rows = document.createElement("div");
  rows.className = "explorer-rows";
  rows.append(...panel.children);
  for (const input of rows.querySelectorAll("input[type=checkbox][id*='float_']")) {
    const label = input.parentElement?.querySelector("label"); // JupyterLab has a heading for them
    if (label) label.textContent += " in float";
  }
  const side = document.createElement("div");
  side.className = "explorer-side";
  const board = drawingBoard((raster) => {
    const empty = raster.every((level) => level === 0);
    prepared.drawing = { image: toMnist(raster), empty };
    running.move();
  });
  prepared.showFirst = (pixels) => board.show(pixels, false);
  const flipped = button("Load a flipped image", () => {
    const { model, flips } = prepared;
    const index = flips.shift();
    if (!model || index === undefined) return;
    flips.push(index);
    board.show(model.image(index));
  });
  side.append(heading("Draw a digit"), board.element, flipped, files(prepared));
  panel.append(presets(running, prepared), rows, side);
}

/**
 * @param {string} words
 * @param {() => void} click
 */
function button(words, click) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = words;
  made.addEventListener("click", click);
  return made;
}

/** @param {string} words */
function heading(words) {
  const made = document.createElement("p");
  made.className = "explorer-heading";
  made.textContent = words;
  return made;
}

/**
 * Return a row of buttons, one for each preset.
 * @param {Running} running
 * @param {Prepared} prepared
 */
function presets(running, { written }) {
  const row = document.createElement("div");
  row.className = "explorer-presets";
  row.setAttribute("role", "group");
  row.setAttribute("aria-label", "Presets");
  row.append(
    heading("Presets:"),
    ...Object.entries(written.presets).map(([name, values]) =>
      button(name, () => running.set(values))
    ),
  );
  return row;
}

/**
 * Return a canvas to draw on: that of JupyterLab, with this page in the place of the kernel.
 * @param {(raster: Uint8Array) => void} drawn Called after each change.
 */
function drawingBoard(drawn) {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = new URL("canvas.css", import.meta.url).href;
  document.head.append(link);
  const element = document.createElement("div");
  /** @type {Record<string, any>} */
  const values = {
    _side: SIDE,
    _pen: PEN,
    value: new DataView(new ArrayBuffer(SIDE * SIDE)),
  };
  const raster = () => new Uint8Array(values.value.buffer);
  /** @type {Set<() => void>} */
  const listeners = new Set();
  canvas.render({
    el: element,
    model: {
      get: (name) => values[name],
      set: (name, value) => values[name] = value,
      save_changes: () => drawn(raster()),
      on: (_, listener) => listeners.add(listener),
      off: (_, listener) => listeners.delete(listener),
    },
  });
  return {
    element,
    /**
     * Show a test image, on which the reader can continue to draw.
     * @param {Uint8Array} pixels
     * @param {boolean} [moves]
     */
    show: (pixels, moves = true) => {
      const scale = SIDE / Math.sqrt(pixels.length);
      const levels = Uint8Array.from({ length: SIDE * SIDE }, (_, i) => {
        const [row, column] = [Math.floor(i / SIDE), i % SIDE];
        return pixels[Math.floor(row / scale) * 28 + Math.floor(column / scale)];
      });
      values.value = new DataView(levels.buffer);
      listeners.forEach((listener) => listener());
      if (moves) drawn(levels);
    },
  };
}

/**
 * Return links to the presets' `.tflite` files.
 * @param {Prepared} prepared
 */
function files({ written }) {
  const list = document.createElement("p");
  list.className = "explorer-files";
  const folder = new URL(".", import.meta.url);
  fetch(new URL("assets.json", folder)).then((response) => response.json()).then((listed) => {
    const links = Object.keys(written.presets).flatMap((name) => {
      const found = listed[`${name}.tflite`];
      if (!found) return [];
      const link = document.createElement("a");
      link.href = new URL(found.file, folder).href;
      link.download = found.file.replace(/-[0-9a-f]{12}\./, ".");
      link.textContent = name;
      return [", ", link, ` (${(found.bytes / 1000).toFixed(1)} kB)`];
    });
    if (links.length) list.append("Files for LiteRT: ", ...links.slice(1));
  }).catch(reportError);
  return list;
}
