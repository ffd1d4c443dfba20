// @ts-check
// The rounding of activations, as a stage computes it for the values that it reads.

/**
 * Return the nearest integer; a tie goes to the even one, as in LiteRT's rounding.
 * @param {number} value
 */
export function roundHalfEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest === 0.5) return below % 2 === 0 ? below : below + 1;
  return rest < 0.5 ? below : below + 1;
}

/**
 * Return the float32 values that are left of some after the rounding of their node.
 * @param {Float32Array} raw
 * @param {Float32Array} values Its run-time values.
 */
export function roundedValues(raw, [scale, low, high]) {
  return raw.map((x) =>
    Math.min(Math.max(roundHalfEven(Math.fround(x / scale)), low), high) * scale
  );
}
