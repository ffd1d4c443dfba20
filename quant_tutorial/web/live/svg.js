// @ts-check
// SVG as text. Pictures are pure functions of a state and a width; the page shows what they return.

/**
 * What a picture is: its height in pixels, and its elements.
 * @typedef {{ height: number, body: string }} Picture
 */
/** @typedef {Record<string, string | number | undefined>} Attributes */

/** The markers, as paths around (0, 0) with a radius of 1. */
export const MARKERS = {
  circle: "M-1,0a1,1 0 1,0 2,0a1,1 0 1,0 -2,0Z",
  square: "M-.9,-.9H.9V.9H-.9Z",
  up: "M0,-1.1L1,.8H-1Z",
  down: "M0,1.1L1,-.8H-1Z",
  left: "M-1.1,0L.8,-1V1Z",
  right: "M1.1,0L-.8,-1V1Z",
  diamond: "M0,-1.15L1.15,0L0,1.15L-1.15,0Z",
  cross: "M-1,-.55L-.55,-1L0,-.45L.55,-1L1,-.55L.45,0L1,.55L.55,1L0,.45L-.55,1L-1,.55L-.45,0Z",
};
/** @typedef {keyof typeof MARKERS} Marker */

/**
 * Return a coordinate with two decimals, which are enough for any screen.
 * @param {number} value
 */
export function short(value) {
  return Math.round(value * 100) / 100;
}

/** @param {string} text */
export function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}

/**
 * Return an element. Its numbers are shortened, and attributes that are undefined are left out.
 * @param {string} name
 * @param {Attributes} attributes
 * @param {string} [content] Elements.
 */
export function tag(name, attributes, content = "") {
  const parts = Object.entries(attributes).filter(([, value]) => value !== undefined).map(
    ([key, value]) =>
      ` ${key}="${typeof value === "number" ? short(value) : escaped(String(value))}"`,
  );
  return `<${name}${parts.join("")}>${content}</${name}>`;
}

/**
 * Return a text. Its class sets size, weight and colour; `anchor` is start, middle or end. `length`
 * is the width in pixels to which it is condensed or stretched.
 * @param {number} x
 * @param {number} y The base line.
 * @param {string} content
 * @param {{ anchor?: string, class?: string, turned?: boolean, length?: number }} [options]
 */
export function text(x, y, content, options = {}) {
  const turn = options.turned ? `rotate(-90 ${short(x)} ${short(y)})` : undefined;
  const attributes = {
    x,
    y,
    "text-anchor": options.anchor,
    class: options.class,
    transform: turn,
    textLength: options.length,
    lengthAdjust: options.length && "spacingAndGlyphs",
  };
  return tag("text", attributes, escaped(content));
}

/**
 * Return a line through points in pixels. It is interrupted where a coordinate is NaN.
 * @param {Iterable<readonly [number, number]>} points
 * @param {string} style Its class.
 */
export function line(points, style) {
  let d = "";
  let pen = "M";
  for (const [x, y] of points) {
    if (Number.isNaN(x) || Number.isNaN(y)) {
      pen = "M";
    } else {
      d += `${pen}${short(x)},${short(y)}`;
      pen = "L";
    }
  }
  return tag("path", { d, class: `line ${style}` });
}

/**
 * Return separate straight lines, each from one point to another, as one element.
 * @param {Iterable<readonly [number, number, number, number]>} ends x and y of both ends, in pixels.
 * @param {string} style Their class.
 */
export function segments(ends, style) {
  let d = "";
  for (const [x1, y1, x2, y2] of ends) d += `M${short(x1)},${short(y1)}L${short(x2)},${short(y2)}`;
  return tag("path", { d, class: `line ${style}` });
}

/**
 * Return a marker.
 * @param {Marker} shape
 * @param {number} x
 * @param {number} y
 * @param {string} style Its class.
 * @param {number} [radius] In pixels.
 */
export function marker(shape, x, y, style, radius = 5) {
  const transform = `translate(${short(x)} ${short(y)}) scale(${radius})`;
  return tag("path", { d: MARKERS[shape], transform, class: `marker ${style}` });
}

/**
 * Return a rectangle.
 * @param {number} x
 * @param {number} y
 * @param {number} width Negative ones count as 0.
 * @param {number} height
 * @param {string} style Its class.
 */
export function box(x, y, width, height, style) {
  return tag("rect", { x, y, width: Math.max(width, 0), height, class: style });
}

/**
 * Return a heat map: a square for each value, as opaque as the value is large.
 * @param {ArrayLike<number>} values From 0 to 1, row by row.
 * @param {number} columns
 * @param {number} x
 * @param {number} y
 * @param {number} side Of a square, in pixels.
 * @param {string} style The class of all squares.
 */
export function heatMap(values, columns, x, y, side, style) {
  const squares = Array.from(values, (value, i) =>
    tag("rect", {
      x: x + (i % columns) * side,
      y: y + Math.floor(i / columns) * side,
      width: side,
      height: side,
      "fill-opacity": value,
    }));
  return tag("g", { class: style }, squares.join(""));
}

/**
 * Return a legend in one row, or in several where the width does not hold it, and its height.
 * @param {{ label: string, style: string, marker?: Marker }[]} entries
 * @param {number} x
 * @param {number} y The top.
 * @param {number} width
 * @returns {Picture}
 */
export function legend(entries, x, y, width) {
  const [row, key] = [18, 24];
  let [left, top, body] = [x, y, ""];
  for (const entry of entries) {
    const needed = key + 12 + 6.9 * entry.label.length; // a rough guess of the text's width
    if (left > x && left + needed > x + width) [left, top] = [x, top + row];
    const middle = top + row / 2;
    body += entry.marker
      ? marker(entry.marker, left + key / 2, middle, entry.style)
      : segments([[left, middle, left + key - 5, middle]], entry.style);
    body += text(left + key, middle + 4, entry.label);
    left += needed;
  }
  return { height: top - y + row, body };
}
