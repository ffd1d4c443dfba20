// @ts-check
// Statistics of predictions, as in quant_tutorial/metrics.py.

const Z = 1.959963984540054; // the standard normal quantile at 97.5%

/**
 * Return the 95% confidence interval of an accuracy measured on a random sample: Wilson's.
 * @param {number} right
 * @param {number} images
 * @returns {[number, number]}
 */
export function accuracyInterval(right, images) {
  const share = right / images;
  const width = 2 * (images + Z * Z);
  const middle = (2 * images * share + Z * Z) / width;
  const half = (Z / width) * Math.sqrt(4 * images * share * (1 - share) + Z * Z);
  return [right === 0 ? 0 : middle - half, right === images ? 1 : middle + half];
}

/**
 * Return by how much the confusion matrix of the second predictions differs from that of the first:
 * entry 10 · i + j is the change of how many images of class i are taken for j.
 * @param {ArrayLike<number>} before
 * @param {ArrayLike<number>} after
 * @param {ArrayLike<number>} labels
 */
export function confusionChange(before, after, labels) {
  const change = new Int32Array(100);
  for (let i = 0; i < labels.length; i++) {
    change[10 * labels[i] + after[i]] += 1;
    change[10 * labels[i] + before[i]] -= 1;
  }
  return change;
}

/**
 * Return the indices of the images that two models classify differently.
 * @param {Uint8Array} before
 * @param {Uint8Array} after
 */
export function differing(before, after) {
  const found = [];
  for (let i = 0; i < before.length; i++) if (before[i] !== after[i]) found.push(i);
  return found;
}

/**
 * Return some of the entries, spread evenly over all, as `np.linspace` does.
 * @template T
 * @param {readonly T[]} entries
 * @param {number} room How many at most.
 */
export function spread(entries, room) {
  const count = Math.min(entries.length, room);
  const step = count > 1 ? (entries.length - 1) / (count - 1) : 0;
  return Array.from(
    { length: count },
    (_, i) => entries[i && i === count - 1 ? entries.length - 1 : Math.trunc(i * step)],
  );
}
