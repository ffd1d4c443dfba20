// @ts-check
// The error of any range for the values of a tensor, as quant_tutorial/histogram.py computes it
// (lesson 03): prefix sums, so that it takes one look-up for each level and not one for each value.

import { maximum, minimum, roundHalfAway } from "./affine.js";
import { searchSorted } from "./arrays.js";

/** @typedef {import("./affine.js").Params} Params */

/**
 * Sorted values, with the sums of counts, x and x² up to each of them.
 * @typedef {Object} Distribution
 * @property {Float64Array} values
 * @property {number} width How far a value may be off: a bin's width.
 * @property {Float64Array} counts
 * @property {Float64Array} firsts
 * @property {Float64Array} squares
 */

/**
 * @param {Float64Array} values Sorted.
 * @param {ArrayLike<number>} counts How often each of them occurs.
 * @param {number} width
 * @returns {Distribution}
 */
export function distribution(values, counts, width) {
  const sums = [0, 1, 2].map(() => new Float64Array(values.length + 1));
  values.forEach((value, i) => {
    sums[0][i + 1] = sums[0][i] + counts[i];
    sums[1][i + 1] = sums[1][i] + counts[i] * value;
    sums[2][i + 1] = sums[2][i] + counts[i] * (value * value);
  });
  return { values, width, counts: sums[0], firsts: sums[1], squares: sums[2] };
}

/**
 * Return the mean squared rounding error and the mean squared clipping error of a range.
 * @param {Distribution} found
 * @param {Params} params
 * @returns {[number, number]}
 */
export function meanSquaredErrors(found, params) {
  const [low, high] = [minimum(params), maximum(params)];
  const { values, width, counts, firsts, squares } = found;
  const start = searchSorted(values, low);
  const stop = searchSorted(values, high, "right");
  const last = values.length;
  const total = counts[last];
  const below = squares[start] - 2 * low * firsts[start] + low * low * counts[start];
  const above = squares[last] - squares[stop] - 2 * high * (firsts[last] - firsts[stop]) +
    high * high * (total - counts[stop]);
  const inside = counts[stop] - counts[start] - countOfZero(found);
  const { scale } = params;
  // If the bins are too coarse to tell the levels apart, the errors count as spread evenly.
  const rounding = scale < 8 * width
    ? (inside * (scale * scale)) / 12
    : roundingSum(found, params, start, stop) + (inside * (width * width)) / 12;
  return [Math.max(rounding / total, 0), Math.max((below + above) / total, 0)];
}

/**
 * @param {Distribution} found
 * @param {Params} params
 * @param {number} start
 * @param {number} stop
 */
function roundingSum({ values, counts, firsts, squares }, params, start, stop) {
  const { qmin, qmax, zeroPoint, scale } = params;
  let sum = 0;
  if (qmax - qmin + 1 > stop - start) { // fewer values than levels: look at each value
    for (let i = start; i < stop; i++) {
      const off = roundHalfAway(values[i] / scale) * scale - values[i];
      sum += (counts[i + 1] - counts[i]) * (off * off);
    }
    return sum;
  }
  let from = start;
  for (let q = qmin; q <= qmax; q++) {
    const level = (q - zeroPoint) * scale;
    const next = (q + 1 - zeroPoint) * scale;
    const found = q === qmax ? stop : searchSorted(values, (level + next) / 2);
    const to = Math.min(Math.max(found, start), stop);
    sum += squares[to] - squares[from] - 2 * level * (firsts[to] - firsts[from]) +
      level * level * (counts[to] - counts[from]);
    from = to;
  }
  return sum;
}

/** @param {Distribution} found */
function countOfZero({ values, counts }) {
  const index = searchSorted(values, 0);
  return values[index] === 0 ? counts[index + 1] - counts[index] : 0;
}
