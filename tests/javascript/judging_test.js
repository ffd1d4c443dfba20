// @ts-check
import assert from "node:assert/strict";

import {
  agrees,
  fits,
  missing,
  parsed,
  shown,
} from "../../quant_tutorial/web/static/reader/judging.js";

Deno.test("a number is read as people write it", () => {
  /** @type {[string, number][]} */
  const written = [
    ["4", 4],
    [" 16.3 dB", 16.3],
    ["0,43", 0.43],
    ["7,840 bytes", 7840],
    ["1,234,567.5", 1234567.5],
    ["10/255", 10 / 255],
    ["10 / 255", 10 / 255],
    ["−128", -128],
    ["-0.5", -0.5],
    [".5", 0.5],
    ["1e-3", 0.001],
    ["+2", 2],
    ["99.25%", 99.25],
  ];
  for (const [text, value] of written) assert.equal(parsed(text), value, text);
  for (const text of ["", "many", "x4", "1/0", "1/2/3", "4 bits/2", "-", "/5"]) {
    assert.ok(Number.isNaN(parsed(text)), text);
  }
});

Deno.test("a number agrees within its tolerance, both ends included", () => {
  /** @type {import("../../quant_tutorial/web/static/reader/judging.js").Part} */
  const part = { kind: "number", answer: 1, tolerance: 0.05 };
  for (const said of ["1", "1.05", "0.95", "19/20"]) assert.equal(agrees(part, said), true, said);
  for (const said of ["1.06", "0.94", "-1"]) assert.equal(agrees(part, said), false, said);
  // 10 over 256 is the mistake that lesson 02 is about.
  const scale = { kind: /** @type {const} */ ("number"), answer: 0.0392, tolerance: 0.00006 };
  assert.equal(agrees(scale, "10/255"), true);
  assert.equal(agrees(scale, "10/256"), false);
  assert.equal(agrees({ kind: "number", answer: 0, tolerance: 0 }, "0"), true);
});

Deno.test("of choices all that apply have to be chosen, and no other", () => {
  /** @type {import("../../quant_tutorial/web/static/reader/judging.js").Part} */
  const part = { kind: "several", choices: ["a", "b", "c"], answer: ["a", "c"] };
  assert.equal(agrees(part, ["c", "a"]), true);
  for (const said of [["a"], ["a", "b"], ["a", "b", "c"]]) assert.equal(agrees(part, said), false);
  assert.equal(agrees({ kind: "choice", choices: ["yes", "no"], answer: "no" }, "no"), true);
  assert.equal(agrees({ kind: "choice", choices: ["yes", "no"], answer: "no" }, "yes"), false);
  assert.equal(agrees({ kind: "text" }, "because"), null);
});

Deno.test("what is missing is said", () => {
  assert.match(missing({ kind: "choice", choices: ["a", "b"] }, ""), /Choose/);
  assert.match(missing({ kind: "several", choices: ["a", "b"] }, []), /Choose/);
  assert.match(missing({ kind: "number" }, "a lot"), /number/);
  assert.match(missing({ kind: "text" }, "  "), /Write/);
  assert.equal(missing({ kind: "number" }, "1/4"), "");
});

Deno.test("a stored answer counts only while the question is the same", () => {
  /** @type {import("../../quant_tutorial/web/static/reader/judging.js").Part[]} */
  const parts = [
    { kind: "choice", choices: ["a", "b"] },
    { kind: "number" },
    { kind: "several", choices: ["a", "b"] },
  ];
  assert.ok(fits(parts, ["a", "3", ["b"]]));
  for (
    const said of [
      null,
      "a",
      ["a", "3"],
      ["c", "3", ["b"]],
      ["a", "many", ["b"]],
      ["a", 3, ["b"]],
      ["a", "3", "b"],
      ["a", "3", ["c"]],
      ["a", "3", []],
    ]
  ) {
    assert.ok(!fits(parts, said), JSON.stringify(said));
  }
});

Deno.test("answers are shown with their unit, once", () => {
  /** @type {import("../../quant_tutorial/web/static/reader/judging.js").Part} */
  const part = { kind: "number", unit: "bytes", answer: 7840 };
  assert.equal(shown(part, part.answer), "7,840 bytes");
  assert.equal(shown(part, "7840"), "7840 bytes");
  assert.equal(shown(part, "7840 bytes"), "7840 bytes");
  assert.equal(shown({ kind: "number", answer: -128 }, -128), "−128");
  assert.equal(shown({ kind: "number", unit: "% correct" }, "99"), "99% correct");
  assert.equal(shown({ kind: "several", answer: ["a", "b"] }, ["a", "b"]), "a; b");
});
