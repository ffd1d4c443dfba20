"""Make models quantization-aware on Keras 3, export them, and load trained ones (lesson 08).

`qat.tfmot`, for the Model Optimization Toolkit, must be imported separately: it loads Keras 2.
"""

from quant_tutorial.qat.export import int8_file, low_bit_file
from quant_tutorial.qat.layers import (
    QuantizeActivation,
    QuantizedLayer,
    Quantizer,
    QuantizeWeights,
    Ranges,
    straight_through,
)
from quant_tutorial.qat.model import (
    float_model,
    floats_and_params,
    frozen,
    quantize_aware,
    trained_params,
)
from quant_tutorial.qat.shipped import (
    SHIPPED,
    Control,
    Result,
    TrainingConfig,
    load_control,
    load_results,
    load_trained,
)
from quant_tutorial.scheme import named_scheme
from quant_tutorial.tflite import file_weights

__all__ = [
    "SHIPPED",
    "Control",
    "QuantizeActivation",
    "QuantizeWeights",
    "QuantizedLayer",
    "Quantizer",
    "Ranges",
    "Result",
    "TrainingConfig",
    "file_weights",
    "float_model",
    "floats_and_params",
    "frozen",
    "int8_file",
    "load_control",
    "load_results",
    "load_trained",
    "low_bit_file",
    "named_scheme",
    "quantize_aware",
    "straight_through",
    "trained_params",
]
