// @ts-check
// The explorer of lesson 03, which sets a range for a layer's activations (explorers/calibration.py).

import { maximum, minimum, paramsFromRange } from "../affine.js";
import { decoded } from "../arrays.js";
import { axes, band, inside, powersOfTen, roundTicks } from "../axes.js";
import { distribution, meanSquaredErrors } from "../distribution.js";
import { format } from "../format.js";
import { legend, line, marker, segments, text } from "../svg.js";

/** @typedef {import("../affine.js").Params} Params */
/** @typedef {import("../arrays.js").Encoded} Encoded */
/** @typedef {import("../distribution.js").Distribution} Distribution */
/** @typedef {[number, number]} Range */

/**
 * A layer as Python writes it: `ranges` has, for each bit width, what each calibrator chooses.
 * @typedef {Object} Written
 * @property {Encoded} values
 * @property {Encoded} counts
 * @property {number} width
 * @property {import("../shell.js").Limits} limits
 * @property {Record<string, Record<string, Range>>} ranges
 * @property {{ edges: Range, counts: number[] }} bars
 */

/** @typedef {Omit<Written, "values" | "counts"> & { found: Distribution }} Layer */

/**
 * @typedef {Object} State
 * @property {string} name
 * @property {Layer} layer
 * @property {Range} ends
 * @property {Params} params
 * @property {[number, number]} errors Rounding and clipping.
 * @property {Record<string, Range>} chosen
 * @property {Record<string, number>} multiples
 * @property {number} unit The smallest possible error.
 * @property {[number, number, number][]} curve Places of the moving end, and both errors there.
 */

const POINTS = 80;
const HIGHEST = 5;
/** @type {Record<string, import("../svg.js").Marker>} */
const MARKS = {
  min_max: "circle",
  moving_average: "square",
  percentile: "up",
  mse: "diamond",
  entropy: "cross",
};

/** @type {import("../shell.js").Explorer<Record<string, Written>, Record<string, Layer>, State>} */
export default { prepare, compute, draw, describe, integers, limits };

/** @param {Record<string, Written>} data */
function prepare(data) {
  return Object.fromEntries(
    Object.entries(data).map(([name, { values, counts, ...rest }]) => {
      const found = distribution(
        decoded(values, "float64"),
        decoded(counts, "uint32"),
        rest.width,
      );
      return [name, { ...rest, found }];
    }),
  );
}

/**
 * @param {string} changed
 * @param {import("../shell.js").Settings} settings
 * @param {Record<string, Layer>} layers
 * @returns {Record<string, import("../shell.js").Limits>}
 */
function limits(changed, settings, layers) {
  return changed === "layer" ? { range: layers[settings.layer].limits } : {};
}

/**
 * @param {import("../shell.js").Settings} settings
 * @param {Record<string, Layer>} layers
 * @returns {State}
 */
function compute(settings, layers) {
  const { layer: name, bits, range: ends } = settings;
  const layer = layers[name];
  const params = paramsFromRange(ends[0], ends[1], bits);
  const chosen = layer.ranges[bits];
  const sums = Object.entries(chosen).map(([calibrator, [low, high]]) => {
    const [rounding, clipping] = meanSquaredErrors(layer.found, paramsFromRange(low, high, bits));
    return /** @type {const} */ ([calibrator, rounding + clipping]);
  });
  const unit = Object.fromEntries(sums).mse || 1;
  return {
    name,
    layer,
    ends,
    params,
    errors: meanSquaredErrors(layer.found, params),
    chosen,
    multiples: Object.fromEntries(sums.map(([calibrator, error]) => [calibrator, error / unit])),
    unit,
    curve: movingEnds(layer.found, ends, bits),
  };
}

/**
 * Return the errors while one end of the range moves over the data and the other stays.
 * @param {Distribution} found
 * @param {Range} ends
 * @param {number} bits
 * @returns {[number, number, number][]}
 */
function movingEnds(found, ends, bits) {
  const [low, high] = [Math.min(ends[0], 0), Math.max(ends[1], 0)];
  const bottom = Math.min(found.values[0], 0);
  const top = Math.max(found.values[found.values.length - 1], 0);
  const points = bottom < 0 && 0 < top ? POINTS / 2 : POINTS;
  const shares = Array.from({ length: points }, (_, i) => (i + 1) / points);
  /** @param {number} end */
  const at = (end) => {
    const params = end < 0 ? paramsFromRange(end, high, bits) : paramsFromRange(low, end, bits);
    return /** @type {[number, number, number]} */ ([end, ...meanSquaredErrors(found, params)]);
  };
  const left = bottom ? shares.toReversed().map((share) => at(bottom * share)) : [];
  return [...left, [NaN, NaN, NaN], ...shares.map((share) => at(top * share))];
}

/** @param {State} state */
function integers({ params, chosen }) {
  const all = Object.values(chosen).map(([low, high]) => paramsFromRange(low, high, params.bits));
  return [params, ...all].flatMap(({ qmin, qmax, zeroPoint }) => [qmin, qmax, zeroPoint]);
}

/** @param {State} state */
export function describe({ name, params, errors, chosen, multiples, unit }) {
  const [rounding, clipping] = errors;
  const others = Object.entries(chosen).map(([calibrator, [low, high]]) =>
    `${calibrator} ${format(low, ".3g")} to ${format(high, ".3g")} ` +
    `(${describeMultiple(multiples[calibrator])})`
  );
  const [low, high] = [minimum(params), maximum(params)].map((end) => format(end, ".3g"));
  return `${name} at ${params.bits} bits, range ${low} to ${high}: mean squared error ` +
    `${format(rounding + clipping, ".3g")} (rounding ${format(rounding, ".3g")}, clipping ` +
    `${format(clipping, ".3g")}), ${describeMultiple((rounding + clipping) / unit)} the smallest ` +
    `possible. The calibrators choose ${others.join(", ")}.`;
}

/** @param {number} multiple */
export function describeMultiple(multiple) {
  if (multiple > 1000) return ">1000×";
  return `${format(multiple, multiple < 10 ? ".2f" : ".0f")}×`;
}

/**
 * @param {State} state
 * @param {number} width
 */
function draw(state, width) {
  const { values } = state.layer.found;
  const [low, high] = [values[0], values[values.length - 1]];
  const margin = 0.03 * (high - low || 1);
  const left = width < 620 ? 70 : 120;
  const shared = {
    left,
    width: width - left - 62,
    titleLeft: width < 620 ? 12 : left,
    xlim: /** @type {[number, number]} */ ([low - margin, low + (high - low || 1) + margin]),
    xticks: roundTicks(low - margin, high + margin, width < 620 ? 5 : 8),
  };
  return {
    height: 620,
    body: histogram(state, shared) + lanes(state, shared, width < 620) +
      curves(state, shared, width),
  };
}

/** @typedef {Pick<import("../axes.js").Layout, "left" | "width" | "titleLeft" | "xlim" | "xticks">} Shared */

/**
 * @param {State} state
 * @param {Shared} shared
 */
function histogram({ layer, params }, shared) {
  const { edges, counts } = layer.bars;
  const top = 2 * Math.max(...counts);
  const ax = axes({
    ...shared,
    top: 26,
    height: 140,
    ylim: [0.5, top],
    log: true,
    yticks: powersOfTen(1, top),
    title: "The values of the layer (how many)",
  });
  const step = (edges[1] - edges[0]) / counts.length;
  const bars = counts.flatMap((count, i) => {
    const x = ax.x(edges[0] + (i + 0.5) * step);
    return count ? [/** @type {const} */ ([x, ax.bottom, x, ax.y(count)])] : [];
  });
  return ax.frame + inside(ax, marked(ax, params) + segments(bars, "grey"));
}

/**
 * @param {State} state
 * @param {Shared} shared
 * @param {boolean} narrow Whether the names stand above their ranges, since there is no room beside.
 */
function lanes({ params, chosen, multiples }, shared, narrow) {
  const names = Object.keys(MARKS);
  const ax = axes({
    ...shared,
    top: 222,
    height: 24 * names.length,
    ylim: [names.length - 0.5, -0.5],
    title: "The range that each calibrator chooses",
  });
  const right = ax.right + 32;
  const body = names.map((name, i) => {
    const [y, [low, high]] = [ax.y(i) + (narrow ? 5 : 0), chosen[name].map(ax.x)];
    const label = narrow
      ? text(ax.left + 4, y - 6, name, { class: "smaller" })
      : text(ax.left - 6, y + 4, name, { anchor: "end", class: "small" });
    return label + segments([[low, y, high, y]], "ink") +
      [low, high].map((x) => marker(MARKS[name], x, y, "fill-ink", narrow ? 4 : 4.5)).join("") +
      text(right, y + 4, describeMultiple(multiples[name]), { anchor: "middle", class: "small" });
  });
  return ax.frame + marked(ax, params) +
    text(right, ax.top - 7, "error", { anchor: "middle" }) + body.join("");
}

/**
 * @param {State} state
 * @param {Shared} shared
 * @param {number} width
 */
function curves({ params, curve, unit }, shared, width) {
  const key = legend(
    [
      { label: "sum", style: "ink" },
      { label: "rounding", style: "blue dashed" },
      { label: "clipping", style: "vermilion dotted" },
    ],
    width < 620 ? 12 : shared.left,
    390,
    width - 24,
  );
  const ticks = Array.from({ length: HIGHEST + 1 }, (_, n) => ({ at: n, label: `${n}×` }));
  const ax = axes({
    ...shared,
    top: 412,
    height: 160,
    ylim: [0, HIGHEST],
    yticks: ticks,
    xlabel: "real value",
  });
  const narrow = width < 620;
  const title = narrow
    ? "Mean squared error if one end of the range moves"
    : "The mean squared error if one end of the range moves, in multiples of the smallest error";
  /** @param {(rounding: number, clipping: number) => number} pick @param {string} style */
  const drawn = (pick, style) =>
    line(
      curve.map(([end, rounding, clipping]) => [ax.x(end), ax.y(pick(rounding, clipping) / unit)]),
      style,
    );
  return text(width < 620 ? 12 : shared.left, 384, title) + key.body + ax.frame +
    inside(
      ax,
      marked(ax, params) + segments([[ax.left, ax.y(1), ax.right, ax.y(1)]], "muted thin") +
        drawn((rounding, clipping) => rounding + clipping, "ink") +
        drawn((rounding) => rounding, "blue dashed") +
        drawn((_, clipping) => clipping, "vermilion dotted"),
    );
}

/**
 * @param {import("../axes.js").Axes} ax
 * @param {Params} params
 */
function marked(ax, params) {
  return band(ax, minimum(params), maximum(params));
}
