// @ts-check
// What a page offers its reader besides the explorers: questions before their answers, boxes for
// the exercises, and on the start page what she has done. Without it the page has all its content.

import { askQuestions, tickExercises } from "./lesson.js";
import { showOverview } from "./overview.js";
import { browserStore, Progress } from "./progress.js";
import { reachWhatScrolls } from "./scrolling.js";

// This file is _static/reader/page.js of the site. A host may serve another course beside it.
const site = new URL("../../", import.meta.url).pathname;
const progress = new Progress(`quant_tutorial ${site}`, browserStore());

const showTicks = tickExercises(progress);
const showAll = showOverview(progress);
askQuestions(progress);
reachWhatScrolls();
document.documentElement.dataset.reader = "ready"; // for tests
// The questions have moved what the address points to.
if (location.hash) {
  document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

const refresh = () => {
  progress.refresh();
  showTicks();
  showAll?.();
};
addEventListener("storage", refresh); // another tab has changed it
addEventListener("pageshow", (event) => {
  if (event.persisted) refresh(); // the reader has come back to a page that the browser had kept
});
