// @ts-check
// The explorer of lesson 02, which quantizes one number (explorers/affine.py).

import {
  clamp,
  dequantize,
  levels,
  maximum,
  minimum,
  paramsFromRange,
  quantize,
  splitError,
} from "../affine.js";
import { axes, band, inside, roundTicks, tickAt } from "../axes.js";
import { describeNumber, format } from "../format.js";
import { legend, line, marker, segments, text } from "../svg.js";

/** @typedef {import("../affine.js").Params} Params */
/** @typedef {{ low: number, high: number }} Data The ends of the axis of real numbers. */
/**
 * @typedef {Object} State
 * @property {number} x
 * @property {Params} params
 * @property {number} q
 * @property {number} xHat
 * @property {Data} ends
 */

const AROUND = 4; // levels that the magnifier shows on each side
const MOST = 1025; // levels that are drawn at most
const MARGIN = 0.03;

/** @type {import("../shell.js").Explorer<Data, Data, State>} */
export default { prepare: (data) => data, compute, draw, describe, integers };

/**
 * @param {import("../shell.js").Settings} settings
 * @param {Data} ends
 * @returns {State}
 */
function compute(settings, ends) {
  const [low, high] = settings.value_range;
  const params = paramsFromRange(low, high, settings.bits, {
    symmetric: settings.symmetric,
    narrowRange: settings.narrow_range,
    unsigned: settings.unsigned,
  });
  const q = quantize(settings.x, params);
  return { x: settings.x, params, q, xHat: dequantize(q, params), ends };
}

/** @param {State} state */
function integers({ params, q }) {
  return [params.qmin, params.qmax, params.zeroPoint, q];
}

/** @param {State} state */
export function describe({ x, params, q, xHat }) {
  const [low, high, number] = [minimum(params), maximum(params), x].map((v) =>
    describeNumber(v, ".4g")
  );
  const [rounding, clipping] = splitError(x, params).map((error) => describeNumber(error, "+.4f"));
  return `${params.bits} bits: ${levels(params)} levels from ${low} to ${high}, scale ` +
    `${format(params.scale, ".4g")}, zero point ${describeNumber(params.zeroPoint)}. ` +
    `x = ${number} is stored as q = ${describeNumber(q)} and comes back as ` +
    `x̂ = ${describeNumber(xHat, ".4f")}: rounding error ${rounding}, clipping error ${clipping}.`;
}

/**
 * @param {State} state
 * @param {number} width
 */
function draw(state, width) {
  const margin = MARGIN * (state.ends.high - state.ends.low);
  const wide = { low: state.ends.low - margin, high: state.ends.high + margin };
  const near = width < 620;
  const half = near ? width : width / 2;
  const top = near ? 212 : 192;
  const below = near ? 320 : 0;
  const body = numberLine(state, wide, width) + magnifier(state, width, top - 80) +
    staircase(state, wide, { left: 38, top, width: half - 56, height: 250 }) +
    errors(state, wide, {
      left: near ? 38 : half + 38,
      top: top + below,
      width: half - 56,
      height: near ? 180 : 250,
    });
  return { height: top + (near ? below + 180 : 250) + 44, body };
}

/** @typedef {{ left: number, top: number, width: number, height: number }} Place */

/**
 * @param {State} state
 * @param {Data} wide
 * @param {number} width
 */
function numberLine({ x, xHat, params }, wide, width) {
  const count = levels(params);
  const title = `The whole range: ${count} levels, ${count - 1} intervals`;
  const key = legend(
    [
      { label: "the number x", style: "fill-vermilion", marker: "down" },
      { label: "x̂, what comes back", style: "fill-ink", marker: "circle" },
    ],
    width < 620 ? 12 : width - 316,
    width < 620 ? 20 : 2,
    width - 24,
  );
  const ax = axes({
    left: 12,
    top: width < 620 ? 42 : 24,
    width: width - 24,
    height: 34,
    xlim: [wide.low, wide.high],
    ylim: [0, 1],
    xticks: roundTicks(wide.low, wide.high, 5),
    open: true,
  });
  const ticks = shown(params, wide).map((level) => [ax.x(level), ax.top, ax.x(level), ax.bottom]);
  return ax.frame + text(12, 14, title) + key.body +
    band(ax, minimum(params), maximum(params)) +
    inside(ax, segments(/** @type {any} */ (ticks), "blue thin")) +
    marker("down", ax.x(x), ax.y(0.5), "fill-vermilion", 7) +
    marker("circle", ax.x(xHat), ax.y(0.5), "fill-ink", 4);
}

/**
 * @param {State} state
 * @param {number} width
 * @param {number} top
 */
function magnifier({ x, xHat, q, params }, width, top) {
  const around = width < 620 ? 2 : AROUND; // more would stand too close
  const reach = around + 0.7;
  const ax = axes({
    left: 12,
    top,
    width: width - 24,
    height: 30,
    xlim: [-reach, reach],
    ylim: [0, 1],
    open: true,
  });
  const title = width < 620
    ? "Magnified: integer q above, real x̂ below"
    : "Magnified: the levels around x, integer q above, real x̂ below";
  let body = ax.frame + text(12, top - 18, title);
  for (let step = -around; step <= around; step++) {
    const integer = q + step;
    if (integer < params.qmin || integer > params.qmax) continue;
    const place = ax.x(step);
    const style = step === 0 ? "small strong" : "small";
    body += segments([[place, ax.top + 4, place, ax.bottom]], "blue") +
      text(place, ax.top, describeNumber(integer, "d"), { anchor: "middle", class: style }) +
      text(place, ax.bottom + 13, describeNumber(dequantize(integer, params), ".4g"), {
        anchor: "middle",
        class: style,
      });
  }
  const distance = (x - xHat) / params.scale;
  const edge = around + 0.6;
  const at = clamp(distance, -edge, edge);
  const shape = at === distance ? "down" : distance > 0 ? "right" : "left";
  return body + segments([[ax.x(0), ax.y(0.4), ax.x(at), ax.y(0.4)]], "vermilion dashed") +
    marker(shape, ax.x(at), ax.y(0.4), "fill-vermilion", 7) +
    marker("circle", ax.x(0), ax.y(0.4), "fill-ink", 4);
}

/**
 * @param {State} state
 * @param {Data} wide
 * @param {Place} place
 */
function staircase({ x, xHat, params }, wide, place) {
  /** @type {[number, number]} */
  const limits = [wide.low, wide.high];
  const ticks = roundTicks(wide.low, wide.high, 5);
  const title = "Staircase: x̂ against x";
  const ax = axes({
    ...place,
    xlim: limits,
    ylim: limits,
    xticks: ticks,
    yticks: ticks,
    xlabel: "x",
    title,
  });
  const stairs = steps(shown(params, wide), wide).map(([at, level]) => pixel(ax, at, level));
  return ax.frame + band(ax, minimum(params), maximum(params)) +
    inside(
      ax,
      segments([[ax.left, ax.bottom, ax.right, ax.top]], "muted dotted") + line(stairs, "blue"),
    ) +
    marker("circle", ax.x(x), ax.y(xHat), "fill-ink", 5);
}

/**
 * @param {State} state
 * @param {Data} wide
 * @param {Place} place
 */
function errors({ x, xHat, params }, wide, place) {
  const [low, high] = [minimum(params), maximum(params)];
  const ax = axes({
    ...place,
    xlim: [wide.low, wide.high],
    ylim: [-1.6, 1.6],
    xticks: roundTicks(wide.low, wide.high, 5),
    yticks: [{ at: -0.5, label: "−½" }, tickAt(0), { at: 0.5, label: "+½" }],
    xlabel: "x",
    title: "Error x̂ − x, in units of the scale",
  });
  const found = shown(params, wide);
  // If only some levels are drawn, the teeth are as wide as the drawn steps, but no higher.
  const step = found[1] - found[0];
  const teeth = steps(found, wide).map(([at, level]) => [at, (level - at) / step]);
  teeth[0][1] = (low - wide.low) / params.scale;
  teeth[teeth.length - 1][1] = (high - wide.high) / params.scale;
  const room = 0.12 * (wide.high - wide.low);
  /** @type {[number, number, number][]} */
  const sides = [[wide.low, low, -1.25], [high, wide.high, 1.25]];
  const notes = sides.filter(([start, end]) => end - start > room).map(([start, end, y]) =>
    text(ax.x((start + end) / 2), ax.y(y) + 4, "clipped", {
      anchor: "middle",
      class: "small",
    })
  );
  const halves = [-0.5, 0.5].map((y) => [ax.left, ax.y(y), ax.right, ax.y(y)]);
  return ax.frame + band(ax, low, high) +
    inside(
      ax,
      segments(/** @type {any} */ (halves), "muted dotted") +
        line(teeth.map(([at, error]) => pixel(ax, at, error)), "vermilion"),
    ) +
    notes.join("") +
    marker("circle", ax.x(x), ax.y(clamp((xHat - x) / params.scale, -1.5, 1.5)), "fill-ink", 5);
}

/**
 * @param {import("../axes.js").Axes} ax
 * @param {number} x
 * @param {number} y
 * @returns {[number, number]}
 */
function pixel(ax, x, y) {
  return [ax.x(x), ax.y(y)];
}

/**
 * Return the levels within the axis; of very many, only some.
 * @param {Params} params
 * @param {Data} wide
 */
export function shown(params, wide) {
  const [first, last] = [wide.low, wide.high].map((end) => quantize(end, params));
  const count = Math.min(last - first + 1, MOST);
  return Array.from(
    { length: count },
    (_, i) => dequantize(Math.round(first + ((last - first) * i) / (count - 1)), params),
  );
}

/**
 * Return the corners of the staircase through levels: pairs of x and x̂.
 * @param {number[]} found
 * @param {Data} wide
 * @returns {[number, number][]}
 */
function steps(found, wide) {
  return found.flatMap((level, i) => {
    const start = i === 0 ? wide.low : (found[i - 1] + level) / 2;
    const end = i === found.length - 1 ? wide.high : (level + found[i + 1]) / 2;
    return /** @type {[number, number][]} */ ([[start, level], [end, level]]);
  });
}
