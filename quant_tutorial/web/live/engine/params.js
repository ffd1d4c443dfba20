// @ts-check
// The parameters of a whole model, taken from the tables that Python has exported, and what follows
// from them: rounded weights, run-time values, sizes (quant_tutorial/simulate/simulator.py).

import { clamp, roundHalfAway } from "../affine.js";
import { mapped } from "./network.js";

/** @typedef {import("./network.js").Layer} Layer */
/** @typedef {import("./network.js").Node} Node */
/**
 * The parameters of a tensor: one scale, or one for each output channel.
 * @typedef {{ bits: number, scales: number[], zeroPoint: number, qmin: number, qmax: number }} Params
 */
/**
 * The parameters of all weights by layer, and of all activations by node; null means float.
 * @typedef {Object} ModelParams
 * @property {Record<string, Params | null>} weights
 * @property {Record<string, Params | null>} activations
 */
/** @typedef {{ bits: number, granularity: string, calibrator: string }} WeightScheme */
/** @typedef {{ bits: number, calibrator: string, symmetric?: boolean }} ActivationScheme */
/**
 * How to choose parameters: the schemes of weights and activations by layer; null means float.
 * @typedef {Object} Scheme
 * @property {Record<string, WeightScheme | null>} weights
 * @property {Record<string, ActivationScheme | null>} activations
 */

/**
 * Return parameters of weights: symmetric, in the narrow range.
 * @param {number} bits
 * @param {number | number[]} scale
 * @returns {Params}
 */
export function weightParams(bits, scale) {
  const qmax = 2 ** (bits - 1) - 1;
  return { bits, scales: [scale].flat(), zeroPoint: 0, qmin: -qmax, qmax };
}

/**
 * Return parameters of activations, with all integers of the bit width.
 * @param {number} bits
 * @param {number} scale
 * @param {number} zeroPoint
 * @returns {Params}
 */
export function activationParams(bits, scale, zeroPoint) {
  const half = 2 ** (bits - 1);
  return { bits, scales: [scale], zeroPoint, qmin: -half, qmax: half - 1 };
}

/**
 * Return the parameters that Python's simulator chooses for a scheme.
 * @param {any} tables
 * @param {readonly Node[]} nodes
 * @param {Scheme} scheme
 * @returns {ModelParams}
 */
export function chosen(tables, nodes, scheme) {
  const weights = mapped(scheme.weights, (one, layer) => {
    if (!one) return null;
    const found = tables.weights[one.granularity][one.calibrator][one.bits];
    if (one.granularity !== "tensor-wise") return weightParams(one.bits, found[layer]);
    // Model-wide, the layers of the same scheme share a scale.
    const together = Object.keys(scheme.weights).filter((name) => alike(scheme.weights[name], one));
    return weightParams(one.bits, found[together.join()]);
  });
  /** @type {Record<string, Params | null>} */
  const activations = {};
  for (const { name, layer } of nodes) {
    const one = scheme.activations[layer];
    const kind = one?.symmetric ? `${one.bits}, symmetric` : one?.bits;
    activations[name] = one &&
      activationParams(one.bits, ...pair(tables.activations[one.calibrator][kind ?? ""][name]));
  }
  return { weights, activations };
}

/**
 * @param {WeightScheme | null} one
 * @param {WeightScheme} other
 */
function alike(one, other) {
  return one?.bits === other.bits && one.granularity === other.granularity &&
    one.calibrator === other.calibrator;
}

/**
 * @param {number[]} values
 * @returns {[number, number]}
 */
function pair([scale, zeroPoint]) {
  return [scale, zeroPoint];
}

/**
 * Return the integers of a layer's weights, in float32 arithmetic as in Python.
 * @param {Layer} layer
 * @param {Params} params
 * @returns {Int8Array} In the order of the kernel.
 */
export function integers(layer, params) {
  const { kernel, channels } = layer;
  const size = kernel.length / channels;
  const found = new Int8Array(kernel.length);
  for (let channel = 0; channel < channels; channel++) {
    const scale = Math.fround(params.scales[params.scales.length === 1 ? 0 : channel]);
    for (let i = channel * size; i < (channel + 1) * size; i++) {
      found[i] = clamp(roundHalfAway(Math.fround(kernel[i] / scale)), params.qmin, params.qmax);
    }
  }
  return found;
}

/**
 * Return a layer's weights with the values that their integers stand for; null keeps the floats.
 * @param {Layer} layer
 * @param {Params | null} params
 * @returns {Float32Array}
 */
export function rounded(layer, params) {
  if (!params) return layer.kernel;
  const size = layer.kernel.length / layer.channels;
  const scales = Float32Array.from(params.scales);
  return Float32Array.from(
    integers(layer, params),
    (q, i) => q * scales[scales.length === 1 ? 0 : Math.floor(i / size)],
  );
}

/**
 * Return what a stage takes at run time for the rounding of a node: scale, low and high.
 *
 * Without parameters the values round nothing: dividing by a tiny power of two is exact, and a
 * quotient that large has no fraction to round.
 * @param {Params | null} params
 * @returns {Float32Array}
 */
export function runTimeValues(params) {
  if (!params) return Float32Array.of(2 ** -64, -3e38, 3e38);
  const { scales, zeroPoint, qmin, qmax } = params;
  return Float32Array.of(scales[0], qmin - zeroPoint, qmax - zeroPoint);
}

/**
 * Return the bytes of all weights, packed at their bit widths, and of the biases, 4 each.
 * @param {Record<string, Layer>} layers
 * @param {ModelParams} params
 */
export function weightBytes(layers, params) {
  return Object.entries(layers).reduce((sum, [name, { kernel, bias }]) => {
    const bits = params.weights[name]?.bits ?? 32;
    return sum + Math.ceil((kernel.length * bits) / 8) + 4 * bias.length;
  }, 0);
}
