"""The nodes of a model: where LiteRT has integers."""

from collections.abc import Callable
from typing import Any

from quant_tutorial import models
from quant_tutorial.simulate import graph

import keras
import numpy as np
import pytest

pytestmark = pytest.mark.slow

layers = keras.layers


def sequential(*stack: keras.layers.Layer, shape: tuple[int, ...] = (8, 8, 2)) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *stack])


def test_baseline(baseline: keras.Model) -> None:
    found = graph.nodes(graph.prepare(baseline))
    assert [(n.name, n.layer, n.end, n.sources, n.weights) for n in found] == [
        ("image", "image", "image", (), None),
        ("relu1", "conv1", "pool1", ("image",), "conv1"),
        ("relu2", "conv2", "pool2", ("relu1",), "conv2"),
        ("relu3", "conv3", "flatten", ("relu2",), "conv3"),
        ("logits", "logits", "logits", ("relu3",), "logits"),
    ]


def test_branches_and_activations(further: dict[str, Any]) -> None:
    found = {n.name: n for n in graph.nodes(graph.prepare(further["residual"]))}
    assert found["relu3"].sources == ("average1", "conv3")
    assert found["relu3"].layer == "add"
    assert found["average1"].kind == "same"
    assert found["answer_softmax"].kind == "fixed"
    assert found["relu2"].end == "pad3"
    assert found["conv1"].end == "conv1"  # its activation is its own


def test_a_layer_read_twice_keeps_its_own_node() -> None:
    image = keras.Input((4, 4, 2), name="image")
    conv = layers.Conv2D(2, 1, name="conv")(image)
    relu = layers.ReLU(name="relu")(conv)
    model = keras.Model(image, layers.Add(name="add")([conv, relu]))
    found = {node.name: node.sources for node in graph.nodes(graph.prepare(model))}
    assert found == {
        "image": (),
        "conv": ("image",),
        "relu": ("conv",),
        "add": ("conv", "relu"),
    }


@pytest.mark.parametrize("kind", ["separable", "residual"])
def test_prepare_keeps_the_outputs(
    kind: str, further: dict[str, Any], calibration: np.ndarray
) -> None:
    model = further[kind]
    before = model.get_weights()
    prepared = graph.prepare(model)
    x = calibration[:50]
    np.testing.assert_allclose(
        models.predict(prepared, x), models.predict(model, x), rtol=1e-4, atol=1e-4
    )
    kinds = {type(layer).__name__ for layer in prepared.layers}
    assert not kinds & {"BatchNormalization", "Dropout"}
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_inner_and_further_uses_of_layers_have_names_of_their_own() -> None:
    inner = sequential(layers.Conv2D(2, 1, name="conv"), layers.RandomFlip())
    image = keras.Input((8, 8, 2), name="image")
    outer = layers.Conv2D(2, 1, name="conv")
    x = outer(outer(image)) + inner(image)
    prepared = graph.prepare(keras.Model(image, layers.Dense(3, name="conv_2")(x)))
    found = {node.name: node.sources for node in graph.nodes(prepared)}
    (added,) = found.pop("conv_2")  # Keras numbers unnamed operations
    assert set(found.pop(added)) < {"conv", "conv_3", "conv_4"}
    assert sorted(found) == ["conv", "conv_3", "conv_4", "image"]


def test_what_is_joined_has_one_range() -> None:
    image = keras.Input((8, 8, 2), name="image")
    a, b = (layers.Conv2D(2, 1, name=name)(image) for name in "ab")
    larger = layers.Maximum(name="larger")([layers.MaxPooling2D(2)(a), layers.MaxPooling2D(2)(b)])
    gate = layers.Activation("sigmoid", name="gate")(larger)
    model = keras.Model(image, layers.Concatenate(name="joined")([larger, gate]))
    found = {node.name: node for node in graph.nodes(graph.prepare(model))}
    # A sigmoid keeps the range that LiteRT prescribes.
    assert {name: node.like for name, node in found.items()} == {
        "image": "image",
        **dict.fromkeys(("a", "b", "larger", "joined"), "joined"),
        "gate": "gate",
    }
    assert found["gate"].kind == "fixed"


@pytest.mark.parametrize(
    ("join", "overwritten"),
    [
        (lambda a, b, image: a + b, "a"),
        (lambda a, b, image: b * a, "b"),
        (lambda a, b, image: image - b, "b"),  # the model's input is not written over
        (lambda a, b, image: layers.Add()([a, b]) + layers.ReLU()(a), "b"),  # a has two readers
        (lambda a, b, image: layers.MaxPooling2D(1)(a) + b, None),  # it writes over the pooled
    ],
)
def test_a_sum_is_written_over_its_first_input(join: Any, overwritten: str | None) -> None:
    image = keras.Input((8, 8, 2), name="image")
    a, b = (layers.Conv2D(2, 1, name=name)(image) for name in "ab")
    model = keras.Model(image, layers.Conv2D(2, 1)(join(a, b, image)))
    found = graph.nodes(graph.prepare(model))
    assert [n.name for n in found if n.overwritten_by and n.name in "ab"] == (
        [overwritten] if overwritten else []
    )


def test_idle_activations_are_dropped() -> None:
    model = sequential(layers.Flatten(), layers.Activation("linear"), layers.Dense(3, name="d"))
    assert [node.name for node in graph.nodes(graph.prepare(model))][1:] == ["d"]


REFUSED = {
    "ELU": lambda: sequential(layers.ELU(name="elu")),
    "leak": lambda: sequential(layers.ReLU(2.0, negative_slope=0.1, name="leak")),
    "threshold": lambda: sequential(layers.ReLU(threshold=0.1, name="threshold")),
    "selu": lambda: sequential(layers.Conv2D(2, 1, activation="selu", name="selu")),
    "axis": lambda: sequential(layers.Softmax(axis=1, name="axis")),
    "bicubic": lambda: sequential(layers.UpSampling2D(2, interpolation="bicubic", name="up")),
    "rows": lambda: sequential(layers.BatchNormalization(axis=1, name="rows")),
    "inside": lambda: sequential(sequential(layers.ELU(name="inside")), layers.Dense(2)),
    "Conv3D": lambda: sequential(layers.Conv3D(2, 1), shape=(4, 4, 4, 1)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_layer_that_has_no_place_is_named(name: str) -> None:
    model = REFUSED[name]()
    with pytest.raises(ValueError, match=name):
        graph.prepare(model)


def negative() -> keras.Model:
    x = keras.Input((4,))
    return keras.Model(x, layers.Dense(2)(-x))


def trained_in_inference() -> keras.Model:
    x = keras.Input((4,))
    return keras.Model(x, layers.Dense(2)(layers.Dropout(0.5, name="drop")(x, training=True)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (negative, "Negative"),
        (trained_in_inference, "drop .*training=True"),
        (lambda: keras.Sequential([layers.Dense(2)]), "built Sequential or functional"),
    ],
)
def test_a_model_of_another_kind_is_refused(make: Callable[[], keras.Model], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        graph.prepare(make())


def test_a_model_that_only_moves_values_is_refused() -> None:
    with pytest.raises(ValueError, match="computes nothing that could be quantized"):
        graph.nodes(graph.prepare(sequential(layers.MaxPooling2D(2), layers.Flatten())))
