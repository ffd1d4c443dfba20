// @ts-check
// A model as Python has exported it (quant_tutorial/web/model_data.py).

import { decoded } from "../arrays.js";

/** @typedef {import("../arrays.js").Encoded} Encoded */
/** @typedef {{ offset: number, length: number }} Place */
/**
 * A tensor that LiteRT quantizes; `shape` is that of its values for one image.
 * @typedef {{ name: string, layer: string, sources: string[], weights: string, shape: number[] }}
 *   Node
 */
/** @typedef {{ bytes: Uint8Array, kernel: Place, bias: Place }} Stage */
/**
 * The float weights of a layer. The output channels lie on the kernel's first axis.
 * @typedef {{ kernel: Float32Array, bias: Float32Array, channels: number }} Layer
 */
/** @typedef {{ batch: number, nodes: Node[], stages: Record<string, Stage> }} Network */

/**
 * @param {any} data
 * @returns {Network}
 */
export function network(data) {
  const stages = mapped(
    data.stages,
    (stage) => ({ ...stage, bytes: decoded(stage.bytes, "uint8") }),
  );
  return { batch: data.batch, nodes: data.nodes, stages };
}

/**
 * @param {any} data The layers by name.
 * @returns {Record<string, Layer>}
 */
export function layers(data) {
  return mapped(data, ({ kernel, bias, channels }) => ({
    kernel: decoded(kernel, "float32"),
    bias: decoded(bias, "float32"),
    channels,
  }));
}

/**
 * Return layers whose weights have the values that integers stand for.
 * @param {any} data The layers by name, as `integer_layers` writes them.
 * @returns {Record<string, Layer>}
 */
export function integerLayers(data) {
  return mapped(data, ({ integers, bias, channels, scale }) => {
    const values = decoded(integers, "int8");
    const scales = Float32Array.from([scale].flat());
    const size = values.length / channels;
    const kernel = Float32Array.from(
      values,
      (q, i) => q * scales[scales.length === 1 ? 0 : Math.floor(i / size)],
    );
    return { kernel, bias: decoded(bias, "float32"), channels };
  });
}

/**
 * Return the values of an object after a function, under the same keys.
 * @template T, U
 * @param {Record<string, T>} object
 * @param {(value: T, key: string) => U} change
 * @returns {Record<string, U>}
 */
export function mapped(object, change) {
  return Object.fromEntries(
    Object.entries(object).map(([key, value]) => [key, change(value, key)]),
  );
}
