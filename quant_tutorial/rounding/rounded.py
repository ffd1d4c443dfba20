"""Hold what a rounding method has chosen: integers, parameters and biases (lesson 11)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from quant_tutorial import models
from quant_tutorial.affine import dequantize
from quant_tutorial.frameworks import keras
from quant_tutorial.simulate import ModelParams

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Rounded:
    """A model whose weights have been rounded to integers (lesson 11).

    Attributes:
        params: The quantization parameters of weights and activations.
        integers: The integer weights by layer, in the form of `Simulator.weights`, with the output
            channels last. Layers that the scheme leaves in float have none.
        biases: The biases by layer, float32, of all layers that have one.
        base: The float model that was rounded, as `simulate.prepare` returns it.
    """

    params: ModelParams
    integers: Mapping[str, NDArray[np.int8]]
    biases: Mapping[str, NDArray[np.float32]]
    base: keras.Model

    @cached_property
    def model(self) -> keras.Model:
        """The float model with the real values of the integers as its weights, and the biases.

        Rounding its weights to the nearest level with `params` leaves them as they are. So a
        `Simulator` or `StagedRun` made from it runs the rounded model, with these parameters.
        """
        copy = models.copied(self.base)
        models.set_weights(
            copy,
            {name: dequantize(q, self.params.weights[name]) for name, q in self.integers.items()},
        )
        for name, bias in self.biases.items():
            copy.get_layer(name).bias.assign(bias)
        return copy
