// @ts-check
// The browser's half of the canvas in lesson 10; canvas.py is the other half. anywidget uses only
// the default export; the named exports are for the tests. None of them may be called `render`,
// because anywidget would then take this module for a widget in its old format.

/**
 * A place on the canvas, in canvas pixels.
 * @typedef {{ x: number, y: number }} Place
 */

/**
 * The model that anywidget passes to a view, with the methods that this file uses.
 * @typedef {object} Model
 * @property {(name: string) => any} get
 * @property {(name: string, value: unknown) => void} set
 * @property {() => void} save_changes
 * @property {(event: string, listener: () => void) => void} on
 * @property {(event: string, listener: () => void) => void} off
 */

/** Canvas pixels along each side of a raster pixel, for sharp lines on a high-density screen. */
export const FINE = 6;
/** Raster pixels that an arrow key moves the pen: one pixel of an MNIST image. */
export const STEP = 4;

/** Milliseconds between two messages to the kernel during a stroke. */
const WAIT = 100;
/** @type {Record<string, [number, number]>} */
const ARROWS = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
  Home: [-1, -1],
  PageUp: [1, -1],
  End: [-1, 1],
  PageDown: [1, 1],
};
const HINT = "Draw with mouse, pen or finger. With keys: arrows move the ring (Home, End, " +
  "Page Up and Page Down: diagonally), Space or Enter puts the pen down and lifts it, " +
  "Delete clears.";

/**
 * Return whether two rasters have the same grey levels. An undefined raster equals no other.
 * @param {Uint8Array | undefined} one
 * @param {Uint8Array} other
 */
export function same(one, other) {
  return one?.length === other.length && one.every((level, i) => level === other[i]);
}

/**
 * Return the raster of a canvas: the mean grey level of each square of FINE × FINE pixels.
 * @param {ArrayLike<number>} pixels The canvas as red, green, blue and alpha, row by row. Only
 *   red is used, because the drawing is grey.
 * @param {number} side The raster's width and height.
 */
export function average(pixels, side) {
  const fine = side * FINE;
  const sums = new Uint32Array(side * side);
  for (let y = 0, i = 0; y < fine; y++) {
    const row = Math.floor(y / FINE) * side;
    for (let x = 0; x < fine; x++, i += 4) sums[row + Math.floor(x / FINE)] += pixels[i];
  }
  return Uint8Array.from(sums, (sum) => Math.round(sum / FINE ** 2));
}

/**
 * Return a raster as opaque pixels: red, green, blue and alpha, row by row.
 * @param {Uint8Array} levels
 */
export function toPixels(levels) {
  const pixels = new Uint8ClampedArray(4 * levels.length);
  levels.forEach((level, i) => pixels.set([level, level, level, 255], 4 * i));
  return pixels;
}

/**
 * Return whether a key moves the pen.
 * @param {string} key
 */
export function isArrow(key) {
  return Object.hasOwn(ARROWS, key);
}

/**
 * Return the direction in which keys move the pen, as -1, 0 or 1 along each axis. Two arrows that
 * are held down at once move it diagonally.
 * @param {Iterable<string>} keys
 * @returns {[number, number]}
 */
export function direction(keys) {
  let [dx, dy] = [0, 0];
  for (const key of keys) {
    dx += ARROWS[key][0];
    dy += ARROWS[key][1];
  }
  return [Math.sign(dx), Math.sign(dy)];
}

/**
 * Return the nearest place that is on the canvas.
 * @param {Place} place
 * @param {number} fine The canvas's width and height.
 * @returns {Place}
 */
export function inside({ x, y }, fine) {
  return { x: Math.min(Math.max(x, 0), fine), y: Math.min(Math.max(y, 0), fine) };
}

/**
 * Return the place to which keys move the pen.
 * @param {Place} pen
 * @param {Iterable<string>} keys
 * @param {number} fine The canvas's width and height.
 */
export function moved(pen, keys, fine) {
  const [dx, dy] = direction(keys);
  return inside({ x: pen.x + dx * STEP * FINE, y: pen.y + dy * STEP * FINE }, fine);
}

/**
 * Return the place of a pointer event. It lies outside the canvas if the pointer does.
 * @param {{ clientX: number, clientY: number }} event
 * @param {{ left: number, top: number, width: number, height: number }} box The canvas in the page.
 * @param {number} fine The canvas's width and height.
 * @returns {Place}
 */
export function placeOf(event, box, fine) {
  return {
    x: (event.clientX - box.left) / box.width * fine,
    y: (event.clientY - box.top) / box.height * fine,
  };
}

/**
 * Return the midpoint between two places.
 * @param {Place} one
 * @param {Place} other
 * @returns {Place}
 */
export function middleOf(one, other) {
  return { x: (one.x + other.x) / 2, y: (one.y + other.y) / 2 };
}

/**
 * Return the text about the pen that a screen reader is to announce.
 * @param {Place} pen
 * @param {boolean} isDown
 * @param {number} side The raster's width and height.
 */
export function describe(pen, isDown, side) {
  const [column, row] = [pen.x, pen.y].map((at) => Math.round(at / FINE / STEP));
  return `Pen ${isDown ? "down" : "up"}, column ${column}, row ${row} of ${side / STEP}`;
}

/**
 * Return a new element.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | number>} attributes
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, `${value}`);
  element.append(...children);
  return element;
}

/**
 * Return the drawing context of a canvas. Every browser that runs JupyterLab has one.
 * @param {HTMLCanvasElement} canvas
 * @param {CanvasRenderingContext2DSettings} [settings]
 */
function contextOf(canvas, settings) {
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", settings));
}

/**
 * Show the canvas in a page, and return a function that ends the display.
 * @param {{ model: Model, el: HTMLElement }} view
 */
function render({ model, el }) {
  const side = model.get("_side");
  const fine = side * FINE;
  const id = `quant-canvas-${Math.random().toString(36).slice(2)}`;
  const canvas = make("canvas", {
    width: fine,
    height: fine,
    tabindex: 0,
    role: "application",
    "aria-roledescription": "drawing canvas",
    "aria-label": "Canvas to draw a digit",
    "aria-describedby": id,
  });
  const ring = make("div", { class: "quant-canvas-cursor", hidden: "" });
  const button = make("button", { type: "button", class: "jupyter-button" }, "Clear");
  const status = make("p", { role: "status" });
  el.append(make(
    "div",
    { class: "quant-canvas" },
    make("div", { class: "quant-canvas-frame" }, canvas, ring),
    make("div", { class: "quant-canvas-row" }, button, status),
    make("p", { id }, HINT),
  ));
  const ink = contextOf(canvas, { alpha: false, willReadFrequently: true });
  const small = contextOf(make("canvas", { width: side, height: side }));

  /** The value that this display sent or showed last. @type {Uint8Array | undefined} */
  let known;
  let sending = false;
  /** @type {ReturnType<typeof setTimeout> | null} */
  let timer = null;
  /** The pen's place. @type {Place} */
  let pen = { x: fine / 2, y: fine / 2 };
  /** The end of the line drawn so far. */
  let middle = pen;
  /** The pointer that holds the pen down, if one does. @type {number | null} */
  let pointer = null;
  /** Whether a key has put the pen down. */
  let keyDown = false;
  /** The arrow keys that are held down. @type {Set<string>} */
  const held = new Set();

  /** Stop waiting to send the drawing. */
  function stopTimer() {
    if (timer !== null) clearTimeout(timer);
    timer = null;
  }

  /** Send the drawing to the kernel, unless the kernel already has it. */
  function send() {
    stopTimer();
    const now = average(ink.getImageData(0, 0, fine, fine).data, side);
    if (same(known, now)) return;
    known = now;
    sending = true;
    model.set("value", new DataView(now.buffer));
    sending = false;
    model.save_changes();
  }

  /** Send the drawing after a short wait, with everything that is drawn until then. */
  function sendSoon() {
    timer ??= setTimeout(send, WAIT);
  }

  /** Show the model's value, at the start and when it was changed elsewhere. */
  function load() {
    if (sending) return;
    const view = model.get("value");
    const levels = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    // The kernel sometimes sends a page its own value back. Drawing it would coarsen the line.
    if (same(known, levels)) return;
    stopTimer();
    known = levels.slice();
    const image = small.createImageData(side, side);
    image.data.set(toPixels(levels));
    small.putImageData(image, 0, 0);
    ink.imageSmoothingEnabled = false;
    ink.drawImage(small.canvas, 0, 0, fine, fine);
  }

  /**
   * Extend the line from its end.
   * @param {Place} end
   * @param {Place} [towards] Makes the line a curve, which starts in the direction of this place.
   */
  function line(end, towards) {
    ink.lineWidth = model.get("_pen") * FINE;
    ink.lineCap = ink.lineJoin = "round";
    ink.strokeStyle = "white";
    ink.beginPath();
    ink.moveTo(middle.x, middle.y);
    if (towards) ink.quadraticCurveTo(towards.x, towards.y, end.x, end.y);
    else ink.lineTo(end.x, end.y);
    ink.stroke();
    middle = end;
    sendSoon();
  }

  /**
   * Put the pen down, which draws a dot.
   * @param {Place} place
   */
  function start(place) {
    pen = middle = place;
    line(place);
  }

  /**
   * Extend the stroke towards a place. The line passes through the midpoints between the places, so
   * that it has no corners.
   * @param {Place} place
   */
  function curve(place) {
    line(middleOf(pen, place), pen);
    pen = place;
  }

  /** Show the ring at the pen's place, or hide it. */
  function showRing(shown = true) {
    ring.hidden = !shown;
    ring.classList.toggle("down", keyDown);
    ring.style.left = `${100 * pen.x / fine}%`;
    ring.style.top = `${100 * pen.y / fine}%`;
  }

  /** Lift the pen if a key has put it down. */
  function liftKey() {
    if (!keyDown) return;
    keyDown = false;
    send();
  }

  /**
   * Show a text that a screen reader announces.
   * @param {string} text
   */
  function announce(text) {
    status.textContent = text;
  }

  /** Clear the canvas. */
  function clear() {
    pointer = null;
    keyDown = false;
    ink.fillStyle = "black";
    ink.fillRect(0, 0, fine, fine);
    send();
    announce("Cleared");
  }

  /**
   * Begin a stroke with mouse, pen or finger.
   * @param {PointerEvent} event
   */
  function down(event) {
    if (!event.isPrimary || event.button !== 0 || pointer !== null) return;
    canvas.setPointerCapture(event.pointerId);
    liftKey();
    pointer = event.pointerId;
    start(placeOf(event, canvas.getBoundingClientRect(), fine));
    showRing(false);
    announce("");
  }

  /**
   * Continue the stroke.
   * @param {PointerEvent} event
   */
  function move(event) {
    if (event.pointerId !== pointer) return;
    // One event combines all moves since the last frame; a fast stroke needs each of them.
    const events = event.getCoalescedEvents?.() ?? [];
    const box = canvas.getBoundingClientRect();
    for (const one of events.length ? events : [event]) curve(placeOf(one, box, fine));
  }

  /**
   * End the stroke.
   * @param {PointerEvent} event
   */
  function lift(event) {
    if (event.pointerId !== pointer) return;
    pointer = null;
    line(pen);
    send();
    pen = inside(pen, fine);
  }

  /**
   * Handle a key press.
   * @param {KeyboardEvent} event
   */
  function press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    // JupyterLab would take a letter for a command: X would cut the cell of the canvas.
    event.stopPropagation();
    if (event.shiftKey) return;
    const { key } = event;
    const isPen = key === " " || key === "Enter";
    const isClear = key === "Delete" || key === "Backspace";
    if (!(isArrow(key) || isPen || isClear || key === "Escape")) return;
    // Otherwise the page would scroll.
    event.preventDefault();
    if (isClear) {
      clear();
      showRing();
      return;
    }
    if (isArrow(key)) {
      if (pointer !== null) return;
      held.add(key);
      pen = moved(pen, held, fine);
      if (keyDown) line(pen);
    } else if (isPen) {
      if (event.repeat || pointer !== null) return;
      if (keyDown) {
        liftKey();
      } else {
        keyDown = true;
        start(pen);
      }
    } else {
      liftKey();
    }
    showRing();
    announce(describe(pen, keyDown, side));
  }

  canvas.addEventListener("pointerdown", down);
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("lostpointercapture", lift);
  canvas.addEventListener("keydown", press);
  canvas.addEventListener("keyup", (event) => held.delete(event.key));
  canvas.addEventListener("focus", () => showRing(canvas.matches(":focus-visible")));
  canvas.addEventListener("blur", () => {
    held.clear();
    liftKey();
    showRing(false);
  });
  button.addEventListener("click", clear);
  model.on("change:value", load);
  load();
  return () => {
    if (timer !== null) send();
    model.off("change:value", load);
  };
}

export default { render };
