// @ts-check
// The explorer of lesson 04, which compares granularities of weights (explorers/granularity.py).

import { dequantize32, maximum, minimum, paramsFromRange, quantize32 } from "../affine.js";
import { decoded } from "../arrays.js";
import { axes, roundTicks } from "../axes.js";
import { describeNumber, format } from "../format.js";
import { legend, marker, segments, text } from "../svg.js";

/** @typedef {import("../affine.js").Params} Params */
/** @typedef {import("../arrays.js").Encoded} Encoded */
/** @typedef {import("../svg.js").Marker} Marker */

/**
 * What Python writes: the weights of each layer, the names of the granularities, and the accuracy by
 * bit width and granularity.
 * @typedef {Object} Written
 * @property {Record<string, Encoded>} weights
 * @property {Record<string, string>} names
 * @property {[number, string, number][]} accuracy
 */

/**
 * The weights of a layer, output channels on the last axis, with the ends of each channel.
 * @typedef {{ kernel: Float32Array, lows: number[], highs: number[] }} Layer
 */

/**
 * @typedef {Object} Prepared
 * @property {Map<string, Layer>} layers
 * @property {Record<string, string>} names
 * @property {Map<string, number>} accuracy
 */

/**
 * @typedef {Object} State
 * @property {string} name
 * @property {number} bits
 * @property {string} chosen
 * @property {Layer} layer
 * @property {number} reach The largest magnitude that the axis of the weights covers.
 * @property {Record<string, Params[]>} params By granularity: one for each channel, or one for all.
 * @property {Record<string, Int32Array>} integers
 * @property {Record<string, number[]>} sqnr
 * @property {number | undefined} accuracy
 * @property {Record<string, string>} names
 */

/** @type {Record<string, { shape: Marker, color: string, radius: number }>} */
const MARKS = {
  "tensor-wise": { shape: "cross", color: "vermilion", radius: 6.5 },
  "layer-wise": { shape: "square", color: "orange", radius: 4.5 },
  "channel-wise": { shape: "circle", color: "blue", radius: 3 },
};
const ENDS = [[4, 34], [8, 60], [16, 118]]; // of the axis of decibels, by the largest bit width

/** @type {import("../shell.js").Explorer<Written, Prepared, State>} */
export default {
  prepare,
  compute,
  draw,
  describe,
  integers: ({ integers }) => Object.values(integers).flatMap((each) => [...each]),
};

/**
 * @param {Written} written
 * @returns {Prepared}
 */
function prepare({ weights, names, accuracy }) {
  const layers = Object.entries(weights).map(([name, encoded]) => {
    const kernel = decoded(encoded, "float32");
    const count = /** @type {number} */ (encoded.shape.at(-1));
    const [lows, highs] = [Array(count).fill(Infinity), Array(count).fill(-Infinity)];
    kernel.forEach((value, i) => {
      lows[i % count] = Math.min(lows[i % count], value);
      highs[i % count] = Math.max(highs[i % count], value);
    });
    return /** @type {const} */ ([name, { kernel, lows, highs }]);
  });
  const known = accuracy.map((
    [bits, granularity, share],
  ) => /** @type {const} */ ([`${bits} ${granularity}`, share]));
  return { layers: new Map(layers), names, accuracy: new Map(known) };
}

/**
 * @param {import("../shell.js").Settings} settings
 * @param {Prepared} prepared
 * @returns {State}
 */
function compute(settings, { layers, names, accuracy }) {
  const { layer: name, bits, granularity: chosen, symmetric } = settings;
  const layer = /** @type {Layer} */ (layers.get(name));
  const all = [...layers.values()];
  /** @type {Record<string, [number, number][]>} */
  const ranges = {
    "tensor-wise": [ends(all)],
    "layer-wise": [ends([layer])],
    "channel-wise": layer.lows.map((low, channel) => [low, layer.highs[channel]]),
  };
  /** @type {State["params"]} */
  const params = {};
  /** @type {State["integers"]} */
  const integers = {};
  /** @type {State["sqnr"]} */
  const sqnr = {};
  for (const granularity of Object.keys(names)) {
    params[granularity] = ranges[granularity].map(([low, high]) =>
      paramsFromRange(low, high, bits, { symmetric, narrowRange: symmetric })
    );
    integers[granularity] = quantize32(layer.kernel, params[granularity]);
    const back = dequantize32(integers[granularity], params[granularity]);
    sqnr[granularity] = channelSqnr(layer.kernel, back, layer.lows.length);
  }
  return {
    name,
    bits,
    chosen,
    layer,
    reach: Math.max(...ends(chosen === "tensor-wise" ? all : [layer]).map(Math.abs)),
    params,
    integers,
    sqnr,
    accuracy: symmetric ? accuracy.get(`${bits} ${chosen}`) : undefined,
    names,
  };
}

/**
 * Return the smallest and the largest weight of layers.
 * @param {Layer[]} layers
 * @returns {[number, number]}
 */
function ends(layers) {
  return [
    Math.min(...layers.flatMap(({ lows }) => lows)),
    Math.max(...layers.flatMap(({ highs }) => highs)),
  ];
}

/**
 * Return the ratio of signal to quantization noise of each channel, in decibels.
 * @param {Float32Array} values The channels lie along the last axis.
 * @param {Float32Array} back The same, quantized.
 * @param {number} count How many channels there are.
 */
export function channelSqnr(values, back, count) {
  const [signal, noise] = [new Float64Array(count), new Float64Array(count)];
  values.forEach((value, i) => {
    signal[i % count] += value * value;
    noise[i % count] += (value - back[i]) ** 2;
  });
  return Array.from(
    signal,
    (sum, channel) => noise[channel] === 0 ? Infinity : 10 * Math.log10(sum / noise[channel]),
  );
}

/** @param {State} state */
export function describe({ name, bits, sqnr, names, chosen, accuracy }) {
  const parts = Object.entries(sqnr).map(([granularity, values]) => {
    const [low, high] = [Math.min(...values), Math.max(...values)].map((end) =>
      describeNumber(end + 0, ".1f")
    );
    return `${names[granularity]} ${low} to ${high} dB`;
  });
  const sentence = `${name} at ${bits} bits, SQNR of its channels: ${parts.join(", ")}.`;
  if (accuracy === undefined) return sentence;
  return `${sentence} With all layers at ${bits} bits ${names[chosen]} the accuracy is ` +
    `${format(accuracy, ".1%")}.`;
}

/**
 * @param {State} state
 * @param {number} width
 */
function draw(state, width) {
  const near = width < 620;
  const half = near ? width : width / 2;
  const size = { width: half - 64, height: 250 };
  const right = near ? { left: 52, top: 424 } : { left: half + 46, top: 66 };
  return {
    height: near ? 718 : 366,
    body: weights(state, { left: 52, top: near ? 48 : 66, ...size }) +
      ratios(state, { ...right, ...size }),
  };
}

/** @typedef {{ left: number, top: number, width: number, height: number }} Place */

/**
 * @param {number} count How many channels there are.
 * @returns {Pick<import("../axes.js").Layout, "xlim" | "xticks" | "xlabel">}
 */
function channelAxis(count) {
  const step = count <= 16 ? 2 : count <= 64 ? 8 : 16;
  const ticks = Array.from({ length: Math.ceil(count / step) }, (_, i) => i * step);
  return {
    xlim: [-0.7, count - 0.3],
    xticks: ticks.map((at) => ({ at, label: String(at) })),
    xlabel: "output channel",
  };
}

/**
 * @param {State} state
 * @param {Place} place
 */
function weights({ layer, chosen, params, reach, names }, place) {
  const count = layer.lows.length;
  const [low, high] = [-1.08 * reach, 1.08 * reach];
  const ax = axes({
    ...place,
    ...channelAxis(count),
    ylim: [low, high],
    yticks: roundTicks(low, high, 6),
    ylabel: "weight",
  });
  const bars = layer.lows.map((end, c) => [ax.x(c), ax.y(end), ax.x(c), ax.y(layer.highs[c])]);
  const lines = Array.from({ length: count }, (_, c) => {
    const each = params[chosen][c % params[chosen].length];
    return [minimum(each), maximum(each)].map((end) => [
      ax.x(c - 0.4),
      ax.y(end),
      ax.x(c + 0.4),
      ax.y(end),
    ]);
  });
  const key = legend(
    [
      { label: "weights", style: "grey bar" },
      { label: `range ${names[chosen]}`, style: `${MARKS[chosen].color} strong-line` },
    ],
    place.left,
    place.top - 26,
    place.width,
  );
  return ax.frame + text(place.left, place.top - 34, "Each channel's weights, and its range") +
    key.body +
    segments(/** @type {any} */ (bars), "grey bar") +
    segments(/** @type {any} */ (lines.flat()), `${MARKS[chosen].color} strong-line`);
}

/**
 * @param {State} state
 * @param {Place} place
 */
function ratios({ bits, sqnr, names }, place) {
  const count = Object.values(sqnr)[0].length;
  const [, highest] = ENDS.find(([width]) => bits <= width) ?? ENDS[ENDS.length - 1];
  const ax = axes({
    ...place,
    ...channelAxis(count),
    ylim: [-0.05 * highest, highest],
    yticks: roundTicks(0, highest, 6),
    ylabel: "dB",
  });
  const points = Object.entries(sqnr).flatMap(([granularity, values]) => {
    const { shape, color, radius } = MARKS[granularity];
    return values.map((value, channel) =>
      Number.isFinite(value)
        ? marker(shape, ax.x(channel), ax.y(value), `fill-${color}`, radius)
        : ""
    );
  });
  const entries = Object.entries(MARKS).map(([granularity, { shape, color }]) => ({
    label: names[granularity],
    style: `fill-${color}`,
    marker: shape,
  }));
  const { height } = legend(entries, place.left, 0, place.width);
  const key = legend(entries, place.left, place.top - 8 - height, place.width);
  return ax.frame +
    text(place.left, place.top - 16 - height, "SQNR of each channel") + key.body + points.join("");
}
