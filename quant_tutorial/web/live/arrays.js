// @ts-check
// Arrays that Python has written into an explorer's data (`encoded` in explorers/exported.py).

/**
 * An array as JSON holds it: little-endian bytes in base64.
 * @typedef {{ dtype: string, shape: number[], base64: string }} Encoded
 */

const TYPES = {
  float32: Float32Array,
  float64: Float64Array,
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
};
/** @typedef {typeof TYPES} Types */

/**
 * Return the values of an encoded array, row by row.
 * @template {keyof Types} T
 * @param {Encoded} encoded
 * @param {T} dtype The type that it must have.
 * @returns {InstanceType<Types[T]>}
 * @throws {TypeError} when it has another.
 */
export function decoded(encoded, dtype) {
  if (encoded.dtype !== dtype) {
    throw new TypeError(`The array must be of type ${dtype}, got ${encoded.dtype}.`);
  }
  const bytes = Uint8Array.from(atob(encoded.base64), (character) => character.charCodeAt(0));
  return /** @type {InstanceType<Types[T]>} */ (new TYPES[dtype](bytes.buffer));
}

/**
 * Return where values would have to be inserted into sorted ones, as `np.searchsorted` does.
 * @param {ArrayLike<number>} sorted
 * @param {number} value
 * @param {"left" | "right"} [side] Before or after values that are equal.
 */
export function searchSorted(sorted, value, side = "left") {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value || (side === "right" && sorted[middle] === value)) low = middle + 1;
    else high = middle;
  }
  return low;
}
