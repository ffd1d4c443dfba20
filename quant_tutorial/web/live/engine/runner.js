// @ts-check
// Share the test images among workers, give them jobs, and put their results together.

/** @typedef {import("./network.js").Network} Network */
/** @typedef {import("./versions.js").Job} Job */
/**
 * The outputs for the first images, in the order of the computation: `count` rows of `width`.
 * `values` has those of every node before rounding, for as many images as were asked for.
 * @typedef {Object} Results
 * @property {Float32Array} outputs
 * @property {number} count
 * @property {number} width
 * @property {Record<string, Float32Array>} values
 */
/**
 * @typedef {Object} Wanted
 * @property {(results: Results) => void} [onSample] Called with the results of the sample.
 * @property {(results: Results) => void} [onAll] Called with those of all images.
 * @property {number} [values] For how many images of the sample the nodes' values are wanted.
 * @property {boolean} [only] Whether only the sample is computed; there is no `onAll` then.
 */
/**
 * What the workers need, besides their images.
 * @typedef {Object} Runtime
 * @property {URL} worker The address of the worker's script.
 * @property {URL} script The address of LiteRT's script.
 * @property {WebAssembly.Module} module
 */
/** @typedef {{ id: number, outputs: Float32Array[], values?: Record<string, Float32Array[]> }} Part */

/** Return how many workers compute: two where there are two cores, which halves the time. */
export function workerCount() {
  return Math.min(navigator.hardwareConcurrency || 1, 2);
}

/** The workers. Of several jobs given in a row only the last one is completed. */
export class Runner {
  #id = 0;
  /** @type {Wanted | undefined} */
  #wanted;
  /** @type {Record<string, Part[]>} The parts of the current job, by kind and worker. */
  #parts = {};
  /** @type {Map<number, (outputs: Float32Array[]) => void>} */
  #singles = new Map();
  /** @type {(error: Error) => void} */
  #fail;
  /** Rejected when a worker fails. @type {Promise<never>} */
  failed;

  /**
   * @param {Network} network
   * @param {number} sample How many images the estimate is made from.
   */
  constructor(network, sample) {
    this.network = network;
    this.sample = sample;
    this.#fail = () => {};
    this.failed = new Promise((_, reject) => (this.#fail = reject));
    this.failed.catch(() => {}); // whoever waits for results is told
    /** @type {Worker[]} */
    this.workers = [];
  }

  /**
   * Start the workers.
   * @param {Runtime} runtime
   * @param {Uint8Array} pixels Of all images, in the order in which they are to be computed.
   * @param {number} [count] How many workers.
   */
  async start(runtime, pixels, count = workerCount()) {
    const { batch, nodes } = this.network;
    const size = batch * nodes[0].shape.reduce((a, b) => a * b);
    const batches = pixels.length / size;
    if (!Number.isInteger(batches)) {
      throw new RangeError(`The images must be whole batches of ${batch}, got ${batches} batches.`);
    }
    this.workers = Array.from({ length: count }, () => new Worker(runtime.worker));
    const ready = this.workers.map((worker, place) => {
      // Batch after batch goes to the next worker, so that each has its share of the sample.
      const share = new Uint8Array(Math.ceil((batches - place) / count) * size);
      for (let at = 0, from = place; at < share.length; at += size, from += count) {
        share.set(pixels.subarray(from * size, (from + 1) * size), at);
      }
      return /** @type {Promise<void>} */ (new Promise((resolve, reject) => {
        worker.onerror = (event) => this.#fail(new Error(event.message || "A worker failed."));
        worker.onmessage = ({ data }) => {
          if (data.kind === "ready") resolve();
          else this.#take(data, place);
        };
        this.failed.catch(reject);
        const { module, script } = runtime;
        const message = { kind: "start", module, script: script.href, pixels: share };
        worker.postMessage({ ...message, network: this.network }, [share.buffer]);
      }));
    });
    await Promise.all(ready);
  }

  /**
   * Compute a job on all images; the job before is abandoned.
   * @param {Job} job
   * @param {Wanted} wanted
   */
  run(job, wanted) {
    this.#id += 1;
    this.#wanted = wanted;
    this.#parts = { sample: [], all: [] };
    const [sample, values] = [this.sample, wanted.values ?? 0].map((images) =>
      images / this.network.batch
    );
    for (const [place, worker] of this.workers.entries()) {
      worker.postMessage({
        kind: "run",
        id: this.#id,
        job,
        sample: this.#share(sample, place),
        values: this.#share(values, place),
        only: Boolean(wanted.only),
      });
    }
  }

  /**
   * Return the outputs of several jobs for one image.
   * @param {Job[]} jobs
   * @param {Float32Array} image
   * @returns {Promise<Float32Array[]>}
   */
  single(jobs, image) {
    this.#id += 1;
    const id = -this.#id; // no job has it
    this.workers[0].postMessage({ kind: "single", id, jobs, image });
    const found = new Promise((resolve) => this.#singles.set(id, resolve));
    return Promise.race([found, this.failed]);
  }

  /** Stop the workers. */
  close() {
    for (const worker of this.workers) worker.terminate();
    this.workers = [];
  }

  /**
   * Return how many of the first batches a worker has.
   * @param {number} batches
   * @param {number} place
   */
  #share(batches, place) {
    return Math.ceil((batches - place) / this.workers.length);
  }

  /**
   * @param {any} data A message.
   * @param {number} place Of its worker.
   */
  #take(data, place) {
    if (data.kind === "error") this.#fail(new Error(data.message));
    else if (data.kind === "single") {
      this.#singles.get(data.id)?.(data.outputs);
      this.#singles.delete(data.id);
    } else if (data.id === this.#id && this.#wanted) {
      const parts = this.#parts[data.kind];
      parts[place] = data;
      if (Object.keys(parts).length < this.workers.length) return;
      if (data.kind === "sample") this.#wanted.onSample?.(this.#joined(parts));
      else this.#wanted.onAll?.(this.#joined(this.#whole()));
    }
  }

  /** The parts of all images: those of the sample came before. */
  #whole() {
    const { sample, all } = this.#parts;
    return all.map((part, place) => ({
      ...sample[place],
      outputs: [...sample[place].outputs, ...part.outputs],
    }));
  }

  /**
   * Put the batches of all workers in order.
   * @param {Part[]} parts
   * @returns {Results}
   */
  #joined(parts) {
    const { nodes } = this.network;
    const width = nodes[nodes.length - 1].shape[0];
    const outputs = interleaved(parts.map((part) => part.outputs));
    const names = Object.keys(parts[0].values ?? {});
    const values = Object.fromEntries(
      names.map((name) => [name, interleaved(parts.map((part) => part.values?.[name] ?? []))]),
    );
    return { outputs, count: outputs.length / width, width, values };
  }
}

/**
 * Return batches that were dealt to workers in turn as one array.
 * @param {Float32Array[][]} shares
 */
export function interleaved(shares) {
  const count = shares.reduce((sum, share) => sum + share.length, 0);
  const size = shares[0][0]?.length ?? 0;
  const joined = new Float32Array(count * size);
  for (let i = 0; i < count; i++) {
    joined.set(shares[i % shares.length][Math.floor(i / shares.length)], i * size);
  }
  return joined;
}

/**
 * Return the class that a model predicts for each image: the first of the largest outputs.
 * @param {Results} results
 */
export function answers({ outputs, count, width }) {
  const found = new Uint8Array(count);
  for (let image = 0; image < count; image++) {
    const start = image * width;
    for (let i = 1; i < width; i++) {
      if (outputs[start + i] > outputs[start + found[image]]) found[image] = i;
    }
  }
  return found;
}
