"""Collapse the outputs that answer a "Predict", until the reader opens them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from myst_nb.sphinx_ import HideCodeCellNode

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator

# Of the two texts, `static/site.css` shows one. The browser needs no script to open and close it.
_BUTTON = (
    '<summary><span class="when-closed">Show the output</span>'
    '<span class="when-open">Hide the output</span></summary>'
)


def _visit(translator: HTML5Translator, _: HideCodeCellNode) -> None:
    translator.body.append(f'<details class="collapsed-output">{_BUTTON}')


def _depart(translator: HTML5Translator, _: HideCodeCellNode) -> None:
    translator.body.append("</details>")


def setup(app: Sphinx) -> dict[str, bool]:
    """Replace the HTML that myst-nb writes for an output with the tag `hide-output`.

    Screen readers call its button "Toggle hidden content", whatever text it shows.
    """
    app.add_node(HideCodeCellNode, override=True, html=(_visit, _depart))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
