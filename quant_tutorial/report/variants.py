"""The files that can be made of any model, as plain descriptions (lesson 12)."""

from __future__ import annotations

from typing import NamedTuple


class Variant(NamedTuple):
    """One way to make a file of a model (lesson 12)."""

    name: str
    how: str  # what the card says of it
    mode: str | None = None  # of `tflite.convert`
    recipe: str | None = None  # of `tflite.apply_recipe`
    io: str | None = None
    per_channel: bool = True
    float_layers: tuple[str, ...] = ()
    repair: str = ""  # one of `REPAIRS`, which `mending` carries out
    part: int = 1  # of the images, every so many are measured: for files that LiteRT runs slowly


_CONVERTER = "The TFLite converter"
_QUANTIZER = "LiteRT Quantizer"
FLOAT32 = Variant("float32", f"{_CONVERTER}, without quantization.", "float32")
INT8 = Variant("int8", f"{_CONVERTER}, full-integer int8 with int8 input and output.", "int8")
FALLBACK = Variant(
    "int8 with float fallback",
    f"{_CONVERTER}, int8 where an op has an int8 version, float elsewhere.",
    "int8_fallback",
)
VARIANTS: tuple[Variant, ...] = (
    FLOAT32,
    Variant("float16", f"{_CONVERTER}, weights as float16.", "float16"),
    Variant("dynamic", f"{_CONVERTER}, dynamic range: int8 weights, float activations.", "dynamic"),
    INT8,
    Variant(
        "int8, uint8 input", f"{_CONVERTER}, full-integer int8, uint8 ends.", "int8", io="uint8"
    ),
    Variant(
        "int8, float32 input", f"{_CONVERTER}, full-integer int8, float ends.", "int8", io="float32"
    ),
    FALLBACK,
    Variant(
        "int8, one scale per tensor",
        f"{_CONVERTER}, full-integer int8 with one scale for each weight tensor.",
        "int8",
        per_channel=False,
    ),
    Variant("16x8", f"{_CONVERTER}, int16 activations and int8 weights.", "int16x8", part=5),
    Variant(
        "int8, averaged ranges",
        f"{_QUANTIZER}, static int8, ranges averaged over the images.",
        recipe="static_wi8_ai8",
    ),
    Variant(
        "4-bit weights, dynamic",
        f"{_QUANTIZER}, 4-bit weights, float activations.",
        recipe="dynamic_wi4_afp32",
    ),
    Variant(
        "4-bit weights only",
        f"{_QUANTIZER}, 4-bit weights that are unpacked to floats.",
        recipe="weight_only_wi4_afp32",
    ),
)
