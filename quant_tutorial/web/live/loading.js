// @ts-check
// What a live explorer shows while it loads what it computes with.

/**
 * Called with the share that has arrived, 0 to 1, and the size of all in bytes.
 * @typedef {(share: number, bytes: number) => void} OnProgress
 */

/** Return a note on what computes, with its licence. */
export function credit() {
  const note = document.createElement("p");
  note.className = "explorer-credit";
  const link = document.createElement("a");
  link.href = new URL("licences.txt", import.meta.url).href;
  link.textContent = "LiteRT.js";
  note.append(
    "This page computes with ",
    link,
    ". The first move of a control loads it, with the model and the test images.",
  );
  return note;
}

/**
 * Return a function that loads once, and shows a progress bar meanwhile. After an error the next call
 * tries again.
 * @template T
 * @param {(onProgress: OnProgress) => Promise<T>} load
 * @param {HTMLElement} before The element below which the bar is shown.
 * @returns {() => Promise<T>}
 */
export function loader(load, before) {
  /** @type {Promise<T> | undefined} */
  let begun;
  return () => {
    begun ??= shown(load, before).catch((error) => {
      begun = undefined;
      throw error;
    });
    return begun;
  };
}

/**
 * @template T
 * @param {(onProgress: OnProgress) => Promise<T>} load
 * @param {HTMLElement} before
 */
async function shown(load, before) {
  const row = document.createElement("p");
  row.className = "explorer-loading";
  const bar = document.createElement("progress");
  bar.setAttribute("aria-label", "Loading the model");
  const words = document.createElement("span");
  words.textContent = "Loading the model …";
  row.append(bar, words);
  before.after(row);
  try {
    return await load((share, bytes) => {
      bar.value = share;
      const size = `${(bytes / 1e6).toFixed(1)} MB`;
      words.textContent = share < 1 ? `Loading the model, ${size}` : "Starting the model …";
    });
  } finally {
    row.remove();
  }
}
