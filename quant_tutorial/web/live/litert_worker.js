// @ts-check
// The worker that computes: it loads LiteRT.js and runs the model's stages on its share of the
// images. It is bundled as a classic script, because LiteRT.js loads its own with importScripts.

import { loadAndCompile, loadLiteRt } from "npm:@litertjs/core@2.5.3";
import { Stages } from "./engine/stages.js";

/** @typedef {import("./engine/network.js").Network} Network */
/** @typedef {import("./engine/versions.js").Job} Job */
/**
 * The first message: LiteRT as compiled WebAssembly and the address of its script, the model, and
 * the pixels of this worker's batches.
 * @typedef {Object} Start
 * @property {"start"} kind
 * @property {WebAssembly.Module} module
 * @property {string} script
 * @property {Network} network
 * @property {Uint8Array} pixels
 */
/**
 * Compute a job on all batches, the first `sample` of them first. Earlier jobs are abandoned.
 * `values` asks for the values of all nodes in that many batches; `only` the sample is computed.
 * @typedef {{ kind: "run", id: number, job: Job, sample: number, values: number, only: boolean }} Run
 */
/** @typedef {{ kind: "single", id: number, jobs: Job[], image: Float32Array }} Single */

const PATIENCE = 8; // ms of computing after which the worker looks for messages

/** @type {Stages} */
let stages;
/** @type {Run | undefined} */
let waiting;
/** @type {Single[]} */
const singles = [];
let busy = false;

const { port1, port2 } = new MessageChannel();
/** Let messages arrive; a timer of 0 ms would wait for 4. */
function arrivals() {
  return new Promise((resolve) => {
    port1.onmessage = resolve;
    port2.postMessage(null);
  });
}

/** @param {unknown} error */
function complain(error) {
  self.postMessage({ kind: "error", message: String(error) });
}

/** @param {Start} message */
async function start({ module, script, network, pixels }) {
  // LiteRT.js reports each model that it compiles; only what it calls an error is worth a line.
  /** @param {string} line */
  const report = (line) => {
    // deno-lint-ignore no-console
    if (/^(ERROR|FATAL)/.test(line)) console.error(line);
  };
  Object.assign(self, {
    Module: {
      print: report,
      printErr: report,
      /**
       * @param {WebAssembly.Imports} imports
       * @param {(instance: WebAssembly.Instance, module: WebAssembly.Module) => void} done
       */
      instantiateWasm(imports, done) {
        WebAssembly.instantiate(module, imports).then(
          (instance) => done(instance, module),
          complain,
        );
        return {};
      },
    },
  });
  await withoutWarnings(() => loadLiteRt(script));
  stages = new Stages(network, (bytes) => loadAndCompile(bytes, { accelerator: "wasm" }));
  stages.setImages(pixels);
  self.postMessage({ kind: "ready" });
}

/**
 * LiteRT.js warns where there is no GPU, which nothing here needs.
 * @param {() => Promise<unknown>} load
 */
async function withoutWarnings(load) {
  const { warn } = console;
  Object.assign(console, { warn: () => {} });
  await load();
  Object.assign(console, { warn });
}

async function work() {
  if (busy) return;
  busy = true;
  try {
    while (waiting || singles.length) {
      const single = singles.shift();
      if (single) {
        await runSingle(single);
        continue;
      }
      const run = /** @type {Run} */ (waiting);
      waiting = undefined;
      await perform(run);
    }
  } catch (error) {
    complain(error);
  } finally {
    busy = false;
  }
}

/** @param {Single} single */
async function runSingle({ id, jobs, image }) {
  const outputs = [];
  for (const job of jobs) outputs.push(await stages.single(job, image));
  self.postMessage({ kind: "single", id, outputs });
}

/** @param {Run} run */
async function perform({ id, job, sample, values, only }) {
  await stages.set(job);
  /** @type {Float32Array[]} */
  let outputs = [];
  let last = performance.now();
  for (let batch = 0; batch < stages.batches; batch++) {
    outputs.push(await stages.outputs(job, batch));
    if (batch === sample - 1) {
      self.postMessage({ kind: "sample", id, outputs, values: found(values) });
      outputs = [];
      if (only) return;
    }
    if (performance.now() - last > PATIENCE) {
      await arrivals();
      if (waiting) return;
      if (singles.length) { // a drawing does not wait for all images
        for (const single of singles.splice(0)) await runSingle(single);
        await stages.set(job);
      }
      last = performance.now();
    }
  }
  self.postMessage({ kind: "all", id, outputs });
}

/** @param {number} batches */
function found(batches) {
  const names = batches ? stages.network.nodes.map(({ name }) => name) : [];
  return Object.fromEntries(
    names.map((name) => [
      name,
      Array.from({ length: batches }, (_, batch) => stages.values(name, batch)),
    ]),
  );
}

self.onmessage = ({ data }) => {
  if (data.kind === "start") {
    start(data).catch(complain);
  } else {
    if (data.kind === "run") waiting = data;
    else singles.push(data);
    work();
  }
};
