// @ts-check
// What a job for the workers consists of, and which values of an earlier job it can use.

import { rounded, runTimeValues } from "./params.js";

/** @typedef {import("./network.js").Layer} Layer */
/** @typedef {import("./network.js").Node} Node */
/** @typedef {import("./params.js").ModelParams} ModelParams */
/**
 * A stage's weights, and a number that is the same for the same weights.
 * @typedef {{ version: number, kernel: Float32Array, bias: Float32Array }} StageWeights
 */
/**
 * What is to be computed: the weights of each stage, the run-time values of each node's rounding,
 * and a version of each node's values. Values of the same version are the same.
 * @typedef {Object} Job
 * @property {Record<string, StageWeights>} weights By node.
 * @property {Record<string, Float32Array>} values By node.
 * @property {Record<string, number>} versions By node.
 */

/**
 * Return a function that makes jobs. It numbers what it has not seen before.
 * @param {readonly Node[]} nodes
 */
export function jobs(nodes) {
  /** @type {Map<string, number>} */
  const numbers = new Map();
  /** @param {string} key */
  const numbered = (key) => {
    const known = numbers.get(key);
    if (known !== undefined) return known;
    numbers.set(key, numbers.size + 1);
    return numbers.size;
  };
  /**
   * @param {string} source The name of the model whose weights these are.
   * @param {Record<string, Layer>} layers
   * @param {ModelParams} params
   * @returns {Job}
   */
  return (source, layers, params) => {
    /** @type {Job} */
    const job = { weights: {}, values: {}, versions: {} };
    for (const { name, sources, weights } of nodes) {
      job.values[name] = runTimeValues(params.activations[name]);
      if (sources.length === 0) {
        job.versions[name] = 0;
        continue;
      }
      const chosen = params.weights[weights];
      const version = numbered(`${name} ${source} ${chosen && [chosen.bits, ...chosen.scales]}`);
      const { bias } = layers[weights];
      job.weights[name] = { version, kernel: rounded(layers[weights], chosen), bias };
      const inputs = sources.map((one) => `${job.versions[one]} ${job.values[one]}`);
      job.versions[name] = numbered(`${version}: ${inputs}`);
    }
    return job;
  };
}
