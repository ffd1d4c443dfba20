// @ts-check
// The controls of an explorer, with the labels, ranges and steps that JupyterLab shows: they are
// made from the data that Python writes (`explorers/exported.py`).

import { clamp } from "./affine.js";

/**
 * A control, as Python describes it. A choice has `options`, pairs of a text and a value; a slider
 * has limits and a step; a slider with two handles has a name for each in `handles`.
 * @typedef {Object} Described
 * @property {string} name The key of its value in the settings.
 * @property {"integer" | "real" | "range" | "choice" | "check"} kind
 * @property {string} label
 * @property {any} value
 * @property {number} [low]
 * @property {number} [high]
 * @property {number} [step]
 * @property {string[]} [handles]
 * @property {[string, any][]} [options]
 */

/**
 * The limits of a slider, and the value that it gets with them.
 * @typedef {{ low: number, high: number, step: number, value: any }} Limits
 */

/**
 * A control in the page: its row, and its value. Setting a value calls nobody.
 * @typedef {Object} Control
 * @property {HTMLElement} row
 * @property {() => any} get
 * @property {(value: any) => void} set
 * @property {(limits: Limits) => void} limit Give a slider other limits.
 */

/**
 * Return a control.
 * @param {Described} described
 * @param {string} id An id for its input that is unique in the page.
 * @param {() => void} moved Called whenever the reader has changed the value.
 * @returns {Control}
 */
export function control(described, id, moved) {
  if (described.kind === "choice") return choice(described, id, moved);
  if (described.kind === "check") return check(described, id, moved);
  return slider(described, id, moved);
}

/**
 * Return a number without the noise of the browser's adding up of steps, as `_tidy` does in Python.
 * @param {number} value
 */
export function tidy(value) {
  return Number(value.toFixed(9)) + 0;
}

/**
 * Return the values of both handles after one of them was moved: they stop at each other.
 * @param {readonly number[]} values
 * @param {number} handle
 * @param {number} value
 */
export function stopped(values, handle, value) {
  const other = values[1 - handle];
  const there = handle === 0 ? Math.min(value, other) : Math.max(value, other);
  return handle === 0 ? [there, other] : [other, there];
}

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} name
 * @param {Record<string, any>} [properties]
 * @returns {HTMLElementTagNameMap[T]}
 */
function element(name, properties = {}) {
  return Object.assign(document.createElement(name), properties);
}

/** @type {(described: Described, id: string, moved: () => void) => Control} */
function choice({ label, options = [], value }, id, moved) {
  const input = element("select", { id, autocomplete: "off" });
  options.forEach(([text], i) => input.add(new Option(text, String(i))));
  const row = element("div", { className: "explorer-control explorer-choice" });
  row.append(element("label", { htmlFor: id, textContent: label }), input);
  /** @param {any} wanted */
  const set = (wanted) => {
    input.selectedIndex = options.findIndex(([, option]) => option === wanted);
  };
  set(value);
  input.addEventListener("input", moved);
  return { row, set, get: () => options[input.selectedIndex][1], limit: () => {} };
}

/** @type {(described: Described, id: string, moved: () => void) => Control} */
function check({ label, value }, id, moved) {
  const input = element("input", { id, type: "checkbox", autocomplete: "off", checked: value });
  const row = element("div", { className: "explorer-control explorer-check" });
  row.append(input, element("label", { htmlFor: id, textContent: label }));
  input.addEventListener("input", moved);
  return {
    row,
    get: () => input.checked,
    set: (wanted) => input.checked = wanted,
    limit: () => {},
  };
}

/**
 * A slider with one handle or two, each with a number field that takes any number within the limits.
 * Its value is one number, or the pair of both ends.
 * @type {(described: Described, id: string, moved: () => void) => Control}
 */
function slider(described, id, moved) {
  const { label, kind } = described;
  const names = kind === "range" ? described.handles ?? [] : [label];
  let [low, high, step] = [described.low ?? 0, described.high ?? 0, described.step ?? 1];
  /** @type {number[]} */
  let values = [described.value].flat();
  const row = element("div", { className: "explorer-control explorer-range" });
  const track = element("div", { className: "explorer-track" });
  const handles = names.map((name, i) => {
    const input = element("input", { type: "range", autocomplete: "off", id: `${id}-${i}` });
    input.setAttribute("aria-label", name);
    return input;
  });
  const fields = names.map((name) => {
    const input = element("input", { type: "number", autocomplete: "off" });
    input.setAttribute("aria-label", name);
    input.inputMode = kind === "integer" ? "numeric" : "decimal";
    return input;
  });
  if (names.length === 2) {
    row.setAttribute("role", "group");
    row.setAttribute("aria-label", label);
    track.classList.add("explorer-two");
  }
  track.append(...handles);
  row.append(
    element("label", { htmlFor: handles[0].id, textContent: label }),
    track,
    ...fields,
  );
  const show = () => {
    values.forEach((value, i) => {
      handles[i].value = fields[i].value = String(value);
      handles[i].setAttribute("aria-valuetext", String(value).replace("-", "−"));
    });
    // The coloured part of a track with two handles.
    ["--low", "--high"].forEach((name, i) => {
      const share = (values[i] - low) / (high - low || 1);
      if (names.length === 2) track.style.setProperty(name, `${100 * share}%`);
    });
    // Where both handles meet at the upper end, only the lower one can move: it lies on top.
    handles[0].classList.toggle("explorer-on-top", values[0] > (low + high) / 2);
  };
  const fit = () => {
    for (const input of [...handles, ...fields]) {
      Object.assign(input, { min: String(low), max: String(high), step: String(step) });
    }
    show();
  };
  fit();
  handles.forEach((input, i) => {
    input.addEventListener("input", () => {
      const value = tidy(input.valueAsNumber);
      values = names.length === 2 ? stopped(values, i, value) : [value];
      show();
      moved();
    });
  });
  fields.forEach((input, i) => {
    input.addEventListener("change", () => {
      const typed = kind === "integer" ? Math.round(input.valueAsNumber) : input.valueAsNumber;
      if (!Number.isNaN(typed)) {
        values = values.with(i, tidy(clamp(typed, low, high)));
        values.sort((a, b) => a - b); // if one end is moved past the other, they change places
      }
      show();
      moved();
    });
  });
  return {
    row,
    get: () => (names.length === 2 ? [...values] : values[0]),
    set: (wanted) => {
      values = [wanted].flat();
      show();
    },
    limit: (limits) => {
      ({ low, high, step } = limits);
      values = [limits.value].flat();
      fit();
    },
  };
}
