// @ts-check
// What lesson 10's lab says (explorers/lab.py and lab_figure.py).

import { describePoints } from "../answers.js";
import { format } from "../format.js";
import { accuracyInterval } from "../metrics.js";
import { unchanged } from "./setting.js";

/** @typedef {import("../explorers/lab.js").State} State */

/**
 * Return where the weights come from, and whether they are rounded, as a heading.
 * @param {State} state
 */
export function origin({ chosen, label, prepared }) {
  let words = label;
  if (!Object.values(chosen.weights).some((bits) => bits)) {
    words = `in float: ${chosen.source === prepared.written.ptq ? "the float baseline" : label}`;
  }
  return words[0].toUpperCase() + words.slice(1);
}

/**
 * Return bit widths: "8 bits" if all are the same, otherwise "8, 4, float bits".
 * @param {(number | null)[]} bits
 */
export function describeBits(bits) {
  let words = bits.map((value) => (value === null ? "float" : `${value}`));
  if (new Set(words).size === 1) words = words.slice(0, 1);
  return words.join() === "float" ? "float" : `${words.join(", ")} bits`;
}

/**
 * Return an SQNR in whole decibels, or "exact".
 * @param {number} value
 * @param {number} exact From where on the only error is that of float arithmetic.
 */
export function describeDb(value, exact) {
  return value > exact ? "exact" : format(value, ".0f").replace(/^-0$/, "0").replace("-", "−");
}

/** @param {State} state */
function said(state) {
  const { chosen, prepared, params, source } = state;
  let words = origin(state);
  if (chosen.source !== prepared.written.ptq && params) {
    const [kept, quantized] = unchanged(params, source?.own, chosen.ownRanges);
    words += `, ${kept} of ${quantized} ranges their own`;
  }
  const { image, ...others } = chosen.activations;
  const percent = Object.values(chosen.ranges).map((value) => format(value));
  const shown = new Set(percent).size === 1 ? percent.slice(0, 1) : percent;
  return `${words}. Weights ${describeBits(Object.values(chosen.weights))} ` +
    `(${chosen.granularity}, ${chosen.weightCalibrator}), activations ` +
    `${describeBits(Object.values(others))} (${chosen.calibrator}, ranges at ` +
    `${shown.join(", ")}%), input ${describeBits([image])}:`;
}

/** @param {State} state */
export function describe(state) {
  const { source, params, measured, whole, size, sqnr, prepared, changeWords, drawn } = state;
  if (!source || !params) return changeWords || `Loading the weights ${state.label} …`;
  if (!measured) return `${said(state)} measuring …`;
  const drawing = drawn ? ` ${describeDrawing(drawn.logits)}` : "";
  const bytes = `weights of ${format(size, ",d")} bytes`;
  const count = format(measured.count, ",d");
  if (!whole) {
    const [low, high] = accuracyInterval(measured.right, measured.count);
    return `${said(state)} ${format(low, ".1%")} to ${format(high, ".1%")} right, estimated on ` +
      `${count} images; ${bytes}.${drawing}`;
  }
  const share = measured.right / measured.count;
  const { accuracy, exact } = prepared.written;
  const decibels = Object.entries(sqnr).map(([name, value]) =>
    `${name} ${describeDb(value, exact)}`
  );
  return `${said(state)} ${format(share, ".1%")} of ${count} images right, ` +
    `${describePoints(share, accuracy)} points from float; ${bytes}. SQNR of the activations in ` +
    `dB: ${decibels.join(", ")}. ${changeWords}${drawing}`;
}

/**
 * Return a sentence on both models' predictions for a drawing.
 * @param {Float32Array[] | null} logits Null for an empty canvas.
 */
export function describeDrawing(logits) {
  if (!logits) return "The canvas is empty.";
  const [before, after] = logits.map((values) => values.indexOf(Math.max(...values)));
  const count = ties(logits[1]);
  const end = count > 1 ? `, the first of ${count} tied.` : ".";
  return before === after
    ? `Both models classify the drawing as ${after}${end}`
    : `The float model classifies the drawing as ${before}, the quantized one as ${after}${end}`;
}

/**
 * Count the digits with the largest logit, the first of which is the prediction.
 * @param {Float32Array} logits
 */
export function ties(logits) {
  const largest = Math.max(...logits);
  return logits.filter((value) => value === largest).length;
}
