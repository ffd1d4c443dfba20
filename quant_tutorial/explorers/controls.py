"""Sliders and fields that the explorers are controlled with.

A control is a slider with a visible label beside it and a bounded number field behind it; both can
be used from the keyboard and always show the same value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import anywidget
import ipywidgets as widgets
import traitlets

_LABEL = widgets.Layout(width="10.5em", display="flex", justify_content="flex-end")
_SLIDER = widgets.Layout(width="26em")
_FIELD = widgets.Layout(width="6em")
# The class of what a screen reader is to say whenever it changes; HandleNames sees to it.
SPOKEN = "quant-spoken"
_OPTION = {"width": "auto", "margin": "2px 1.5em 2px 2px"}


@dataclass(frozen=True)
class Control:
    """A row of an explorer: `source.value` is the state, `row` is what the reader sees.

    `css_class` and `handles` (one name for each handle) tell `HandleNames` what to label.
    """

    source: widgets.ValueWidget
    row: widgets.Widget
    css_class: str
    handles: tuple[str, ...]


def integer(label: str, value: int, low: int, high: int) -> Control:
    """Make a slider over whole numbers."""
    slider = widgets.IntSlider(value, low, high, readout=False, layout=_SLIDER)
    field = widgets.BoundedIntText(value, low, high, layout=_FIELD, tooltip=label)
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
        # Silently: a field that is set before the other would send the slider a mixed pair.
        for field, end in zip(fields, change["new"], strict=True):
            field.unobserve(to_slider, names="value")
            field.value = _tidy(end)
            field.observe(to_slider, names="value")

    def to_slider(_: dict) -> None:
        # An end that is moved past the other one takes its place.
        slider.value = tuple(sorted(field.value for field in fields))

    slider.observe(to_fields, names="value")
    for field in fields:
        field.observe(to_slider, names="value")
    return _labelled(label, slider, fields, names)


def choice(label: str, options: Sequence[str], value: str) -> widgets.Dropdown:
    """Make a dropdown with its label before it."""
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
    # The browser counts a slider's steps in floats: 7.800000000000001 where it means 7.8.
    return round(value, 9)


def _labelled(
    label: str, slider: widgets.ValueWidget, fields: list, handles: tuple[str, ...]
) -> Control:
    css_class = "quant-control-" + "".join(c if c.isalnum() else "-" for c in label.lower())
    slider.add_class(css_class)
    row = widgets.HBox([widgets.Label(label, layout=_LABEL), slider, *fields])
    return Control(slider, row, css_class, handles)


class HandleNames(anywidget.AnyWidget):
    """Gives slider handles and number fields their accessible names; draws nothing itself.

    ipywidgets' handles carry no name for a screen reader to say. `names` maps the CSS class of a
    slider to the names of its handles; the number fields of the same row get them as well.

    What has the class `SPOKEN` becomes a live region: its changes are said.

    It also leaves a dropdown its keys. JupyterLab would take them for its commands: an arrow would
    go to another cell, and a letter, typed to choose an option, insert a cell or cut one.
    """

    names = traitlets.Dict().tag(sync=True)

    _esm = """
    function label(root, names) {
      for (const [cssClass, texts] of Object.entries(names)) {
        for (const slider of root.querySelectorAll("." + cssClass)) {
          const row = slider.parentElement ?? slider;
          const handles = [...slider.querySelectorAll(".noUi-handle")];
          const fields = [...row.querySelectorAll("input[type=number]")];
          for (const group of [handles, fields])
            group.forEach((element, i) => element.setAttribute("aria-label", texts[i]));
        }
      }
      // On the element that stays: one that comes together with its text is often not announced.
      for (const spoken of root.querySelectorAll(".quant-spoken:not([role])"))
        spoken.setAttribute("role", "status");
    }
    function keep(event) {
      if (event.target.matches("select") && !event.ctrlKey && !event.metaKey)
        event.stopPropagation();
    }
    function render({ model, el }) {
      el.style.display = "none";
      let observer, frame;
      const attach = () => {
        const root = el.closest(".quant-explorer");
        if (!root) { frame = requestAnimationFrame(attach); return; }
        root.addEventListener("keydown", keep);
        const apply = () => label(root, model.get("names"));
        apply();
        observer = new MutationObserver(apply);
        observer.observe(root, { childList: true, subtree: true });
      };
      attach();
      return () => { observer?.disconnect(); cancelAnimationFrame(frame); };
    }
    export default { render };
    """
