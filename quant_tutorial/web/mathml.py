"""Convert formulas to MathML, which browsers draw without scripts, web fonts or a network."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator

_LOG = logging.getLogger(__name__)


def mathml(tex: str, *, block: bool) -> str:
    r"""Convert TeX to a MathML element.

    Docutils requires `\Bigl(` and `\Bigr)`, where TeX and MathJax also accept `\Big(` and `\Big)`.

    Raises:
        docutils.utils.math.MathError: for a command that Docutils does not know.
    """
    for side, brackets in (("l", r"(\[{"), ("r", r")\]}")):
        tex = re.sub(rf"(\\(?:big|Big|bigg|Bigg))(?=\s*\\?[{brackets}])", rf"\1{side}", tex)
    return tex2mathml(tex, as_block=block)


def _visit(translator: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    block = isinstance(node, nodes.math_block)
    try:
        formula = mathml(node.astext(), block=block)
        translator.body.append(f'<div class="formula">{formula}</div>' if block else formula)
    except MathError as error:
        _LOG.warning("no MathML for %r: %s", node.astext(), error, location=node)
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer with Sphinx as "mathml"."""
    app.add_html_math_renderer("mathml", (_visit, None), (_visit, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
