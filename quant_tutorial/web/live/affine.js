// @ts-check
// The affine map, as quant_tutorial/affine.py computes it (lesson 02).

/**
 * The quantization parameters of a tensor, or of one of its channels.
 * @typedef {{ bits: number, scale: number, zeroPoint: number, qmin: number, qmax: number }} Params
 */

/**
 * How a range becomes parameters; all are off unless they are given.
 * @typedef {{ symmetric?: boolean, narrowRange?: boolean, unsigned?: boolean }} Kind
 */

const TINY = 2 ** -1022; // the smallest normal float64

/**
 * Return the nearest integer; a tie goes away from zero.
 * @param {number} value
 */
export function roundHalfAway(value) {
  const whole = Math.trunc(value);
  const away = Math.abs(value - whole) >= 0.5 ? Math.sign(value) : 0;
  return whole + away + 0; // an integer has no negative zero
}

/**
 * @param {number} value
 * @param {number} low
 * @param {number} high
 */
export function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

/**
 * Return the parameters that map a range, widened to contain 0, onto the integers.
 * @param {number} minimum
 * @param {number} maximum
 * @param {number} bits
 * @param {Kind} [kind]
 * @returns {Params}
 */
export function paramsFromRange(minimum, maximum, bits, kind = {}) {
  const low = Math.min(minimum, 0);
  const high = Math.max(maximum, 0);
  const half = 2 ** (bits - 1);
  const qmin = (kind.unsigned ? 0 : -half) + (kind.narrowRange ? 1 : 0);
  const qmax = kind.unsigned ? 2 ** bits - 1 : half - 1;
  if (kind.symmetric) {
    const zeroPoint = kind.unsigned ? half : 0;
    const scale = positive(Math.max(-low, high) / (qmax - zeroPoint));
    return { bits, scale, zeroPoint, qmin, qmax };
  }
  const scale = positive((high - low) / (qmax - qmin));
  const zeroPoint = clamp(roundHalfAway(qmin - low / scale), qmin, qmax);
  return { bits, scale, zeroPoint, qmin, qmax };
}

/** @param {number} scale A range of zero width gets scale 1. */
function positive(scale) {
  return scale < TINY ? 1 : scale;
}

/** @param {Params} params */
export function minimum(params) {
  return (params.qmin - params.zeroPoint) * params.scale;
}

/** @param {Params} params */
export function maximum(params) {
  return (params.qmax - params.zeroPoint) * params.scale;
}

/** @param {Params} params */
export function levels(params) {
  return params.qmax - params.qmin + 1;
}

/**
 * Return the integer of a float64 number.
 * @param {number} x
 * @param {Params} params
 */
export function quantize(x, params) {
  const { scale, zeroPoint, qmin, qmax } = params;
  return clamp(roundHalfAway(x / scale), qmin - zeroPoint, qmax - zeroPoint) + zeroPoint;
}

/**
 * Return the real value that an integer stands for.
 * @param {number} q
 * @param {Params} params
 */
export function dequantize(q, params) {
  return (q - params.zeroPoint) * params.scale;
}

/**
 * Return the two parts of the error of one number: its rounding and its clipping error.
 * @param {number} x
 * @param {Params} params
 * @returns {[number, number]}
 */
export function splitError(x, params) {
  const clipped = clamp(x, minimum(params), maximum(params));
  return [dequantize(quantize(x, params), params) - clipped, clipped - x];
}

/**
 * Return the integers of float32 values, computed in float32 as NumPy and LiteRT do.
 * @param {Float32Array} values The channels lie along the last axis.
 * @param {readonly Params[]} channels The parameters of each channel, or only one for all.
 */
export function quantize32(values, channels) {
  const scales = Float32Array.from(channels, ({ scale }) => scale);
  return Int32Array.from(values, (value, i) => {
    const channel = i % channels.length;
    const { zeroPoint, qmin, qmax } = channels[channel];
    const steps = roundHalfAway(Math.fround(value / scales[channel]));
    return clamp(steps, qmin - zeroPoint, qmax - zeroPoint) + zeroPoint;
  });
}

/**
 * Return the float32 values that integers stand for.
 * @param {Int32Array} integers The channels lie along the last axis.
 * @param {readonly Params[]} channels The parameters of each channel, or only one for all.
 */
export function dequantize32(integers, channels) {
  const scales = Float32Array.from(channels, ({ scale }) => scale);
  return Float32Array.from(integers, (q, i) => {
    const channel = i % channels.length;
    return (q - channels[channel].zeroPoint) * scales[channel];
  });
}
