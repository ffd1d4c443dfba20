// @ts-check
import assert from "node:assert/strict";

import * as module from "../../quant_tutorial/explorers/canvas.js";

const { FINE, STEP } = module;
const { average, describe, direction, inside, isArrow, middleOf, moved, placeOf, same, toPixels } =
  module;

/**
 * Return grey levels as the pixels of a canvas on which each is a square of FINE × FINE pixels.
 * @param {Uint8Array} levels
 * @param {number} side
 */
function enlarge(levels, side) {
  const fine = side * FINE;
  const coarse = toPixels(levels);
  const pixels = new Uint8ClampedArray(4 * fine ** 2);
  for (let i = 0; i < pixels.length; i++) {
    const [y, x] = [Math.floor(i / 4 / fine), Math.floor(i / 4) % fine];
    pixels[i] = coarse[4 * (Math.floor(y / FINE) * side + Math.floor(x / FINE)) + i % 4];
  }
  return pixels;
}

Deno.test("anywidget finds a view, and nothing that it takes for a widget of its old form", () => {
  assert.deepEqual(Object.keys(module.default), ["render"]);
  assert.ok(!("render" in module));
  assert.ok(!("initialize" in module));
});

Deno.test("rasters are the same if all their levels are", () => {
  const levels = Uint8Array.of(0, 128, 255);
  assert.ok(same(levels, levels.slice()));
  assert.ok(!same(levels, Uint8Array.of(0, 128, 254)));
  assert.ok(!same(levels, Uint8Array.of(0, 128)));
  assert.ok(!same(undefined, levels));
});

Deno.test("a raster that is shown on the canvas comes back as it was", () => {
  const side = 16;
  const levels = Uint8Array.from({ length: side ** 2 }, (_, i) => i);
  assert.deepEqual(average(enlarge(levels, side), side), levels);
});

Deno.test("a raster pixel is the rounded mean of its square, whatever surrounds that", () => {
  const side = 2;
  const pixels = enlarge(Uint8Array.of(0, 0, 255, 0), side);
  const fine = side * FINE;
  /** @param {number} x @param {number} y */
  const whiten = (x, y) => pixels.fill(255, 4 * (y * fine + x), 4 * (y * fine + x) + 3);
  whiten(FINE, 0); // the top left corner of the top right square
  whiten(fine - 1, FINE - 1); // its bottom right corner
  whiten(0, 0); // in the top left square
  const one = 255 / FINE ** 2;
  assert.deepEqual(
    average(pixels, side),
    Uint8Array.of(Math.round(one), Math.round(2 * one), 255, 0),
  );
});

Deno.test("pixels are grey and opaque", () => {
  assert.deepEqual([...toPixels(Uint8Array.of(0, 200))], [0, 0, 0, 255, 200, 200, 200, 255]);
});

Deno.test("arrow keys have directions", () => {
  /** @type {[string[], [number, number]][]} */
  const cases = [
    [["ArrowLeft"], [-1, 0]],
    [["ArrowDown"], [0, 1]],
    [["PageUp"], [1, -1]],
    [["End"], [-1, 1]],
    [["ArrowLeft", "ArrowUp"], [-1, -1]],
    [["ArrowLeft", "ArrowRight"], [0, 0]],
    [["ArrowUp", "Home"], [-1, -1]],
    [["ArrowUp", "ArrowLeft", "ArrowRight"], [0, -1]],
    [[], [0, 0]],
  ];
  for (const [keys, expected] of cases) {
    assert.ok(keys.every(isArrow));
    assert.deepEqual(direction(new Set(keys)), expected, keys.join(" + "));
  }
});

Deno.test("other keys are no arrows", () => {
  for (const key of ["a", "Enter", " ", "toString"]) assert.ok(!isArrow(key), key);
});

Deno.test("an arrow key moves the pen by one MNIST pixel, and never off the canvas", () => {
  const fine = 112 * FINE;
  const middle = { x: fine / 2, y: fine / 2 };
  const step = STEP * FINE;
  assert.deepEqual(moved(middle, ["PageDown"], fine), { x: middle.x + step, y: middle.y + step });
  assert.deepEqual(moved({ x: 1, y: 0 }, ["Home"], fine), { x: 0, y: 0 });
  assert.deepEqual(moved({ x: fine, y: fine - 1 }, ["PageDown"], fine), { x: fine, y: fine });
});

Deno.test("a stroke that leaves the canvas leaves the pen at the edge", () => {
  assert.deepEqual(inside({ x: -3, y: 700 }, 672), { x: 0, y: 672 });
  assert.deepEqual(inside({ x: 5, y: 6 }, 672), { x: 5, y: 6 });
});

Deno.test("the place of an event does not depend on the size at which the canvas is shown", () => {
  const event = { clientX: 110, clientY: 70 };
  assert.deepEqual(placeOf(event, { left: 10, top: 20, width: 200, height: 200 }, 672), {
    x: 336,
    y: 168,
  });
  assert.deepEqual(placeOf(event, { left: 120, top: 70, width: 100, height: 100 }, 672), {
    x: -67.2,
    y: 0,
  });
});

Deno.test("curves meet in the middle between two places", () => {
  assert.deepEqual(middleOf({ x: 0, y: 10 }, { x: 4, y: -10 }), { x: 2, y: 0 });
});

Deno.test("the pen's place is announced in MNIST pixels", () => {
  const place = { x: 14 * STEP * FINE, y: 7.4 * STEP * FINE };
  assert.equal(describe(place, false, 112), "Pen up, column 14, row 7 of 28");
  assert.equal(describe({ x: 0, y: 112 * FINE }, true, 112), "Pen down, column 0, row 28 of 28");
});
