"""Check a built site: all links have a target, and nothing is loaded from another site."""

from __future__ import annotations

import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_ADDRESSES = ("href", "src", "poster", "data", "data-live")
_CSS_URL = re.compile(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""")


def problems(site: Path) -> list[str]:
    """List the faults in the links of a site, without fetching anything.

    Links of `<a>` may lead to other sites. Everything that a page loads (scripts, styles, pictures,
    frames, fonts) must be part of the site, and so must the anchors to which links lead.
    """
    # _static holds the theme's own templates, which are not pages.
    paths = [path for path in site.rglob("*.html") if path.relative_to(site).parts[0] != "_static"]
    pages = {path: _Page(path.read_text("utf-8")) for path in paths}
    found = []
    root = site.resolve()

    @cache  # all pages of a folder have the same navigation
    def target_of(folder: Path, address: str) -> tuple[Path, bool]:
        target = (folder / unquote(address)).resolve()
        return target, root in target.parents and target.is_file()

    def check(path: Path, url: str, *, loaded: bool) -> None:
        parts = urlsplit(url)
        if parts.scheme == "data" or (not loaded and (parts.scheme or parts.netloc)):
            return
        where = f"{path.relative_to(site)}: {url}"
        if parts.scheme or parts.netloc:
            found.append(f"{where} is loaded from elsewhere")
            return
        target, is_there = target_of(path.parent, parts.path or path.name)
        if not is_there:
            found.append(f"{where} leads nowhere")
        elif parts.fragment and target.suffix == ".html":
            page = pages.get(site / target.relative_to(root))
            if page is None or unquote(parts.fragment) not in page.anchors:
                found.append(f"{where} names no anchor of that page")

    for path, page in pages.items():
        for tag, url in page.addresses:
            check(path, url, loaded=tag != "a")
        for text in page.data:
            for picture in json.loads(text).get("pictures", []):
                check(path, picture, loaded=True)
        for text in page.styles:
            _check_css(path, text, check)
    for path in site.rglob("*.css"):
        _check_css(path, path.read_text("utf-8"), check)
    return found


class _Page(HTMLParser):
    """What of a page's source concerns links; a tree of its elements would take four times as long.

    Attributes:
        anchors: The names to which links may lead.
        addresses: Of each address the element's name and the address itself.
        data, styles: The contents of JSON scripts and of style sheets, those of elements too.
    """

    def __init__(self, source: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.addresses: list[tuple[str, str]] = []
        self.data: list[str] = []
        self.styles: list[str] = []
        self._text: list[str] | None = None  # of the element that is being read, if it is wanted
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the anchors and the addresses of an element."""
        given = {name: value or "" for name, value in reversed(attrs)}  # the first one counts
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self.addresses += [(tag, given[name]) for name in _ADDRESSES if name in given]
        for candidate in given.get("srcset", "").split(","):
            if candidate.strip():
                self.addresses.append((tag, candidate.split()[0]))
        if "style" in given:
            self.styles.append(given["style"])
        if tag == "style" or (tag == "script" and given.get("type") == "application/json"):
            self._text = []

    def handle_data(self, data: str) -> None:
        """Collect the text of scripts and styles."""
        if self._text is not None:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        """Note the text of a script or a style that ends."""
        if self._text is not None and tag in ("style", "script"):
            (self.styles if tag == "style" else self.data).append("".join(self._text))
            self._text = None


def _check_css(path: Path, text: str, check: object) -> None:
    for match in _CSS_URL.finditer(text):
        check(path, match[1] or match[2], loaded=True)
