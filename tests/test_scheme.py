"""Schemes are values that refuse what makes no sense."""

import dataclasses

from quant_tutorial.scheme import FLOAT, LayerScheme, QuantScheme, TensorScheme

import pytest


def test_the_default_is_full_integer_int8() -> None:
    assert repr(QuantScheme()).splitlines() == [
        "QuantScheme",
        "  weights: <8 bits, symmetric, channel-wise, min_max>",
        "  activations: <8 bits, asymmetric, layer-wise, min_max>",
        "  input: <8 bits, asymmetric, layer-wise, min_max>",
    ]


def test_values() -> None:
    one = QuantScheme(overrides={"b": None, "a": LayerScheme(weights=TensorScheme(4))})
    same = QuantScheme(overrides={"a": LayerScheme(TensorScheme(4)), "b": LayerScheme()})
    assert one == same
    assert len({one, same, QuantScheme()}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.weights = FLOAT
    assert dataclasses.replace(one, input=FLOAT).overrides == one.overrides


def test_layers() -> None:
    scheme = QuantScheme().with_layer("conv1", None).with_layer("logits", LayerScheme(FLOAT))
    assert scheme.for_layer("conv1") == LayerScheme(FLOAT, FLOAT)
    assert scheme.for_layer("conv2") == LayerScheme(scheme.weights, scheme.activations)
    assert "layer conv1: weights <float>, activations <float>" in repr(scheme)
    scheme.check_layers(["conv1", "conv2", "logits"])
    with pytest.raises(ValueError, match=r"overrides\['conv1'\] is for no layer .*: it has a, b"):
        scheme.check_layers(["a", "b"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bits": 1}, "bits must be from 2 to 16, or None for float; got 1"),
        ({"bits": 17}, "bits must be"),
        ({"bits": 8.0}, "bits must be"),
        ({"bits": True}, "bits must be"),
        ({"symmetric": 1}, "symmetric must be True or False, got 1"),
        (
            {"granularity": "per_tensor"},
            "granularity must be one of tensor-wise, .*, got 'per_tensor'",
        ),
        ({"calibrator": "max"}, r"calibrator must be one of min_max, .*, got 'max'"),
    ],
)
def test_tensor_schemes_refuse(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TensorScheme(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"activations": TensorScheme(granularity="channel-wise")},
            r"activations\.granularity must be layer-wise, got 'channel-wise'",
        ),
        ({"input": TensorScheme(granularity="tensor-wise")}, r"input\.granularity must be"),
        ({"weights": 8}, "weights must be a TensorScheme, got 8"),
        ({"overrides": {"a": TensorScheme()}}, r"overrides\['a'\] must be a LayerScheme"),
    ],
)
def test_quant_schemes_refuse(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuantScheme(**fields)


def test_layer_schemes_refuse() -> None:
    with pytest.raises(ValueError, match=r"activations\.granularity must be layer-wise"):
        LayerScheme(activations=TensorScheme(granularity="channel-wise"))
