"""What axe finds in a page: barriers for readers who use it in another way than most."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

# A page has thousands of words in code, formulas, tables and lists that differ in nothing that
# makes a contrast: colour, size, weight, shadow, and the backgrounds on which they lie. Of those
# that look the same the first one that is seen stands for all, as the rule takes two milliseconds
# for each. A single letter is left out, since axe never finds fault with its contrast. All other
# rules look at everything.
MARK_REPEATED = """() => {
  const backgrounds = new Map();
  const behind = (element) => {
    if (element === null) return "";
    if (!backgrounds.has(element)) {
      const { backgroundColor, backgroundImage, filter, opacity } = getComputedStyle(element);
      const own = `${backgroundColor} ${backgroundImage} ${filter} ${opacity}`;
      backgrounds.set(element, `${own} / ${behind(element.parentElement)}`);
    }
    return backgrounds.get(element);
  };
  const seen = new Set();
  for (const word of document.body.querySelectorAll(":not(input, select, textarea, button)")) {
    word.removeAttribute("data-repeated");
    const { left, top, width, height } = word.getBoundingClientRect();
    const isSeen = word.checkVisibility({ opacityProperty: true, visibilityProperty: true }) &&
      width > 1 && height > 1 && left >= 0 && left < innerWidth && top + scrollY >= 0;
    const text = [...word.childNodes].map((each) => each.nodeType === 3 ? each.data : "").join("");
    const isLetter = text.trim().length === 1;
    if (!text.trim()) continue;
    const { color, fontSize, fontWeight, textShadow } = getComputedStyle(word);
    const look = [word.localName, color, fontSize, fontWeight, textShadow, behind(word)].join();
    word.toggleAttribute("data-repeated", isLetter || seen.has(look));
    if (isSeen && !isLetter) seen.add(look);
  }
}"""
# No rule that is on needs what axe would fetch first: style sheets, and the length of sounds.
RUN = """async (part) => {
  axe.configure({ rules: [{ id: "color-contrast", selector: ":not([data-repeated])" }] });
  const options = { resultTypes: ["violations"], preload: false };
  const { violations } = await axe.run(part, options);
  return violations.filter((each) => ["serious", "critical"].includes(each.impact))
    .map(({ id, nodes }) => [id, nodes.map((node) => node.html)]);
}"""


def serious(page: Page, part: str = "html") -> dict[str, list[str]]:
    """Return the serious barriers in a part of a page: the elements that break a rule, by rule."""
    if not page.evaluate("'axe' in self"):
        page.evaluate(Axe().axe_script)
    page.evaluate(MARK_REPEATED)
    return dict(page.evaluate(RUN, part))
