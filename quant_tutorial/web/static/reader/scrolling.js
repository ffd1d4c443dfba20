// @ts-check
// Lets the keyboard reach what scrolls sideways because it is wider than the page.

// Code has this from the theme.
const WIDE = ".formula, .cell_output .output, .course-result, .bd-article table, p:has(> math)";

/**
 * Make an element a stop of the Tab key while it scrolls, and only then.
 * @param {Element} found
 */
function update(found) {
  const scrolls = found.scrollWidth > found.clientWidth &&
    ["auto", "scroll"].includes(getComputedStyle(found).overflowX);
  if (scrolls) found.setAttribute("tabindex", "0");
  else found.removeAttribute("tabindex");
}

/** Do so for everything of the page that may be wider than it. */
export function reachWhatScrolls() {
  const observer = new ResizeObserver((entries) => entries.forEach(({ target }) => update(target)));
  document.querySelectorAll(WIDE).forEach((found) => observer.observe(found));
}
