// @ts-check
import assert from "node:assert/strict";

import {
  chosen,
  integers,
  rounded,
  runTimeValues,
  weightBytes,
  weightParams,
} from "../../quant_tutorial/web/live/engine/params.js";
import { roundedValues, roundHalfEven } from "../../quant_tutorial/web/live/engine/rounding.js";
import { answers, interleaved, Runner } from "../../quant_tutorial/web/live/engine/runner.js";
import { jobs } from "../../quant_tutorial/web/live/engine/versions.js";

const NODES = [
  { name: "image", layer: "image", sources: [], weights: "", shape: [2] },
  { name: "relu1", layer: "conv1", sources: ["image"], weights: "conv1", shape: [2] },
  { name: "logits", layer: "logits", sources: ["relu1"], weights: "logits", shape: [2] },
];
const LAYERS = {
  conv1: { kernel: Float32Array.of(0.5, -1.5, 1, 2), bias: Float32Array.of(0, 0), channels: 2 },
  logits: { kernel: Float32Array.of(1, 2), bias: Float32Array.of(0), channels: 1 },
};

Deno.test("activations are rounded half to even, as in LiteRT", () => {
  const found = [0.5, 1.5, 2.5, -0.5, -1.5, 0.49, -2.51].map(roundHalfEven);
  assert.deepEqual(found.map((value) => value + 0), [0, 2, 2, 0, -2, 0, -3]);
  const raw = Float32Array.of(-9, 0.26, 0.3, 9);
  assert.deepEqual([...roundedValues(raw, Float32Array.of(0.25, -2, 3))], [-0.5, 0.25, 0.25, 0.75]);
});

Deno.test("values that stay in float are not changed", () => {
  const raw = Float32Array.of(-9.123, 0.26, 1e-7, 1234.5);
  assert.deepEqual(roundedValues(raw, runTimeValues(null)), raw);
});

Deno.test("weights are rounded half away from zero, each channel with its scale", () => {
  const found = integers(LAYERS.conv1, weightParams(3, [1, 0.5]));
  assert.deepEqual([...found], [1, -2, 2, 3]); // 4 is clamped: the narrow range ends at 3
  assert.deepEqual([...rounded(LAYERS.conv1, weightParams(3, [1, 0.5]))], [1, -2, 1, 1.5]);
  assert.equal(rounded(LAYERS.conv1, null), LAYERS.conv1.kernel);
});

Deno.test("layers of one scheme share a scale model-wide, the others do not count", () => {
  const tables = {
    weights: { "tensor-wise": { mse: { 4: { "conv1,logits": 0.5, conv1: 0.25, logits: 0.125 } } } },
    activations: { mse: { 8: { relu1: [0.1, -3] } } },
  };
  const all = { bits: 4, granularity: "tensor-wise", calibrator: "mse" };
  const none = { image: null, conv1: null, logits: null };
  /** @param {Record<string, any>} weights */
  const scales = (weights) => {
    const found = chosen(tables, NODES, { weights, activations: none }).weights;
    return Object.values(found).map((params) => params?.scales[0] ?? null);
  };
  assert.deepEqual(scales({ conv1: all, logits: { ...all } }), [0.5, 0.5]);
  assert.deepEqual(scales({ conv1: null, logits: all }), [null, 0.125]);
  const activations = { ...none, conv1: { bits: 8, calibrator: "mse" } };
  const found = chosen(tables, NODES, { weights: {}, activations }).activations;
  assert.equal(found.image, null);
  assert.deepEqual([...runTimeValues(found.relu1)], [Math.fround(0.1), -125, 130]);
});

Deno.test("the bytes are those of packed weights and of float biases", () => {
  const params = { weights: { conv1: weightParams(3, 1), logits: null }, activations: {} };
  assert.equal(weightBytes(LAYERS, params), Math.ceil(12 / 8) + 8 + 4 + 8);
});

Deno.test("a change gives new versions to what it affects, and to nothing else", () => {
  const job = jobs(NODES);
  const [four, three] = [weightParams(4, 0.5), weightParams(3, 0.5)];
  /** @param {any} weights @param {any} [activations] */
  const versions = (weights, activations = {}) => {
    const base = { image: null, relu1: null, logits: null };
    return job("m", LAYERS, { weights, activations: { ...base, ...activations } }).versions;
  };
  const first = versions({ conv1: four, logits: four });
  assert.deepEqual(versions({ conv1: four, logits: four }), first);
  const last = versions({ conv1: four, logits: three });
  assert.equal(last.relu1, first.relu1);
  assert.notEqual(last.logits, first.logits);
  const both = versions({ conv1: three, logits: four });
  assert.notEqual(both.relu1, first.relu1);
  assert.notEqual(both.logits, first.logits);
  // The last output is rounded outside of the stages, so that its parameters change no stage.
  assert.deepEqual(versions({ conv1: four, logits: four }, { logits: four }), first);
  assert.notEqual(versions({ conv1: four, logits: four }, { relu1: four }).logits, first.logits);
  const other = job("other", LAYERS, {
    weights: { conv1: four, logits: four },
    activations: { image: null, relu1: null, logits: null },
  });
  assert.notEqual(other.versions.relu1, first.relu1);
});

Deno.test("batches that were dealt in turn are put in order again", () => {
  const of = (/** @type {number[]} */ ...values) => Float32Array.from(values);
  assert.deepEqual(
    [...interleaved([[of(1, 2), of(5, 6), of(9, 10)], [of(3, 4), of(7, 8)]])],
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
  );
});

Deno.test("the first of the largest outputs is the prediction", () => {
  const outputs = Float32Array.of(1, 3, 3, 0, 0, 0, -1, -2, -0.5);
  assert.deepEqual([...answers({ outputs, count: 3, width: 3, values: {} })], [1, 0, 2]);
});

Deno.test("images that are no whole batches are refused", async () => {
  const runner = new Runner({ batch: 2, nodes: NODES, stages: {} }, 2);
  const runtime = /** @type {any} */ ({});
  await assert.rejects(runner.start(runtime, new Uint8Array(6), 1), /whole batches of 2, got 1.5/);
});
