// Gives each explorer its controls: a page without a kernel shows the frames that were made for it.
// Without this script the picture and the sentence of the notebook stand still.

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
    const value = document.createElement("span"); // an <output> would be said once more
    value.className = "explorer-value";
    row.append(label, input, value);
    position = () => input.valueAsNumber;
    const say = () => {
      value.textContent = axis.texts[position()];
      // The position is a mere number; what it stands for is what a screen reader is to say.
      input.setAttribute("aria-valuetext", axis.texts[position()]);
    };
    input.addEventListener("input", say);
    say();
  }
  input.id = id;
  input.autocomplete = "off"; // a reloaded page begins anew, with its picture
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
  const frame = (positions) =>
    positions.reduce((sum, position, k) => sum * axes[k].texts.length + position, 0);
  const loaded = new Map(); // kept, so that a picture once loaded is shown at once
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
      if (wanted !== now) return; // the reader has gone on
      image.src = pictures[now];
      image.alt = caption.textContent = sentences[now];
    };
    // Decoded before it is shown: no gap between two pictures.
    load(now).decode().then(swap, swap);
    // The next step is likely one to either side.
    positions.forEach((position, k) => {
      for (const next of [position - 1, position + 1])
        if (next >= 0 && next < axes[k].texts.length) load(frame(positions.with(k, next)));
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
  // Room for the longest sentence, so that what stands below does not move.
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
