"""Make the file of a variant, repairs included (lesson 12)."""

from __future__ import annotations

from functools import lru_cache

from quant_tutorial import rounding, tflite
from quant_tutorial.frameworks import keras
from quant_tutorial.report.diagnosing import Diagnosis, layers_around
from quant_tutorial.report.subject import Subject
from quant_tutorial.report.variants import Variant
from quant_tutorial.scheme import QuantScheme, TensorScheme
from quant_tutorial.simulate import Simulator
from quant_tutorial.tflite.saved_model import layer_names

_MOST_EXEMPT = 3  # suspects around which layers stay in float
_CALIBRATED = ("int8", "int8_fallback", "int16x8")
_EIGHT = QuantScheme(
    TensorScheme(8, symmetric=True, granularity="channel-wise", calibrator="mse"),
    TensorScheme(8, calibrator="mse"),
)
_FOUR = QuantScheme(
    TensorScheme(4, symmetric=True, granularity="channel-wise", calibrator="mse"),
    TensorScheme(8, calibrator="mse"),
)
_FOUR_BITS = "weight_only_wi4_afp32"
REPAIRS: tuple[Variant, ...] = (
    Variant("int8, equalized", "Channels equalized, then full-integer int8.", repair="equalize"),
    Variant("int8, MSE ranges", "Full-integer int8, ranges of least squared error.", repair="mse"),
    Variant("int8, biases corrected", "Full-integer int8, biases corrected.", repair="bias"),
    Variant(
        "4-bit weights, GPTQ", "4-bit weights rounded by GPTQ, float activations.", repair="gptq"
    ),
)


def repairs(subject: Subject, diagnosis: Diagnosis) -> tuple[Variant, ...]:
    """Return what can be tried to mend a model, as variants (lesson 12).

    First come files in which the layers around the worst ops stay in float, more and more of them;
    then `REPAIRS`.

    Args:
        subject: The model with its data.
        diagnosis: What `diagnose` has found in its int8 file.
    """
    found: list[Variant] = []
    for count in range(1, min(_MOST_EXEMPT, len(diagnosis.worst)) + 1):
        layers = layers_around(diagnosis.worst[:count], layer_names(subject.model))
        if layers and all(layers != older.float_layers for older in found):
            name = f"int8, {', '.join(layers)} in float"
            how = f"Int8, but {', '.join(layers)} in float."
            found.append(Variant(name, how, "int8_fallback", float_layers=layers))
    return (*found, *REPAIRS)


def make(subject: Subject, variant: Variant) -> bytes:
    """Return the file of a variant (lesson 12).

    Raises:
        ValueError: when the model has no such file; the message says why.
        RuntimeError: when the converter refuses the model.
    """
    if variant.repair == "equalize":
        return _converted(subject, rounding.equalize(subject.model), Variant("", "", "int8"))
    if variant.repair:
        return _rounded(subject, variant.repair)
    if variant.recipe is not None:
        needs = tflite.RECIPES[variant.recipe].kind == "static"
        return tflite.apply_recipe(
            _float_file(subject),
            variant.recipe,
            calibration=subject.calibration if needs else None,
            input_range=subject.input_range,
        )
    return _converted(subject, subject.model, variant)


def _converted(subject: Subject, model: keras.Model, variant: Variant) -> bytes:
    return tflite.convert(
        model,
        variant.mode,
        calibration=subject.calibration if variant.mode in _CALIBRATED else None,
        io=variant.io,
        input_range=subject.input_range,
        per_channel=variant.per_channel,
        float_layers=variant.float_layers,
    )


# What several files of a subject are made from is kept for the next one. It does not stand in the
# subject itself, which is sent to other processes.
@lru_cache(1)
def _float_file(subject: Subject) -> bytes:
    return tflite.export_litert(subject.model)


@lru_cache(1)
def _simulator(subject: Subject) -> Simulator:
    return Simulator(subject.model, subject.calibration)


def _rounded(subject: Subject, repair: str) -> bytes:
    simulator = _simulator(subject)
    if repair == "gptq":
        found = rounding.gptq(simulator, _FOUR, subject.calibration)
        return rounding.low_bit_file(found, _FOUR_BITS)
    found = rounding.nearest(simulator, _EIGHT)
    if repair == "bias":
        found = rounding.correct_bias(simulator, found, subject.calibration)
    return rounding.int8_file(found)
