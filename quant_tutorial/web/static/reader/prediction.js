// @ts-check
// Asks a question of the lesson ("Predict: …") before it shows the course's answer and the output.

import { element } from "./element.js";
import { agrees, fits, missing, shown } from "./judging.js";

/**
 * @typedef {import("./judging.js").Part} Part
 * @typedef {import("./judging.js").Said} Said
 * @typedef {import("./progress.js").Answer} Answer
 * @typedef {import("./progress.js").Progress} Progress
 */

/**
 * Return the fields for a part, and a function that returns what they hold.
 * @param {Part} part
 * @param {string} id A name that no other part of the page has.
 * @returns {{ row: HTMLElement, said: () => Said }}
 */
function fields(part, id) {
  if (part.choices) {
    const type = part.kind === "choice" ? "radio" : "checkbox";
    const hint = part.kind === "several" ? " (choose all that apply)" : "";
    const inputs = part.choices.map((value) =>
      element("input", { type, name: id, value, autocomplete: "off" })
    );
    const labels = inputs.map((input) => element("label", {}, input, ` ${input.value}`));
    const legend = element("legend", {}, (part.label ?? "Your prediction") + hint);
    const row = element("fieldset", {}, legend, ...labels);
    const chosen = () => inputs.filter((input) => input.checked).map((input) => input.value);
    return { row, said: () => part.kind === "several" ? chosen() : chosen()[0] ?? "" };
  }
  const isText = part.kind === "text";
  const input = isText
    ? element("textarea", { id, rows: "2", autocomplete: "off" })
    : element("input", { id, inputmode: "text", size: "8", autocomplete: "off" });
  const label = element("label", { for: id }, part.label ?? "Your prediction");
  const unit = part.unit ? [` ${part.unit}`] : [];
  const row = element("div", { class: `prediction-${part.kind}` }, label, " ", input, ...unit);
  return { row, said: () => input.value };
}

/**
 * Return a row of the result: what was said, what the course says, and whether they agree.
 * @param {Part} part
 * @param {Said} said
 */
function compared(part, said) {
  const start = part.label
    ? [element("strong", {}, part.label), ": you predicted "]
    : ["You predicted "];
  const yours = element("q", {}, shown(part, said));
  if (part.kind === "text") return element("li", {}, ...start, yours);
  const right = agrees(part, said);
  const verdict = element(
    "span",
    { class: right ? "verdict-agrees" : "verdict-differs" },
    right ? "✓ agrees" : "✗ differs",
  );
  const theirs = element("q", {}, shown(part, part.answer));
  const tolerance = part.kind === "number" && part.tolerance && right
    ? ` (up to ${shown(part, part.tolerance)} off counts as agreement)`
    : "";
  return element(
    "li",
    {},
    ...start,
    yours,
    ", the course says ",
    theirs,
    tolerance,
    ". ",
    verdict,
  );
}

/**
 * Return an answer with the verdict on the whole question: false where one part differs, null where
 * the reader has still to tell.
 * @param {Part[]} parts
 * @param {Said[]} said
 * @param {boolean} [own] What the reader says of her texts.
 * @returns {Answer}
 */
function judged(parts, said, own) {
  const each = parts.map((part, i) => agrees(part, said[i]) ?? own ?? null);
  return { said, own, agrees: each.includes(false) ? false : each.includes(null) ? null : true };
}

/** A question of the page: a form until it is answered or skipped, and the comparison afterwards. */
export class Prediction {
  /**
   * @param {HTMLDetailsElement} details The course's answer, with the parts as data.
   * @param {Progress} progress
   * @param {(prediction: Prediction) => void} changed Called when it is answered, or asked again.
   */
  constructor(details, progress, changed) {
    this.details = details;
    this.progress = progress;
    this.changed = changed;
    this.key = details.dataset.question ?? "";
    /** @type {Part[]} */
    this.parts = JSON.parse(details.dataset.parts ?? "[]");
    this.place = element("div", { class: "prediction-place" });
    details.before(this.place);
    const answer = progress.answer(this.key);
    if (answer && (!answer.said || fits(this.parts, answer.said))) this.#show(answer);
    else this.#ask();
  }

  /** Whether the reader has answered or skipped it. */
  get isOver() {
    return !this.details.classList.contains("awaits-prediction");
  }

  /** Lead the reader to the question. */
  focus() {
    const first = this.place.querySelector("input, textarea");
    if (first instanceof HTMLElement) first.focus();
  }

  #ask() {
    const made = this.parts.map((part, i) => fields(part, `${this.key}/${i}`));
    const note = element("p", { class: "prediction-note", role: "alert" });
    const skip = element("button", { type: "button" }, "Skip");
    const form = element(
      "form",
      { class: "prediction-form" },
      ...made.map(({ row }) => row),
      element(
        "div",
        { class: "prediction-buttons" },
        element("button", { type: "submit", class: "prediction-main" }, "Compare"),
        skip,
      ),
      note,
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const said = made.map((each) => each.said());
      const lacking = this.parts.findIndex((part, i) => missing(part, said[i]));
      if (lacking >= 0) {
        const label = this.parts[lacking].label;
        note.textContent = (label ? `${label}: ` : "") +
          missing(this.parts[lacking], said[lacking]);
        const field = made[lacking].row.querySelector("input, textarea");
        if (field instanceof HTMLElement) field.focus();
        return;
      }
      this.#end(judged(this.parts, said));
    });
    skip.addEventListener("click", () => this.#end({}));
    this.place.replaceChildren(form);
    this.details.classList.add("awaits-prediction");
    this.details.open = false;
  }

  /** @param {Answer} answer */
  #end(answer) {
    this.progress.setAnswer(this.key, answer);
    this.#show(answer);
    const result = this.place.querySelector(".prediction-result");
    if (result instanceof HTMLElement) result.focus(); // a screen reader then reads it
    this.changed(this);
  }

  /** @param {Answer} answer */
  #show(answer) {
    const again = element("button", { type: "button" }, "Ask me again");
    again.addEventListener("click", () => {
      this.progress.setAnswer(this.key, null);
      this.#ask();
      this.focus();
      this.changed(this);
    });
    const result = element("div", {
      class: "prediction-result",
      role: "group",
      "aria-label": "Your prediction and the course's answer",
      tabindex: "-1",
    });
    if (answer.said) {
      const { said } = answer;
      result.append(element("ul", {}, ...this.parts.map((part, i) => compared(part, said[i]))));
      if (this.parts.some((part) => part.kind === "text")) result.append(this.#own(answer, said));
    } else {
      result.append(element("p", {}, "You have skipped this question."));
    }
    result.append(element("div", { class: "prediction-buttons" }, again));
    if (!this.progress.lasts) {
      const lost = "Your browser keeps nothing for this site: your answers are lost when you " +
        "leave the page.";
      result.append(element("p", { class: "prediction-note" }, lost));
    }
    this.place.replaceChildren(result);
    this.details.classList.remove("awaits-prediction");
    this.details.open = true;
  }

  /**
   * Return the question that only the reader can answer: does a text of hers agree?
   * @param {Answer} answer
   * @param {Said[]} said
   */
  #own(answer, said) {
    const labels = [{ text: "yes", own: true }, { text: "no", own: false }].map(({ text, own }) => {
      const name = `${this.key}/own`;
      const input = element("input", { type: "radio", name, autocomplete: "off" });
      input.checked = answer.own === own;
      input.addEventListener("change", () => {
        this.progress.setAnswer(this.key, judged(this.parts, said, own));
        this.changed(this);
      });
      return element("label", {}, input, ` ${text}`);
    });
    const legend = element("legend", {}, "Does your text agree with the course's answer below?");
    return element("fieldset", {}, legend, ...labels);
  }
}
