"""The explorer of lesson 04: one set of parameters for the model, for a layer, for a channel."""

from __future__ import annotations

from collections.abc import Mapping

from quant_tutorial.affine import MAX_BITS, MIN_BITS, QuantParams, fake_quantize
from quant_tutorial.calibration import weight_params
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.metrics import channel_sqnr_db
from quant_tutorial.plotting import GranularityFigure, describe_granularity
from quant_tutorial.scheme import GRANULARITIES, TensorScheme

import numpy as np
from numpy.typing import NDArray


class GranularityExplorer(Explorer):
    """A slider for the bit width of the weights; what each granularity does to them (lesson 04).

    Args:
        kernels: The weights of each layer by its name, output channels on the last axis.
        accuracy: Accuracy (0 to 1) by bit width and granularity, for the sentence; those that are
            missing are left out.
        layer: The layer shown at the start; the first by default.
        bits: The bit width at the start, 2 to 16.

    Raises:
        ValueError: when there is no such layer.
    """

    def __init__(
        self,
        kernels: Mapping[str, NDArray[np.floating]],
        accuracy: Mapping[tuple[int, str], float],
        layer: str | None = None,
        bits: int = 4,
    ) -> None:
        layer = layer or next(iter(kernels))
        if layer not in kernels:
            raise ValueError(f"layer must be one of {', '.join(kernels)}, got {layer!r}.")
        self._kernels, self._accuracy, self._shown = kernels, accuracy, None
        bits_control = controls.integer("Bit width", bits, MIN_BITS, MAX_BITS)
        self.bits = bits_control.source
        self.layer = controls.choice("Layer", list(kernels), layer)
        self.granularity = controls.choice("Granularity", GRANULARITIES, "channel-wise")
        self.symmetric = controls.checkbox("symmetric", True)
        self._plot = GranularityFigure()
        super().__init__(
            [bits_control],
            [self.layer, self.granularity, self.symmetric],
            self._plot.figure,
            self._plot.moving,
            self._refresh,
        )

    def _refresh(self) -> str:
        name, bits, chosen = self.layer.value, self.bits.value, self.granularity.value
        kernel = self._kernels[name]
        # One set for all weights has to reach as far as the largest weight of the model.
        shared = self._kernels.values() if chosen == "tensor-wise" else [kernel]
        reach = max(np.abs(weights).max() for weights in shared)
        if (name, reach) != self._shown:
            self._plot.show_layer(kernel, reach)
            self.redraw_background()
            self._shown = name, reach
        params = {granularity: self._params(granularity) for granularity in GRANULARITIES}
        sqnr = {
            granularity: channel_sqnr_db(kernel, fake_quantize(kernel, params[granularity]))
            for granularity in GRANULARITIES
        }
        self._plot.update(params[chosen], sqnr)
        sentence = describe_granularity(name, bits, sqnr)
        if (bits, chosen) in self._accuracy and self.symmetric.value:
            share = self._accuracy[bits, chosen]
            sentence += f" All layers {chosen} at {bits} bits: accuracy {share:.1%}."
        return sentence

    def _params(self, granularity: str) -> QuantParams:
        scheme = TensorScheme(self.bits.value, self.symmetric.value, granularity)
        return weight_params(self._kernels, scheme)[self.layer.value]
