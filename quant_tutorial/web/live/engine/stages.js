// @ts-check
// Run a model's stages on a share of the images, in a worker; the values are kept for each batch,
// so that after a change only what it affects is computed (quant_tutorial/simulate/staged.py).

import { Tensor } from "npm:@litertjs/core@2.5.3";
import { roundedValues } from "./rounding.js";

/** @typedef {import("npm:@litertjs/core@2.5.3").CompiledModel} CompiledModel */
/** @typedef {import("./network.js").Network} Network */
/** @typedef {import("./versions.js").Job} Job */
/** @typedef {import("./versions.js").StageWeights} StageWeights */
/** @typedef {{ version: number, tensor: Tensor }} Held */
/** @typedef {(bytes: Uint8Array) => Promise<CompiledModel>} Compile */

const VALUES = ["scale", "low", "high"]; // the run-time values, in the order of a job's

/** One stage of the model, with the weights that it got last. */
class Stage {
  #version = 0;
  /** @type {CompiledModel | undefined} */
  #model;

  /**
   * @param {Network} network
   * @param {string} name
   * @param {Compile} compile
   */
  constructor(network, name, compile) {
    this.place = network.stages[name];
    this.bytes = this.place.bytes.slice();
    this.compile = compile;
  }

  /** @param {StageWeights} weights */
  async set(weights) {
    if (weights.version === this.#version) return;
    for (const part of /** @type {const} */ (["kernel", "bias"])) {
      const values = weights[part];
      const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
      this.bytes.set(bytes, this.place[part].offset);
    }
    this.#model?.delete();
    this.#model = undefined;
    this.#model = await this.compile(this.bytes);
    this.#version = weights.version;
  }

  /** @param {Record<string, Tensor>} inputs */
  async run(inputs) {
    if (!this.#model) throw new Error("The stage has no weights yet.");
    const [output] = Object.values(await this.#model.run(inputs));
    return output;
  }
}

/** The stages of a model, and the values of its nodes for a worker's share of the images. */
export class Stages {
  /** @type {Tensor[]} */
  #images = [];
  /** @type {Record<string, Held[]>} */
  #held = {};
  /** @type {Record<string, Record<string, Tensor>>} */
  #values = {};

  /**
   * @param {Network} network
   * @param {Compile} compile
   */
  constructor(network, compile) {
    this.network = network;
    const [first, ...rest] = network.nodes;
    this.first = first;
    this.rest = rest;
    this.stages = rest.map(({ name }) => new Stage(network, name, compile));
    for (const { name } of rest) this.#held[name] = [];
  }

  /**
   * Take the images of this worker.
   * @param {Uint8Array} pixels 0 to 255, whole batches.
   */
  setImages(pixels) {
    const size = this.network.batch * this.first.shape.reduce((a, b) => a * b);
    for (let start = 0; start < pixels.length; start += size) {
      this.#images.push(this.#image(pixels.subarray(start, start + size)));
    }
  }

  /** @param {Uint8Array} pixels */
  #image(pixels) {
    // Divided in float32, as Python does.
    const values = Float32Array.from(pixels, (pixel) => pixel / 255);
    return new Tensor(values, [this.network.batch, ...this.first.shape]);
  }

  /** How many batches this worker has. */
  get batches() {
    return this.#images.length;
  }

  /**
   * Set the weights and the run-time values of a job.
   * @param {Job} job
   */
  async set(job) {
    for (const [i, { name }] of this.rest.entries()) await this.stages[i].set(job.weights[name]);
    for (const [name, values] of Object.entries(job.values)) {
      for (const tensor of Object.values(this.#values[name] ?? {})) tensor.delete();
      this.#values[name] = Object.fromEntries(
        VALUES.map((kind, i) => [kind, new Tensor(values.slice(i, i + 1), [1])]),
      );
    }
  }

  /**
   * Compute the values of one batch that the job, which was set before, changes.
   * @param {Job} job
   * @param {number} batch
   * @returns {Promise<Float32Array>} The outputs of the model, rounded.
   */
  async outputs(job, batch) {
    let tensor = this.#images[batch];
    for (const [i, { name }] of this.rest.entries()) {
      const version = job.versions[name];
      let held = this.#held[name][batch];
      if (held?.version !== version) {
        const output = await this.stages[i].run(this.#inputs(i, (at) => this.#raw(at, batch)));
        held?.tensor.delete();
        held = this.#held[name][batch] = { version, tensor: output };
      }
      tensor = held.tensor;
    }
    const last = this.rest[this.rest.length - 1].name;
    return roundedValues(/** @type {Float32Array} */ (tensor.toTypedArray()), job.values[last]);
  }

  /**
   * Return the values of a node before rounding, as computed last.
   * @param {string} name
   * @param {number} batch
   */
  values(name, batch) {
    return /** @type {Float32Array} */ (this.#raw(name, batch).toTypedArray());
  }

  /**
   * Compute the outputs for one image that is not among the others, with a job's parameters.
   * @param {Job} job
   * @param {Float32Array} image
   */
  async single(job, image) {
    await this.set(job);
    const pixels = new Float32Array(this.network.batch * image.length);
    pixels.set(image);
    /** @type {Record<string, Tensor>} */
    const made = {
      [this.first.name]: new Tensor(pixels, [this.network.batch, ...this.first.shape]),
    };
    for (const [i, { name }] of this.rest.entries()) {
      made[name] = await this.stages[i].run(this.#inputs(i, (at) => made[at]));
    }
    const { name, shape } = this.rest[this.rest.length - 1];
    const raw = /** @type {Float32Array} */ (made[name].toTypedArray());
    for (const tensor of Object.values(made)) tensor.delete();
    return roundedValues(raw.slice(0, shape[0]), job.values[name]);
  }

  /**
   * @param {string} name
   * @param {number} batch
   */
  #raw(name, batch) {
    return name === this.first.name ? this.#images[batch] : this.#held[name][batch].tensor;
  }

  /**
   * @param {number} stage
   * @param {(name: string) => Tensor} tensor Returns the values of a source.
   */
  #inputs(stage, tensor) {
    /** @type {Record<string, Tensor>} */
    const inputs = {};
    for (const [i, source] of this.rest[stage].sources.entries()) {
      inputs[`x_${i}`] = tensor(source);
      for (const kind of VALUES) inputs[`${kind}_${i}`] = this.#values[source][kind];
    }
    return inputs;
  }
}
