"""Small models with every kind of layer that the course treats, for tests and for measurements.

`SINGLE` has a model for each kind, of 6×6×3 or 12×3 values. `TOGETHER` has the same kinds again,
several in one model, since converting a model takes half a second. `SEVERAL` has models of several
inputs or outputs.
"""

from collections.abc import Callable
from typing import Any

from quant_tutorial import models

import keras
import numpy as np

layers, ops = keras.layers, keras.ops
Part = Callable[[Any], Any]


def applied(part: Part, x: Any) -> Any:
    """Apply a part, of which each model has a copy of its own."""
    own = type(part).from_config(part.get_config()) if isinstance(part, layers.Layer) else part
    return own(x)


def between(part: Part) -> Callable[[], keras.Model]:
    """A model with a part between two convolutions."""

    def make() -> keras.Model:
        image = keras.Input((6, 6, 3), name="image")
        x = applied(part, layers.Conv2D(4, 3, name="first")(image))
        return keras.Model(image, layers.Conv2D(2, 1, name="last")(x))

    return make


def branches(join: Callable[[Any, Any], Any]) -> Callable[[], keras.Model]:
    """A model with two convolutions side by side, joined before a third."""
    return between_two(lambda a, b: layers.Conv2D(2, 1, name="last")(join(a, b)))


def between_two(join: Callable[[Any, Any], Any]) -> Callable[[], keras.Model]:
    def make() -> keras.Model:
        image = keras.Input((6, 6, 3), name="image")
        a, b = (layers.Conv2D(4, 3, name=name)(image) for name in "ab")
        return keras.Model(image, join(a, b))

    return make


def alone(*parts: Part, shape: tuple[int, ...] = (6, 6, 3)) -> Callable[[], keras.Model]:
    """A model of some parts one after another."""

    def make() -> keras.Model:
        x = image = keras.Input(shape, name="image")
        for part in parts:
            x = applied(part, x)
        return keras.Model(image, x)

    return make


def activation(name: str) -> Part:
    return lambda x: layers.Activation(name)(x)


def shared(x: Any) -> Any:
    layer = layers.Conv2D(4, 3, padding="same", activation="relu", name="again")
    return layer(layer(x))


def nested(x: Any) -> Any:
    inner = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            layers.RandomFlip(),
            layers.Conv2D(4, 3, padding="same", use_bias=False, name="first"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(6.0, name="relu"),
        ],
        name="base",
    )
    return inner(x)


def squeeze_and_excite(x: Any) -> Any:
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(2, 1, activation="relu", name="squeeze")(gate)
    return layers.Multiply()([x, layers.Conv2D(4, 1, activation="sigmoid", name="excite")(gate)])


def operators(a: Any, b: Any) -> Any:
    x = 1.0 - (a + b) * 2.0 + np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    x = ops.maximum(ops.relu(x) / 3.0, a - b)
    first, second = ops.split(ops.concatenate([x, a * b], axis=-1), 2, axis=-1)
    return ops.reshape(ops.mean(first + second[..., :4], axis=(1, 2)), (-1, 1, 1, 4))


def axes_and_edges(x: Any) -> Any:
    padded = ops.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0)))
    return ops.moveaxis(ops.swapaxes(padded, 1, 2), 3, 2)


def sums(a: Any, b: Any) -> Any:
    x = layers.Add(name="sum")([a, b, layers.ReLU(name="relu_a")(a)])
    x = layers.Multiply(name="product")([x, layers.Subtract(name="difference")([a, b])])
    return layers.ReLU(name="relu_product")(layers.Average(name="average")([x, b]))


def joins(a: Any, b: Any) -> Any:
    larger, smaller = layers.Maximum(name="max")([a, b]), layers.Minimum(name="min")([a, b])
    gate = layers.Activation("sigmoid", name="gate")(b)
    pooled = layers.AveragePooling2D(3, 1, padding="same", name="mean")(a)
    return layers.Concatenate(name="joined")([larger, smaller, gate, pooled])


ACTIVATIONS = ("relu6", "sigmoid", "tanh", "hard_sigmoid", "swish", "hard_swish", "gelu", "softmax")
MOVES: dict[str, Part] = {
    "ZeroPadding2D": layers.ZeroPadding2D(1),
    "UpSampling2D": layers.UpSampling2D(2),
    "Cropping2D": layers.Cropping2D(1),
    "Permute": layers.Permute((2, 1, 3)),
    "Reshape": layers.Reshape((2, 8, 4)),
}

SINGLE: dict[str, Callable[[], keras.Model]] = {
    **{name: between(activation(name)) for name in ACTIVATIONS},
    "exponential": between(activation("exponential")),
    "ReLU(max_value=3)": between(lambda x: layers.ReLU(3.0)(x * 10.0)),
    "ReLU(negative_slope=0.1)": between(layers.ReLU(negative_slope=0.1)),
    "LeakyReLU": between(layers.LeakyReLU(0.2)),
    "PReLU": between(layers.PReLU(alpha_initializer=keras.initializers.RandomUniform(0.1, 0.4))),
    "clip": between(lambda x: ops.clip(x, -1.0, 1.0)),
    "Conv2D, sigmoid": alone(layers.Conv2D(3, 3, activation="sigmoid")),
    "Conv2D, groups": alone(layers.Conv2D(6, 3, groups=3, dilation_rate=2)),
    "SeparableConv2D": alone(layers.SeparableConv2D(4, 3, activation="relu")),
    "Conv2DTranspose": alone(layers.Conv2DTranspose(4, 3, strides=2, activation="relu")),
    "Conv2DTranspose, batch norm": alone(
        layers.Conv2DTranspose(4, 3, strides=2, padding="same"), layers.BatchNormalization()
    ),
    "Conv1D": alone(
        layers.Conv1D(4, 3, padding="causal"),
        layers.BatchNormalization(),
        layers.ReLU(),
        shape=(12, 3),
    ),
    "DepthwiseConv1D": alone(layers.DepthwiseConv1D(3, depth_multiplier=2), shape=(12, 3)),
    "SeparableConv1D": alone(layers.SeparableConv1D(4, 3, padding="same"), shape=(12, 3)),
    "Dense, two axes": alone(layers.Dense(4, activation="tanh"), shape=(5, 3)),
    "BatchNormalization first": alone(layers.BatchNormalization(), layers.Conv2D(2, 1)),
    "BatchNormalization, ReLU": between(
        lambda x: layers.ReLU()(layers.BatchNormalization()(layers.MaxPooling2D(1)(x)))
    ),
    "Dropout": between(layers.Dropout(0.5)),
    "RandomFlip": between(layers.RandomFlip()),
    "Rescaling": alone(layers.Rescaling(1 / 127.5, -1.0), layers.Conv2D(2, 3, padding="same")),
    "Rescaling, folded": alone(layers.Rescaling(2.0, -1.0), layers.Conv2D(2, 3)),
    "Normalization": alone(
        layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0]), layers.Conv2D(2, 1)
    ),
    "Add": branches(lambda a, b: layers.Add()([a, b])),
    "Subtract": branches(lambda a, b: layers.Subtract()([a, b])),
    "Multiply": branches(lambda a, b: layers.Multiply()([a, b])),
    "Average": branches(lambda a, b: layers.Average()([a, b])),
    "Maximum": branches(lambda a, b: layers.Maximum()([a, b])),
    "Minimum": branches(lambda a, b: layers.Minimum()([a, b])),
    "Concatenate": branches(lambda a, b: layers.Concatenate()([a, b])),
    "Split": between(lambda x: layers.Concatenate()(ops.split(x, 2, axis=-1)[::-1])),
    "squeeze and excite": between(squeeze_and_excite),
    "operators": branches(operators),
    "axes and edges": between(axes_and_edges),
    "reductions": between(lambda x: ops.max(x, axis=(1, 2), keepdims=True) + ops.abs(x)),
    "shared layer": alone(layers.Conv2D(4, 3), shared),
    "nested model": between(nested),
    "MaxPooling2D": between(layers.MaxPooling2D(2)),
    "AveragePooling2D": between(layers.AveragePooling2D(2)),
    "GlobalAveragePooling2D": between(layers.GlobalAveragePooling2D(keepdims=True)),
    "GlobalMaxPooling2D": between(layers.GlobalMaxPooling2D(keepdims=True)),
    "poolings of one axis": alone(
        layers.Conv1D(4, 3),
        layers.MaxPooling1D(2),
        layers.Conv1D(4, 2),
        layers.AveragePooling1D(2),
        layers.GlobalAveragePooling1D(),
        shape=(16, 3),
    ),
    "GlobalMaxPooling1D": alone(layers.Conv1D(4, 3), layers.GlobalMaxPooling1D(), shape=(12, 3)),
    "UpSampling2D, bilinear": between(layers.UpSampling2D(2, interpolation="bilinear")),
    "Resizing": between(layers.Resizing(7, 5)),
    "moves of one axis": alone(
        layers.ZeroPadding1D(1),
        layers.UpSampling1D(2),
        layers.Cropping1D(3),
        layers.Conv1D(4, 3),
        shape=(12, 3),
    ),
    "RepeatVector": alone(layers.RepeatVector(3), layers.Conv1D(4, 3), shape=(8,)),
    **{name: between(part) for name, part in MOVES.items()},
    "Flatten": alone(layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)),
}


def side_by_side(*parts: Part) -> Callable[[], keras.Model]:
    """A model with each of several parts between two convolutions, all joined at the end."""

    def make() -> keras.Model:
        image = keras.Input((6, 6, 3), name="image")
        ends = []
        for number, part in enumerate(parts):
            x = applied(part, layers.Conv2D(4, 3, name=f"before{number}")(image))
            x = layers.Conv2D(3, 1, name=f"after{number}")(x)
            ends.append(layers.Flatten(name=f"flat{number}")(x))
        return keras.Model(image, layers.Dense(4, name="last")(layers.Concatenate()(ends)))

    return make


TOGETHER: dict[str, Callable[[], keras.Model]] = {
    "smooth activations": side_by_side(*map(activation, ACTIVATIONS)),
    "pieces of straight lines": side_by_side(
        layers.LeakyReLU(0.2),
        layers.ReLU(negative_slope=0.1),
        layers.PReLU(alpha_initializer=keras.initializers.RandomUniform(0.1, 0.4)),
        lambda x: layers.ReLU(3.0)(x * 10.0),
        lambda x: ops.clip(x, -1.0, 1.0),
    ),
    "convolutions": alone(
        layers.Rescaling(2.0, -1.0),
        layers.SeparableConv2D(4, 3, padding="same", activation="relu"),
        layers.Conv2DTranspose(4, 3, strides=2, padding="same"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2D(4, 3, groups=2),
    ),
    "one axis": alone(
        layers.ZeroPadding1D(1),
        layers.Conv1D(4, 3, padding="causal"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.MaxPooling1D(2),
        layers.UpSampling1D(2),
        layers.SeparableConv1D(4, 3),
        layers.AveragePooling1D(2),
        layers.Dense(4, activation="tanh"),
        layers.GlobalAveragePooling1D(),
        shape=(16, 3),
    ),
    "constants": alone(
        layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0]),
        layers.Conv2D(4, 3, padding="same", activation="relu"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2D(4, 1),
        lambda x: 1.0 - x,
        layers.Conv2D(2, 1),
    ),
    "sums and products": branches(sums),
    "joins": branches(joins),
    "operators": branches(operators),
    "shared, nested, gated": alone(nested, shared, squeeze_and_excite),
    "moves and resizing": side_by_side(
        *MOVES.values(),
        layers.MaxPooling2D(2),
        layers.UpSampling2D(2, interpolation="bilinear"),
        layers.AveragePooling2D(2),
        layers.GlobalMaxPooling2D(keepdims=True),
    ),
}


def photo_and_facts() -> keras.Model:
    """Two inputs, joined: a picture and a few numbers."""
    photo, facts = keras.Input((6, 6, 3), name="photo"), keras.Input((5,), name="facts")
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(photo)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    known = layers.Dense(4, activation="relu", name="dense")(facts)
    x = layers.Concatenate(name="joined")([x, known, facts])
    return keras.Model([photo, facts], layers.Dense(3, name="answer")(x))


def auxiliary_head() -> keras.Model:
    """Three outputs: an answer, an early guess, and the features from which both are computed."""
    image = keras.Input((6, 6, 3), name="image")
    features = layers.Conv2D(4, 3, name="features")(image)
    x = layers.MaxPooling2D(2, name="pool")(layers.ReLU(name="relu")(features))
    guess = layers.Dense(3, name="guess")(layers.Flatten(name="flat")(x))
    x = layers.Flatten(name="flat_too")(layers.Conv2D(4, 2, activation="relu", name="late")(x))
    return keras.Model(image, [layers.Dense(3, name="answer")(x), guess, features])


def dictionaries() -> keras.Model:
    """Two inputs of one shape, which must not be swapped, and outputs by name.

    An output is moved behind a value that is an output as well.
    """
    sides = {name: keras.Input((6, 6, 3), name=name) for name in ("right", "left")}
    one = layers.Conv2D(4, 3, activation="relu", name="conv")(sides["right"])
    other = layers.Conv2D(4, 3, activation="relu", name="other_conv")(sides["left"])
    difference = layers.Subtract(name="difference")([one, other])
    flat = layers.Flatten(name="flat")(difference)
    outputs = {"shift": layers.Dense(2, name="shift")(flat), "map": difference, "flat": flat}
    outputs["share"] = layers.Softmax(name="share")(outputs["shift"])
    return keras.Model(sides, outputs)


SEVERAL: dict[str, Callable[[], keras.Model]] = {
    "two inputs": photo_and_facts,
    "three outputs": auxiliary_head,
    "inputs and outputs by name": dictionaries,
}
KINDS = SINGLE | SEVERAL  # the rows of the table


def settled(make: Callable[[], keras.Model]) -> keras.Model:
    """Make a model from a fixed seed, with batch norm that does something."""
    keras.utils.set_random_seed(18)
    model = make()
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            channels = layer.gamma.shape[0]
            for variable, ends in (
                (layer.gamma, (0.5, 1.5)),
                (layer.beta, (0.1, 0.5)),
                (layer.moving_mean, (-0.2, 0.4)),
                (layer.moving_variance, (0.1, 0.8)),
            ):
                variable.assign(np.linspace(*ends, channels))
    return model


def images_for(model: keras.Model, count: int = 40) -> Any:
    """Draw images for a model, from a fixed seed; of several inputs a dictionary."""
    random = np.random.default_rng(18)
    drawn = {
        name: random.uniform(0, number, (count, *tensor.shape[1:])).astype(np.float32)
        for number, (name, tensor) in enumerate(
            zip(models.input_names(model), model.inputs, strict=True), start=1
        )
    }
    return drawn if len(drawn) > 1 else drawn.popitem()[1]
