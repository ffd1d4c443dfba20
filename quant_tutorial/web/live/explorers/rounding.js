// @ts-check
// The explorer of lesson 11, which shows how each method has rounded the weights of a layer
// (explorers/rounding.py). Nothing is rounded or run here.

import { quantize32 } from "../affine.js";
import { wrapped } from "../answers.js";
import { decoded } from "../arrays.js";
import { axes, roundTicks } from "../axes.js";
import { weightParams } from "../engine/params.js";
import { format } from "../format.js";
import { box, line, marker, segments, short, tag, text } from "../svg.js";

/** @typedef {import("../arrays.js").Encoded} Encoded */
/** @typedef {import("../svg.js").Marker} Marker */
/** @typedef {{ integers: Encoded, scale: number | number[] }} Chosen */
/**
 * What Python writes. What a method has made of the weights at a bit width is under "GPTQ 4".
 * @typedef {Object} Written
 * @property {Record<string, Encoded>} weights
 * @property {Record<string, Record<string, Chosen>>} rounded
 * @property {Record<string, Record<string, number>>} sqnr
 * @property {Record<string, number>} accuracy
 * @property {string[]} methods
 * @property {number} reference
 */
/**
 * How the weights of a layer are rounded, compared with their nearest levels: the steps by which
 * each is away, and how many of those at each place between two levels went up.
 * @typedef {{ steps: Int32Array, up: Float64Array, all: Float64Array }} Moves
 */
/**
 * @typedef {Object} State
 * @property {Written} written
 * @property {string} name
 * @property {number} bits
 * @property {string} method
 * @property {number} channels
 * @property {Moves} moves
 */

const BINS = 10; // along the step between two levels
const NEAREST = "nearest";
/** @type {Record<string, { shape: Marker, color: string }>} As METHOD_MARKS in Python. */
const MARKS = {
  nearest: { shape: "square", color: "orange" },
  equalization: { shape: "cross", color: "purple" },
  "bias correction": { shape: "down", color: "sky" },
  GPTQ: { shape: "diamond", color: "green" },
  AdaRound: { shape: "circle", color: "blue" },
  best: { shape: "up", color: "vermilion" },
};
const OTHER = /** @type {const} */ ({ shape: "cross", color: "grey" });

/** @type {import("../shell.js").Explorer<Written, Written, State>} */
export default {
  prepare: (written) => written,
  compute,
  draw,
  describe,
  integers: ({ moves }) => moves.steps,
};

/**
 * @param {import("../shell.js").Settings} settings
 * @param {Written} written
 * @returns {State}
 */
function compute({ bits, layer: name, method }, written) {
  const kernel = decoded(written.weights[name], "float32");
  const channels = /** @type {number} */ (written.weights[name].shape.at(-1));
  const chosen = written.rounded[`${method} ${bits}`][name];
  const { scales, ...rest } = weightParams(bits, chosen.scale);
  const params = scales.map((scale) => ({ ...rest, scale }));
  const moves = compare(kernel, decoded(chosen.integers, "int8"), params);
  return { written, name, bits, method, channels, moves };
}

/**
 * Compare integer weights with the nearest levels of the float weights.
 * @param {Float32Array} kernel The channels lie along the last axis.
 * @param {Int8Array} integers
 * @param {import("../affine.js").Params[]} params Of each channel, or only one for all.
 * @returns {Moves}
 */
export function compare(kernel, integers, params) {
  const steps = quantize32(kernel, params).map((nearest, i) => integers[i] - nearest);
  const [up, all] = [new Float64Array(BINS), new Float64Array(BINS)];
  kernel.forEach((value, i) => {
    const { scale, zeroPoint, qmin, qmax } = params[i % params.length];
    const exact = value / scale + zeroPoint;
    if (exact <= qmin || exact >= qmax) return; // there is no level beyond
    const below = Math.floor(exact);
    const place = Math.min(Math.trunc(BINS * (exact - below)), BINS - 1);
    all[place] += 1;
    if (integers[i] > below) up[place] += 1;
  });
  return { steps, up, all };
}

/** @param {State} state */
export function describe({ written, name, bits, method, moves }) {
  const { steps } = moves;
  const count = (/** @type {(step: number) => boolean} */ of) => steps.filter(of).length;
  const [up, down] = [count((step) => step > 0), count((step) => step < 0)];
  const far = count((step) => Math.abs(step) > 1);
  const whole = (/** @type {number} */ value) => format(value, ",d");
  let moved = "every weight is at its nearest level";
  if (up + down) {
    moved = `${whole(up + down)} of ${whole(steps.length)} weights ` +
      `(${format((up + down) / steps.length, ".0%")}) are not at their nearest level: ` +
      `${whole(up)} went up and ${whole(down)} down, ${whole(far)} by more than one level`;
  }
  const [here, there] = [method, NEAREST].map((kind) =>
    `${format(written.sqnr[`${kind} ${bits}`][name], ".1f")} dB`
  );
  const share = (/** @type {string} */ kind) => format(written.accuracy[`${kind} ${bits}`], ".1%");
  const [outputs, right] = method === NEAREST
    ? [here, share(method)]
    : [`${here} (nearest: ${there})`, `${share(method)} (nearest: ${share(NEAREST)})`];
  return `${name} at ${bits} bits by ${method}: ${moved}. SQNR of the outputs of ${name}: ` +
    `${outputs}. All layers by ${method}: ${right} of the images right.`;
}

/**
 * @param {State} state
 * @param {number} width
 */
function draw(state, width) {
  const near = width < 700;
  const top = near ? 74 : 56;
  const below = top + 130 + 96;
  if (near) {
    const panel = { left: 48, width: width - 68, height: 170 };
    return {
      height: below + 3 * 262,
      body: matrix(state, width, top) + places(state, { ...panel, top: below }) +
        noise(state, { ...panel, top: below + 262 }) +
        wrong(state, { ...panel, left: 122, width: width - 142, top: below + 524 }),
    };
  }
  const third = width / 3;
  const panel = { top: below, width: third - 74, height: 190 };
  return {
    height: below + 236,
    body: matrix(state, width, top) + places(state, { ...panel, left: 52 }) +
      noise(state, { ...panel, left: third + 44 }) +
      wrong(state, { ...panel, left: 2 * third + 88, width: third - 104 }),
  };
}

/**
 * Draw every weight of the layer: at its nearest level, above it or below it.
 * @param {State} state
 * @param {number} width
 * @param {number} top
 */
function matrix({ moves, channels }, width, top) {
  const inputs = moves.steps.length / channels;
  const ax = axes({
    left: 52,
    top,
    width: width - 68,
    height: 130,
    xlim: [0.5, inputs + 0.5],
    ylim: [channels + 0.5, 0.5],
    xticks: roundTicks(1, inputs, 8).filter(({ at }) => at >= 1 && Number.isInteger(at)),
    yticks: roundTicks(1, channels, 4).filter(({ at }) => at >= 1 && Number.isInteger(at)),
    xlabel: "input of the layer",
    ylabel: "output channel",
  });
  const [w, h] = [(ax.right - ax.left) / inputs, (ax.bottom - ax.top) / channels];
  const cells = { up: "", down: "" };
  const counts = { stays: 0, up: 0, down: 0 };
  moves.steps.forEach((step, i) => {
    const kind = step > 0 ? "up" : step < 0 ? "down" : "stays";
    counts[kind] += 1;
    if (kind === "stays") return;
    const x = short(ax.left + Math.floor(i / channels) * w);
    const y = short(ax.top + (i % channels) * h);
    cells[kind] += `M${x} ${y}h${short(w)}v${short(h)}h${short(-w)}z`;
  });
  const share = (/** @type {number} */ count) => format(count / moves.steps.length, ".0%");
  /** @type {[string, string][]} */
  const words = [
    ["frame", `${share(counts.stays)} at the nearest level`],
    ["fill-blue", `${share(counts.up)} went up`],
    ["fill-orange", `${share(counts.down)} went down`],
  ];
  let [left, row] = [52, 0];
  const key = words.map(([style, label]) => {
    const needed = 36 + 6.8 * label.length;
    if (left + needed > width) [left, row] = [52, row + 18];
    const found = box(left, top - 28 - (width < 700 ? 18 : 0) + row, 11, 11, style) +
      text(left + 17, top - 18 - (width < 700 ? 18 : 0) + row, label);
    left += needed;
    return found;
  });
  return text(52, top - (width < 700 ? 56 : 38), "Weights, against their nearest level") +
    key.join("") + tag("path", { d: cells.up, class: "fill-blue" }) +
    tag("path", { d: cells.down, class: "fill-orange" }) + ax.frame;
}

/** @typedef {{ left: number, top: number, width: number, height: number }} Place */

/**
 * Draw how many weights are rounded up, by their place between two levels.
 * @param {State} state
 * @param {Place} place
 */
function places({ moves }, place) {
  const ax = axes({
    ...place,
    xlim: [0, 1],
    ylim: [-5, 105],
    xticks: [[0, "lower level"], [0.5, "middle"], [1, "upper"]].map(([at, label]) => ({
      at: Number(at),
      label: String(label),
    })),
    yticks: roundTicks(0, 100, 5),
    ylabel: "% of the weights there",
  });
  /** @type {[number, number][]} */
  const points = [];
  moves.all.forEach((all, i) => {
    if (all) points.push([ax.x((i + 0.5) / BINS), ax.y((100 * moves.up[i]) / all)]);
  });
  /** @type {[number, number][]} */
  const nearest = [[0, 0], [0.5, 0], [0.5, 100], [1, 100]];
  return ax.frame + text(place.left, place.top - 12, "How many are rounded up") +
    line(nearest.map(([x, y]) => /** @type {const} */ ([ax.x(x), ax.y(y)])), "grey dashed thin") +
    line(points, "") + points.map(([x, y]) => marker("circle", x, y, "fill-ink", 3.5)).join("");
}

/**
 * Draw the SQNR of each layer's outputs, by method.
 * @param {State} state
 * @param {Place} place
 */
function noise({ written, name, bits, method }, place) {
  const layers = Object.keys(written.weights);
  const ax = axes({
    ...place,
    xlim: [-0.5, layers.length - 0.5],
    ylim: [-3, 36],
    xticks: layers.map((label, at) => ({ at, label })),
    yticks: roundTicks(0, 35, 7),
  });
  const chosen = layers.indexOf(name);
  const [left, right] = [ax.x(chosen - 0.4), ax.x(chosen + 0.4)];
  const lines = written.methods.map((kind) => {
    const { shape, color } = MARKS[kind] ?? OTHER;
    const found = written.sqnr[`${kind} ${bits}`];
    const points = layers.map((
      layer,
      i,
    ) => /** @type {const} */ ([ax.x(i), ax.y(Math.min(Math.max(found[layer], -3), 36))]));
    const is = kind === method;
    return tag(
      "g",
      { opacity: is ? 1 : 0.5 },
      line(points, `${color} ${is ? "strong-line" : "thin"}`) +
        points.map(([x, y]) => marker(shape, x, y, `fill-${color}`, is ? 6 : 4)).join(""),
    );
  });
  return box(left, ax.top, right - left, ax.bottom - ax.top, "band") + ax.frame +
    text(place.left, place.top - 12, "SQNR of each layer's outputs, dB") + lines.join("");
}

/**
 * Draw the share of wrong images of each method.
 * @param {State} state
 * @param {Place} place
 */
function wrong({ written, bits, method }, place) {
  const log = Math.log10;
  const { methods, reference } = written;
  const ax = axes({
    ...place,
    xlim: [log(0.3), log(130)],
    ylim: [methods.length - 0.5, -0.5],
    xticks: [1, 10, 100].map((at) => ({ at: log(at), label: `${at}` })),
    yticks: methods.map((kind, at) => ({ at, label: wrapped(kind, 16)[0] })),
    open: true,
  });
  const floats = ax.x(log(100 * (1 - reference)));
  const marks = methods.map((kind, row) => {
    const { shape, color } = MARKS[kind] ?? OTHER;
    const percent = 100 * (1 - written.accuracy[`${kind} ${bits}`]);
    const [x, y, left] = [ax.x(log(Math.max(percent, 0.3))), ax.y(row), percent > 12];
    const is = kind === method;
    return marker(shape, x, y, `fill-${color}`, is ? 7 : 5) +
      text(x + (left ? -12 : 12), y + 4, format(percent, ".1f"), {
        anchor: left ? "end" : "start",
        class: is ? "strong" : "",
      });
  });
  return ax.frame + text(place.left, place.top - 12, "% of the images wrong") +
    segments([[floats, ax.top, floats, ax.bottom]], "dashed thin") + marks.join("");
}
