// @ts-check
// Convert a drawing to an image like those of MNIST, as quant_tutorial/drawing.py does.

import { roundHalfEven } from "./engine/rounding.js";

const [BOX, IMAGE] = [20, 28];

/**
 * Return the models' input for a drawing: the digit scaled to a box of 20 by 20 pixels, with its
 * centre of mass in the middle of 28 by 28.
 * @param {Uint8Array} raster Square, white (255) on black.
 * @returns {Float32Array} From 0 to 1; zeros where nothing is drawn.
 */
export function toMnist(raster) {
  const side = Math.sqrt(raster.length);
  const image = new Float32Array(IMAGE * IMAGE);
  const inked = (/** @type {(i: number) => number} */ place) => {
    /** @type {number[]} */
    const found = [];
    raster.forEach((level, i) => level && found.push(place(i)));
    return found;
  };
  const rows = inked((i) => Math.floor(i / side));
  if (!rows.length) return image;
  const columns = inked((i) => i % side);
  const [top, bottom, left, right] = [
    ...[rows, columns].flatMap((places) => [
      places.reduce((a, b) => Math.min(a, b)),
      places.reduce((a, b) => Math.max(a, b)) + 1,
    ]),
  ];
  const [height, width] = [bottom - top, right - left];
  const scale = BOX / Math.max(height, width);
  const [down, across] = [averages(height, scale), averages(width, scale)];
  const digit = down.map((weights) =>
    across.map((others) =>
      weights.reduce((sum, weight, y) => {
        if (!weight) return sum;
        const start = (top + y) * side + left;
        return sum +
          weight * others.reduce((row, other, x) => row + (other * raster[start + x]) / 255, 0);
      }, 0)
    )
  );
  const sums = digit.map((row) => row.reduce((a, b) => a + b));
  const [y0, x0] = [
    corner(sums),
    corner(digit[0].map((_, x) => digit.reduce((sum, row) => sum + row[x], 0))),
  ];
  digit.forEach((row, y) =>
    row.forEach((value, x) => {
      image[(y0 + y) * IMAGE + x0 + x] = Math.min(Math.max(value, 0), 1);
    })
  );
  return image;
}

/**
 * Return the matrix that averages pixels over the area of each scaled pixel.
 * @param {number} length Of the pixels.
 * @param {number} scale
 */
function averages(length, scale) {
  const cells = Math.ceil(length * scale - 1e-9);
  const first = (length - cells / scale) / 2;
  return Array.from({ length: cells }, (_, cell) =>
    Array.from({ length }, (_, pixel) => {
      const [start, end] = [first + cell / scale, first + (cell + 1) / scale];
      return Math.max(Math.min(end, pixel + 1) - Math.max(start, pixel), 0) * scale;
    }));
}

/**
 * Return where a digit must begin for its centre of mass to be in the middle.
 * @param {number[]} ink
 */
function corner(ink) {
  const all = ink.reduce((a, b) => a + b);
  const centre = ink.reduce((sum, each, i) => sum + each * i, 0) / all;
  return Math.min(Math.max(IMAGE / 2 - roundHalfEven(centre), 0), IMAGE - ink.length);
}
