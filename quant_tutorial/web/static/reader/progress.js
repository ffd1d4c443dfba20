// @ts-check
// What a reader has predicted and done, kept in her browser and nowhere else.

/**
 * An answer to a question: what was said to each part, or nothing where it was skipped; what the
 * reader says of a text of hers; and whether all agrees with the course (null: not told yet).
 * @typedef {{
 *   said?: import("./judging.js").Said[],
 *   own?: boolean,
 *   agrees?: boolean | null,
 * }} Answer
 *
 * @typedef {{
 *   answers: Record<string, Answer>,
 *   exercises: Record<string, true>,
 * }} Kept
 *
 * As much of a browser's storage as is used here.
 * @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem">} Store
 */

const VERSION = 1;

/**
 * Return the browser's storage, or null where it has none or refuses it (a private window, cookies
 * switched off).
 * @returns {Store | null}
 */
export function browserStore() {
  try {
    return globalThis.localStorage ?? null; // the property itself may throw
  } catch {
    return null;
  }
}

/**
 * Return what a text holds, without anything that has another form.
 * @param {string | null} text
 * @returns {Kept}
 */
export function read(text) {
  /** @type {Kept} */
  const kept = { answers: {}, exercises: {} };
  let found;
  try {
    found = JSON.parse(text ?? "null");
  } catch {
    return kept;
  }
  if (found?.version !== VERSION) return kept;
  for (const [key, answer] of Object.entries(found.answers ?? {})) {
    if (answer && typeof answer === "object") kept.answers[key] = answer;
  }
  for (const [key, done] of Object.entries(found.exercises ?? {})) {
    if (done === true) kept.exercises[key] = true;
  }
  return kept;
}

/** What a reader has done. Without a store that works, it lasts as long as the page. */
export class Progress {
  /** @type {Kept} */
  #kept = { answers: {}, exercises: {} };

  /**
   * @param {string} key The name in the store: the site's path, as a host may have several courses.
   * @param {Store | null} store
   */
  constructor(key, store) {
    this.key = key;
    this.store = store;
    this.refresh();
  }

  /** Whether what is done is still there when the page is opened again. */
  get lasts() {
    return this.store !== null;
  }

  /** Read the store again, into which another tab may have written. */
  refresh() {
    if (!this.store) return;
    try {
      this.#kept = read(this.store.getItem(this.key));
    } catch {
      this.store = null;
    }
  }

  /** @param {(kept: Kept) => void} change */
  #change(change) {
    this.refresh();
    change(this.#kept);
    try {
      this.store?.setItem(this.key, JSON.stringify({ version: VERSION, ...this.#kept }));
    } catch {
      this.store = null; // full, or refused
    }
  }

  /**
   * @param {string} question
   * @returns {Answer | undefined}
   */
  answer(question) {
    return Object.hasOwn(this.#kept.answers, question) ? this.#kept.answers[question] : undefined;
  }

  /**
   * @param {string} question
   * @param {Answer | null} answer Null forgets it.
   */
  setAnswer(question, answer) {
    this.#change(({ answers }) => {
      if (answer) answers[question] = answer;
      else delete answers[question];
    });
  }

  /** @param {string} exercise Its number, such as "02.1". */
  isDone(exercise) {
    return Object.hasOwn(this.#kept.exercises, exercise);
  }

  /**
   * @param {string} exercise
   * @param {boolean} done
   */
  setDone(exercise, done) {
    this.#change(({ exercises }) => {
      if (done) exercises[exercise] = true;
      else delete exercises[exercise];
    });
  }

  /** Forget everything. */
  clear() {
    this.#kept = { answers: {}, exercises: {} };
    try {
      this.store?.removeItem(this.key);
    } catch {
      this.store = null;
    }
  }

  /**
   * Return what is done of a lesson.
   * @param {string} lesson Its number, such as "02".
   * @returns {{ predicted: number, right: number, exercises: number }}
   */
  of(lesson) {
    const answers = Object.entries(this.#kept.answers)
      .filter(([key, answer]) => key.startsWith(`${lesson}/`) && answer.said)
      .map(([, answer]) => answer);
    const done = Object.keys(this.#kept.exercises).filter((key) => key.startsWith(`${lesson}.`));
    return {
      predicted: answers.length,
      right: answers.filter((answer) => answer.agrees === true).length,
      exercises: done.length,
    };
  }
}
