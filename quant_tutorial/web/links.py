"""Check a built site: all links have a target, and nothing is loaded from another site."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup

_CSS_URL = re.compile(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""")


def problems(site: Path) -> list[str]:
    """List the faults in the links of a site, without fetching anything.

    Links of `<a>` may lead to other sites. Everything that a page loads (scripts, styles, pictures,
    frames, fonts) must be part of the site, and so must the anchors to which links lead.
    """
    # _static holds the theme's own templates, which are not pages.
    paths = [path for path in site.rglob("*.html") if path.relative_to(site).parts[0] != "_static"]
    pages = {path: BeautifulSoup(path.read_text("utf-8"), "html.parser") for path in paths}
    anchors = {
        path: {e[name] for name in ("id", "name") for e in page.select(f"[{name}]")}
        for path, page in pages.items()
    }
    found = []

    def check(path: Path, url: str, *, loaded: bool) -> None:
        parts = urlsplit(url)
        if parts.scheme == "data" or (not loaded and (parts.scheme or parts.netloc)):
            return
        where = f"{path.relative_to(site)}: {url}"
        if parts.scheme or parts.netloc:
            found.append(f"{where} is loaded from elsewhere")
            return
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if site.resolve() not in target.resolve().parents or not target.is_file():
            found.append(f"{where} leads nowhere")
        elif parts.fragment and target.suffix == ".html":
            known = anchors.get(site / target.relative_to(site.resolve()), set())
            if unquote(parts.fragment) not in known:
                found.append(f"{where} names no anchor of that page")

    for path, page in pages.items():
        for element in page.select("[href], [src], [srcset], [poster], [data], [data-live]"):
            for name in {"href", "src", "poster", "data", "data-live"} & set(element.attrs):
                check(path, element[name], loaded=element.name != "a")
            for candidate in element.get("srcset", "").split(","):
                if candidate.strip():
                    check(path, candidate.split()[0], loaded=True)
        for script in page.select('script[type="application/json"]'):
            for picture in json.loads(script.string).get("pictures", []):
                check(path, picture, loaded=True)
        for element in page.select("[style]"):
            _check_css(path, element["style"], check)
        for element in page.select("style"):
            _check_css(path, element.get_text(), check)
    for path in site.rglob("*.css"):
        _check_css(path, path.read_text("utf-8"), check)
    return found


def _check_css(path: Path, text: str, check: object) -> None:
    for match in _CSS_URL.finditer(text):
        check(path, match[1] or match[2], loaded=True)
