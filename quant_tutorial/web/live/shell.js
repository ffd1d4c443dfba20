// @ts-check
// Puts a live explorer into a page, in the place of the pictures that step.

import { control } from "./controls.js";
import { credit, loader } from "./loading.js";

/** @typedef {Record<string, any>} Settings The controls' values by name. */
/** @typedef {import("./svg.js").Picture} Picture */
/** @typedef {import("./controls.js").Limits} Limits */

/**
 * An explorer without its page: controls' values → state → picture and sentence, all pure.
 * @template D, P, S
 * @typedef {Object} Explorer
 * @property {(data: D) => P | Promise<P>} prepare What Python has written, made ready once.
 * @property {(settings: Settings, prepared: P, later: (state: S) => void) => S} compute The state.
 *   Where it takes long, it is an estimate, and `later` gets the full one when it is there; it is
 *   not shown if the reader has moved a control since.
 * @property {(prepared: P, onProgress: import("./loading.js").OnProgress) =>
 *   Promise<{ failed: Promise<never> }>} [load] What is too heavy for `prepare`; begun when the reader
 *   first moves a control. Until then the figure keeps its picture. `failed` is rejected if what was
 *   loaded breaks later.
 * @property {() => boolean} [supported] Whether this browser can do it; if not, the figure steps.
 * @property {(state: S) => boolean} [isWhole] Whether a state is not an estimate.
 * @property {(state: S, width: number) => Picture} draw
 * @property {(state: S) => string} describe The sentence, the same text as Python's.
 * @property {(changed: string, settings: Settings, prepared: P) => Record<string, Limits>} [limits]
 *   The limits that sliders get when the control `changed` has another value.
 * @property {(settings: Settings) => string[]} [idle] The names of the controls without effect.
 * @property {(running: Running, prepared: P, panel: HTMLElement) => void} [extend] Add to the page what
 *   is no control: buttons, a canvas.
 * @property {(state: S) => ArrayLike<number>} [integers] All integers that it has computed, to be
 *   compared with Python's.
 */

/**
 * An explorer in a page. Tests reach it as the figure's property `live`.
 * @typedef {Object} Running
 * @property {() => Settings} settings
 * @property {(settings: Settings) => string} set Set some controls, show them and return the sentence.
 * @property {() => void} move Show the present values, as after a move of a control.
 * @property {() => Promise<void>} load Load what the explorer computes with.
 * @property {() => Promise<string>} whole The sentence, once it is no estimate.
 * @property {() => any} state What is shown.
 * @property {() => ArrayLike<number>} integers
 * @property {number[]} times Milliseconds that the pictures took, from settings to page.
 */

/** @typedef {HTMLElement & { live?: Running }} Figure */

const NARROW = 280; // pixels: narrower ones scroll
let count = 0;

/**
 * Start the explorer of a figure, and show it when it is ready.
 * @param {Figure} figure An element that the site's build has written; its `data-live` is the address
 *   of the explorer's data.
 * @param {Record<string, Explorer<any, any, any>>} explorers By kind.
 * @returns {Promise<boolean>} Whether there is a live explorer of its kind.
 */
export async function start(figure, explorers) {
  const response = await fetch(/** @type {string} */ (figure.dataset.live));
  if (!response.ok) throw new Error(`${response.status} for ${response.url}`);
  const { kind, controls, data } = await response.json();
  const explorer = explorers[kind];
  if (!explorer || explorer.supported?.() === false) return false;
  const prepared = await explorer.prepare(data);
  const number = ++count;
  const panel = block("explorer-controls");
  const view = block("explorer-drawing");
  const caption = document.createElement("figcaption");
  caption.id = `explorer-sentence-${number}`;
  caption.setAttribute("aria-live", "polite");
  /** @type {any} */
  let state;
  /** @type {((sentence: string) => void)[]} */
  const whole = [];
  const heavy = explorer.load;
  const load = heavy && loader((onProgress) => heavy(prepared, onProgress), panel);
  let ready = !load;
  let turn = 0;
  /** @type {number[]} */
  const times = [];
  const draw = () => {
    const width = Math.max(view.clientWidth, NARROW);
    const { height, body } = explorer.draw(state, width);
    view.innerHTML = `<svg role="img" aria-labelledby="${caption.id}" width="${width}" ` +
      `height="${Math.ceil(height)}" viewBox="0 0 ${width} ${Math.ceil(height)}">${body}</svg>`;
  };
  /** @param {any} found */
  const show = (found) => {
    state = found;
    if (!caption.isConnected) replace(figure, panel, view, caption);
    draw();
    caption.removeAttribute("role");
    const sentence = explorer.describe(state);
    if (caption.textContent !== sentence) caption.textContent = sentence;
    // The room that a sentence has needed stays, so that what follows does not jump.
    const room = Math.max(parseFloat(caption.style.minHeight) || 0, caption.offsetHeight);
    caption.style.minHeight = `${room}px`;
    if (explorer.isWhole?.(state) ?? true) {
      whole.splice(0).forEach((resolve) => resolve(sentence));
    }
  };
  const settings = () =>
    Object.fromEntries(controls.map((/** @type {any} */ each, /** @type {number} */ i) => [
      each.name,
      parts[i].get(),
    ]));
  const complain = (/** @type {unknown} */ error) => {
    const [place] = figure.getElementsByTagName("figcaption");
    place.setAttribute("role", "alert");
    place.textContent = String(error);
  };
  const loading = async () => {
    if (ready || !load) return;
    const { failed } = await load();
    if (!ready) failed.catch(complain);
    ready = true;
  };
  const rest = () => {
    const idle = explorer.idle?.(settings()) ?? [];
    names.forEach((name, i) => parts[i].row.toggleAttribute("inert", idle.includes(name)));
  };
  const update = () => {
    const now = ++turn;
    rest();
    if (!ready) {
      loading().then(
        () => now === turn && update(),
        (error) =>
          complain(
            "The model could not be loaded. Check the connection, then move a control to try " +
              `again. (${error})`,
          ),
      );
      return;
    }
    const started = performance.now();
    try {
      show(explorer.compute(settings(), prepared, (found) => {
        if (now === turn) show(found);
      }));
      times.push(performance.now() - started);
    } catch (error) {
      complain(error);
      throw error;
    }
  };
  /** @param {string} name */
  const adjust = (name) => {
    const limits = explorer.limits?.(name, settings(), prepared) ?? {};
    for (const [other, found] of Object.entries(limits)) {
      parts[names.indexOf(other)].limit(found);
    }
  };
  let frame = 0;
  /** @type {string[]} */
  const names = controls.map((/** @type {any} */ each) => each.name);
  const parts = controls.map((/** @type {any} */ each) =>
    control(each, `explorer-live-${number}-${each.name}`, () => {
      adjust(each.name);
      cancelAnimationFrame(frame); // several moves between two pictures are one
      frame = requestAnimationFrame(update);
    })
  );
  panel.append(...parts.map((/** @type {any} */ part) => part.row));
  if (ready) replace(figure, panel, view, caption);
  else replaceControls(figure, panel);
  if (load) figure.append(credit());
  figure.live = {
    settings,
    times,
    move: update,
    load: async () => {
      await loading();
      update();
    },
    whole: () => new Promise((resolve) => whole.push(resolve)),
    state: () => state,
    integers: () => explorer.integers?.(state) ?? [],
    set: (wanted) => {
      for (const [i, name] of names.entries()) {
        if (!(name in wanted)) continue;
        parts[i].set(wanted[name]);
        adjust(name);
      }
      // An adjusted control may have lost a value that was wanted.
      for (const [i, name] of names.entries()) if (name in wanted) parts[i].set(wanted[name]);
      update();
      return caption.textContent ?? "";
    },
  };
  explorer.extend?.(figure.live, prepared, panel);
  rest();
  if (ready) update();
  let drawn = view.clientWidth;
  new ResizeObserver(() => {
    if (view.clientWidth === drawn || !state) return;
    drawn = view.clientWidth;
    caption.style.minHeight = "";
    draw();
  }).observe(view);
  return true;
}

/** @param {string} className */
function block(className) {
  const made = document.createElement("div");
  made.className = className;
  return made;
}

/**
 * Let controls take the place of those that step; the picture stays until there is another.
 * @param {HTMLElement} figure
 * @param {HTMLElement} panel
 */
function replaceControls(figure, panel) {
  figure.querySelectorAll(".explorer-controls, .explorer-note, script").forEach((old) =>
    old.remove()
  );
  figure.prepend(panel);
  figure.classList.add("explorer-lives");
}

/**
 * Take out what steps, and put in what lives.
 * @param {HTMLElement} figure
 * @param {...HTMLElement} parts
 */
function replace(figure, ...parts) {
  figure.querySelectorAll(
    ".explorer-controls, .explorer-picture, figcaption, .explorer-note, script",
  ).forEach((old) => old.remove());
  figure.prepend(...parts);
  figure.classList.add("explorer-lives");
}
