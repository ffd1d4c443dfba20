// @ts-check
// Pictures of digits, dark on white also on a dark page, as images within the SVG.

import { tag } from "./svg.js";

const SIDE = 28;
const HEADER = 14 + 40 + 4 * 256; // file header, picture header and the palette of greys

/**
 * Return a digit as an SVG image.
 * @param {Uint8Array} pixels 28 × 28, from 0 (paper) to 255 (ink).
 * @param {number} x
 * @param {number} y
 * @param {number} side In pixels of the picture.
 */
export function image(pixels, x, y, side) {
  const href = `data:image/bmp;base64,${btoa(String.fromCharCode(...bitmap(pixels)))}`;
  const place = { x, y, width: side, height: side };
  return tag("image", { ...place, href, class: "digit" });
}

/**
 * Return a digit as a BMP file with 256 greys, of which a browser needs no decoder in a script.
 * @param {Uint8Array} pixels
 */
export function bitmap(pixels) {
  const file = new Uint8Array(HEADER + pixels.length);
  const view = new DataView(file.buffer);
  view.setUint16(0, 0x4d42, true); // "BM"
  view.setUint32(2, file.length, true);
  view.setUint32(10, HEADER, true);
  view.setUint32(14, 40, true);
  view.setInt32(18, SIDE, true);
  view.setInt32(22, -SIDE, true); // negative: the first row is the upper one
  view.setUint16(26, 1, true);
  view.setUint16(28, 8, true); // bits a pixel
  view.setUint32(34, pixels.length, true);
  view.setUint32(46, 256, true);
  for (let grey = 0; grey < 256; grey++) file.fill(255 - grey, 54 + 4 * grey, 57 + 4 * grey);
  file.set(pixels, HEADER);
  return file;
}
