"""Use the Model Optimization Toolkit (TFMOT), to compare it with the course's own QAT (lesson 08).

TFMOT 0.8.1 works on models of Keras 2, which lives on as the package `tf_keras`. It refuses models
of Keras 3. So the network is built again in Keras 2, and its weights are copied:

    tfmot.quantization.keras.quantize_model(to_tf_keras(model))

Two things differ from `qat`. First, batch norm stays in the network and keeps learning; the
converter folds it. Second, no range is learned. The range of weights follows their largest
magnitude at each step. The range of activations is a moving average with momentum 0.999, which
starts at −6 and 6 and forgets these values slowly.

Importing TFMOT directly sets TF_USE_LEGACY_KERAS in the environment, which makes `tf.keras` mean
Keras 2 in this process and in every process started from it. Importing it through this module does
not: `tf.keras` stays Keras 3, and TFMOT still works with `tf_keras`.
"""

from __future__ import annotations

import os
from typing import Any

from quant_tutorial import quiet
from quant_tutorial.arguments import is_whole
from quant_tutorial.frameworks import keras, tf
from quant_tutorial.simulate.kinds import is_idle
from quant_tutorial.tflite.saved_model import input_shape

with quiet.native_output():
    _legacy = os.environ.get("TF_USE_LEGACY_KERAS")
    # This makes `tf.keras` settle on Keras 3, before TFMOT sets the variable that selects Keras 2.
    tf.keras.version()
    import tensorflow_model_optimization as tfmot
    import tf_keras

    if _legacy is None:
        os.environ.pop("TF_USE_LEGACY_KERAS", None)

_PLACE = ("strides", "padding", "data_format")
_LAYER = ("activation", "use_bias")
# The settings of each kind of layer that still matter once it is trained. They have the same names
# in both versions of Keras. Initializers, regularizers and constraints are left out.
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
    """Convert a Keras 3 model to Keras 2 for TFMOT, with the same weights (lesson 08).

    The outputs are the same up to float rounding. Layers keep their names, and batch norm is kept.
    The given model is not changed, and the new model is not compiled.

    Args:
        model: A built Sequential or functional model of Keras 3 with one input and one output, in
            float32. Its layers must be of those that the course treats (see `simulate.graph`).

    Raises:
        ValueError: for a model or layer of another kind; the message names it.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"model must be a Keras 3 model, got {type(model).__name__}.")
    shape = input_shape(model)  # raises for subclassed models, which have no graph
    if len(model.outputs) != 1:
        raise ValueError(f"model must have one output, it has {len(model.outputs)}.")
    # Only a functional model lists its operations in the order of the graph.
    graph = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    image = tf_keras.Input(shape[1:], name=graph.inputs[0].name)
    tensors = {id(graph.inputs[0]): image}
    for layer in graph.operations:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        if type(layer) not in _SETTINGS and is_idle(layer):  # augmentation, which ends here
            tensors[id(layer.output)] = tensors[id(layer.input)]
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


# With the registration, quantize_apply finds the class without a quantize_scope around the call.
@tf_keras.saving.register_keras_serializable("quant_tutorial")
class LowBitWeights(tfmot.quantization.keras.QuantizeConfig):
    """Configures TFMOT to fake-quantize the weights of a layer with few bits (lesson 08).

    Pass it to `tfmot.quantization.keras.quantize_annotate_layer`. Weights are symmetric with the
    narrow range. Those of convolutions have one scale for each output channel; those of dense
    layers have a single scale, because the converter fails with several. Activations have 8 bits.

    A convolution without an activation is assumed to be followed by batch norm. Its output then
    gets no range, which would keep the converter from folding the batch norm. Do not annotate the
    batch norm itself, and do not fold it first: where a ReLU layer directly follows a convolution,
    TFMOT silently drops the configuration and leaves the weights in float.

    Args:
        bits: Bit width of the weights, 2 to 8.

    Raises:
        ValueError: for another bit width.
    """

    def __init__(self, bits: int) -> None:
        if not is_whole(bits) or not 2 <= bits <= 8:
            raise ValueError(f"bits must be a whole number from 2 to 8, got {bits!r}.")
        self.bits = int(bits)

    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        """Return the weights of a layer with their quantizer."""
        quantizer = tfmot.quantization.keras.quantizers.LastValueQuantizer(
            num_bits=self.bits,
            per_axis=not isinstance(layer, tf_keras.layers.Dense),
            symmetric=True,
            narrow_range=True,
        )
        return [(getattr(layer, _kernel(layer)), quantizer)]

    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        """Put the quantized weights into the layer."""
        setattr(layer, _kernel(layer), quantize_weights[0])

    def get_activations_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        """Return the activation of a layer with its quantizer."""
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
        """Return an empty list, because the quantizer of the activation covers the output."""
        return []

    def get_config(self) -> dict[str, int]:
        """Return what Keras 2 needs to restore the object."""
        return {"bits": self.bits}


def quantize_low_bit(model: keras.Model, bits: int) -> tf_keras.Model:
    """Return TFMOT's quantization-aware copy of a model, with weights of few bits (lesson 09).

    It is what lesson 08 writes out: each layer of the copy in Keras 2 that has weights gets
    `LowBitWeights`, the others get TFMOT's own 8 bits, and batch norm is left to the converter. The
    copy is not compiled.

    Args:
        model: A model as `to_tf_keras` takes it.
        bits: Bit width of the weights, 2 to 8.

    Raises:
        ValueError: as for `to_tf_keras` and `LowBitWeights`.
    """
    chosen = LowBitWeights(bits)

    def annotate(layer: Any) -> Any:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            return layer
        return tfmot.quantization.keras.quantize_annotate_layer(
            layer, quantize_config=chosen if layer.weights else None
        )

    copy = tf_keras.models.clone_model(to_tf_keras(model), clone_function=annotate)
    return tfmot.quantization.keras.quantize_apply(copy)


def _check(layer: Any) -> None:
    """Raise a ValueError for a layer without an equivalent in Keras 2."""
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
