// @ts-check
// The browser's half of HandleNames in controls.py. anywidget uses only the default export; the
// named exports are for the tests. None of them may be called `render`, because anywidget would
// then take this module for a widget in its old format.

/**
 * Name the slider handles and number fields in an explorer, and turn the elements that a screen
 * reader is to announce into live regions.
 * @param {Element} root The explorer.
 * @param {Record<string, string[]>} names The names of a slider's handles, by its CSS class.
 */
export function label(root, names) {
  for (const [cssClass, texts] of Object.entries(names)) {
    for (const slider of root.querySelectorAll("." + cssClass)) {
      const row = slider.parentElement ?? slider;
      const handles = [...slider.querySelectorAll(".noUi-handle")];
      const fields = [...row.querySelectorAll("input[type=number]")];
      for (const group of [handles, fields]) {
        group.forEach((element, i) => element.setAttribute("aria-label", texts[i]));
      }
    }
  }
  // The role goes to an element that stays in the page, because a live region that is added
  // together with its text is often not announced.
  for (const spoken of root.querySelectorAll(".quant-spoken:not([role])")) {
    spoken.setAttribute("role", "status");
  }
}

/**
 * Keep a key press in a dropdown from JupyterLab. Shortcuts with Ctrl or Cmd still reach it.
 * @param {KeyboardEvent} event
 */
export function keep(event) {
  const target = /** @type {Element} */ (event.target);
  if (target.matches("select") && !event.ctrlKey && !event.metaKey) event.stopPropagation();
}

/**
 * Move a slider's handle to an end. noUiSlider would go to the end that the slider had when it was
 * made, even if it has got other limits since.
 * @param {KeyboardEvent} event
 */
export function jump(event) {
  const handle = /** @type {Element} */ (event.target);
  const slider = /** @type {any} */ (handle.closest(".noUi-target"))?.noUiSlider;
  if (!slider || (event.key !== "Home" && event.key !== "End")) return;
  event.stopPropagation();
  event.preventDefault();
  const { min, max } = slider.options.range;
  // The other handle of a range stops it, as it does when the handle is dragged.
  slider.setHandle(Number(handle.getAttribute("data-handle")), event.key === "Home" ? min : max);
}

/**
 * Label the explorer around a view, now and whenever its content changes, and return a function
 * that stops this.
 * @param {{ model: { get: (name: string) => any }, el: HTMLElement }} view
 */
function render({ model, el }) {
  el.style.display = "none";
  /** @type {MutationObserver | undefined} */
  let observer;
  let frame = 0;
  const attach = () => {
    const root = /** @type {HTMLElement | null} */ (el.closest(".quant-explorer"));
    if (!root) {
      // The view is not in the page yet.
      frame = requestAnimationFrame(attach);
      return;
    }
    root.addEventListener("keydown", keep);
    root.addEventListener("keydown", jump, true); // before noUiSlider's own listener
    const apply = () => label(root, model.get("names"));
    apply();
    observer = new MutationObserver(apply);
    observer.observe(root, { childList: true, subtree: true });
  };
  attach();
  return () => {
    observer?.disconnect();
    cancelAnimationFrame(frame);
  };
}

export default { render };
