// @ts-check
import assert from "node:assert/strict";
import { gzipSync } from "node:zlib";

import { download } from "../../quant_tutorial/web/live/engine/download.js";

const FOLDER = new URL("http://localhost/site/_static/live/");
const CONTENT = new TextEncoder().encode("the pixels of ten thousand digits ".repeat(1000));
const PACKED = new Uint8Array(gzipSync(CONTENT));

/**
 * Answer requests with these files while a function runs.
 * @param {Record<string, Uint8Array<ArrayBuffer>>} files
 * @param {() => Promise<void>} run
 */
async function serving(files, run) {
  const { fetch } = globalThis;
  Object.assign(globalThis, {
    fetch: (/** @type {URL} */ url) => {
      const found = files[url.href.replace(FOLDER.href, "")];
      return Promise.resolve(
        found
          ? new Response(found)
          : new Response("none", { status: 404, statusText: "Not Found" }),
      );
    },
  });
  try {
    await run();
  } finally {
    Object.assign(globalThis, { fetch });
  }
}

Deno.test("files are decompressed, whether or not the browser has done it", async () => {
  await serving({ "a.gz": PACKED, "b.gz": CONTENT }, async () => {
    /** @type {number[]} */
    const shares = [];
    const sources = ["a.gz", "b.gz"].map((file) => ({ file, bytes: PACKED.length }));
    const found = await download(sources, FOLDER, (share, bytes) => {
      shares.push(share);
      assert.equal(bytes, 2 * PACKED.length);
    });
    assert.deepEqual(found, [CONTENT, CONTENT]);
    assert.equal(shares.at(-1), 1);
    assert.deepEqual(shares, shares.toSorted((a, b) => a - b));
  });
});

Deno.test("a file that is missing is named", async () => {
  await serving({}, async () => {
    const source = { file: "gone.gz", bytes: 1 };
    await assert.rejects(download([source], FOLDER, () => {}), /gone.gz could not be loaded \(404/);
  });
});
