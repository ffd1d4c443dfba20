// @ts-check
// The start page's list of lessons, with what the reader has done of each.

import { element } from "./element.js";

/** @typedef {import("./progress.js").Progress} Progress */

/**
 * A lesson and what there is to do in it.
 * @typedef {{ lesson: string, predictions: number, exercises: number }} Lesson
 *
 * What is done of it.
 * @typedef {{ predicted: number, right: number, exercises: number }} Done
 */

/**
 * Return what is done of a lesson as a sentence.
 * @param {Lesson} lesson
 * @param {Done} done
 */
export function sentence(lesson, done) {
  const parts = [];
  if (lesson.predictions) {
    const right = done.predicted ? `, ${done.right} of them right` : "";
    parts.push(`${done.predicted} of ${lesson.predictions} predicted${right}`);
  }
  if (lesson.exercises) parts.push(`${done.exercises} of ${lesson.exercises} exercises done`);
  return parts.join("; ");
}

/**
 * Return the lesson to go on with: the first that is not finished after the last that was begun,
 * or that one itself. Undefined where nothing is begun, or all is finished.
 * @param {Lesson[]} lessons In the course's order.
 * @param {(lesson: string) => Done} of
 * @returns {Lesson | undefined}
 */
export function next(lessons, of) {
  const states = lessons.map((lesson) => {
    const done = of(lesson.lesson);
    return { some: done.predicted + done.exercises > 0, all: share(lesson, done) >= 1 };
  });
  const last = states.findLastIndex((state) => state.some);
  return last < 0 ? undefined : lessons.find((_, i) => i >= last && !states[i].all);
}

/**
 * Return how much of a lesson is done, from 0 to 1.
 * @param {Lesson} lesson
 * @param {Done} done
 */
export function share(lesson, done) {
  const all = lesson.predictions + lesson.exercises;
  return all ? Math.min(1, (done.predicted + done.exercises) / all) : 1;
}

/**
 * Show on the start page what is done, and return a function that shows it again; null elsewhere.
 * @param {Progress} progress
 * @returns {(() => void) | null}
 */
export function showOverview(progress) {
  const list = document.querySelector(".course-lessons");
  if (!list) return null;
  /** @type {HTMLElement[]} */
  const items = [...list.querySelectorAll("[data-lesson]")].filter((item) =>
    item instanceof HTMLElement
  );
  const lessons = items.map(({ dataset }) => ({
    lesson: dataset.lesson ?? "",
    predictions: Number(dataset.predictions),
    exercises: Number(dataset.exercises),
  }));
  const begin = document.querySelector("a.course-begin");
  const address = begin?.getAttribute("href") ?? "";
  const text = begin?.textContent ?? "";
  const told = element("p", { class: "course-kept", role: "status" });
  const clear = element("button", { type: "button" }, "Clear my progress");
  list.after(element("div", { class: "course-progress" }, told, clear));

  const show = () => {
    progress.refresh();
    const of = (/** @type {string} */ lesson) => progress.of(lesson);
    let some = 0;
    items.forEach((item, i) => {
      const done = of(lessons[i].lesson);
      some += done.predicted + done.exercises;
      const line = item.querySelector(".course-done");
      if (line) line.textContent = sentence(lessons[i], done);
      item.style.setProperty("--done", `${100 * share(lessons[i], done)}%`);
    });
    const going = next(lessons, of);
    const link = items.find((item) => item.dataset.lesson === going?.lesson)?.querySelector("a");
    if (begin) {
      begin.setAttribute("href", link?.getAttribute("href") ?? address);
      begin.textContent = link ? `Go on with ${link.textContent}` : text;
    }
    clear.hidden = some === 0;
    told.textContent = progress.lasts
      ? "What you predict and which exercises you tick is kept in this browser, and nowhere else."
      : "Your browser keeps nothing for this site, so your progress is lost when you leave a page.";
  };
  clear.addEventListener("click", () => {
    if (!confirm("Forget all your predictions and ticked exercises of this course?")) return;
    progress.clear();
    show();
    told.textContent = "Your progress is cleared.";
  });
  show();
  return show;
}
