"""The explorer of lesson 02: one number, one range, one bit width."""

from __future__ import annotations

from quant_tutorial.affine import MAX_BITS, MIN_BITS, params_from_range
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.plotting import AffineFigure, describe_affine

LOW, HIGH, STEP = -10.0, 10.0, 0.05


class AffineExplorer(Explorer):
    """Sliders for bit width, range and a number x; what the affine map makes of them (lesson 02).

    Args:
        bits: The bit width at the start, 2 to 16.
        value_range: The range at the start, within −10 to 10.
        x: The number at the start, within −10 to 10.
    """

    def __init__(
        self, bits: int = 4, value_range: tuple[float, float] = (0.0, 10.0), x: float = 7.8
    ) -> None:
        bits_control = controls.integer("Bit width", bits, MIN_BITS, MAX_BITS)
        range_control = controls.real_range("Range", value_range, LOW, HIGH, STEP)
        x_control = controls.real("Number x", x, LOW, HIGH, STEP)
        self.bits, self.value_range, self.x = (
            control.source for control in (bits_control, range_control, x_control)
        )
        self.symmetric = controls.checkbox("symmetric")
        self.narrow_range = controls.checkbox("narrow range")
        self.unsigned = controls.checkbox("unsigned integers")
        self._plot = AffineFigure(LOW, HIGH)
        super().__init__(
            [bits_control, range_control, x_control],
            [self.symmetric, self.narrow_range, self.unsigned],
            self._plot.figure,
            self._plot.moving,
            self._refresh,
        )

    def _refresh(self) -> str:
        params = params_from_range(
            *self.value_range.value,
            self.bits.value,
            symmetric=self.symmetric.value,
            narrow_range=self.narrow_range.value,
            signed=not self.unsigned.value,
        )
        self._plot.update(self.x.value, params)
        return describe_affine(self.x.value, params)
