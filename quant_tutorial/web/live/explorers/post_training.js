// @ts-check
// The explorer of lesson 05, which measures a quantization scheme on the whole test set
// (explorers/post_training.py).

import {
  changes,
  describeFlips,
  describePoints,
  drawDigits,
  drawMatrix,
  flipsHeading,
} from "../answers.js";
import { decoded } from "../arrays.js";
import { axes } from "../axes.js";
import { loaded, supported } from "../engine/model.js";
import { integers } from "../engine/params.js";
import { format } from "../format.js";
import { accuracyInterval } from "../metrics.js";
import { box, marker, segments, tag, text } from "../svg.js";

/** @typedef {import("../engine/model.js").LiveModel} LiveModel */
/** @typedef {import("../engine/params.js").ModelParams} ModelParams */
/** @typedef {import("../engine/params.js").Scheme} Scheme */
/** @typedef {import("../shell.js").Settings} Settings */
/**
 * What Python writes: the tables of parameters, the names of the granularities, the layer of the
 * last output and the bits that it has at least while its box is ticked, and accuracy, predictions
 * and size of the float model.
 * @typedef {Object} Written
 * @property {any} tables
 * @property {Record<string, string>} names
 * @property {string} last
 * @property {number} wide
 * @property {string[]} layers
 * @property {number} accuracy
 * @property {import("../arrays.js").Encoded} answers
 * @property {number} bytes
 */
/** @typedef {Written & { before: Uint8Array, model: LiveModel | null }} Prepared */
/**
 * @typedef {Object} State
 * @property {Prepared} prepared
 * @property {string} said The sentence's beginning: the setting.
 * @property {ModelParams} params
 * @property {number} size In bytes.
 * @property {{ right: number, count: number } | null} measured Null before the estimate.
 * @property {Uint8Array | null} answers In the order of the test set; null before the full figure.
 * @property {import("../answers.js").Changes | null} changed
 */

const TICKS = [0.2, 0.5, 1, 2, 5, 10, 20, 50]; // of the axis of errors, per cent
const [LEAST, MOST] = [0.15, 100]; // its ends

/** @type {import("../shell.js").Explorer<Written, Prepared, State>} */
export default {
  prepare: (written) => ({ ...written, before: decoded(written.answers, "uint8"), model: null }),
  supported,
  load: async (prepared, onProgress) => {
    prepared.model = await loaded(onProgress);
    return prepared.model.runner;
  },
  compute,
  draw,
  describe,
  isWhole: ({ answers }) => answers !== null,
  integers: ({ params, prepared }) =>
    Object.entries(prepared.model?.baseline.layers ?? {}).flatMap(([name, layer]) => {
      const chosen = params.weights[name];
      return chosen ? [...integers(layer, chosen)] : [];
    }),
};

/**
 * Return the scheme to which the controls are set.
 * @param {Settings} settings
 * @param {Written} written
 * @returns {Scheme}
 */
export function scheme(settings, { layers, last, wide }) {
  const weights = {
    bits: settings.weights,
    granularity: settings.granularity,
    calibrator: settings.weight_calibrator,
  };
  const { activations: bits, calibrator } = settings;
  /** @type {Scheme} */
  const found = {
    weights: {},
    activations: { image: { bits: settings.input, calibrator: "min_max" } },
  };
  for (const layer of layers) {
    const kept = !settings[`layers.${layer}`];
    const output = layer === last && settings.wide
      ? { bits: Math.max(wide, bits), calibrator: "min_max" }
      : { bits, calibrator };
    found.weights[layer] = kept ? null : weights;
    found.activations[layer] = kept ? null : output;
  }
  return found;
}

/**
 * Return how the setting is described.
 * @param {Settings} settings
 * @param {Written} written
 */
export function describeSetting(settings, { layers, last, wide, names }) {
  const spared = layers.filter((layer) => !settings[`layers.${layer}`]);
  const without = spared.length ? `, ${spared.join(", ")} in float` : "";
  const { weights, activations, granularity, weight_calibrator, calibrator, input } = settings;
  const widened = settings.wide && activations < wide && !spared.includes(last);
  return `Weights ${weights} bits ${names[granularity]} (${weight_calibrator}), activations ` +
    `${activations} bits (${calibrator})${widened ? ` but ${wide} for the last output` : ""}, ` +
    `input ${input} bits${without}:`;
}

/** @type {import("../shell.js").Explorer<Written, Prepared, State>["compute"]} */
function compute(settings, prepared, later) {
  const model = /** @type {LiveModel} */ (prepared.model);
  const params = model.params(prepared.tables, scheme(settings, prepared));
  /** @type {State} */
  const state = {
    prepared,
    said: describeSetting(settings, prepared),
    params,
    size: model.weightBytes(params),
    measured: null,
    answers: null,
    changed: null,
  };
  model.run(params, {
    onSample: (measured) => later({ ...state, measured }),
    onAll: (measured) => {
      const answers = model.inOrder(measured.answers);
      const pixels = (/** @type {number} */ index) => model.image(index);
      const changed = changes(prepared.before, answers, model.labels, pixels);
      later({ ...state, measured, answers, changed });
    },
  });
  return state;
}

/** @param {State} state */
function describe({ said, measured, answers, size, prepared }) {
  if (!measured) return `${said} measuring …`;
  if (!answers) return `${said} ${estimate(measured)}.`;
  const share = measured.right / measured.count;
  return `${said} ${format(share, ".1%")} of ${format(measured.count, ",d")} images right, ` +
    `${describePoints(share, prepared.accuracy)} points from float; weights of ` +
    `${format(size, ",d")} bytes. ${describeFlips(prepared.before, answers)}`;
}

/** @param {{ right: number, count: number }} measured */
function estimate({ right, count }) {
  const [low, high] = accuracyInterval(right, count);
  return `${format(low, ".1%")} to ${format(high, ".1%")} right, estimated on ` +
    `${format(count, ",d")} images`;
}

/**
 * Return the share of wrong images in per cent, at least that of the end of the axis.
 * @param {number} accuracy
 */
function wrong(accuracy) {
  return Math.max(100 * (1 - accuracy), LEAST);
}

/**
 * @param {State} state
 * @param {number} width
 */
function draw(state, width) {
  const near = width < 640;
  const half = near ? width - 16 : width / 2 - 24;
  const side = near ? Math.min(width - 60, 320) : Math.min(half - 50, 290);
  const matrix = near ? { left: 44, top: 392, side } : { left: width - side - 12, top: 28, side };
  const below = near ? 392 + side + 46 : Math.max(352, side + 74);
  const place = { left: 8, top: below, width: width - 16 };
  const digits = drawDigits(
    flipsHeading(state.changed),
    state.changed?.shown ?? [],
    place,
  );
  return {
    height: below + digits.height + 6,
    body: share(state, half) + sizes(state, half) + bits(state, half) +
      drawMatrix(state.changed, matrix) + digits.body,
  };
}

/**
 * Draw the share of wrong images on a logarithmic axis.
 * @param {State} state
 * @param {number} width
 */
function share({ measured, answers, prepared }, width) {
  const log = Math.log10;
  const ax = axes({
    left: 8,
    top: 32,
    width,
    height: 38,
    xlim: [log(LEAST), log(MOST)],
    ylim: [-0.5, 0.5],
    xticks: TICKS.map((tick) => ({ at: log(tick), label: `${tick}` })),
    xlabel: "wrong images in %, logarithmic",
    open: true,
  });
  const reference = ax.x(log(wrong(prepared.accuracy)));
  const middle = ax.y(0);
  const parts = [
    ax.frame,
    segments([[reference, ax.top, reference, ax.bottom]], "dashed thin"),
    text(reference - 5, ax.top + 9, `float ${format(wrong(prepared.accuracy), ".2f")}`, {
      anchor: "end",
      class: "small",
    }),
  ];
  if (!measured) {
    parts.push(text(8, 19, "measuring …", { class: "strong" }));
    return parts.join("");
  }
  const accuracy = measured.right / measured.count;
  const at = ax.x(log(wrong(accuracy)));
  const opacity = answers ? 0.5 : 0.2;
  parts.push(tag("g", { opacity }, segments([[reference, middle, at, middle]], "blue bar")));
  parts.push(
    tag("g", { opacity: answers ? 1 : 0.3 }, marker("circle", at, middle, "fill-blue", 8)),
  );
  if (!answers) {
    const ends = accuracyInterval(measured.right, measured.count).map((end) =>
      ax.x(log(wrong(end)))
    );
    parts.push(segments([[ends[1], middle, ends[0], middle]], "orange bar"));
  }
  const ratio = wrong(accuracy) / wrong(prepared.accuracy);
  const times = format(ratio, ratio >= 10 ? ".0f" : ".1f");
  const words = answers
    ? `${format(accuracy, ".2%")} right, ${times}× float's errors`
    : estimate(measured);
  parts.push(text(8, 19, words, { class: "strong" }));
  return parts.join("");
}

/**
 * Draw the size of the weights.
 * @param {State} state
 * @param {number} width
 */
function sizes({ size, prepared }, width) {
  const step = 10_000;
  const ticks = Array.from({ length: Math.floor(prepared.bytes / step) + 1 }, (_, i) => i * step);
  const ax = axes({
    left: 8,
    top: 152,
    width,
    height: 30,
    xlim: [0, 1.04 * prepared.bytes],
    ylim: [-0.5, 0.5],
    xticks: ticks.map((at) => ({ at, label: format(at, ",d") })),
    xlabel: "bytes of kernels and biases",
    open: true,
  });
  const words = `${format(size, ",d")} of ${format(prepared.bytes, ",d")}: ${
    format(size / prepared.bytes, ".0%")
  }`;
  const inside = size > 0.6 * prepared.bytes;
  const reference = ax.x(prepared.bytes);
  return ax.frame + text(8, 140, "Weights") +
    text(reference, 140, `float ${format(prepared.bytes, ",d")}`, {
      anchor: "end",
      class: "small",
    }) +
    box(8, ax.top + 5, ax.x(size) - 8, 20, "fill-green") +
    segments([[reference, ax.top, reference, ax.bottom]], "dashed thin") +
    text(inside ? 14 : ax.x(size) + 6, ax.top + 20, words, {
      class: `strong ${inside ? "on-color" : ""}`,
    });
}

/**
 * Draw a table of the bits of each tensor.
 * @param {State} state
 * @param {number} width
 */
function bits({ params, prepared }, width) {
  const nodes = /** @type {LiveModel} */ (prepared.model).nodes;
  const top = 262;
  const first = 64;
  const step = (width - first) / nodes.length;
  const middle = { anchor: "middle" };
  const parts = [
    text(8, top, "Bits of each tensor"),
    text(8, top + 46, "weights", { class: "small" }),
    text(8, top + 68, "output", { class: "small" }),
  ];
  nodes.forEach(({ name, layer, weights }, place) => {
    const x = first + (place + 0.5) * step;
    const chosen = weights ? params.weights[weights] : undefined;
    const words = chosen === undefined ? "–" : `${chosen?.bits ?? "float"}`;
    parts.push(text(x, top + 24, layer, { ...middle, class: "small quiet" }));
    parts.push(text(x, top + 46, words, middle));
    parts.push(text(x, top + 68, `${params.activations[name]?.bits ?? "float"}`, middle));
  });
  return parts.join("");
}
