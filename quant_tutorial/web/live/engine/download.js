// @ts-check
// Download files that were compressed when the site was built, and follow their progress.

/**
 * A file of the site: its name, and its size in bytes as it is sent.
 * @typedef {{ file: string, bytes: number }} Source
 */

/**
 * Return the contents of files, in their order.
 *
 * They are decompressed here, so that they are as small on a host that does not compress them. A
 * host may take their ending for an encoding and let the browser decompress them; such a file is
 * known by its first bytes, and kept as it is.
 * @param {readonly Source[]} sources
 * @param {URL} folder Where the files are.
 * @param {import("../loading.js").OnProgress} onProgress
 * @returns {Promise<Uint8Array[]>}
 * @throws {Error} when a file is missing or cannot be reached.
 */
export function download(sources, folder, onProgress) {
  const all = sources.reduce((sum, { bytes }) => sum + bytes, 0);
  let arrived = 0;
  return Promise.all(sources.map(async ({ file, bytes }) => {
    const response = await fetch(new URL(file, folder));
    if (!response.ok || !response.body) {
      throw new Error(`${file} could not be loaded (${response.status} ${response.statusText}).`);
    }
    let counted = 0;
    const counting = new TransformStream({
      transform(chunk, controller) {
        // A file that the browser has decompressed is longer than what was sent.
        const more = Math.min(chunk.length, bytes - counted);
        counted += more;
        onProgress((arrived += more) / all, all);
        controller.enqueue(chunk);
      },
    });
    const content = await read(response.body.pipeThrough(counting));
    return content[0] === 0x1f && content[1] === 0x8b ? await unpacked(content) : content;
  }));
}

/** @param {Uint8Array} content */
function unpacked(content) {
  const stream = new Blob([/** @type {Uint8Array<ArrayBuffer>} */ (content)]).stream();
  return read(stream.pipeThrough(new DecompressionStream("gzip")));
}

/** @param {ReadableStream<Uint8Array>} stream */
async function read(stream) {
  return new Uint8Array(await new Response(/** @type {BodyInit} */ (stream)).arrayBuffer());
}
