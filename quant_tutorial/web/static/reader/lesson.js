// @ts-check
// A lesson's questions, the outputs that answer them, and the boxes of its exercises.

import { element } from "./element.js";
import { Prediction } from "./prediction.js";

/** @typedef {import("./progress.js").Progress} Progress */

/**
 * The questions of a cell, and the collapsed outputs up to the next question or heading.
 * @typedef {{ cell: string, predictions: Prediction[], outputs: HTMLDetailsElement[] }} Group
 */

/**
 * Show a group's outputs when all its questions are over, and lock them before.
 * @param {Group} group
 */
function update({ predictions, outputs }) {
  const over = predictions.every((prediction) => prediction.isOver);
  for (const output of outputs) {
    output.toggleAttribute("data-locked", !over);
    output.open = over;
  }
}

/**
 * Let a locked output's button lead to the question.
 * @param {HTMLDetailsElement} output
 * @param {Group} group
 */
function lock(output, group) {
  const button = output.querySelector("summary");
  if (!button) return;
  const text = "Answer or skip the question to see the output";
  button.append(element("span", { class: "when-locked" }, text));
  button.addEventListener("click", (event) => {
    if (!output.hasAttribute("data-locked")) return;
    event.preventDefault();
    group.predictions.find((prediction) => !prediction.isOver)?.focus();
  });
}

/**
 * Ask the questions of a page.
 * @param {Progress} progress
 */
export function askQuestions(progress) {
  const article = document.querySelector("article.bd-article") ?? document.body;
  const marks = "details.prediction, details.collapsed-output, h1, h2";
  /** @type {Group[]} */
  const groups = [];
  /** @type {Group | undefined} */
  let group;
  for (const found of article.querySelectorAll(marks)) {
    if (!(found instanceof HTMLDetailsElement)) {
      if (!found.closest(".cell_output")) group = undefined;
    } else if (found.classList.contains("collapsed-output")) {
      group?.outputs.push(found);
    } else {
      const cell = found.dataset.question?.replace(/\/\d+$/, "") ?? "";
      if (group?.cell !== cell) groups.push(group = { cell, predictions: [], outputs: [] });
      const own = group;
      own.predictions.push(new Prediction(found, progress, () => update(own)));
    }
  }
  for (const each of groups) {
    each.outputs.forEach((output) => lock(output, each));
    update(each);
  }
}

/**
 * Give each exercise a box to tick, and return a function that shows again what is ticked.
 * @param {Progress} progress
 */
export function tickExercises(progress) {
  /** @type {Map<string, HTMLInputElement>} */
  const boxes = new Map();
  /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".exercise-done"))
    .forEach((place) => {
      const exercise = place.dataset.exercise ?? "";
      const box = element("input", { type: "checkbox", autocomplete: "off" });
      box.addEventListener("change", () => progress.setDone(exercise, box.checked));
      place.replaceChildren(element("label", {}, box, ` I have done exercise ${exercise}.`));
      boxes.set(exercise, box);
    });
  const refresh = () => {
    for (const [exercise, box] of boxes) box.checked = progress.isDone(exercise);
  };
  refresh();
  return refresh;
}
