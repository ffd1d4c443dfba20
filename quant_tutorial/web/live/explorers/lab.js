// @ts-check
// The dashboard of lesson 10, which offers every choice of the course (explorers/lab.py).

import { roundHalfAway } from "../affine.js";
import { changes, describeChanges } from "../answers.js";
import { decoded } from "../arrays.js";
import { loaded, parsed, supported } from "../engine/model.js";
import { layers, mapped } from "../engine/network.js";
import { activationParams, integers, weightParams } from "../engine/params.js";
import { extend } from "../lab/page.js";
import { draw } from "../lab/picture.js";
import { modelParams, scheme, setting } from "../lab/setting.js";
import { describe } from "../lab/words.js";

/** @typedef {import("../engine/model.js").LiveModel} LiveModel */
/** @typedef {import("../engine/params.js").ModelParams} ModelParams */
/** @typedef {import("../lab/setting.js").Setting} Setting */
/**
 * What Python writes: see `page_data` in explorers/lab.py.
 * @typedef {Object} Written
 * @property {any} tables
 * @property {string[]} layers
 * @property {Record<string, string>} sources
 * @property {string} ptq
 * @property {string[]} trained
 * @property {Record<string, Record<string, any>>} presets
 * @property {number} accuracy
 * @property {import("../arrays.js").Encoded} answers
 * @property {number} bytes
 * @property {number} exact
 */
/**
 * Weights of the menu. `floats` has the values of each node in float, for some images.
 * @typedef {Object} Source
 * @property {import("../engine/model.js").Weights} weights
 * @property {any} tables
 * @property {ModelParams} [own]
 * @property {Record<string, Float32Array>} [floats]
 */
/**
 * @typedef {Object} Prepared
 * @property {Written} written
 * @property {Uint8Array} before The float model's predictions, in the order of the computation.
 * @property {LiveModel | null} model
 * @property {Map<string, Source>} sources Those that are loaded, by name.
 * @property {object} turn Another one for each setting.
 * @property {{ key: string, state: State } | null} last What was shown last of all images.
 * @property {{ image: Float32Array, empty: boolean } | null} drawing
 * @property {(pixels: Uint8Array) => void} [showFirst] Show an image on the canvas.
 * @property {number[]} flips The images shown that are classified differently.
 */
/**
 * @typedef {Object} State
 * @property {Prepared} prepared
 * @property {Setting} chosen
 * @property {string} label Of the source.
 * @property {Source | null} source Null while it is loaded.
 * @property {ModelParams | null} params
 * @property {number} size In bytes.
 * @property {{ right: number, count: number } | null} measured
 * @property {boolean} whole
 * @property {Record<string, number>} sqnr In dB, by layer.
 * @property {import("../answers.js").Changes | null} changed
 * @property {string} changeWords
 * @property {{ image: Float32Array, logits: Float32Array[] | null } | null} drawn
 */

const SQNR_IMAGES = 250;

/** @type {import("../shell.js").Explorer<Written, Prepared, State>} */
export default {
  prepare: (written) => ({
    written,
    before: decoded(written.answers, "uint8"),
    model: null,
    sources: new Map(),
    turn: {},
    last: null,
    drawing: null,
    flips: [],
  }),
  supported,
  load: async (prepared, onProgress) => {
    const model = await loaded(onProgress);
    prepared.model = model;
    prepared.sources.set(prepared.written.ptq, {
      weights: model.baseline,
      tables: prepared.written.tables,
    });
    if (!prepared.drawing) {
      prepared.drawing = { image: pixelsOf(model, model.order[0]), empty: false };
      prepared.showFirst?.(model.image(model.order[0]));
    }
    return model.runner;
  },
  compute,
  draw,
  describe,
  extend,
  idle: (settings) => [
    ...["weights", "activations"].flatMap((kind) =>
      Object.keys(settings).filter((name) =>
        name.startsWith(`${kind}.`) && settings[`float_${name}`]
      )
    ),
    ...Object.keys(settings).filter((name) =>
      name.startsWith("ranges.") &&
      settings[name.replace("ranges.", "float_activations.")]
    ),
    ...(settings.source.includes("nearest level") ? ["own_ranges"] : []),
  ],
  isWhole: ({ whole, drawn }) => whole && drawn !== null,
  integers: ({ source, params }) =>
    Object.entries(source?.weights.layers ?? {}).flatMap(([name, layer]) => {
      const chosen = params?.weights[name];
      return chosen ? [...integers(layer, chosen)] : [];
    }),
};

/**
 * @param {LiveModel} model
 * @param {number} index
 */
function pixelsOf(model, index) {
  return Float32Array.from(model.image(index), (pixel) => pixel / 255);
}

/** @type {import("../shell.js").Explorer<Written, Prepared, State>["compute"]} */
function compute(settings, prepared, later) {
  const { written } = prepared;
  const chosen = setting(settings, written.layers, written.sources);
  const turn = prepared.turn = {};
  const key = JSON.stringify(chosen);
  /** @type {State} */
  let state = {
    prepared,
    chosen,
    label: settings.source,
    source: prepared.sources.get(chosen.source) ?? null,
    params: null,
    size: 0,
    measured: null,
    whole: false,
    sqnr: {},
    changed: null,
    changeWords: "",
    drawn: null,
  };
  const show = (/** @type {Partial<State>} */ found) => {
    if (prepared.turn !== turn) return;
    state = { ...state, ...found };
    if (state.whole) prepared.last = { key, state };
    later(state);
  };
  if (prepared.last?.key === key) { // only the drawing has changed
    state = { ...prepared.last.state, drawn: null };
    const { source, params } = /** @type {{ source: Source, params: ModelParams }} */ (state);
    look(prepared, source.weights, params).then((drawn) => show({ drawn }));
  } else if (state.source?.floats) {
    state = { ...state, ...begin(state) };
    measure(state, show);
  } else {
    load(prepared, chosen.source).then((source) => {
      if (prepared.turn !== turn) return;
      show({ source, ...begin({ ...state, source }) });
      measure(state, show);
    }, (error) => show({ changeWords: String(error) }));
  }
  return state;
}

/**
 * Load the weights of a source, and measure the values of its nodes in float.
 * @param {Prepared} prepared
 * @param {string} name
 * @returns {Promise<Source>}
 */
async function load(prepared, name) {
  const model = /** @type {LiveModel} */ (prepared.model);
  const { written, sources } = prepared;
  let source = sources.get(name);
  if (!source) {
    const data = parsed(await model.fetchMore(`${name.replace(" ", "_")}.json`));
    const { weights, activations } = data.own;
    source = {
      weights: { name, layers: layers(data.layers) },
      tables: data.tables,
      own: {
        weights: mapped(weights, ({ bits, scale }) => weightParams(bits, scale)),
        activations: mapped(
          activations,
          (one) => one && activationParams(one.bits, one.scale, one.zeroPoint),
        ),
      },
    };
    sources.set(name, source);
  }
  // Rounded weights stand for those of the baseline; trained ones are compared with themselves.
  const reference = written.trained.includes(name) ? source : sources.get(written.ptq);
  if (reference && !reference.floats) reference.floats = await floatValues(model, reference);
  source.floats = reference?.floats;
  return source;
}

/**
 * @param {LiveModel} model
 * @param {Source} source
 * @returns {Promise<Record<string, Float32Array>>}
 */
function floatValues(model, { weights }) {
  return new Promise((resolve) =>
    model.run(model.inFloat(), {
      weights,
      values: SQNR_IMAGES,
      only: true,
      onSample: ({ results }) => resolve(results.values),
    })
  );
}

/**
 * Return what of a state is known before anything is measured.
 * @param {State} state
 */
function begin({ prepared, chosen, source }) {
  const model = /** @type {LiveModel} */ (prepared.model);
  const { tables, own } = /** @type {Source} */ (source);
  const params = modelParams(model.params(tables, scheme(chosen)), chosen, own, model.nodes);
  return { params, size: model.weightBytes(params) };
}

/**
 * Measure a setting on the drawing and on the images.
 * @param {State} state
 * @param {(found: Partial<State>) => void} show
 */
function measure({ prepared, source, params }, show) {
  const model = /** @type {LiveModel} */ (prepared.model);
  const { weights, floats } = /** @type {Source} */ (source);
  const chosen = /** @type {ModelParams} */ (params);
  look(prepared, weights, chosen).then((drawn) => show({ drawn }));
  /** @param {import("../engine/model.js").Measured} measured */
  const found = (measured) => {
    const { answers, count } = measured;
    const labels = Uint8Array.from(answers, (_, i) => model.labels[model.order[i]]);
    const before = prepared.before.subarray(0, count);
    const changed = changes(before, answers, labels, (i) => model.image(model.order[i]));
    prepared.flips = changed.indices.map((i) => model.order[i]);
    return { measured, changed, changeWords: describeChanges(before, answers) };
  };
  model.run(chosen, {
    weights,
    values: SQNR_IMAGES,
    onSample: (measured) =>
      show({ ...found(measured), sqnr: ratios(model, floats ?? {}, measured.results, chosen) }),
    onAll: (measured) => show({ ...found(measured), whole: true }),
  });
}

/**
 * Return the logits of both models for the drawing.
 * @param {Prepared} prepared
 * @param {import("../engine/model.js").Weights} weights
 * @param {ModelParams} params
 */
async function look({ drawing, model }, weights, params) {
  const { image, empty } = drawing ?? { image: new Float32Array(784), empty: true };
  if (empty || !model) return { image, logits: null };
  return {
    image,
    logits: await model.outputs([{ params: model.inFloat() }, { params, weights }], image),
  };
}

/**
 * Return the SQNR of each activation against its float values, by layer, in dB.
 * @param {LiveModel} model
 * @param {Record<string, Float32Array>} floats
 * @param {import("../engine/runner.js").Results} results
 * @param {ModelParams} params
 */
function ratios({ nodes }, floats, { values }, { activations }) {
  return Object.fromEntries(nodes.map(({ name, layer }) => {
    const chosen = activations[name];
    const scale = chosen ? Math.fround(chosen.scales[0]) : 1;
    let [signal, noise] = [0, 0];
    values[name].forEach((value, i) => {
      let back = value;
      if (chosen) {
        const { zeroPoint, qmin, qmax } = chosen;
        const steps = roundHalfAway(Math.fround(value / scale));
        back = Math.fround(Math.min(Math.max(steps, qmin - zeroPoint), qmax - zeroPoint) * scale);
      }
      const exact = floats[name][i];
      signal += exact * exact;
      noise += (exact - back) ** 2;
    });
    return [layer, noise === 0 ? Infinity : 10 * Math.log10(signal / noise)];
  }));
}
