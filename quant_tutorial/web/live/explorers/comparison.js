// @ts-check
// The explorer of lesson 08, which compares a model that was rounded after training with one that
// was trained with rounding (explorers/comparison.py).

import { describeFlips, drawDigits, SHOWN } from "../answers.js";
import { axes, roundTicks } from "../axes.js";
import { loaded, supported } from "../engine/model.js";
import { integerLayers, mapped } from "../engine/network.js";
import { activationParams, integers, weightParams } from "../engine/params.js";
import { format } from "../format.js";
import { differing, spread } from "../metrics.js";
import { box, legend, line, marker, segments, tag, text } from "../svg.js";

/** @typedef {import("../engine/model.js").LiveModel} LiveModel */
/** @typedef {import("../engine/network.js").Layer} Layer */
/** @typedef {import("../engine/params.js").ModelParams} ModelParams */
/** @typedef {import("../shell.js").Settings} Settings */
/**
 * What Python writes: the tables of parameters, the layers in order, how many images the float model
 * gets wrong, and the trained models by bit width.
 * @typedef {Object} Written
 * @property {any} tables
 * @property {string[]} layers
 * @property {number} reference
 * @property {Record<string, { layers: any, activations: any }>} trained
 */
/** @typedef {{ layers: Record<string, Layer>, params: ModelParams }} Trained */
/**
 * @typedef {Object} Prepared
 * @property {Written} written
 * @property {Record<string, Trained>} trained By bit width.
 * @property {LiveModel | null} model
 * @property {Map<string, Uint8Array>} measured Predictions, by the name of the model.
 * @property {object} turn Another one for each setting.
 */
/**
 * @typedef {Object} State
 * @property {Prepared} prepared
 * @property {number} bits
 * @property {boolean} wide
 * @property {string} name Of the layer.
 * @property {Int8Array[]} weights Of the layer, rounded and trained.
 * @property {Uint8Array[] | null} answers Of both models; null while they are measured.
 */

const COLORS = ["orange", "blue"];

/** @type {import("../shell.js").Explorer<Written, Prepared, State>} */
export default {
  prepare,
  supported,
  load: async (prepared, onProgress) => {
    prepared.model = await loaded(onProgress);
    return prepared.model.runner;
  },
  compute,
  draw,
  describe,
  isWhole: ({ answers }) => answers !== null,
  integers: ({ weights }) => weights.flatMap((values) => [...values]),
};

/**
 * @param {Written} written
 * @returns {Prepared}
 */
function prepare(written) {
  const trained = mapped(written.trained, ({ layers, activations }) => ({
    layers: integerLayers(layers),
    params: {
      weights: mapped(layers, ({ bits, scale }) => weightParams(bits, scale)),
      activations: mapped(
        activations,
        (one) => one && activationParams(one.bits, one.scale, one.zeroPoint),
      ),
    },
  }));
  return { written, trained, model: null, measured: new Map(), turn: {} };
}

/**
 * Return the scheme of the model that is rounded after training: `named_scheme` in Python.
 * @param {number} bits
 * @param {boolean} wide Whether the output has 8 bits.
 * @param {string[]} layers
 * @returns {import("../engine/params.js").Scheme}
 */
export function namedScheme(bits, wide, layers) {
  const calibrator = bits >= 8 ? "min_max" : "mse";
  const weights = { bits, granularity: "channel-wise", calibrator };
  const last = layers[layers.length - 1];
  const output = (/** @type {string} */ layer) =>
    wide && layer === last ? { bits: 8, calibrator: "min_max" } : { bits, calibrator };
  return {
    weights: Object.fromEntries(layers.map((layer) => [layer, weights])),
    activations: {
      image: { bits: 8, calibrator: "min_max" },
      ...Object.fromEntries(layers.map((layer) => [layer, output(layer)])),
    },
  };
}

/** @type {import("../shell.js").Explorer<Written, Prepared, State>["compute"]} */
function compute({ bits, output: wide, layer: name }, prepared, later) {
  const model = /** @type {LiveModel} */ (prepared.model);
  const { tables, layers } = prepared.written;
  const params = model.params(tables, namedScheme(bits, wide, layers));
  const trained = prepared.trained[bits];
  const weights = /** @type {const} */ ([
    [model.baseline.layers[name], params.weights[name]],
    [trained.layers[name], trained.params.weights[name]],
  ]).map(([layer, chosen]) => integers(layer, /** @type {any} */ (chosen)));
  const keys = [`rounded ${bits} ${wide}`, `trained ${bits}`];
  const turn = prepared.turn = {};
  /** @returns {State} */
  const state = () => {
    const known = keys.map((key) => prepared.measured.get(key));
    const answers = known.every((found) => found) ? /** @type {Uint8Array[]} */ (known) : null;
    return { prepared, bits, wide, name, weights, answers };
  };
  const missing = () => {
    const key = keys.find((each) => !prepared.measured.has(each));
    if (key === undefined) return;
    const isTrained = key === keys[1];
    model.run(isTrained ? trained.params : params, {
      weights: isTrained ? { name: key, layers: trained.layers } : undefined,
      onAll: ({ answers }) => {
        prepared.measured.set(key, model.inOrder(answers));
        if (prepared.turn !== turn) return; // the reader has moved on
        missing();
        if (state().answers) later(state());
      },
    });
  };
  missing();
  return state();
}

/** @param {State} state */
function describe({ prepared, bits, wide, name, weights, answers }) {
  if (!answers) return `${bits} bits: measuring …`;
  const { labels } = /** @type {LiveModel} */ (prepared.model);
  const [rounded, trained] = wrongs(answers, labels).map((count) =>
    format(1 - count / labels.length, ".1%")
  );
  const zeros = weights.map((values) =>
    format(values.filter((q) => q === 0).length / values.length, ".0%")
  );
  return `${bits} bits for weights and activations: ${rounded} of ` +
    `${format(labels.length, ",d")} images right when rounded after training` +
    `${wide ? ", with an output of 8 bits" : ""}, ${trained} when trained with rounding. ` +
    `${describeFlips(answers[0], answers[1])} Of the weights of ${name}, ` +
    `${zeros[0]} are 0 when rounded and ${zeros[1]} when trained.`;
}

/**
 * @param {Uint8Array[]} answers
 * @param {Uint8Array} labels
 */
function wrongs(answers, labels) {
  return answers.map((found) => differing(found, labels).length);
}

/**
 * @param {State} state
 * @param {number} width
 */
function draw(state, width) {
  const near = width < 640;
  const half = near ? width : width / 2;
  const below = near ? 572 : 300;
  const digits = drawDigits(heading(state), shown(state), {
    left: 8,
    top: below,
    width: width - 16,
  });
  const right = near
    ? { left: 48, top: 316, width: width - 64 }
    : { left: half + 44, top: 46, width: half - 60 };
  return {
    height: below + digits.height + 6,
    body: errors(state, { left: 66, top: 46, width: half - 84, height: 170 }) +
      histogram(state, { ...right, height: 190 }) + digits.body,
  };
}

/** @param {State} state */
function heading({ answers }) {
  if (!answers) return "";
  const count = differing(answers[0], answers[1]).length;
  return `${format(count, ",d")} images are classified differently` +
    (count ? " (true digit: rounded | trained)" : "");
}

/** @param {State} state */
function shown({ answers, prepared }) {
  if (!answers) return [];
  const model = /** @type {LiveModel} */ (prepared.model);
  const [rounded, trained] = answers;
  return spread(differing(rounded, trained), SHOWN).map((i) => ({
    pixels: model.image(i),
    title: `${model.labels[i]}: ${rounded[i]} | ${trained[i]}`,
  }));
}

/** @typedef {{ left: number, top: number, width: number, height: number }} Place */

/**
 * Draw how many images each model gets wrong, on a logarithmic axis.
 * @param {State} state
 * @param {Place} place
 */
function errors({ prepared, answers }, place) {
  const { labels } = /** @type {LiveModel} */ (prepared.model);
  const log = Math.log10;
  const start = Math.max(prepared.written.reference, 1);
  const ax = axes({
    ...place,
    xlim: [log(0.75 * start), log(1.3 * labels.length)],
    ylim: [-0.5, 1.6],
    xticks: [100, 1000, 10000].filter((at) => at > start && at <= labels.length).map((at) => ({
      at: log(at),
      label: format(at, ",d"),
    })),
    xlabel: "images (logarithmic)",
    open: true,
  });
  const reference = ax.x(log(start));
  const parts = [
    ax.frame,
    text(8, 24, `Wrong, of ${format(labels.length, ",d")} test images`),
    segments([[reference, ax.top, reference, ax.bottom]], "dashed thin"),
    text(reference + 6, ax.top + 12, `float: ${start}`, { class: "small" }),
  ];
  const counts = answers && wrongs(answers, labels);
  ["rounded", "trained"].forEach((word, i) => {
    const y = ax.y(1 - i);
    parts.push(text(8, y, word), text(8, y + 15, ["(PTQ)", "(QAT)"][i], { class: "small" }));
    if (!counts) {
      parts.push(text(reference + 10, y + 4, "measuring …"));
      return;
    }
    const x = ax.x(log(Math.max(counts[i], 1)));
    const far = counts[i] > 20 * start;
    parts.push(
      tag("g", { opacity: 0.5 }, segments([[reference, y, x, y]], `${COLORS[i]} bar`)),
      marker(i ? "circle" : "square", x, y, `fill-${COLORS[i]}`, 8),
      text(
        far ? x + 6 : Math.max(x, reference) + 14,
        far ? y - 14 : y + 4,
        `${format(counts[i], ",d")} wrong`,
        { anchor: far ? "end" : "start", class: "strong" },
      ),
    );
  });
  return parts.join("");
}

/**
 * Draw how often each integer occurs among the weights of the layer.
 * @param {State} state
 * @param {Place} place
 */
function histogram({ name, bits, weights }, place) {
  const top = 2 ** (bits - 1) - 1;
  const levels = Array.from({ length: 2 * top + 1 }, (_, i) => i - top);
  const shares = weights.map((values) => {
    const counts = new Float64Array(levels.length);
    for (const q of values) counts[q + top] += 1;
    return counts.map((count) => (100 * count) / values.length);
  });
  const highest = Math.max(...shares.flatMap((share) => [...share]));
  const step = levels.length <= 15 ? 1 : 3;
  const ax = axes({
    ...place,
    xlim: [-top - 0.7, top + 0.7],
    ylim: [0, 1.08 * highest],
    xticks: levels.length > 33
      ? roundTicks(-top, top, 6)
      : levels.filter((_, i) => i % step === 0).map((at) => ({
        at,
        label: String(at).replace("-", "−"),
      })),
    yticks: roundTicks(0, highest, 5),
    xlabel: "integer",
    ylabel: "% of the weights",
  });
  const key = legend(
    ["rounded (PTQ)", "trained (QAT)"].map((label, i) => ({ label, style: `${COLORS[i]} bar` })),
    place.left,
    place.top - 22,
    place.width,
  );
  const bars = shares.map((share, i) => {
    if (levels.length > 33) {
      const points = levels.flatMap((level, k) => [
        /** @type {const} */ ([ax.x(level - 0.5), ax.y(share[k])]),
        /** @type {const} */ ([ax.x(level + 0.5), ax.y(share[k])]),
      ]);
      return line(points, `${COLORS[i]} thin`);
    }
    const wide = ax.x(0.4) - ax.x(0);
    return levels.map((level, k) => {
      const [x, y] = [ax.x(level - 0.4 + 0.4 * i), ax.y(share[k])];
      return box(x, y, wide, ax.bottom - y, `fill-${COLORS[i]}`);
    }).join("");
  });
  return text(place.left, place.top - 28, `Integer weights of ${name}`) + key.body + bars.join("") +
    ax.frame;
}
