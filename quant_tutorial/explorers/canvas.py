"""The canvas of lesson 10: draw a digit with mouse, pen, finger or keys."""

from __future__ import annotations

import base64
import io
from typing import Any

from quant_tutorial import drawing
from quant_tutorial.drawing import PEN, SIDE

import anywidget
import numpy as np
import traitlets
from numpy.typing import ArrayLike, NDArray
from PIL import Image

_EMPTY = bytes(SIDE * SIDE)


class DigitCanvas(anywidget.AnyWidget):
    """A canvas to draw a digit on, white on black as in MNIST (lesson 10).

    `value` holds the drawing as grey levels, row by row, `SIDE` × `SIDE` bytes. It follows a stroke
    about ten times a second and is always up to date at its end; `observe(…, names="value")` tells
    of each change, also of those that Python makes. All displays of one canvas show one drawing.

    Args:
        image: What the canvas shows at the start, as for `show`; nothing by default.

    Raises:
        ValueError: when the image, or a `value` that is set, has another size.
    """

    value = traitlets.Bytes(_EMPTY).tag(sync=True, from_json=lambda data, _: bytes(data))
    _side = traitlets.Int(SIDE, read_only=True).tag(sync=True)
    _pen = traitlets.Int(PEN, read_only=True).tag(sync=True)

    def __init__(self, image: ArrayLike | None = None) -> None:
        super().__init__()
        if image is not None:
            self.show(image)

    @traitlets.validate("value")
    def _check(self, proposal: dict[str, Any]) -> bytes:
        value = proposal["value"]
        if len(value) != len(_EMPTY):
            raise ValueError(
                f"value must be {SIDE} × {SIDE} = {len(_EMPTY):,} bytes, got {len(value):,}: "
                "call show(image) to load an image."
            )
        return value

    @property
    def raster(self) -> NDArray[np.uint8]:
        """The drawing as grey levels from 0 to 255, shape (SIDE, SIDE), read-only."""
        return np.frombuffer(self.value, np.uint8).reshape(SIDE, SIDE)

    @property
    def image(self) -> NDArray[np.float32]:
        """The drawing as the models get it: `drawing.to_mnist(raster)`, shape (28, 28, 1)."""
        return drawing.to_mnist(self.raster)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is drawn."""
        return drawing.is_empty(self.raster)

    def show(self, image: ArrayLike) -> None:
        """Put an image in the place of the drawing; the reader may draw on it.

        Args:
            image: An MNIST image, shape (28, 28) or (28, 28, 1), or a raster of `SIDE` × `SIDE`;
                uint8 from 0 to 255 or floats in [0, 1].

        Raises:
            ValueError: for another shape, another type, or floats outside [0, 1].
        """
        pixels = drawing.to_pixels(image)
        height, width = pixels.shape
        if height != width or height not in (28, SIDE):
            raise ValueError(
                f"image must have the shape (28, 28), (28, 28, 1) or ({SIDE}, {SIDE}), "
                f"got {np.shape(image)}."
            )
        # Each pixel becomes a square, which `to_mnist` averages to that pixel again.
        self.value = pixels.repeat(SIDE // height, axis=0).repeat(SIDE // width, axis=1).tobytes()

    def clear(self) -> None:
        """Take everything off the canvas."""
        self.value = _EMPTY

    def __repr__(self) -> str:
        """Without the memory address that anywidget gives, which changes from run to run."""
        return f"DigitCanvas({'empty' if self.is_empty else 'drawn on'})"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        # What a page without a kernel shows.
        data["text/plain"] = "Canvas to draw a digit on; it needs a running kernel."
        if not self.is_empty:
            buffer = io.BytesIO()
            Image.fromarray(self.raster).save(buffer, "png")
            data["image/png"] = base64.b64encode(buffer.getvalue()).decode()
        return data, metadata

    _css = """
    .quant-canvas { box-sizing: border-box; width: 346px; max-width: 100%; padding: 5px; }
    .quant-canvas-frame { position: relative; }
    .quant-canvas canvas {
      display: block; width: 100%; aspect-ratio: 1; background: black; cursor: crosshair;
      touch-action: none; user-select: none; -webkit-user-select: none;
      box-shadow: 0 0 0 1px #808080; /* an edge in a dark theme, too */
    }
    .quant-canvas canvas:focus { outline: 3px solid #0072b2; outline-offset: 2px; }
    .quant-canvas-cursor {
      position: absolute; box-sizing: border-box; width: 18px; height: 18px; margin: -9px 0 0 -9px;
      border: 3px solid #e69f00; border-radius: 50%; outline: 1px solid black; pointer-events: none;
    }
    .quant-canvas-cursor.down { background: #e69f00; }
    .quant-canvas-row { display: flex; align-items: center; gap: 10px; margin: 8px 0 4px; }
    .quant-canvas button { min-width: 6em; min-height: 28px; margin: 0; }
    .quant-canvas p {
      margin: 0; font-size: 13px; line-height: 1.4; color: var(--jp-content-font-color1, inherit);
    }
    """

    _esm = """
    const FINE = 6;      // canvas pixels to a raster's pixel: sharp on a screen of double density
    const WAIT = 100;    // milliseconds between two messages during a stroke
    const STEP = 4;      // raster pixels that an arrow key moves: one pixel of an MNIST image
    const ARROWS = {
      ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
      Home: [-1, -1], PageUp: [1, -1], End: [-1, 1], PageDown: [1, 1],
    };
    const HINT = "Draw with mouse, pen or finger. With keys: arrows move the ring (Home, End, " +
      "Page Up and Page Down: diagonally), Space or Enter puts the pen down and lifts it, " +
      "Delete clears.";

    function make(tag, attributes, ...children) {
      const element = document.createElement(tag);
      for (const [name, text] of Object.entries(attributes)) element.setAttribute(name, text);
      element.append(...children);
      return element;
    }

    function same(one, other) {
      return one?.length === other.length && one.every((level, i) => level === other[i]);
    }

    function render({ model, el }) {
      const side = model.get("_side"), fine = side * FINE;
      const id = `quant-canvas-${Math.random().toString(36).slice(2)}`;
      const canvas = make("canvas", {
        width: fine, height: fine, tabindex: 0, role: "application",
        "aria-roledescription": "drawing canvas",
        "aria-label": "Canvas to draw a digit", "aria-describedby": id,
      });
      const ring = make("div", { class: "quant-canvas-cursor", hidden: "" });
      const button = make("button", { type: "button", class: "jupyter-button" }, "Clear");
      const status = make("p", { role: "status" });
      el.append(make("div", { class: "quant-canvas" },
        make("div", { class: "quant-canvas-frame" }, canvas, ring),
        make("div", { class: "quant-canvas-row" }, button, status),
        make("p", { id }, HINT)));
      const ink = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
      const small = make("canvas", { width: side, height: side }).getContext("2d");

      let known;                          // the value that this display has sent or shown last
      let sending = false, timer = null;
      let pen = { x: fine / 2, y: fine / 2 }, middle = pen;  // its place; where the line ends
      let pointer = null, keyDown = false;                   // what holds the pen down
      const held = new Set();                                // arrow keys

      function raster() {
        const { data } = ink.getImageData(0, 0, fine, fine), sums = new Uint32Array(side * side);
        for (let y = 0, i = 0; y < fine; y++) {
          const row = Math.floor(y / FINE) * side;
          for (let x = 0; x < fine; x++, i += 4) sums[row + Math.floor(x / FINE)] += data[i];
        }
        return Uint8Array.from(sums, (sum) => Math.round(sum / FINE ** 2));
      }
      function send() {
        clearTimeout(timer);
        timer = null;
        const now = raster();
        if (same(known, now)) return;
        known = now;
        sending = true;
        model.set("value", new DataView(now.buffer));
        sending = false;
        model.save_changes();
      }
      function sendSoon() { timer ??= setTimeout(send, WAIT); }

      function load() {                   // the value has changed elsewhere, or is the first
        if (sending) return;
        const view = model.get("value");
        const levels = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
        // Where a page is told its own value again, to draw it would make the line coarse.
        if (same(known, levels)) return;
        clearTimeout(timer);
        timer = null;
        known = levels.slice();
        const image = small.createImageData(side, side);
        levels.forEach((level, i) => image.data.set([level, level, level, 255], 4 * i));
        small.putImageData(image, 0, 0);
        ink.imageSmoothingEnabled = false;
        ink.drawImage(small.canvas, 0, 0, fine, fine);
      }

      function line(...path) {
        ink.lineWidth = model.get("_pen") * FINE;
        ink.lineCap = ink.lineJoin = "round";
        ink.strokeStyle = "white";
        ink.beginPath();
        ink.moveTo(middle.x, middle.y);
        if (path.length > 1) ink.quadraticCurveTo(path[0].x, path[0].y, path[1].x, path[1].y);
        else ink.lineTo(path[0].x, path[0].y);
        ink.stroke();
        middle = path.at(-1);
        sendSoon();
      }
      function start(place) {
        pen = middle = place;
        line(place);                      // a dot
      }
      function curve(place) {             // through the middles: without corners
        line(pen, { x: (pen.x + place.x) / 2, y: (pen.y + place.y) / 2 });
        pen = place;
      }

      function placeOf(event) {
        const box = canvas.getBoundingClientRect();
        return {
          x: (event.clientX - box.left) / box.width * fine,
          y: (event.clientY - box.top) / box.height * fine,
        };
      }
      function showRing(shown = true) {
        ring.hidden = !shown;
        ring.classList.toggle("down", keyDown);
        ring.style.left = `${100 * pen.x / fine}%`;
        ring.style.top = `${100 * pen.y / fine}%`;
      }
      function liftKey() {
        if (!keyDown) return;
        keyDown = false;
        send();
      }
      function say(text) { status.textContent = text; }
      function tell() {
        const [column, row] = [pen.x, pen.y].map((at) => Math.round(at / FINE / STEP));
        say(`Pen ${keyDown ? "down" : "up"}, column ${column}, row ${row} of ${side / STEP}`);
      }
      function clear() {
        pointer = null;
        keyDown = false;
        ink.fillStyle = "black";
        ink.fillRect(0, 0, fine, fine);
        send();
        say("Cleared");
      }

      function down(event) {
        if (!event.isPrimary || event.button !== 0 || pointer !== null) return;
        canvas.setPointerCapture(event.pointerId);
        liftKey();
        pointer = event.pointerId;
        start(placeOf(event));
        showRing(false);
        say("");
      }
      function move(event) {
        if (event.pointerId !== pointer) return;
        const events = event.getCoalescedEvents?.() ?? [];
        for (const one of events.length ? events : [event]) curve(placeOf(one));
      }
      function lift(event) {
        if (event.pointerId !== pointer) return;
        pointer = null;
        line(pen);
        send();
        pen = { x: Math.min(Math.max(pen.x, 0), fine), y: Math.min(Math.max(pen.y, 0), fine) };
      }
      function press(event) {
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        // JupyterLab would take a letter for a command: X cuts the cell that the canvas stands in.
        event.stopPropagation();
        if (event.shiftKey) return;
        const { key } = event;
        if (key in ARROWS) {
          if (pointer !== null) return stop(event);
          held.add(key);
          // Two arrows held at once move diagonally.
          const [dx, dy] = [0, 1].map((axis) =>
            Math.sign([...held].reduce((sum, name) => sum + ARROWS[name][axis], 0)));
          const at = (old, by) => Math.min(Math.max(old + by * STEP * FINE, 0), fine);
          pen = { x: at(pen.x, dx), y: at(pen.y, dy) };
          if (keyDown) line(pen);
        } else if (key === " " || key === "Enter") {
          if (event.repeat || pointer !== null) return stop(event);
          if (keyDown) liftKey();
          else { keyDown = true; start(pen); }
        } else if (key === "Escape") {
          liftKey();
        } else if (key === "Delete" || key === "Backspace") {
          clear();
          showRing();
          return stop(event);
        } else return;
        stop(event);
        showRing();
        tell();
      }
      function stop(event) {              // neither the page nor the notebook takes the key as well
        event.preventDefault();
        event.stopPropagation();
      }

      canvas.addEventListener("pointerdown", down);
      canvas.addEventListener("pointermove", move);
      canvas.addEventListener("pointerup", lift);
      canvas.addEventListener("pointercancel", lift);
      canvas.addEventListener("lostpointercapture", lift);
      canvas.addEventListener("keydown", press);
      canvas.addEventListener("keyup", (event) => held.delete(event.key));
      canvas.addEventListener("focus", () => showRing(canvas.matches(":focus-visible")));
      canvas.addEventListener("blur", () => { held.clear(); liftKey(); showRing(false); });
      button.addEventListener("click", clear);
      model.on("change:value", load);
      load();
      return () => {
        if (timer !== null) send();
        model.off("change:value", load);
      };
    }
    export default { render };
    """
