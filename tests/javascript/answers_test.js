// @ts-check
import assert from "node:assert/strict";

import {
  describeChanges,
  describeFlips,
  describePoints,
  drawDigits,
  drawMatrix,
  flipsHeading,
  oneDigit,
  wrapped,
} from "../../quant_tutorial/web/live/answers.js";
import { bitmap } from "../../quant_tutorial/web/live/digits.js";
import {
  accuracyInterval,
  confusionChange,
  spread,
} from "../../quant_tutorial/web/live/metrics.js";

Deno.test("a count is rounded to its first digit, a tie to the even one, as in Python", () => {
  const found = [1, 9, 14, 15, 25, 35, 95, 96, 2500, 3500, 9999].map(oneDigit);
  assert.deepEqual(found, [1, 9, 10, 20, 20, 40, 100, 100, 2000, 4000, 10000]);
});

Deno.test("the most frequent change is named, the first of several", () => {
  const [before, after] = [Uint8Array.of(1, 2, 2, 3, 4), Uint8Array.of(7, 0, 0, 3, 9)];
  assert.equal(
    describeFlips(before, after),
    "About 4 images are answered differently; most often 2 becomes 0.",
  );
  assert.equal(describeFlips(before, before), "No image is answered differently.");
  const tied = describeFlips(Uint8Array.of(5, 3), Uint8Array.of(1, 8));
  assert.match(tied, /most often 3 becomes 8/);
  assert.equal(describeChanges(before, after), "Fewer than 10 images are answered differently.");
});

Deno.test("points are those of the percentages as they are printed", () => {
  assert.equal(describePoints(0.9946, 0.9946), "less than 0.1");
  assert.equal(describePoints(0.9746, 0.9946), "−2.0");
  assert.equal(describePoints(0.99649, 0.9946), "+0.1");
});

Deno.test("Wilson's interval is that of SciPy", () => {
  // scipy.stats.binomtest(990, 1000).proportion_ci(0.95, "wilson"), and so on
  for (
    const [right, images, low, high] of [
      [990, 1000, 0.9816905311296852, 0.9945592455544706],
      [0, 1000, 0, 0.0038267584855551234],
      [1000, 1000, 0.9961732415144449, 1],
    ]
  ) {
    const found = accuracyInterval(right, images);
    assert.ok(Math.abs(found[0] - low) < 1e-12, `${found}`);
    assert.ok(Math.abs(found[1] - high) < 1e-12, `${found}`);
  }
});

Deno.test("the change of the confusion matrix", () => {
  const change = confusionChange([1, 2], [1, 3], [1, 2]);
  assert.deepEqual([change[11], change[22], change[23]], [0, -1, 1]);
});

Deno.test("entries are spread over all of them", () => {
  assert.deepEqual(spread([1, 2, 3, 4, 5, 6, 7], 3), [1, 4, 7]);
  assert.deepEqual(spread([1, 2], 12), [1, 2]);
  assert.deepEqual(spread([], 12), []);
  assert.deepEqual(spread([8, 9], 1), [8]);
});

Deno.test("a digit becomes a picture of 28 rows, black on white", () => {
  const pixels = new Uint8Array(784);
  pixels[1] = 255;
  const file = bitmap(pixels);
  assert.equal(String.fromCharCode(...file.slice(0, 2)), "BM");
  const start = new DataView(file.buffer).getUint32(10, true);
  const grey = (/** @type {number} */ place) => file[54 + 4 * file[start + place]];
  assert.deepEqual([grey(0), grey(1)], [255, 0]);
  assert.equal(file.length, start + 784);
});

Deno.test("long lines are broken between words", () => {
  assert.deepEqual(wrapped("one two three", 8), ["one two", "three"]);
});

Deno.test("a number of the confusion matrix is no wider than its cell", () => {
  const matrix = new Int32Array(100);
  matrix.set([-1129, 892, -7]);
  const found = { matrix, count: 1129, images: 10_000, indices: [], shown: [] };
  for (const side of [180, 250, 290]) {
    const drawn = drawMatrix(found, { left: 0, top: 0, side });
    const lengths = [...drawn.matchAll(/<text [^>]*?(?:textLength="([\d.]+)"[^>]*)?>([−+]\d+)</g)];
    assert.deepEqual(lengths.map(([, , number]) => number), ["−1129", "+892", "−7"]);
    assert.deepEqual(lengths.map(([, length]) => length !== undefined), [true, true, false]);
    for (const [, length] of lengths) assert.ok(!(Number(length) >= side / 10));
  }
});

Deno.test("digits need as much room while they are measured as afterwards", () => {
  const heading = flipsHeading({ count: 402, images: 10_000 });
  for (const width of [280, 324, 600, 768]) {
    const place = { left: 8, top: 0, width };
    assert.equal(drawDigits("", [], place).height, drawDigits(heading, [], place).height);
  }
});

Deno.test("on a dark page a number stands out from its cell", () => {
  const linear = (/** @type {number} */ v) =>
    v / 255 < 0.04 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
  const luminance = (/** @type {number[]} */ [r, g, b]) =>
    0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  // --orange, --purple, --ink of live.css and the page's background
  const [orange, purple, ink, page] = [[240, 180, 41], [227, 160, 198], [240, 240, 240], [
    18,
    18,
    18,
  ]];
  const matrix = new Int32Array(100);
  for (let i = 0; i < 100; i++) matrix[i] = i % 2 ? i * i + 1 : -i * i - 1;
  const found = { matrix, count: 1, images: 1, indices: [], shown: [] };
  const drawn = drawMatrix(found, { left: 0, top: 0, side: 300 });
  const cells = [
    ...drawn.matchAll(/(orange|purple)" fill-opacity="([\d.]+)"><\/rect><text ([^>]*)/g),
  ];
  assert.equal(cells.length, 100);
  for (const [, name, opacity, attributes] of cells) {
    const color = name === "orange" ? orange : purple;
    const share = Number(opacity);
    const back = luminance(color.map((value, i) => share * value + (1 - share) * page[i]));
    const front = attributes.includes("on-color") ? 0 : luminance(ink);
    const contrast = (Math.max(back, front) + 0.05) / (Math.min(back, front) + 0.05);
    assert.ok(contrast >= 4, `${contrast} for ${name} at ${share}`);
  }
});
