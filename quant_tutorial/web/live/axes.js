// @ts-check
// Axes: they map data to pixels and draw frame, ticks, grid and titles.

import { box, segments, short, tag, text } from "./svg.js";

/**
 * Axes in a picture. `x` and `y` map data to pixels; `frame` is what stays behind the data.
 * @typedef {Object} Axes
 * @property {(value: number) => number} x
 * @property {(value: number) => number} y
 * @property {number} left
 * @property {number} top
 * @property {number} right
 * @property {number} bottom
 * @property {string} frame
 */
/** @typedef {{ at: number, label: string }} Tick */

/**
 * What axes are made of. The place is that of the frame, in pixels; titles and labels stand outside.
 * @typedef {Object} Layout
 * @property {number} left
 * @property {number} top
 * @property {number} width
 * @property {number} height
 * @property {readonly [number, number]} xlim
 * @property {readonly [number, number]} ylim
 * @property {readonly Tick[]} [xticks]
 * @property {readonly Tick[]} [yticks]
 * @property {string} [title]
 * @property {number} [titleLeft] Where the title begins, if not at the frame.
 * @property {string} [xlabel]
 * @property {string} [ylabel]
 * @property {boolean} [log] Whether the y axis is logarithmic.
 * @property {boolean} [open] Whether only the lower side of the frame is drawn.
 */

const TICK = 4;

/**
 * @param {Layout} layout
 * @returns {Axes}
 */
export function axes(layout) {
  const { left, top, width, height, xlim, ylim } = layout;
  const [right, bottom] = [left + width, top + height];
  /** @param {number} value */
  const height_ = (value) => (layout.log ? Math.log10(value) : value);
  const [low, high] = ylim.map(height_);
  /** @param {number} value */
  const x = (value) => left + ((value - xlim[0]) / (xlim[1] - xlim[0])) * width;
  /** @param {number} value */
  const y = (value) => bottom - ((height_(value) - low) / (high - low)) * height;
  const parts = [
    layout.open
      ? segments([[left, bottom, right, bottom]], "frame")
      : box(left, top, width, height, "frame"),
  ];
  for (const { at, label } of layout.xticks ?? []) {
    parts.push(segments([[x(at), bottom, x(at), bottom + TICK]], "frame"));
    parts.push(text(x(at), bottom + TICK + 13, label, { anchor: "middle", class: "small" }));
  }
  for (const { at, label } of layout.yticks ?? []) {
    parts.push(segments([[left - TICK, y(at), left, y(at)]], "frame"));
    parts.push(text(left - TICK - 3, y(at) + 4, label, { anchor: "end", class: "small" }));
  }
  if (layout.title) parts.push(text(layout.titleLeft ?? left, top - 7, layout.title));
  if (layout.xlabel) {
    parts.push(text((left + right) / 2, bottom + 34, layout.xlabel, { anchor: "middle" }));
  }
  if (layout.ylabel) {
    const place = Math.max(left - 40, 12);
    const options = { anchor: "middle", turned: true };
    parts.push(text(place, (top + bottom) / 2, layout.ylabel, options));
  }
  return { x, y, left, top, right, bottom, frame: parts.join("") };
}

/**
 * Return ticks at round numbers within limits, about as many as asked for.
 * @param {number} low
 * @param {number} high
 * @param {number} count
 * @returns {Tick[]}
 */
export function roundTicks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((value) => value >= rough) ?? 10 * power;
  const ticks = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + 1e-9 * step; n++) {
    ticks.push(tickAt(Number((n * step).toPrecision(12))));
  }
  return ticks;
}

/**
 * Return ticks at the powers of ten within limits.
 * @param {number} low
 * @param {number} high
 * @returns {Tick[]}
 */
export function powersOfTen(low, high) {
  const ticks = [];
  for (let power = Math.ceil(Math.log10(low)); 10 ** power <= high; power++) {
    ticks.push({ at: 10 ** power, label: (10 ** power).toLocaleString("en") });
  }
  return ticks;
}

/**
 * Return a tick that is labelled with its number.
 * @param {number} at
 * @returns {Tick}
 */
export function tickAt(at) {
  return { at, label: String(at + 0).replace("-", "−") };
}

/**
 * Return a band that marks a range on the x axis, cut to the axes.
 * @param {Axes} ax
 * @param {number} low
 * @param {number} high
 */
export function band(ax, low, high) {
  const [start, end] = [Math.max(ax.x(low), ax.left), Math.min(ax.x(high), ax.right)];
  return box(start, ax.top, end - start, ax.bottom - ax.top, "band");
}

/**
 * Return elements cut off at the frame of axes.
 * @param {Axes} ax
 * @param {string} body
 */
export function inside(ax, body) {
  const [width, height] = [ax.right - ax.left, ax.bottom - ax.top];
  const viewBox = [ax.left, ax.top, width, height].map(short).join(" ");
  return tag("svg", { x: ax.left, y: ax.top, width, height, viewBox }, body);
}
