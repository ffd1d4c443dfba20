"""The dashboard of lesson 10, which offers every choice of the course and shows its effect."""

from __future__ import annotations

import asyncio
import base64
import html
from pathlib import Path
from typing import Any

from quant_tutorial.affine import MAX_BITS, MIN_BITS
from quant_tutorial.arguments import checked_choice
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.base import REST, Explorer, error_block, running_loop
from quant_tutorial.explorers.canvas import DigitCanvas
from quant_tutorial.explorers.controls import Control
from quant_tutorial.explorers.exported import encoded
from quant_tutorial.explorers.exported_model import tables
from quant_tutorial.explorers.lab_figure import (
    LabFigure,
    describe_drawing,
    describe_layer,
    describe_sqnr_by_layer,
)
from quant_tutorial.lab import (
    HIGH_PERCENT,
    LAYERS,
    LOW_PERCENT,
    PRESETS,
    PTQ,
    ROUNDED,
    SAMPLE,
    TRAINED,
    WEIGHT_CALIBRATORS,
    Lab,
    Reading,
    Setting,
)
from quant_tutorial.metrics import accuracy_interval
from quant_tutorial.plotting import (
    describe_bits,
    describe_changes,
    describe_percent,
    describe_points,
)
from quant_tutorial.plotting.quantities import EXACT
from quant_tutorial.scheme import CALIBRATORS, GRANULARITIES

import ipywidgets as widgets
import numpy as np

_STEP = 5  # percent
_METHODS = {"gptq": "GPTQ", "adaround": "AdaRound", "best": "the best combination"}
_NEAREST = "rounded to the nearest level (PTQ)"
_SOURCES = {
    _NEAREST: PTQ,
    **{
        f"rounded by {_METHODS[method]} for {widths} (PTQ)": f"{widths} {method}"
        for widths, method in map(str.split, ROUNDED)
    },
    **{f"trained at {name} (QAT)": name for name in TRAINED},
}
# Widths in em of the page's text, and the margins of the checkboxes.
_NAME, _SLIDER, _FIELD, _CELL = "4.4em", "11.8em", "4.4em", "17.2em"
_BOX = {"width": "auto", "margin": "2px 0.9em 2px 2px"}


class QuantizationLab(Explorer):
    """The quantization lab: bits and ranges for each layer, rounded or trained weights (lesson 10).

    Args:
        lab: The `Lab` that measures the settings.
        preset: The initial setting of the controls: the name of one in `lab.PRESETS`, or a
            `Setting`.
        folder: The folder to which "Export this" writes.

    Raises:
        ValueError: for an unknown preset, or a setting beyond the limits of the sliders.
    """

    live = "lab"

    def __init__(
        self, lab: Lab, preset: str | Setting = "8-bit deploy", folder: str | Path = "saved"
    ) -> None:
        if isinstance(preset, str):
            checked_choice("preset", preset, PRESETS)
        self._lab, self._folder = lab, folder
        self._measured, self._drawn = "", ""
        self._drawing_due: asyncio.TimerHandle | None = None
        self._held = True  # no update while several controls are being set
        self.weights = {n: _slider(f"{n} weight bits", MIN_BITS, 8) for n in LAYERS}
        self.activations = {
            n: _slider(f"{n} activation bits", MIN_BITS, MAX_BITS) for n in ("image", *LAYERS)
        }
        self.ranges = {
            n: _slider(f"{n} range in %", LOW_PERCENT, HIGH_PERCENT, _STEP) for n in LAYERS
        }
        self.float_weights = {n: _box(f"{n} weights") for n in LAYERS}
        self.float_activations = {
            "image": _box("image"),
            **{n: _box(f"{n} activations") for n in LAYERS},
        }
        self.source = controls.choice("Weights", list(_SOURCES), _NEAREST)
        self.own_ranges = controls.checkbox("own ranges, where the bits are the same", True)
        self.granularity = controls.choice("Scales of the weights", GRANULARITIES, "channel-wise")
        self.weight_calibrator = controls.choice("Weight ranges", WEIGHT_CALIBRATORS, "min_max")
        self.calibrator = controls.choice("Activation ranges", CALIBRATORS, "min_max")
        self.canvas = DigitCanvas(lab.images[0])
        self.presets = {name: _button(name) for name in PRESETS}
        self.flipped = _button("Load a flipped image")
        self.export = _button("Export this", "primary")
        self._note, self._result, self._status = (widgets.HTML() for _ in range(3))
        for spoken in (self._result, self._status):
            spoken.add_class(controls.SPOKEN)
        self._flips: list[int] = []
        self._next_flip = 0
        self._grey_out()
        self.setting = PRESETS[preset] if isinstance(preset, str) else preset
        super().__init__(
            LabFigure(lab.float_accuracy, lab.float_bytes, ("image", *LAYERS)),
            [*self.weights.values(), *self.activations.values(), *self.ranges.values()],
            [
                *(self.source, self.own_ranges, self.granularity),
                *(self.weight_calibrator, self.calibrator),
                *self.float_weights.values(),
                *self.float_activations.values(),
            ],
        )
        self.canvas.observe(self._draw_soon, names="value")
        for name, button in self.presets.items():
            button.on_click(lambda _, name=name: self.show(PRESETS[name], at_once=False))
        self.flipped.on_click(lambda _: self._show_flip())
        self.export.on_click(lambda _: self._export())

    def page_data(self) -> dict[str, Any]:
        """Return the parameters of the baseline, and what is known of the float model.

        What the other weights need is in files of their own; see `web.model_assets`.
        """
        lab = self._lab
        return {
            "tables": tables(lab.simulator),
            "layers": LAYERS,
            "sources": _SOURCES,
            "ptq": PTQ,
            "trained": TRAINED,
            "presets": {name: _control_values(setting) for name, setting in PRESETS.items()},
            "accuracy": lab.float_accuracy,
            "answers": encoded(lab.float_answers.astype(np.uint8)),
            "bytes": lab.float_bytes,
            "exact": EXACT,
        }

    @property
    def setting(self) -> Setting:
        """The setting of the controls; it can be set to any within the limits of the sliders."""

        def bits(rows: dict[str, Control], boxes: dict[str, widgets.Checkbox]) -> dict[str, Any]:
            return {n: None if boxes[n].value else row.slider.value for n, row in rows.items()}

        activations = bits(self.activations, self.float_activations)
        return Setting(
            weights=bits(self.weights, self.float_weights),
            image=activations.pop("image"),
            activations=activations,
            ranges={n: row.slider.value for n, row in self.ranges.items()},
            source=_SOURCES[self.source.value],
            granularity=self.granularity.value,
            weight_calibrator=self.weight_calibrator.value,
            calibrator=self.calibrator.value,
            own_ranges=self.own_ranges.value,
        )

    @setting.setter
    def setting(self, new: Setting) -> None:
        for name, percent in new.ranges.items():
            if percent not in range(LOW_PERCENT, HIGH_PERCENT + 1):
                raise ValueError(
                    f"ranges must be whole numbers from {LOW_PERCENT} to {HIGH_PERCENT} percent to "
                    f"be shown, got {percent} for {name}; Lab.measure takes others."
                )
        self._held = True
        try:
            for name in LAYERS:
                _set_bits(self.weights[name], self.float_weights[name], new.weights[name])
                self.ranges[name].slider.value = new.ranges[name]
            for name, bits in {"image": new.image, **new.activations}.items():
                _set_bits(self.activations[name], self.float_activations[name], bits)
            self.source.value = _label(new.source)
            for name in ("granularity", "weight_calibrator", "calibrator", "own_ranges"):
                getattr(self, name).value = getattr(new, name)
        finally:
            self._held = False

    def show(self, setting: Setting, *, at_once: bool = True) -> None:
        """Set the controls and show the result.

        Args:
            setting: The new setting.
            at_once: Whether to measure on all images without waiting; if not, the estimate is shown
                first, as after a move of a control.
        """
        self.setting = setting
        self.update(None if at_once else {})

    def update(self, change: dict | None = None) -> None:
        """Show the current state, unless further controls are about to be set."""
        if not self._held:
            self._grey_out()
            super().update(change)

    # --- Layout ---

    def arrange(self) -> list[widgets.Widget]:
        """Return presets, sliders, boxes and menus, with the canvas beside them."""
        heads = [
            _head(text, width)
            for text, width in (
                ("", _NAME),
                ("Weight bits", _CELL),
                ("Activation bits", _CELL),
                ("Range of the activations, %", _CELL),
            )
        ]
        rows = [widgets.HBox(heads)]
        for name in ("image", *LAYERS):
            cells = [
                _cell(column.get(name)) for column in (self.weights, self.activations, self.ranges)
            ]
            rows.append(widgets.HBox([_head(name, _NAME, right=True), *cells]))
        boxes = [
            _line(_head("In float:", "5em", right=True), *self.float_weights.values()),
            _line(_head("", "5em"), *self.float_activations.values()),
        ]
        menus = [
            _line(self.source, self.own_ranges),
            _line(self.granularity, self.weight_calibrator, self.calibrator),
        ]
        export = widgets.HBox([self.export, self._note], layout={"align_items": "baseline"})
        below = [export, self._result]
        left = widgets.VBox([*rows, *boxes, *menus, *below], layout={"width": "58em"})
        right = widgets.VBox(
            [_head("Draw a digit", "100%"), self.canvas, self.flipped], layout={"width": "18.5em"}
        )
        presets = _line(_head("Presets:", "5em"), *self.presets.values(), self._status)
        return [widgets.VBox([presets, _line(left, right, align="flex-start")])]

    def _grey_out(self) -> None:
        """Disable the controls that have no effect in the current state."""
        for rows, boxes in (
            (self.weights, self.float_weights),
            (self.activations, self.float_activations),
        ):
            for name, row in rows.items():
                row.disable(boxes[name].value)
        for name, row in self.ranges.items():
            row.disable(self.float_activations[name].value)
        pointless = _SOURCES[self.source.value] == PTQ
        self.own_ranges.disabled = pointless
        self.own_ranges.layout.visibility = "hidden" if pointless else "visible"

    # --- Results ---

    def estimate(self) -> str:
        """Show a first result on a sample of the images, and describe it.

        The predictions for the drawing and the plan for the LiteRT file are shown, too.
        """
        self._measured = ""
        try:
            return self._estimated(self.setting)
        except Exception:
            # Results of an earlier setting must not remain beside the error.
            self._note.value = self._result.value = ""
            raise

    def _estimated(self, setting: Setting) -> str:
        if not self._lab.is_ready(setting.source):
            self._status.value = f"Loading the weights {_label(setting.source)} …"
        try:
            count = min(SAMPLE, len(self._lab.images))
            reading = self._lab.measure(setting, count)
        finally:
            self._status.value = ""
        low, high = accuracy_interval(round(reading.accuracy * count), count)
        self.plot.update(reading.accuracy, reading.weight_bytes, count, (low, high))
        self._show_changes(reading)
        self._show_layers(setting, reading)
        self._show_plan(setting)
        self._drawn = self._look_at_drawing(setting)
        self._measured = (
            f"{self._said(setting)} {low:.1%} to {high:.1%} right, estimated on {count:,} images; "
            f"weights of {reading.weight_bytes:,} bytes."
        )
        return f"{self._measured} {self._drawn}"

    def draw(self) -> str:
        """Show the result on all images, and describe it."""
        lab, setting = self._lab, self.setting
        reading = lab.measure(setting)
        labels = lab.labels
        self.plot.update(reading.accuracy, reading.weight_bytes, len(labels))
        self._show_layers(setting, reading)
        self._show_changes(reading)
        self._measured = (
            f"{self._said(setting)} {reading.accuracy:.1%} of {len(labels):,} images right, "
            f"{describe_points(reading.accuracy, lab.float_accuracy)} points from float; weights "
            f"of {reading.weight_bytes:,} bytes. "
            f"{describe_sqnr_by_layer(reading.sqnr)} "
            f"{describe_changes(lab.float_answers, reading.answers)}"
        )
        return f"{self._measured} {self._drawn}"

    def _show_changes(self, reading: Reading) -> None:
        """Show which predictions change, on the images of the reading only."""
        lab, count = self._lab, len(reading.answers)
        before, labels = lab.float_answers[:count], lab.labels[:count]
        shown = self.plot.changes.show(before, reading.answers, labels, lab.images[:count])
        self._flips, self._next_flip = shown.tolist(), 0
        self.flipped.disabled = not self._flips

    def _show_layers(self, setting: Setting, reading: Reading) -> None:
        self.plot.show_origin(_origin(setting))
        found = self._lab.ranges(setting)
        labels = [f"image: {describe_bits([setting.image])}"]
        labels += [describe_layer(name, setting.weights[name], found[name]) for name in LAYERS]
        self.plot.show_layers(labels, list(reading.sqnr.values()))

    def _said(self, setting: Setting) -> str:
        bits, percent = describe_bits, describe_percent
        source = _origin(setting)
        if setting.source != PTQ:
            kept, quantized = self._lab.unchanged(setting)
            source += f", {kept} of {quantized} ranges their own"
        return (
            f"{source}. Weights {bits([*setting.weights.values()])} ({setting.granularity}, "
            f"{setting.weight_calibrator}), activations {bits([*setting.activations.values()])} "
            f"({setting.calibrator}, ranges at {percent([*setting.ranges.values()])}), input "
            f"{bits([setting.image])}:"
        )

    # --- The drawing ---

    def _look_at_drawing(self, setting: Setting) -> str:
        empty = self.canvas.is_empty
        image = self.canvas.image
        logits = None if empty else self._lab.logits(setting, image)
        self.plot.show_drawing(image, logits)
        return describe_drawing(logits)

    def _draw_soon(self, _: dict) -> None:
        """Evaluate the drawing when its strokes rest; of several changes only the last counts."""
        if self._drawing_due is not None:
            self._drawing_due.cancel()
        if (loop := running_loop()) is None:
            self._show(self._redraw)
        else:
            self._drawing_due = loop.call_later(REST, self._show, self._redraw)

    def _redraw(self) -> str:
        if not self._measured:  # the last result was an error: try again
            self.estimate()
            return self.draw()
        self._drawn = self._look_at_drawing(self.setting)
        return f"{self._measured} {self._drawn}"

    def _show_flip(self) -> None:
        if self._flips:
            self.canvas.show(self._lab.images[self._flips[self._next_flip]])
            self._next_flip = (self._next_flip + 1) % len(self._flips)

    # --- The file ---

    def _show_plan(self, setting: Setting) -> None:
        self._result.value = ""
        plan = self._lab.plan(setting)
        begin = "No LiteRT file. " if plan.make is None else "As a LiteRT file: "
        again, end = self._lab.rounded_again(setting), ""
        if again:
            end = (
                f" The weights of {', '.join(again)} have other bits or ranges than in the chosen "
                "model: they are rounded to the nearest level, from its values."
            )
        self._note.value = _paragraph(html.escape(begin + plan.reason + end))

    def _export(self) -> None:
        setting = self.setting
        self._say("Converting, and measuring the file with LiteRT …")
        self.export.disabled = True
        try:
            plan = self._lab.plan(setting)
            if plan.make is None:
                self._say(f"<b>Not exported.</b> {html.escape(plan.reason)}")
                return
            done = self._lab.export(setting, self._folder)
        except Exception:
            self._say(error_block())
        else:
            data = base64.b64encode(done.content).decode()
            link = (
                f"<a download='{done.path.name}' style='text-decoration: underline' "
                f"href='data:application/octet-stream;base64,{data}'>Download it</a>"
            )
            self._say(
                f"<b>{html.escape(str(done.path))}</b>, {len(done.content):,} bytes. "
                f"LiteRT gets {done.accuracy:.1%} of {len(self._lab.labels):,} images right; "
                f"{done.agreement:.2%} of its predictions are those of the simulation. {link}."
            )
        finally:
            self.export.disabled = False

    def _say(self, text: str) -> None:
        self._result.value = _paragraph(text)


def _control_values(setting: Setting) -> dict[str, Any]:
    """Return the values to which the controls are set for a setting, by name; see `exported`."""
    activations = {"image": setting.image, **setting.activations}
    found = {f"ranges.{name}": percent for name, percent in setting.ranges.items()}
    for kind, widths in (("weights", setting.weights), ("activations", activations)):
        found |= {f"float_{kind}.{name}": bits is None for name, bits in widths.items()}
        found |= {f"{kind}.{name}": bits for name, bits in widths.items() if bits is not None}
    names = ("granularity", "weight_calibrator", "calibrator", "own_ranges")
    return {
        **found,
        "source": _label(setting.source),
        **{name: getattr(setting, name) for name in names},
    }


def _label(source: str) -> str:
    """Return the menu's text for the source of the weights."""
    return next(text for text, known in _SOURCES.items() if known == source)


def _origin(setting: Setting) -> str:
    """Return where the weights come from, and whether they are rounded, as a heading."""
    label = _label(setting.source)
    if not any(setting.weights.values()):
        label = f"in float: {'the float baseline' if setting.source == PTQ else label}"
    return label[0].upper() + label[1:]


def _paragraph(text: str) -> str:
    return f"<div style='max-width: 48em; line-height: 1.5'>{text}</div>"


def _slider(label: str, low: int, high: int, step: int = 1) -> Control:
    """Make a slider narrow enough for three in a row; its label is for screen readers."""
    return controls.integer(label, high, low, high, step, (_SLIDER, _FIELD))


def _box(label: str) -> widgets.Checkbox:
    box = controls.checkbox(label)
    box.layout = widgets.Layout(**_BOX)
    return box


def _cell(control: Control | None) -> widgets.Widget:
    children = (control.slider, *control.fields) if control else ()
    return widgets.HBox(children, layout={"width": _CELL})


def _head(text: str, width: str, *, right: bool = False) -> widgets.Label:
    layout = {"width": width, "display": "flex", "flex": "0 0 auto"}
    if right:
        layout |= {"justify_content": "flex-end", "padding": "0 0.7em 0 0"}
    return widgets.Label(text, layout=layout)


def _line(*parts: widgets.Widget, align: str = "center") -> widgets.HBox:
    return widgets.HBox(list(parts), layout={"flex_flow": "row wrap", "align_items": align})


def _button(text: str, style: str = "") -> widgets.Button:
    return widgets.Button(description=text, button_style=style, layout={"width": "auto"})


def _set_bits(control: Control, box: widgets.Checkbox, bits: int | None) -> None:
    box.value = bits is None
    if bits is not None:
        control.slider.value = bits
