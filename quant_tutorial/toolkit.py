"""The Model Optimization Toolkit (TFMOT) beside the course's own training (lesson 08).

TFMOT 0.8.1 works on models of Keras 2, which goes on as the package `tf_keras`; models of Keras 3
it refuses. So the network is built again there and its weights are carried over:

    tfmot.quantization.keras.quantize_model(to_tf_keras(model))

Two things differ from `qat`. Batch norm stays in the network and goes on learning; the converter
folds it. And no range is learned: that of weights is the largest magnitude at each step, that of
activations a moving average (with 0.999) which starts at −6 and 6 and forgets them slowly.

Importing TFMOT by itself sets TF_USE_LEGACY_KERAS in the environment, which makes `tf.keras` mean
Keras 2 here and in every process that is started from here. Imported through this module it does
not: `tf.keras` stays Keras 3, and TFMOT works with `tf_keras` all the same.
"""

from __future__ import annotations

import os
from typing import Any

from quant_tutorial import quiet
from quant_tutorial.exporting import input_shape

quiet.load_tensorflow()
import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

with quiet.native_output():
    _legacy = os.environ.get("TF_USE_LEGACY_KERAS")
    # Asked for its version, `tf.keras` decides which Keras it is, before TFMOT decides otherwise.
    tf.keras.version()
    import tensorflow_model_optimization as tfmot
    import tf_keras

    if _legacy is None:
        os.environ.pop("TF_USE_LEGACY_KERAS", None)

_PLACE = ("strides", "padding", "data_format")
_LAYER = ("activation", "use_bias")
# The settings of each kind of layer that have a meaning once it is trained. They are called the
# same in both Keras; initializers, regularizers and constraints are left behind.
_SETTINGS: dict[type[keras.layers.Layer], tuple[str, ...]] = {
    keras.layers.Conv2D: ("filters", "kernel_size", *_PLACE, "dilation_rate", "groups", *_LAYER),
    keras.layers.DepthwiseConv2D: (
        *("kernel_size", "depth_multiplier", *_PLACE, "dilation_rate"),
        *_LAYER,
    ),
    keras.layers.Dense: ("units", *_LAYER),
    keras.layers.BatchNormalization: ("axis", "momentum", "epsilon", "center", "scale"),
    keras.layers.ReLU: ("max_value", "negative_slope", "threshold"),
    keras.layers.Softmax: ("axis",),
    keras.layers.Activation: ("activation",),
    keras.layers.MaxPooling2D: ("pool_size", *_PLACE),
    keras.layers.AveragePooling2D: ("pool_size", *_PLACE),
    keras.layers.GlobalAveragePooling2D: ("data_format", "keepdims"),
    keras.layers.Flatten: ("data_format",),
    keras.layers.Reshape: ("target_shape",),
    keras.layers.ZeroPadding2D: ("padding", "data_format"),
    keras.layers.Dropout: ("rate", "noise_shape", "seed"),
    keras.layers.Add: (),
}
_ACTIVATIONS = ("linear", "relu", "relu6", "softmax")


def to_tf_keras(model: keras.Model) -> tf_keras.Model:
    """Build the same network in Keras 2, with the same weights, as TFMOT wants it (lesson 08).

    The outputs are the same up to float rounding. Layers keep their names; batch norm stays. The
    given model is not changed, and the new one is not compiled.

    Args:
        model: A built Sequential or functional model of Keras 3 with one input and one output, of
            layers that the course treats (see `graph`), in float32.

    Raises:
        ValueError: for a model or layer of another kind; the message names it.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"model must be a Keras 3 model, got {type(model).__name__}.")
    shape = input_shape(model)  # it refuses subclassed models, which have no graph
    if len(model.outputs) != 1:
        raise ValueError(f"model must have one output, it has {len(model.outputs)}.")
    # Only a functional model lists its operations in the order of the graph.
    graph = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    image = tf_keras.Input(shape[1:], name=graph.inputs[0].name)
    tensors = {id(graph.inputs[0]): image}
    for layer in graph.operations:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        _check(layer)
        new = getattr(tf_keras.layers, type(layer).__name__)(
            name=layer.name,
            trainable=layer.trainable,
            **{name: layer.get_config()[name] for name in _SETTINGS[type(layer)]},
        )
        sources = keras.tree.map_structure(lambda tensor: tensors[id(tensor)], layer.input)
        tensors[id(layer.output)] = new(sources)
        new.set_weights(layer.get_weights())
    return tf_keras.Model(image, tensors[id(graph.outputs[0])], name=model.name)


# With the registration, quantize_apply finds the class again without a quantize_scope around it.
@tf_keras.saving.register_keras_serializable("quant_tutorial")
class LowBitWeights(tfmot.quantization.keras.QuantizeConfig):
    """Tells TFMOT to fake-quantize the weights of a layer with few bits (lesson 08).

    For `tfmot.quantization.keras.quantize_annotate_layer`. Weights are symmetric with the narrow
    range; those of convolutions have one scale for each output channel, those of dense layers one
    for all (with several, the converter fails). Activations have 8 bits.

    A convolution without an activation is taken to have batch norm behind it: its output gets no
    range, which would keep the converter from folding the batch norm. The batch norm itself stays
    without an annotation. Where no batch norm stands between a convolution and a layer ReLU, TFMOT
    drops the configuration without a word and leaves the weights in float: so do not fold first.

    Args:
        bits: Bit width of the weights, 2 to 8.

    Raises:
        ValueError: for another bit width.
    """

    def __init__(self, bits: int) -> None:
        if bits not in range(2, 9):
            raise ValueError(f"bits must be a whole number from 2 to 8, got {bits}.")
        self.bits = bits

    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        """Name the kernel, and how it is quantized."""
        quantizer = tfmot.quantization.keras.quantizers.LastValueQuantizer(
            num_bits=self.bits,
            per_axis=not isinstance(layer, tf_keras.layers.Dense),
            symmetric=True,
            narrow_range=True,
        )
        return [(getattr(layer, _kernel(layer)), quantizer)]

    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        """Put the quantized kernel into the layer."""
        setattr(layer, _kernel(layer), quantize_weights[0])

    def get_activations_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        """Name the activation of the layer, and how it is quantized."""
        if _leaves_its_range_to_batch_norm(layer):
            return []
        quantizer = tfmot.quantization.keras.quantizers.MovingAverageQuantizer(
            num_bits=8, per_axis=False, symmetric=False, narrow_range=False
        )
        return [(layer.activation, quantizer)]

    def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
        """Put the quantized activation into the layer."""
        if quantize_activations:
            layer.activation = quantize_activations[0]

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        """Give none: the output is that of the activation."""
        return []

    def get_config(self) -> dict[str, int]:
        """Give what Keras 2 needs to make the object again."""
        return {"bits": self.bits}


def _check(layer: Any) -> None:
    """Refuse a layer that has no counterpart of the same meaning."""
    kind = type(layer).__name__
    if type(layer) not in _SETTINGS:
        what = "" if isinstance(layer, keras.layers.Layer) else ", an operation without a layer"
        raise ValueError(
            f"Layer {layer.name} ({kind}{what}) cannot be carried over to tf_keras. These can: "
            f"{', '.join(known.__name__ for known in _SETTINGS)}."
        )
    activation = layer.get_config().get("activation", "linear")
    if activation not in _ACTIVATIONS:
        raise ValueError(
            f"Layer {layer.name} ({kind}) has an activation that cannot be carried over to "
            f"tf_keras, {activation!r}. These can: {', '.join(_ACTIVATIONS)}."
        )
    if layer.dtype_policy.name != "float32":
        raise ValueError(
            f"Layer {layer.name} ({kind}) computes in {layer.dtype_policy.name}: TFMOT starts from "
            "a float32 model."
        )
    if len(layer._inbound_nodes) > 1:
        raise ValueError(
            f"Layer {layer.name} ({kind}) is used {len(layer._inbound_nodes)} times, which TFMOT "
            "does not quantize: make a layer for each use."
        )


def _kernel(layer: Any) -> str:
    depthwise = isinstance(layer, tf_keras.layers.DepthwiseConv2D)
    return "depthwise_kernel" if depthwise else "kernel"


def _leaves_its_range_to_batch_norm(layer: Any) -> bool:
    is_dense = isinstance(layer, tf_keras.layers.Dense)
    return not is_dense and layer.activation is tf_keras.activations.linear
