// @ts-check
// How the predictions of two models differ: in words, and as a picture (plotting/answers.py).

import { image } from "./digits.js";
import { format } from "./format.js";
import { confusionChange, differing, spread } from "./metrics.js";
import { box, tag, text } from "./svg.js";

/** @typedef {import("./svg.js").Picture} Picture */
/**
 * What changes between two models; `shown` are some of the images that change.
 * @typedef {Object} Changes
 * @property {Int32Array} matrix The change of the confusion matrix.
 * @property {number} count How many images are classified differently.
 * @property {number} images
 * @property {number[]} indices Those of the images shown.
 * @property {{ pixels: Uint8Array, title: string }[]} shown
 */

export const SHOWN = 12; // digits in a row
// How opaque a cell is at which black stands out more than the light text of a dark page.
const ON_COLOR = 0.57;

/**
 * @param {Uint8Array} before
 * @param {Uint8Array} after
 * @param {Uint8Array} labels
 * @param {(index: number) => Uint8Array} pixels Returns those of an image.
 * @returns {Changes}
 */
export function changes(before, after, labels, pixels) {
  const flips = differing(before, after);
  const indices = spread(flips, SHOWN);
  const shown = indices.map((i) => ({
    pixels: pixels(i),
    title: `${labels[i]}: ${before[i]} → ${after[i]}`,
  }));
  const matrix = confusionChange(before, after, labels);
  return { matrix, count: flips.length, images: labels.length, indices, shown };
}

/**
 * Return a sentence on how predictions differ. Numbers are rounded, because on another processor
 * they may differ for a few images.
 * @param {Uint8Array} before
 * @param {Uint8Array} after
 */
export function describeFlips(before, after) {
  const moved = differing(before, after);
  if (!moved.length) return "No image is answered differently.";
  const counts = new Int32Array(100);
  for (const i of moved) counts[10 * before[i] + after[i]] += 1;
  const most = counts.indexOf(counts.reduce((a, b) => Math.max(a, b)));
  return `About ${format(oneDigit(moved.length), ",d")} images are answered differently; most ` +
    `often ${Math.floor(most / 10)} becomes ${most % 10}.`;
}

/**
 * Return the sentence of `describeFlips`, without details for fewer than 10 images.
 * @param {Uint8Array} before
 * @param {Uint8Array} after
 */
export function describeChanges(before, after) {
  const count = differing(before, after).length;
  if (count > 0 && count < 10) return "Fewer than 10 images are answered differently.";
  return describeFlips(before, after);
}

/**
 * Return by how many percentage points a share exceeds another, to one decimal.
 * @param {number} share 0 to 1.
 * @param {number} other
 */
export function describePoints(share, other) {
  if (Math.abs(share - other) < 0.001) return "less than 0.1";
  const points = Number(format(100 * share, ".1f")) - Number(format(100 * other, ".1f"));
  return format(points, "+.1f").replace("-", "−");
}

/**
 * Return a whole number rounded to its first digit; a tie goes to the even one, as in Python.
 * @param {number} count
 */
export function oneDigit(count) {
  const power = 10 ** (String(count).length - 1);
  const below = Math.floor(count / power);
  const rest = count / power - below;
  return (rest > 0.5 || (rest === 0.5 && below % 2) ? below + 1 : below) * power;
}

/**
 * Draw the change of the confusion matrix.
 * @param {Changes | null} found Null while it is being measured.
 * @param {{ left: number, top: number, side: number }} place Of the matrix alone.
 */
export function drawMatrix(found, { left, top, side }) {
  const cell = side / 10;
  const largest = found ? Math.max(1, ...found.matrix.map(Math.abs)) : 1;
  const parts = [text(left, top - 10, "Change of the confusion matrix")];
  for (let digit = 0; digit < 10; digit++) {
    const middle = (digit + 0.5) * cell;
    const [small, anchor] = ["small", "middle"];
    parts.push(text(left - 9, top + middle + 4, `${digit}`, { class: small, anchor: "end" }));
    parts.push(text(left + middle, top + side + 15, `${digit}`, { class: small, anchor }));
  }
  found?.matrix.forEach((change, place) => {
    if (!change) return;
    const strength = Math.sqrt(Math.abs(change) / largest);
    const [x, y] = [left + (place % 10) * cell, top + Math.floor(place / 10) * cell];
    const color = change > 0 ? "fill-orange" : "fill-purple";
    const rect = { x, y, width: cell, height: cell, class: color, "fill-opacity": strength };
    parts.push(tag("rect", rect));
    const written = format(change, "+d").replace("-", "−");
    // A number that is wider than its cell is condensed; 7 pixels are a digit of the widest font.
    const isWide = 7 * written.length > cell - 2;
    const options = { anchor: "middle", length: isWide ? cell - 3 : undefined };
    const style = `smaller ${strength > ON_COLOR ? "on-color" : ""}`;
    parts.push(text(x + cell / 2, y + cell / 2 + 4, written, { ...options, class: style }));
  });
  parts.push(box(left, top, side, side, "frame"));
  parts.push(text(left + side / 2, top + side + 33, "predicted digit", { anchor: "middle" }));
  const options = { anchor: "middle", turned: true };
  parts.push(text(left - 28, top + side / 2, "true digit", options));
  if (!found) {
    const middle = { anchor: "middle" };
    parts.push(text(left + side / 2, top + side / 2, "measuring …", middle));
  }
  return parts.join("");
}

/**
 * Draw a line of text, and below it digits with a title above each, in rows.
 * @param {string} heading
 * @param {readonly { pixels: Uint8Array, title: string }[]} shown
 * @param {{ left: number, top: number, width: number }} place
 * @param {number} [count] For how many digits there is room.
 * @returns {Picture}
 */
export function drawDigits(heading, shown, { left, top, width }, count = SHOWN) {
  const columns = width < 600 ? Math.ceil(count / 2) : count;
  const step = width / columns;
  const side = Math.min(step - 8, 56);
  const row = side + 26;
  const rows = Math.ceil(count / columns);
  const lines = wrapped(heading, width / 7.3);
  // Room for the longest heading, so that what follows does not jump while there is none.
  const room = Math.max(lines.length, wrapped(LONGEST, width / 7.3).length);
  const first = top + 18 * lines.length;
  const parts = lines.map((line, i) => text(left, top + 13 + 18 * i, line));
  shown.forEach(({ pixels, title }, i) => {
    const x = left + (i % columns) * step;
    const y = first + Math.floor(i / columns) * row;
    parts.push(text(x + side / 2, y + 15, title, { anchor: "middle", class: "smaller" }));
    parts.push(image(pixels, x, y + 20, side));
  });
  return { height: 18 * room + rows * row, body: parts.join("") };
}

/**
 * Return the words of a text in lines.
 * @param {string} words
 * @param {number} length Of a line at most, in characters.
 */
export function wrapped(words, length) {
  /** @type {string[]} */
  const lines = [];
  for (const word of words.split(" ")) {
    const last = lines[lines.length - 1];
    if (last !== undefined && last.length + word.length < length) {
      lines[lines.length - 1] = `${last} ${word}`;
    } else lines.push(word);
  }
  return lines;
}

const MOST = 99_999; // images, for the room of the heading below
const LONGEST = flipsHeading({ count: MOST, images: MOST });

/**
 * Return the heading of the digits that are classified differently.
 * @param {Pick<Changes, "count" | "images"> | null} found
 */
export function flipsHeading(found) {
  if (!found) return "";
  const { count, images } = found;
  const counted = `${format(count, ",d")} of ${format(images, ",d")} images`;
  const among = count ? ", among them (true digit: before → after)" : "";
  return `${counted} are answered differently${among}`;
}
