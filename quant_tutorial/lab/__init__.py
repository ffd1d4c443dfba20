"""Measure the settings of the quantization lab and make their files, without widgets (lesson 10).

A `Setting` holds the values of the controls. A `Lab` measures a setting on the test images and on a
drawing, and makes its file if LiteRT has one. The lab is for the course's model: for its layers,
and for the trained and the better rounded versions of it that ship with the course.
"""

from quant_tutorial.lab.files import Plan, plan
from quant_tutorial.lab.measuring import Exported, Lab, Reading
from quant_tutorial.lab.setting import (
    HIGH_PERCENT,
    LAYERS,
    LOW_PERCENT,
    PRESETS,
    PTQ,
    ROUNDED,
    SABOTAGED,
    SAMPLE,
    TRAINED,
    WEIGHT_CALIBRATORS,
    Setting,
    model_params,
    scheme,
)

__all__ = [
    "HIGH_PERCENT",
    "LAYERS",
    "LOW_PERCENT",
    "PRESETS",
    "PTQ",
    "ROUNDED",
    "SABOTAGED",
    "SAMPLE",
    "TRAINED",
    "WEIGHT_CALIBRATORS",
    "Exported",
    "Lab",
    "Plan",
    "Reading",
    "Setting",
    "model_params",
    "plan",
    "scheme",
]
