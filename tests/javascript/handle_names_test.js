// @ts-check
import assert from "node:assert/strict";

import * as module from "../../quant_tutorial/explorers/handle_names.js";

const { jump, keep, label } = module;

/** As much of an element as `label` uses: what it finds by which selector, and its attributes. */
class Element {
  /** @type {Record<string, string>} */
  attributes = {};
  /** @type {Element | null} */
  parentElement = null;

  /** @param {Record<string, Element[]>} found */
  constructor(found = {}) {
    this.found = found;
  }

  /** @param {string} selector */
  querySelectorAll(selector) {
    return this.found[selector] ?? [];
  }

  /** @param {string} name @param {string} value */
  setAttribute(name, value) {
    this.attributes[name] = value;
  }
}

/**
 * Return whether `keep` has stopped a key from reaching JupyterLab.
 * @param {string} tag Where the key is pressed.
 * @param {{ ctrlKey?: boolean, metaKey?: boolean }} modifiers
 */
function isKept(tag, modifiers = {}) {
  let kept = false;
  const target = { matches: (/** @type {string} */ selector) => selector === tag };
  const event = { target, ctrlKey: false, metaKey: false, ...modifiers };
  keep(/** @type {any} */ ({ ...event, stopPropagation: () => kept = true }));
  return kept;
}

Deno.test("anywidget finds a view, and nothing that it takes for a widget of its old form", () => {
  assert.deepEqual(Object.keys(module.default), ["render"]);
  assert.ok(!("render" in module));
  assert.ok(!("initialize" in module));
});

Deno.test("each handle gets its name, and so does its number field", () => {
  const [handles, fields] = [1, 2].map(() => [new Element(), new Element()]);
  const slider = new Element({ ".noUi-handle": handles });
  slider.parentElement = new Element({ "input[type=number]": fields });
  const root = new Element({ ".range": [slider] });
  const names = ["range: lower end", "range: upper end"];
  label(/** @type {any} */ (root), { range: names, absent: ["bits"] });
  for (const group of [handles, fields]) {
    assert.deepEqual(group.map((element) => element.attributes["aria-label"]), names);
  }
});

Deno.test("what is to be announced becomes a live region", () => {
  const spoken = new Element();
  label(/** @type {any} */ (new Element({ ".quant-spoken:not([role])": [spoken] })), {});
  assert.deepEqual(spoken.attributes, { role: "status" });
});

Deno.test("a dropdown keeps its keys, but not the shortcuts", () => {
  assert.ok(isKept("select"));
  assert.ok(!isKept("select", { ctrlKey: true }));
  assert.ok(!isKept("select", { metaKey: true }));
  assert.ok(!isKept("input"));
});

/**
 * Return where `jump` moves the second handle of a slider, and whether it stops the key.
 * @param {string} key
 */
function jumped(key) {
  /** @type {number[][]} */
  const moves = [];
  let stopped = 0;
  const options = { range: { min: -31, max: 28 } };
  const setHandle = (/** @type {number} */ handle, /** @type {number} */ value) =>
    moves.push([handle, value]);
  const target = {
    closest: () => ({ noUiSlider: { options, setHandle } }),
    getAttribute: () => "1",
  };
  const stop = () => stopped++;
  jump(/** @type {any} */ ({ key, target, stopPropagation: stop, preventDefault: stop }));
  return { moves, stopped };
}

Deno.test("Home and End lead to the ends that a slider has now", () => {
  assert.deepEqual(jumped("Home"), { moves: [[1, -31]], stopped: 2 });
  assert.deepEqual(jumped("End"), { moves: [[1, 28]], stopped: 2 });
  assert.deepEqual(jumped("ArrowLeft"), { moves: [], stopped: 0 });
});

Deno.test("Home in a number field stays what it is there", () => {
  const target = { closest: () => null };
  jump(/** @type {any} */ ({ key: "Home", target })); // would throw if it stopped the event
});
