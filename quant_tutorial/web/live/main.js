// @ts-check
/**
 * The live explorers of the web edition.
 *
 * How an explorer is written:
 *
 * 1. In Python its class, a subclass of `Explorer`, names its kind in `live` and returns in
 *    `page_data()` what the page needs beside its controls: plain values, and arrays through
 *    `exported.encoded`. The controls themselves are exported by `explorers/exported.py`, under the
 *    names of the attributes that hold them: `self.bits = control.slider` is `settings.bits` here.
 *    `make site` writes all of it into a JSON file beside the page.
 * 2. Here a module in `explorers/` exports an `Explorer` (see shell.js): `prepare(data)` decodes the
 *    arrays once, `compute(settings, prepared)` returns a state, `draw(state, width)` returns a
 *    picture as SVG text for that many pixels (svg.js, axes.js), and `describe(state)` returns the
 *    text of Python's `describe_*`, with its format specifications (format.js). All are pure, so
 *    that tests run them without a page. `integers(state)` returns the integers for the tests.
 *    A slow `compute` returns an estimate and hands over the full state later.
 * 3. It is entered below, by its kind.
 * 4. tests/browser/test_live.py gets a row, or test_live_model.py if it runs the model: random
 *    settings, compared with Python.
 *
 * What is heavy is loaded by `load`, when the reader first moves a control. The explorers that run
 * the model load it with `loaded` of engine/model.js: `run` measures on a sample and then on all
 * images, of which `compute` hands over each to `later`. A file named `*_worker.js` beside this one
 * becomes a classic worker script of that name; see bundling.py.
 */

import affine from "./explorers/affine.js";
import comparison from "./explorers/comparison.js";
import granularity from "./explorers/granularity.js";
import lab from "./explorers/lab.js";
import post_training from "./explorers/post_training.js";
import range from "./explorers/range.js";
import rounding from "./explorers/rounding.js";
import { start } from "./shell.js";

/** @type {Record<string, import("./shell.js").Explorer<any, any, any>>} */
const EXPLORERS = { affine, comparison, granularity, lab, post_training, range, rounding };

const figures = document.querySelectorAll("figure.explorer[data-live]");
const started = [...figures].map((figure) =>
  // Without it the figure goes on stepping through its pictures, and the console says why.
  start(/** @type {import("./shell.js").Figure} */ (figure), EXPLORERS).catch(reportError)
);
// For style sheets and tests.
Promise.all(started).then(() => document.documentElement.dataset.live = "started");
