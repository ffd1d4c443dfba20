// @ts-check
// A setting of lesson 10's lab and its parameters, as in quant_tutorial/lab/setting.py.

import { mapped } from "../engine/network.js";

/** @typedef {import("../engine/params.js").ModelParams} ModelParams */
/** @typedef {import("../engine/params.js").Params} Params */
/** @typedef {import("../engine/network.js").Node} Node */
/**
 * The values of the controls; null stands for float.
 * @typedef {Object} Setting
 * @property {Record<string, number | null>} weights By layer.
 * @property {Record<string, number | null>} activations By layer, and "image".
 * @property {Record<string, number>} ranges Per cent, by layer.
 * @property {string} source
 * @property {string} granularity
 * @property {string} weightCalibrator
 * @property {string} calibrator
 * @property {boolean} ownRanges
 */

/**
 * @param {import("../shell.js").Settings} settings The controls' values.
 * @param {readonly string[]} layers
 * @param {Record<string, string>} sources The names of the weights, by the texts of the menu.
 * @returns {Setting}
 */
export function setting(settings, layers, sources) {
  const bits = (/** @type {string} */ kind, /** @type {readonly string[]} */ names) =>
    Object.fromEntries(
      names.map((name) => [
        name,
        settings[`float_${kind}.${name}`] ? null : settings[`${kind}.${name}`],
      ]),
    );
  return {
    weights: bits("weights", layers),
    activations: bits("activations", ["image", ...layers]),
    ranges: Object.fromEntries(layers.map((name) => [name, settings[`ranges.${name}`]])),
    source: sources[settings.source],
    granularity: settings.granularity,
    weightCalibrator: settings.weight_calibrator,
    calibrator: settings.calibrator,
    ownRanges: settings.own_ranges,
  };
}

/**
 * Return the scheme of a setting, before its ranges are scaled.
 * @param {Setting} given
 * @returns {import("../engine/params.js").Scheme}
 */
export function scheme({ weights, activations, granularity, weightCalibrator, calibrator }) {
  return {
    weights: mapped(
      weights,
      (bits) => bits === null ? null : { bits, granularity, calibrator: weightCalibrator },
    ),
    activations: mapped(
      activations,
      (bits) => bits === null ? null : { bits, calibrator, symmetric: bits === 16 },
    ),
  };
}

/**
 * Return a setting's parameters, calibrated or own, with the activations' ranges scaled.
 * @param {ModelParams} chosen The parameters of its scheme.
 * @param {Setting} given
 * @param {ModelParams | undefined} own Those with which the weights were trained or rounded better.
 * @param {readonly Node[]} nodes
 * @returns {ModelParams}
 */
export function modelParams(chosen, { ranges, ownRanges }, own, nodes) {
  const kept = (
    /** @type {Record<string, Params | null> | undefined} */ others,
  ) => /** @type {(params: Params | null, name: string) => Params | null} */ (
    (params, name) => {
      const other = ownRanges ? others?.[name] : null;
      return params && other && params.bits === other.bits ? other : params;
    }
  );
  const activations = mapped(chosen.activations, kept(own?.activations));
  for (const { name, layer } of nodes) {
    const params = activations[name];
    const percent = ranges[layer] ?? 100;
    if (params && percent !== 100) {
      activations[name] = { ...params, scales: [(params.scales[0] * percent) / 100] };
    }
  }
  return { weights: mapped(chosen.weights, kept(own?.weights)), activations };
}

/**
 * Count the tensors with their own parameters, and all quantized tensors.
 * @param {ModelParams} params
 * @param {ModelParams | undefined} own
 * @param {boolean} ownRanges
 * @returns {[number, number]}
 */
export function unchanged(params, own, ownRanges) {
  let [same, quantized] = [0, 0];
  for (const kind of /** @type {const} */ (["weights", "activations"])) {
    for (const [name, chosen] of Object.entries(params[kind])) {
      if (!chosen) continue;
      quantized += 1;
      const other = own?.[kind][name];
      if (ownRanges && other && equal(chosen, other)) same += 1;
    }
  }
  return [same, quantized];
}

/**
 * @param {Params} one
 * @param {Params} other
 */
function equal(one, other) {
  return one.bits === other.bits && one.zeroPoint === other.zeroPoint &&
    one.scales.length === other.scales.length &&
    one.scales.every((scale, i) => scale === other.scales[i]);
}
