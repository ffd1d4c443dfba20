"""Sliders, number fields, menus and checkboxes for the explorers.

A control is a slider with a visible label before it and a bounded number field after it. Both can
be used from the keyboard and always show the same value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anywidget
import ipywidgets as widgets
import traitlets

_LABEL = {"width": "10.5em", "display": "flex", "justify_content": "flex-end"}
_WIDTHS = "26em", "6em"  # of a slider and of a field
_SLIDER, _FIELD = ({"width": width} for width in _WIDTHS)
# The CSS class of elements that a screen reader is to announce whenever they change;
# handle_names.js contains the same name.
SPOKEN = "quant-spoken"
_OPTION = {"width": "auto", "margin": "2px 1.5em 2px 2px"}


@dataclass(frozen=True)
class Control:
    """A slider with its label and its number fields: `slider.value` is the state.

    `HandleNames` labels the element of `css_class` with `handles`, one name for each handle.
    """

    slider: widgets.ValueWidget
    fields: tuple[widgets.ValueWidget, ...]
    row: widgets.Widget  # label, slider and fields side by side
    css_class: str
    handles: tuple[str, ...]

    def disable(self, disabled: bool) -> None:
        """Grey out slider and fields, or enable them again."""
        for part in (self.slider, *self.fields):
            part.disabled = disabled


def integer(
    label: str, value: int, low: int, high: int, step: int = 1, widths: tuple[str, str] = _WIDTHS
) -> Control:
    """Make a slider over whole numbers; `widths` are the CSS widths of slider and field."""
    slider, field = (
        kind(
            value=value,
            min=low,
            max=high,
            step=step,
            layout={"width": width},
            **options,
        )
        for kind, width, options in (
            (widgets.IntSlider, widths[0], {"readout": False}),
            (widgets.BoundedIntText, widths[1], {"tooltip": label}),
        )
    )
    return _row(label, slider, field)


def real(label: str, value: float, low: float, high: float, step: float) -> Control:
    """Make a slider over real numbers."""
    slider = widgets.FloatSlider(
        value=value, min=low, max=high, step=step, readout=False, layout=_SLIDER
    )
    field = widgets.BoundedFloatText(
        value=value, min=low, max=high, step=step, layout=_FIELD, tooltip=label
    )
    return _row(label, slider, field)


def real_range(
    label: str, value: tuple[float, float], low: float, high: float, step: float
) -> Control:
    """Make a slider with two handles, whose value is the pair (lower, upper)."""
    slider = widgets.FloatRangeSlider(
        value=value, min=low, max=high, step=step, readout=False, layout=_SLIDER
    )
    names = (f"{label}: lower end", f"{label}: upper end")
    fields = [
        widgets.BoundedFloatText(
            value=end, min=low, max=high, step=step, layout=_FIELD, tooltip=name
        )
        for end, name in zip(value, names, strict=True)
    ]

    def to_fields(change: dict) -> None:
        # Without notification: the field set first would send the slider a mixed pair.
        for field, end in zip(fields, change["new"], strict=True):
            field.unobserve(to_slider, names="value")
            field.value = _tidy(end)
            field.observe(to_slider, names="value")

    def to_slider(_: dict) -> None:
        # If one end is moved past the other, they change places.
        slider.value = tuple(sorted(field.value for field in fields))

    slider.observe(to_fields, names="value")
    for field in fields:
        field.observe(to_slider, names="value")
    return _labelled(label, slider, fields, names)


def choice(
    label: str, options: Sequence[str] | Sequence[tuple[str, str]], value: str
) -> widgets.Dropdown:
    """Make a dropdown with a label before it; an option is a value, or a name and a value."""
    return widgets.Dropdown(
        options=list(options),
        value=value,
        description=label,
        style={"description_width": "initial"},
        layout=_OPTION,
    )


def checkbox(label: str, value: bool = False) -> widgets.Checkbox:
    """Make a checkbox as wide as its label."""
    return widgets.Checkbox(value, description=label, indent=False, layout=_OPTION)


def _row(label: str, slider: widgets.ValueWidget, field: widgets.ValueWidget) -> Control:
    widgets.link((slider, "value"), (field, "value"), transform=(_tidy, lambda value: value))
    return _labelled(label, slider, [field], (label,))


def _tidy(value: float) -> float:
    # The browser adds up a slider's steps in floats and sends 7.800000000000001 for 7.8.
    return round(value, 9)


def _labelled(
    label: str, slider: widgets.ValueWidget, fields: list, handles: tuple[str, ...]
) -> Control:
    css_class = "quant-control-" + "".join(c if c.isalnum() else "-" for c in label.lower())
    slider.add_class(css_class)
    row = widgets.HBox([widgets.Label(label, layout=_LABEL), slider, *fields])
    return Control(slider, tuple(fields), row, css_class, handles)


class HandleNames(anywidget.AnyWidget):
    """An invisible widget that gives slider handles and number fields accessible names.

    The handles of ipywidgets have no name that a screen reader could announce. `names` maps the CSS
    class of a slider to the names of its handles; the number fields of the same row get the same
    names.

    An element with the class `SPOKEN` becomes a live region: a screen reader announces its changes.

    The widget also keeps key presses in a dropdown from JupyterLab, which would take them for
    commands: an arrow key would select another cell, and a letter that is typed to choose an option
    would insert or cut a cell.
    """

    _esm = Path(__file__).with_name("handle_names.js")
    names = traitlets.Dict().tag(sync=True)
