"""Write an explorer's controls and data for the web edition, whose pages compute on their own.

Python stays the one truth: the page's controls get the labels, ranges and steps of the widgets.
"""

from __future__ import annotations

import base64
from typing import Any

from quant_tutorial.explorers.base import Explorer
from quant_tutorial.explorers.controls import Control

import ipywidgets as widgets
import numpy as np
from numpy.typing import ArrayLike

_SLIDERS = {
    widgets.IntSlider: "integer",
    widgets.FloatSlider: "real",
    widgets.FloatRangeSlider: "range",
}


def exported(explorer: Explorer) -> dict[str, Any] | None:
    """Return what the page needs for a live explorer, to be written as JSON.

    Returns:
        The explorer's kind, its controls and its own data; None if the page has no explorer of its
        kind.

    Raises:
        TypeError: for a control of a kind that the page does not have.
    """
    if not explorer.live:
        return None
    return {
        "kind": explorer.live,
        "controls": exported_controls(explorer),
        "data": explorer.page_data(),
    }


def exported_controls(explorer: Explorer) -> list[dict[str, Any]]:
    """Return an explorer's controls, in the order of the page.

    Each has the name of the attribute that holds its widget ("layers.conv1" for a widget in a
    mapping), its kind, its label and its value; a
    slider has its limits, its step and, with two handles, their names; a menu has its options,
    pairs of a text and a value.

    Raises:
        TypeError: for a control that no attribute holds, or of a kind that the page does not have.
    """
    names = {id(widget): name for name, widget in named_widgets(explorer).items()}
    found = []
    for control in explorer.controls:
        slider = control.slider
        kind = next((k for cls, k in _SLIDERS.items() if isinstance(slider, cls)), None)
        own = {"kind": kind, "label": control.handles[0], "value": slider.value}
        if kind == "range":
            own |= {"label": control.row.children[0].value, "handles": list(control.handles)}
        found.append((slider, {**own, "low": slider.min, "high": slider.max, "step": slider.step}))
    for option in explorer.options:
        own = {"kind": None, "label": option.description, "value": option.value}
        if isinstance(option, widgets.Checkbox):
            own["kind"] = "check"
        elif isinstance(option, widgets.Dropdown):
            own |= {"kind": "choice", "options": [list(pair) for pair in option._options_full]}
        found.append((option, own))
    for widget, own in found:
        if own["kind"] is None or id(widget) not in names:
            raise TypeError(
                f"{type(explorer).__name__}: the control {own['label']!r} is a "
                f"{type(widget).__name__}; to be exported it must be a slider, a menu or a "
                "checkbox that is held by an attribute of the explorer."
            )
    return [{"name": names[id(widget)], **own} for widget, own in found]


def named_widgets(explorer: Explorer) -> dict[str, widgets.Widget]:
    """Return the widgets that an explorer's attributes hold, by name; see `exported_controls`."""
    found = {}
    for name, value in vars(explorer).items():
        for key, part in {"": value, **(value if isinstance(value, dict) else {})}.items():
            widget = part.slider if isinstance(part, Control) else part
            if isinstance(widget, widgets.Widget):
                found[f"{name}.{key}" if key else name] = widget
    return found


def encoded(array: ArrayLike) -> dict[str, Any]:
    """Return an array as JSON: its type, its shape, and its bytes in base64, little-endian."""
    array = np.asarray(array)
    data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "base64": base64.b64encode(data).decode("ascii"),
    }
