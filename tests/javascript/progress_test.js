// @ts-check
import assert from "node:assert/strict";

import { next, sentence, share } from "../../quant_tutorial/web/static/reader/overview.js";
import { Progress, read } from "../../quant_tutorial/web/static/reader/progress.js";

/** A browser's storage. */
class Memory {
  /** @type {Map<string, string>} */
  content = new Map();

  /** @param {string} key */
  getItem(key) {
    return this.content.get(key) ?? null;
  }

  /** @param {string} key @param {string} value */
  setItem(key, value) {
    this.content.set(key, value);
  }

  /** @param {string} key */
  removeItem(key) {
    this.content.delete(key);
  }
}

Deno.test("what is done is there again on the next page, and not on another site's", () => {
  const store = new Memory();
  const first = new Progress("course /a/", store);
  first.setAnswer("02/idea/0", { said: ["0.04"], agrees: false });
  first.setDone("02.1", true);
  const later = new Progress("course /a/", store);
  assert.deepEqual(later.answer("02/idea/0"), { said: ["0.04"], agrees: false });
  assert.ok(later.isDone("02.1"));
  assert.ok(later.lasts);
  assert.equal(new Progress("course /b/", store).answer("02/idea/0"), undefined);
});

Deno.test("two open pages do not overwrite each other", () => {
  const store = new Memory();
  const [one, two] = [new Progress("course", store), new Progress("course", store)];
  one.setDone("01.1", true);
  two.setDone("02.1", true);
  const later = new Progress("course", store);
  assert.ok(later.isDone("01.1") && later.isDone("02.1"));
});

Deno.test("it can be taken back, and cleared", () => {
  const store = new Memory();
  const progress = new Progress("course", store);
  progress.setDone("01.1", true);
  progress.setDone("01.1", false);
  assert.ok(!progress.isDone("01.1"));
  progress.setAnswer("01/a/0", {});
  progress.setAnswer("01/a/0", null);
  assert.equal(progress.answer("01/a/0"), undefined);
  progress.setDone("01.2", true);
  progress.clear();
  assert.ok(!progress.isDone("01.2"));
  assert.equal(store.content.size, 0);
});

Deno.test("without a store it lasts as long as the page", () => {
  const progress = new Progress("course", null);
  assert.ok(!progress.lasts);
  progress.setDone("01.1", true);
  assert.ok(progress.isDone("01.1"));
  progress.clear();
  assert.ok(!progress.isDone("01.1"));
});

Deno.test("a store that fails is left alone, and nothing is lost on the page", () => {
  const fail = () => {
    throw new DOMException("full", "QuotaExceededError");
  };
  const store = new Memory();
  store.setItem = fail;
  const progress = new Progress("course", store);
  progress.setDone("01.1", true);
  assert.ok(progress.isDone("01.1"));
  assert.ok(!progress.lasts);
  progress.setDone("01.2", true);
  assert.ok(progress.isDone("01.1") && progress.isDone("01.2"));
  assert.ok(!new Progress("course", { getItem: fail, setItem: fail, removeItem: fail }).lasts);
});

Deno.test("whatever else is in the store does no harm", () => {
  const nothing = { answers: {}, exercises: {} };
  for (
    const text of [null, "", "{", "3", "null", "[]", '{"version":0,"exercises":{"01.1":true}}']
  ) {
    assert.deepEqual(read(text), nothing, String(text));
  }
  const odd = '{"version":1,"answers":{"a":3,"b":null},"exercises":{"01.1":"yes","01.2":true}}';
  assert.deepEqual(read(odd), { answers: {}, exercises: { "01.2": true } });
  const progress = new Progress("course", new Memory());
  assert.equal(progress.answer("constructor"), undefined);
  assert.ok(!progress.isDone("toString"));
});

Deno.test("a lesson counts its own, and no question that was skipped", () => {
  const progress = new Progress("course", null);
  progress.setAnswer("02/a/0", { said: ["x"], agrees: true });
  progress.setAnswer("02/b/0", { said: ["x"], agrees: false });
  progress.setAnswer("02/c/0", { said: ["x"], agrees: null });
  progress.setAnswer("02/d/0", {});
  progress.setAnswer("03/a/0", { said: ["x"], agrees: true });
  progress.setDone("02.1", true);
  progress.setDone("12.1", true);
  assert.deepEqual(progress.of("02"), { predicted: 3, right: 1, exercises: 1 });
});

const none = { predicted: 0, right: 0, exercises: 0 };

Deno.test("the sentence says what there is to do and what is done", () => {
  const lesson = { lesson: "02", predictions: 6, exercises: 8 };
  assert.equal(sentence(lesson, none), "0 of 6 predicted; 0 of 8 exercises done");
  const done = { predicted: 3, right: 2, exercises: 1 };
  assert.equal(sentence(lesson, done), "3 of 6 predicted, 2 of them right; 1 of 8 exercises done");
  assert.equal(sentence({ ...lesson, exercises: 0 }, none), "0 of 6 predicted");
  assert.equal(share(lesson, done), 4 / 14);
});

Deno.test("one goes on where one was", () => {
  const lessons = ["00", "01", "02"].map((lesson) => ({ lesson, predictions: 1, exercises: 1 }));
  const all = { predicted: 1, right: 1, exercises: 1 };
  const half = { ...all, exercises: 0 };
  /** @param {(typeof none)[]} done */
  const following = (...done) => next(lessons, (lesson) => done[Number(lesson)])?.lesson;
  assert.equal(following(none, none, none), undefined);
  assert.equal(following(half, none, none), "00");
  assert.equal(following(all, none, none), "01");
  assert.equal(following(none, half, none), "01");
  assert.equal(following(none, all, none), "02");
  assert.equal(following(all, all, all), undefined);
});
