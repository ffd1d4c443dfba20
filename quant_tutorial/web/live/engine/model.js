// @ts-check
// The course's model in the page, with the test set: what an explorer asks for accuracies.
//
// All explorers of a page share it. It is loaded when a reader first moves a control:
//
//     const model = await loaded(onProgress);
//     const params = model.params(tables, scheme);
//     model.run(params, { onSample, onAll });

import { decoded } from "../arrays.js";
import { download } from "./download.js";
import { layers, network } from "./network.js";
import { chosen, weightBytes } from "./params.js";
import { answers, Runner } from "./runner.js";
import { jobs } from "./versions.js";

/** @typedef {import("./download.js").Source} Source */
/** @typedef {import("./network.js").Layer} Layer */
/** @typedef {import("./params.js").ModelParams} ModelParams */
/** @typedef {import("./params.js").Scheme} Scheme */
/** @typedef {import("./runner.js").Results} Results */
/**
 * The predicted classes of images, in the order of the computation.
 * @typedef {{ answers: Uint8Array, right: number, count: number, results: Results }} Measured
 */
/**
 * A model whose weights the stages can take: the baseline, or another of the same architecture.
 * @typedef {{ name: string, layers: Record<string, Layer> }} Weights
 */

const SAMPLE = 1000; // images for the estimate, as in Python

// A module that adds with relaxed SIMD, as LiteRT.js itself tries; without it there is another file.
const RELAXED = "AGFzbQEAAAABBQFgAAF7AwIBAAoPAQ0AQQH9D0EC/Q/9gAIL";

/** @type {Promise<LiveModel> | undefined} */
let shared;

/** Return whether this browser can run the model from where the page is. */
export function supported() {
  return location.protocol !== "file:" && typeof WebAssembly === "object" &&
    typeof Worker === "function" && typeof DecompressionStream === "function";
}

/**
 * Return the model, loaded once for all explorers of the page.
 * @param {import("../loading.js").OnProgress} onProgress
 */
export function loaded(onProgress) {
  shared ??= load(onProgress).catch((error) => {
    shared = undefined; // the reader may try again
    throw error;
  });
  return shared;
}

/** @param {import("../loading.js").OnProgress} onProgress */
async function load(onProgress) {
  const folder = new URL(".", import.meta.url); // of the bundle, and of all that belongs to it
  const response = await fetch(new URL("assets.json", folder), { cache: "no-cache" });
  if (!response.ok) throw new Error(`${response.status} for ${response.url}`);
  /** @type {Record<string, Source>} */
  const files = await response.json();
  const kind = await relaxed() ? "litert" : "litert_compat";
  const sources = [files[`${kind}.wasm`], files["images.bin"], files["baseline.json"]];
  const [wasm, pixels, text] = await download(sources, folder, onProgress);
  const module = WebAssembly.compile(/** @type {BufferSource} */ (wasm));
  const model = new LiveModel(parsed(text), pixels, SAMPLE);
  const [worker, script] = ["litert_worker.js", files[`${kind}.js`].file].map((file) =>
    new URL(file, folder)
  );
  try {
    await model.runner.start({ worker, script, module: await module }, model.shuffled());
  } catch (error) {
    model.runner.close();
    throw error;
  }
  model.fetchMore = (name) =>
    download([files[name]], folder, () => {}).then(([content]) => content);
  model.address = (name) => files[name] && new URL(files[name].file, folder).href;
  return model;
}

/**
 * Return the JSON in a file.
 * @param {Uint8Array} content
 */
export function parsed(content) {
  return JSON.parse(new TextDecoder().decode(content));
}

async function relaxed() {
  try {
    await WebAssembly.instantiate(Uint8Array.from(atob(RELAXED), (c) => c.charCodeAt(0)));
    return true;
  } catch {
    return false;
  }
}

/** The model, its test set and the workers that run it. */
export class LiveModel {
  /**
   * @param {any} data What `model_data.py` has exported.
   * @param {Uint8Array} pixels Of the test images.
   * @param {number} sample How many images the estimate is made from.
   */
  constructor(data, pixels, sample) {
    this.network = network(data);
    this.nodes = this.network.nodes;
    /** @type {Weights} */
    this.baseline = { name: "baseline", layers: layers(data.layers) };
    this.pixels = pixels;
    /** Of each place in the order of the computation, the index of the image. */
    this.order = decoded(data.order, "uint16");
    this.labels = decoded(data.labels, "uint8");
    this.job = jobs(this.nodes);
    this.runner = new Runner(this.network, sample);
    /** Load another file of the engine's. @type {(name: string) => Promise<Uint8Array>} */
    this.fetchMore = () => Promise.reject(new Error("There are no further files."));
    /** Return the address of a file, if there is one. @type {(name: string) => string | undefined} */
    this.address = () => undefined;
  }

  /**
   * Return the parameters of a scheme, as Python's simulator chooses them.
   * @param {any} tables What `explorers/exported_model.py` has written.
   * @param {Scheme} scheme
   */
  params(tables, scheme) {
    return chosen(tables, this.nodes, scheme);
  }

  /** The parameters of the model in float. @returns {ModelParams} */
  inFloat() {
    const of = (/** @type {string[]} */ names) => Object.fromEntries(names.map((n) => [n, null]));
    const names = this.nodes.map(({ name }) => name);
    return { weights: of(Object.keys(this.baseline.layers)), activations: of(names) };
  }

  /** @param {ModelParams} params */
  weightBytes(params) {
    return weightBytes(this.baseline.layers, params);
  }

  /**
   * Measure a model on the sample, then on all images; an earlier measurement is abandoned.
   * @param {ModelParams} params
   * @param {{ onSample?: (found: Measured) => void, onAll?: (found: Measured) => void,
   *   values?: number, only?: boolean, weights?: Weights }} wanted See `Wanted` of the runner.
   */
  run(params, { onSample, onAll, values, only, weights = this.baseline }) {
    const job = this.job(weights.name, weights.layers, params);
    this.runner.run(job, {
      values,
      only,
      onSample: onSample && ((results) => onSample(this.#measured(results))),
      onAll: onAll && ((results) => onAll(this.#measured(results))),
    });
  }

  /**
   * Return the outputs for one image.
   * @param {{ params: ModelParams, weights?: Weights }[]} models
   * @param {Float32Array} image Pixels from 0 to 1.
   */
  outputs(models, image) {
    const made = models.map(({ params, weights = this.baseline }) =>
      this.job(weights.name, weights.layers, params)
    );
    return this.runner.single(made, image);
  }

  /** The images' pixels in the order of the computation. */
  shuffled() {
    const size = this.pixels.length / this.order.length;
    const found = new Uint8Array(this.pixels.length);
    this.order.forEach((index, place) => found.set(this.image(index), place * size));
    return found;
  }

  /**
   * Return the pixels of a test image, 0 to 255.
   * @param {number} index
   */
  image(index) {
    const size = this.pixels.length / this.order.length;
    return this.pixels.subarray(index * size, (index + 1) * size);
  }

  /**
   * Return predictions for all images in the order of the test set.
   * @param {Uint8Array} shuffled In the order of the computation.
   */
  inOrder(shuffled) {
    const found = new Uint8Array(shuffled.length);
    shuffled.forEach((answer, place) => (found[this.order[place]] = answer));
    return found;
  }

  /**
   * @param {Results} results
   * @returns {Measured}
   */
  #measured(results) {
    const found = answers(results);
    const right = found.reduce(
      (sum, answer, place) => sum + Number(answer === this.labels[this.order[place]]),
      0,
    );
    return { answers: found, right, count: results.count, results };
  }
}
