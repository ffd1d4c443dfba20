// @ts-check
// The picture of lesson 10's lab (explorers/lab_figure.py): panels that stand in as many columns as
// the page has room for.

import { drawDigits, drawMatrix, flipsHeading, wrapped } from "../answers.js";
import { axes } from "../axes.js";
import { image } from "../digits.js";
import { describeNumber, format } from "../format.js";
import { accuracyInterval } from "../metrics.js";
import { box, segments, tag, text } from "../svg.js";
import { describeBits, describeDb, origin, ties } from "./words.js";

/** @typedef {import("../explorers/lab.js").State} State */
/** @typedef {{ left: number, top: number, width: number }} Place */

const LEAST = 0.1; // % of wrong images at which the bar of the errors begins
const HEIGHT = 330; // of a panel

/**
 * @param {State} state
 * @param {number} width
 */
export function draw(state, width) {
  const columns = width >= 1060 ? 4 : width >= 620 ? 2 : 1;
  const step = width / columns;
  const panels = [errors, ratios, matrix, drawing].map((panel, i) =>
    panel(state, {
      left: 8 + (i % columns) * step,
      top: Math.floor(i / columns) * HEIGHT,
      width: Math.min(step - 24, 330),
    })
  );
  const below = HEIGHT * Math.ceil(panels.length / columns) + 4;
  const place = { left: 8, top: below, width: width - 16 };
  const digits = drawDigits(flipsHeading(state.changed), state.changed?.shown ?? [], place);
  return { height: below + digits.height + 6, body: panels.join("") + digits.body };
}

/**
 * Return the share of wrong images in per cent, at least that with which the axis begins.
 * @param {number} accuracy
 */
function wrong(accuracy) {
  return Math.max(100 * (1 - accuracy), LEAST);
}

/**
 * Draw the share of wrong images, and the size of the weights.
 * @param {State} state
 * @param {Place} place
 */
function errors(state, { left, top, width }) {
  const { measured, whole, prepared, size } = state;
  const { accuracy, bytes } = prepared.written;
  const log = Math.log10;
  const share = axes({
    left: left + 10,
    top: top + 72,
    width: width - 20,
    height: 28,
    xlim: [log(LEAST), log(115)],
    ylim: [-0.5, 0.5],
    xticks: [0.1, 1, 10, 100].map((at) => ({ at: log(at), label: `${at}%` })),
    xlabel: "wrong images, log scale; dashed: float",
    open: true,
  });
  const weights = axes({
    left,
    top: top + 250,
    width,
    height: 28,
    xlim: [0, 1.04 * bytes],
    ylim: [-0.5, 0.5],
    xticks: [0, 20_000, 40_000].map((at) => ({ at, label: format(at, ",d") })),
    xlabel: "bytes; dashed: float",
    open: true,
  });
  const parts = [share.frame, weights.frame, text(left, top + 16, "Accuracy")];
  let [figures, points] = ["measuring …", ""];
  if (measured) {
    const { right, count } = measured;
    const [begin, end] = [share.x(log(LEAST)), share.x(log(wrong(right / count)))];
    const bar = box(begin, share.top + 4, end - begin, 20, "fill-blue");
    parts.push(tag("g", { opacity: whole ? 1 : 0.45 }, bar));
    if (whole) {
      const more = format(Math.round((1 - accuracy) * count), ",d");
      figures = format(right / count, ".2%");
      points = `${format(count - right, ",d")} of ${format(count, ",d")} wrong; in float ${more}`;
    } else {
      const ends = accuracyInterval(right, count);
      const [low, high] = ends.map((each) => share.x(log(wrong(each))));
      parts.push(segments([[high, share.top + 14, low, share.top + 14]], "orange bar"));
      figures = ends.map((each) => format(each, ".1%")).join(" to ");
      points = `estimated on ${format(count, ",d")} images`;
    }
  }
  const dashed = (/** @type {import("../axes.js").Axes} */ ax, /** @type {number} */ x) =>
    segments([[x, ax.top, x, ax.bottom]], "dashed thin");
  parts.push(
    dashed(share, share.x(log(wrong(accuracy)))),
    text(left, top + 38, figures, { class: "strong" }),
    text(left, top + 57, points, { class: "small" }),
    text(left, top + 168, "Weights"),
  );
  wrapped(origin(state), width / 7).slice(0, 3).forEach((words, i) =>
    parts.push(text(left, top + 187 + 16 * i, words, { class: "small" }))
  );
  if (size) {
    parts.push(
      text(left, top + 240, `${format(size, ",d")} bytes, ${format(size / bytes, ".0%")}`, {
        class: "strong",
      }),
      box(left, weights.top + 4, weights.x(size) - left, 20, "fill-green"),
    );
  }
  parts.push(dashed(weights, weights.x(bytes)));
  return parts.join("");
}

/**
 * Draw the SQNR of each activation.
 * @param {State} state
 * @param {Place} place
 */
function ratios({ sqnr, params, chosen, prepared }, { left, top, width }) {
  const most = prepared.written.exact;
  const nodes = prepared.model?.nodes ?? [];
  const ax = axes({
    left,
    top: top + 28,
    width,
    height: 250,
    xlim: [0, most],
    ylim: [nodes.length - 0.6, -0.7],
    xticks: [0, 20, 40, 60, 80].map((at) => ({ at, label: `${at}` })),
    xlabel: "W, A: bits of weights and activation",
    open: true,
  });
  const rows = nodes.map(({ name, layer, weights }, row) => {
    const activation = params?.activations[name];
    let given = "A float";
    if (activation) {
      const { bits, scales, zeroPoint, qmin, qmax } = activation;
      const ends = [qmin, qmax].map((q) => describeNumber((q - zeroPoint) * scales[0], ".3g"));
      given = `A${bits} from ${ends[0]} to ${ends[1]}`;
    }
    const width = weights ? chosen.weights[layer] : undefined;
    const words = weights
      ? `${layer}: ${width === null ? "W float" : `W${width}`}, ${given}`
      : `image: ${describeBits([chosen.activations.image])}`;
    const label = text(left, ax.y(row - 0.25), words, { class: "small" });
    if (!(layer in sqnr)) return label;
    const value = sqnr[layer];
    const length = value > most ? 0 : Math.max(value, 0);
    const inside = length > 0.5 * most;
    const figure = value > most ? "exact: the same floats" : describeDb(value, most);
    return label +
      box(left, ax.y(row) - 8, ax.x(length) - left, 16, "fill-vermilion") +
      text(ax.x(length) + (inside ? -6 : 6), ax.y(row) + 5, figure, {
        anchor: inside ? "end" : "start",
        class: `${value > most ? "" : "strong"} ${inside ? "on-color" : ""}`,
      });
  });
  return ax.frame + text(left, top + 16, "SQNR of each activation in dB") + rows.join("");
}

/**
 * @param {State} state
 * @param {Place} place
 */
function matrix({ changed }, { left, top, width }) {
  return drawMatrix(changed, { left: left + 36, top: top + 28, side: Math.min(width - 40, 250) });
}

/**
 * Draw the drawing as the models get it, and the logits of both.
 * @param {State} state
 * @param {Place} place
 */
function drawing({ drawn }, { left, top, width }) {
  const parts = [text(left, top + 16, "Your drawing, as the models get it")];
  if (!drawn) return parts.join("");
  const { logits } = drawn;
  const pixels = Uint8Array.from(drawn.image, (value) => Math.round(255 * value));
  parts.push(image(pixels, left, top + 28, 76));
  if (!logits) {
    parts.push(text(left + 90, top + 50, "draw a digit", { class: "strong" }));
    return parts.join("");
  }
  const half = (width - 20) / 2;
  ["float", "quantized"].forEach((name, i) => {
    const values = logits[i];
    const answer = values.indexOf(Math.max(...values));
    const largest = Math.max(1e-9, ...values.map(Math.abs));
    parts.push(text(left + 90, top + 50 + 24 * i, `${name}: ${answer}`, { class: "strong" }));
    const begin = left + 20 + i * half;
    parts.push(text(begin, top + 126, `Logits, ${name}`, { class: "small" }));
    const zero = begin + half * 0.32;
    values.forEach((value, digit) => {
      const y = top + 136 + 18 * digit;
      const length = (value / largest) * half * 0.3;
      const bar = box(
        zero + Math.min(length, 0),
        y,
        Math.abs(length),
        13,
        i ? "fill-blue" : "fill-grey",
      );
      parts.push(tag("g", { opacity: digit === answer ? 1 : 0.45 }, bar));
      if (i === 0) parts.push(text(left + 12, y + 11, `${digit}`, { anchor: "end" }));
      parts.push(
        text(begin + half - 10, y + 11, describeNumber(value + 0, ".1f"), {
          anchor: "end",
          class: `small ${digit === answer ? "strong" : ""}`,
        }),
      );
    });
    parts.push(segments([[zero, top + 132, zero, top + 318]], "thin"));
  });
  const tied = ties(logits[1]);
  if (tied > 1) {
    parts.push(text(left + 90, top + 98, `the first of ${tied} tied`, { class: "small" }));
  }
  return parts.join("");
}
