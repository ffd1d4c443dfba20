// @ts-check
// Times LiteRT.js on the float model, in a worker of the page whose live explorer is timed.

import { loadAndCompile, loadLiteRt, Tensor } from "npm:@litertjs/core@2.5.3";

/** @type {import("npm:@litertjs/core@2.5.3").CompiledModel} */
let model;
/** @type {Tensor[]} */
const batches = [];

self.onmessage = async ({ data }) => {
  if (data.kind === "start") {
    /** @type {{ module: WebAssembly.Module, script: string, bytes: Uint8Array }} */
    const { module, script, bytes } = data;
    const { batch, count } = data;
    const silent = () => {};
    /**
     * @param {WebAssembly.Imports} imports
     * @param {(instance: WebAssembly.Instance, module: WebAssembly.Module) => void} done
     */
    const instantiateWasm = (imports, done) => {
      WebAssembly.instantiate(module, imports).then((instance) => done(instance, module));
      return {};
    };
    Object.assign(self, { Module: { print: silent, printErr: silent, instantiateWasm } });
    await loadLiteRt(script);
    model = await loadAndCompile(bytes, { accelerator: "wasm" });
    for (let i = 0; i < count; i++) {
      const values = Float32Array.from({ length: batch * 784 }, (_, k) => (k % 17) / 17);
      batches.push(new Tensor(values, [batch, 28, 28, 1]));
    }
  } else {
    for (const batch of batches) {
      const [output] = await model.run([batch]);
      output.toTypedArray();
      output.delete();
    }
  }
  self.postMessage("done");
};
