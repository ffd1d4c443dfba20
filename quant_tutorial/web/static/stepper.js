// Adds controls to each explorer. Since a page has no kernel, they step through frames that were
// made beforehand. Without this script the page shows the picture and sentence of the notebook.

/**
 * The data of an explorer's control, as stored in the page.
 * @typedef {{ kind: string, label: string, texts: string[], start: number }} Axis
 */

/**
 * Return a control: its row in the page, and a function that returns its position.
 * @param {Axis} axis
 * @param {string} id The id that its input gets.
 * @param {() => void} show Called whenever the reader has moved the control.
 */
function control(axis, id, show) {
  const row = document.createElement("div");
  row.className = `explorer-control explorer-${axis.kind}`;
  const label = document.createElement("label");
  label.htmlFor = id;
  label.textContent = axis.label;
  let input, position;
  if (axis.kind === "choice") {
    input = document.createElement("select");
    axis.texts.forEach((text, i) => input.add(new Option(text, i)));
    input.value = axis.start;
    row.append(label, input);
    position = () => input.selectedIndex;
  } else if (axis.kind === "check") {
    input = document.createElement("input");
    input.type = "checkbox";
    input.checked = axis.start === 1;
    row.append(input, label);
    position = () => Number(input.checked);
  } else {
    input = document.createElement("input");
    Object.assign(input, { type: "range", min: 0, max: axis.texts.length - 1, step: 1 });
    input.value = axis.start;
    const value = document.createElement("span"); // an <output> would be announced a second time
    value.className = "explorer-value";
    row.append(label, input, value);
    position = () => input.valueAsNumber;
    const update = () => {
      value.textContent = axis.texts[position()];
      // The position is only an index; a screen reader is to announce the text that belongs to it.
      input.setAttribute("aria-valuetext", axis.texts[position()]);
    };
    input.addEventListener("input", update);
    update();
  }
  input.id = id;
  input.autocomplete = "off"; // a reloaded page starts again with its own picture
  input.addEventListener("input", show);
  return { row, position };
}

document.querySelectorAll("figure.explorer").forEach((figure, number) => {
  const data = figure.querySelector("script[type='application/json']");
  if (!data) return;
  const { axes, pictures, sentences } = JSON.parse(data.textContent);
  const image = figure.querySelector("img");
  const caption = figure.querySelector("figcaption");
  const controls = [];
  // The index of the frame at the controls' positions; the last control varies fastest.
  const frame = (positions) =>
    positions.reduce((sum, position, k) => sum * axes[k].texts.length + position, 0);
  const loaded = new Map(); // keeps pictures, so that they are shown at once when needed again
  const load = (i) => {
    if (!loaded.has(i)) {
      const picture = new Image();
      picture.src = pictures[i];
      loaded.set(i, picture);
    }
    return loaded.get(i);
  };
  let wanted;
  const show = () => {
    const positions = controls.map((each) => each.position());
    const now = (wanted = frame(positions));
    const swap = () => {
      if (wanted !== now) return; // the reader has moved a control since
      image.src = pictures[now];
      image.alt = caption.textContent = sentences[now];
    };
    // The picture is decoded before it is shown, so that there is no gap between two pictures.
    load(now).decode().then(swap, swap);
    // The next step is likely to go to one of the neighbours, which are loaded in advance.
    positions.forEach((position, k) => {
      for (const next of [position - 1, position + 1]) {
        if (next >= 0 && next < axes[k].texts.length) load(frame(positions.with(k, next)));
      }
    });
  };
  const panel = document.createElement("div");
  panel.className = "explorer-controls";
  axes.forEach((axis, k) => {
    const made = control(axis, `explorer-${number}-${k}`, show);
    controls.push(made);
    panel.append(made.row);
  });
  figure.prepend(panel);
  // Reserve room for the longest sentence, so that the content below does not move.
  const longest = sentences.reduce((a, b) => (b.length > a.length ? b : a));
  let width;
  const makeRoom = () => {
    if (caption.offsetWidth === width) return;
    width = caption.offsetWidth;
    const now = caption.textContent;
    caption.style.minHeight = "";
    caption.textContent = longest;
    caption.style.minHeight = `${caption.offsetHeight + 1}px`;
    caption.textContent = now;
  };
  makeRoom();
  window.addEventListener("resize", makeRoom);
  caption.setAttribute("aria-live", "polite");
});

// Over HTTP the live explorers take the place of those that step. Browsers refuse modules to a page
// that was opened as a file.
const live = document.querySelector("figure.explorer[data-live]") && document.currentScript;
if (live && location.protocol !== "file:") import(new URL("live/main.js", live.src).href);
