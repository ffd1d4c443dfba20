// @ts-check
import assert from "node:assert/strict";

import { axes, band, inside, powersOfTen, roundTicks } from "../../quant_tutorial/web/live/axes.js";
import { stopped, tidy } from "../../quant_tutorial/web/live/controls.js";
import {
  escaped,
  heatMap,
  legend,
  line,
  marker,
  segments,
  tag,
  text,
} from "../../quant_tutorial/web/live/svg.js";

/** @type {import("../../quant_tutorial/web/live/axes.js").Layout} */
const LAYOUT = { left: 40, top: 10, width: 200, height: 100, xlim: [-1, 1], ylim: [0, 50] };

Deno.test("an element has its attributes, shortened, and its content", () => {
  assert.equal(tag("rect", { x: 1 / 3, y: 2, class: undefined }), '<rect x="0.33" y="2"></rect>');
  assert.equal(text(1, 2, "a < b & c"), '<text x="1" y="2">a &lt; b &amp; c</text>');
  assert.equal(escaped('"'), "&quot;");
});

Deno.test("a text on its side turns around its own place", () => {
  assert.match(text(10, 20, "dB", { turned: true }), /transform="rotate\(-90 10 20\)"/);
});

Deno.test("a text is condensed to a length", () => {
  const drawn = text(1, 2, "−1129", { length: 22 });
  assert.match(drawn, / textLength="22" lengthAdjust="spacingAndGlyphs">−1129</);
});

Deno.test("a line is interrupted where there is no value", () => {
  const drawn = line([[0, 1], [2, 3], [NaN, NaN], [4, 5], [6, 7]], "blue");
  assert.equal(drawn, '<path d="M0,1L2,3M4,5L6,7" class="line blue"></path>');
});

Deno.test("segments are one element, however many they are", () => {
  const drawn = segments([[0, 0, 1, 1], [2, 2, 3, 3]], "grey");
  assert.equal(drawn, '<path d="M0,0L1,1M2,2L3,3" class="line grey"></path>');
});

Deno.test("a marker stands at its place", () => {
  assert.match(marker("circle", 3, 4, "fill-ink", 5), /transform="translate\(3 4\) scale\(5\)"/);
});

Deno.test("a heat map has a square for each value, row by row", () => {
  const drawn = heatMap([0, 0.5, 1, 0.25], 2, 10, 20, 8, "fill-blue");
  const squares = [...drawn.matchAll(/<rect x="(\d+)" y="(\d+)" [^>]*fill-opacity="([\d.]+)"/g)];
  assert.deepEqual(squares.map(([, ...found]) => found.map(Number)), [
    [10, 20, 0],
    [18, 20, 0.5],
    [10, 28, 1],
    [18, 28, 0.25],
  ]);
});

Deno.test("a legend that is too long takes another row", () => {
  const entries = ["one", "two", "three"].map((label) => ({ label, style: "blue" }));
  const [wide, narrow] = [legend(entries, 0, 0, 500), legend(entries, 0, 0, 130)];
  assert.equal(wide.height, 18);
  assert.equal(narrow.height, 36);
});

Deno.test("axes map data to pixels", () => {
  const ax = axes(LAYOUT);
  assert.deepEqual([ax.x(-1), ax.x(0), ax.x(1)], [40, 140, 240]);
  assert.deepEqual([ax.y(0), ax.y(50)], [110, 10]);
});

Deno.test("logarithmic axes give every power of ten the same room", () => {
  const ax = axes({ ...LAYOUT, ylim: [1, 100], log: true });
  assert.deepEqual([1, 10, 100].map(ax.y), [110, 60, 10]);
});

Deno.test("a band is cut to the axes", () => {
  const ax = axes(LAYOUT);
  assert.match(band(ax, -7, 0), /x="40" y="10" width="100" height="100"/);
  assert.match(band(ax, 0, 7), /x="140" y="10" width="100" height="100"/);
  assert.match(band(ax, 5, 7), /width="0"/);
});

Deno.test("what is inside is clipped at the frame and keeps its coordinates", () => {
  assert.match(inside(axes(LAYOUT), ""), /viewBox="40 10 200 100"/);
});

Deno.test("ticks stand at round numbers within the limits", () => {
  /** @param {[number, number, number]} limits */
  const labels = (...limits) => roundTicks(...limits).map(({ label }) => label);
  assert.deepEqual(labels(-10.6, 10.6, 5), ["−10", "−5", "0", "5", "10"]);
  assert.deepEqual(labels(-0.07, 0.31, 4), ["0", "0.1", "0.2", "0.3"]);
  assert.deepEqual(labels(0, 1, 10).length, 11);
  assert.deepEqual(powersOfTen(0.5, 2000).map(({ label }) => label), ["1", "10", "100", "1,000"]);
});

Deno.test("two handles of a slider stop at each other", () => {
  assert.deepEqual(stopped([2, 5], 0, 3), [3, 5]);
  assert.deepEqual(stopped([2, 5], 0, 8), [5, 5]);
  assert.deepEqual(stopped([2, 5], 1, 1), [2, 2]);
});

Deno.test("a slider's sum of steps becomes the number that was meant", () => {
  assert.equal(tidy(7.800000000000001), 7.8);
  assert.ok(Object.is(tidy(-0), 0));
});
