"""See a layer as a product of matrices: its inputs' patches times its weights (lesson 11).

A convolution multiplies each patch of its input with the same weights. With the patches as the rows
of a matrix, it is a dense layer. A depthwise or grouped convolution consists of several such
products, one for each group of channels. A convolution of one dimension has a height of 1. A
transposed convolution is an ordinary one whose input has zeros between its values, with its kernel
turned around.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from quant_tutorial.frameworks import keras, tf

import numpy as np
from numpy.typing import NDArray

_BATCH = 100  # images at a time: few enough that their patches fit in memory
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_OF_ONE_AXIS = (keras.layers.Conv1D, keras.layers.DepthwiseConv1D)


class Shape(NamedTuple):
    """The size of a layer's matrices (lesson 11)."""

    groups: int
    inputs: int  # of each output
    outputs: int  # of each group


def shape_of(layer: keras.Layer) -> Shape:
    """Return how many groups a layer has, and the inputs and outputs of each (lesson 11).

    A dense layer and an ordinary convolution are one group. In a depthwise convolution each input
    channel is a group.
    """
    kernel = layer.kernel.shape
    if isinstance(layer, _DEPTHWISE):
        return Shape(kernel[-2], int(np.prod(kernel[:-2])), kernel[-1])
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return Shape(1, int(np.prod(kernel[:2])) * kernel[3], kernel[2])
    groups = getattr(layer, "groups", 1)
    return Shape(groups, int(np.prod(kernel[:-1])), kernel[-1] // groups)


def weight_matrices(layer: keras.Layer, weights: NDArray) -> NDArray:
    """Return a layer's weights as matrices, shape (groups, inputs, outputs).

    `weights` have the form of `Simulator.weights`, with the output channels last. Lesson 11.
    """
    groups, inputs, outputs = shape_of(layer)
    return weights.reshape(inputs, groups, outputs).transpose(1, 0, 2)


def weights_from(layer: keras.Layer, matrices: NDArray) -> NDArray:
    """Return the weights with the output channels last, the inverse of `weight_matrices`.

    Lesson 11.
    """
    shape = tuple(layer.kernel.shape)
    if isinstance(layer, _DEPTHWISE):
        shape = (*shape[:-2], -1)
    if isinstance(layer, keras.layers.Conv2DTranspose):
        shape = (*shape[:2], shape[3], shape[2])
    return np.ascontiguousarray(matrices.transpose(1, 0, 2).reshape(shape))


def patches(layer: keras.Layer, values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the rows that a layer multiplies with its weights, shape (groups, rows, inputs).

    Padding, strides and dilation are those of the layer. A row exists for each image and each
    output position. Lesson 11.

    Args:
        layer: A layer with weights: dense, or a convolution of any kind that is treated.
        values: The values at the input of the layer, shape (images, …).
    """
    groups, inputs, _ = shape_of(layer)
    if isinstance(layer, keras.layers.Dense):
        return np.asarray(values).reshape(1, -1, inputs)
    turned = isinstance(layer, keras.layers.Conv2DTranspose)
    size, strides, rates = layer.kernel_size, layer.strides, layer.dilation_rate
    padding = layer.padding.upper()
    if isinstance(layer, _OF_ONE_AXIS):
        if padding == "CAUSAL":
            values = np.pad(values, ((0, 0), ((size[0] - 1) * rates[0], 0), (0, 0)))
            padding = "VALID"
        values = np.asarray(values)[:, np.newaxis]
        size, strides, rates = (1, *size), (1, *strides), (1, *rates)
    if turned:
        values, strides, padding = _spread(layer, values), (1, 1), "VALID"
    found = tf.image.extract_patches(
        values,
        sizes=(1, *size, 1),
        strides=(1, *strides, 1),
        rates=(1, *rates, 1),
        padding=padding,
    ).numpy()
    height, width = size
    if turned:
        found = found.reshape(-1, height, width, values.shape[-1])[:, ::-1, ::-1]
    if groups == 1:
        return found.reshape(1, -1, inputs)
    apart = found.reshape(-1, height * width, groups, inputs // (height * width))
    return np.ascontiguousarray(apart.transpose(2, 0, 1, 3)).reshape(groups, -1, inputs)


def _spread(
    layer: keras.layers.Conv2DTranspose, values: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the input of a transposed convolution with zeros between its values and around them.

    The windows of an ordinary convolution on it, with strides of 1, are those of the outputs.
    """
    spread = np.asarray(values)
    for axis in (1, 2):
        length, outputs = values.shape[axis], layer.output.shape[axis]
        stride = layer.strides[axis - 1]
        reach = (layer.kernel_size[axis - 1] - 1) * layer.dilation_rate[axis - 1]
        inner = (length - 1) * stride
        # "same" cuts off what is too much, the smaller half of it at the beginning.
        cut = max(inner + reach + 1 - outputs, 0) // 2 if layer.padding == "same" else 0
        shape = list(spread.shape)
        shape[axis] = reach - cut + max(outputs + cut, inner + 1)
        wider = np.zeros(shape, spread.dtype)
        start = reach - cut
        target = [slice(None)] * spread.ndim
        target[axis] = slice(start, start + inner + 1, stride)
        wider[tuple(target)] = spread
        target[axis] = slice(0, outputs + reach)
        spread = wider[tuple(target)]
    return spread


def row_count(layer: keras.Layer, images: int) -> int:
    """Return how many rows `patches` makes of a number of images (lesson 11)."""
    return images * int(np.prod(layer.output.shape[1:-1]))


def rows_of(
    layer: keras.Layer, values: Sequence[NDArray[np.float32]], most: int, seed: int
) -> list[NDArray[np.float32]]:
    """Return some of the rows of `patches`, the same for several inputs of one shape (lesson 11).

    Args:
        layer: As for `patches`.
        values: Inputs of the layer, each of shape (images, …).
        most: How many rows to return at most; of more, a random sample is drawn.
        seed: The random seed of the sample.
    """
    images = len(values[0])
    each = row_count(layer, images) // images
    chosen = np.arange(images * each)
    if len(chosen) > most:
        chosen = np.sort(np.random.default_rng(seed).choice(len(chosen), most, replace=False))
    found: list[list[NDArray[np.float32]]] = [[] for _ in values]
    for start in range(0, images, _BATCH):
        here = chosen[(chosen >= start * each) & (chosen < (start + _BATCH) * each)] - start * each
        for rows, value in zip(found, values, strict=True):
            rows.append(patches(layer, value[start : start + _BATCH])[:, here])
    return [np.concatenate(rows, axis=1) for rows in found]


class Moments(NamedTuple):
    """Sums over all rows of a layer's inputs (lesson 11)."""

    rows: int
    mean: NDArray[np.float64]  # shape (groups, inputs)
    hessian: NDArray[np.float64]  # 2·XᵀX, shape (groups, inputs, inputs)

    @property
    def centred(self) -> NDArray[np.float64]:
        """The Hessian of the inputs without their mean, which is that with the best bias."""
        product = self.mean[:, :, np.newaxis] * self.mean[:, np.newaxis, :]
        return self.hessian - 2 * self.rows * product


def moments(layer: keras.Layer, values: NDArray[np.float32]) -> Moments:
    """Return the Hessian and the mean of a layer's inputs, from batches of images (lesson 11)."""
    groups, size, _ = shape_of(layer)
    products = np.zeros((groups, size, size))
    for start in range(0, len(values), _BATCH):
        rows = patches(layer, values[start : start + _BATCH]).astype(np.float64)
        products += rows.transpose(0, 2, 1) @ rows
    return Moments(row_count(layer, len(values)), mean_row(layer, values), 2 * products)


def mean_row(layer: keras.Layer, values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean of the rows of `patches`, shape (groups, inputs) (lesson 11)."""
    # Every image has as many rows, and each value keeps its places in them: so the mean image will
    # do, which saves the patches of all images.
    return patches(layer, np.mean(values, axis=0, dtype=np.float64, keepdims=True)).mean(axis=1)
