"""Build and load the course's float models, and work with any Keras model (lesson 01).

For any Keras model, there are functions that predict, count multiply-adds, read and set the weights
and fold batch norm. `training` trains the course's models again.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from quant_tutorial import saving
from quant_tutorial.arguments import by_input, require_same_count
from quant_tutorial.frameworks import keras

import numpy as np
from numpy.typing import NDArray

WEIGHTS = Path(__file__).parent / "data" / "baseline.weights.h5"
COLOUR_WEIGHTS = WEIGHTS.with_name("colour_digits.weights.h5")
INT8 = Path(__file__).parent / "data" / "baseline_int8.tflite"

# How the colour model's channels are spread: by factors from 2^−2 to 2^2.
_SPREAD, _SPREAD_SEED = 2, 2026
_COMMAND = "python -m quant_tutorial.training"
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
# These have weights, and multiply each value with one of them.
_ELEMENTWISE = (*(keras.layers.BatchNormalization, keras.layers.Normalization, keras.layers.PReLU),)
_BATCH_VALUES, _BATCH_SIZES = 3_200_000, (500, 2000)
_OTHER_FLOATS = {"float16", "bfloat16", "float64"}


def build_baseline() -> keras.Model:
    """Build the untrained float model (lesson 01).

    The model has three convolutions, each with batch norm and ReLU, two max-pooling layers and a
    dense head. Its input is float images in [0, 1], shape (n, 28, 28, 1). Its output is the logits
    before any softmax, shape (n, 10).
    """
    layers = keras.layers
    image = keras.Input((28, 28, 1), name="image")
    x = image
    for number, (filters, padding) in enumerate(
        ((8, "same"), (16, "same"), (32, "valid")), start=1
    ):
        # Batch norm has its own offset, so a bias before it would have no effect.
        x = layers.Conv2D(filters, 3, padding=padding, use_bias=False, name=f"conv{number}")(x)
        x = layers.BatchNormalization(name=f"bn{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
        if number < 3:
            x = layers.MaxPooling2D(name=f"pool{number}")(x)
    x = layers.Flatten(name="flatten")(x)
    return keras.Model(image, layers.Dense(10, name="logits")(x), name="baseline")


def build_colour_digits() -> keras.Model:
    """Build the untrained colour model, a small MobileNet (lesson 11).

    A convolution is followed by five depthwise-separable blocks: a depthwise convolution, which
    filters each channel alone, and a pointwise one (1×1), which mixes the channels. Batch norm and
    ReLU follow each of them. Global average pooling and a dense head come last. The input is float
    images in [−1, 1], shape (n, 32, 32, 3), as `colour_digits.to_float` returns them. The output is
    the logits, shape (n, 10). Source: Howard et al., "MobileNets", 2017, section 3.
    """
    layers = keras.layers
    image = keras.Input((32, 32, 3), name="image")

    def activated(x: Any, layer: keras.Layer) -> Any:
        x = layers.BatchNormalization(name=f"{layer.name}_bn")(layer(x))
        return layers.ReLU(name=f"{layer.name}_relu")(x)

    options: dict[str, Any] = {"padding": "same", "use_bias": False}
    x = activated(image, layers.Conv2D(16, 3, strides=2, name="conv1", **options))
    for number, (filters, stride) in enumerate(
        ((32, 2), (64, 1), (64, 1), (128, 2), (128, 1)), start=2
    ):
        depthwise = layers.DepthwiseConv2D(3, strides=stride, name=f"depthwise{number}", **options)
        x = activated(x, depthwise)
        x = activated(x, layers.Conv2D(filters, 1, name=f"pointwise{number}", **options))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(10, name="logits")(x), name="colour_digits")


def load_baseline(path: Path = WEIGHTS) -> keras.Model:
    """Load the trained float model that ships with the course (lesson 01).

    Raises:
        FileNotFoundError: when the weights are missing.
        ValueError: when the file is damaged or belongs to another model.
    """
    return _loaded(build_baseline, path, "The baseline", _COMMAND)


def load_colour_digits(path: Path = COLOUR_WEIGHTS, *, spread: bool = True) -> keras.Model:
    """Load the trained colour model that ships with the course (lesson 11).

    As it was trained, the model loses next to nothing at int8 with one scale for each tensor:
    98.39% instead of 98.44% of the test images are right. This function makes it fail: 69% are
    right then. It spreads the ranges of the channels, as they are spread in MobileNetV2 without any
    help (Nagel et al., "Data-Free Quantization", ICCV 2019, section 3.1). Each channel before a
    ReLU is multiplied by a power of two from 1/4 to 4, drawn at random from a fixed seed, and the
    next layer's weights for this channel are divided by it. Since ReLU(c·x) = c·ReLU(x) for c > 0,
    and powers of two cause no rounding, every output keeps all its bits.

    Args:
        path: The file of the weights, which holds them as they were trained.
        spread: Whether to spread the channels; False returns the model as it was trained.

    Raises:
        FileNotFoundError: when the weights are missing.
        ValueError: when the file is damaged or belongs to another model.
    """
    command = f"{_COMMAND} colour_digits"
    model = _loaded(build_colour_digits, path, "The colour model", command)
    if spread:
        _spread_channels(model)
    return model


def _spread_channels(model: keras.Model) -> None:
    """Multiply each channel of a chain of layers by a power of two, and divide it out after."""
    random = np.random.default_rng(_SPREAD_SEED)
    chain = [layer for layer in model.layers if hasattr(layer, "kernel")]
    for layer, following in itertools.pairwise(chain):
        norm = model.get_layer(f"{layer.name}_bn")
        exponents = random.integers(-_SPREAD, _SPREAD, norm.gamma.shape, endpoint=True)
        factors = (2.0**exponents).astype(np.float32)
        norm.gamma.assign(norm.gamma * factors)
        norm.beta.assign(norm.beta * factors)
        # The input channels are on the last axis but one, in depthwise convolutions as well.
        following.kernel.assign(following.kernel / factors[:, np.newaxis])


def _loaded(build: Callable[[], keras.Model], path: Path, name: str, command: str) -> keras.Model:
    """Build a model that ships with the course, and load its weights into it."""
    way_out = (
        "Get them back with `git checkout -- quant_tutorial/data`, or train the model again: "
        f"{command}"
    )
    if not path.exists():
        raise FileNotFoundError(f"{name}'s weights are missing: {path}. {way_out}")
    try:
        # Keras loads most damaged files without an error, so the digest is compared first.
        figures = figures_path(path)
        if figures.exists() and _recorded_digest(figures, "sha256", name, way_out) != digest(path):
            raise ValueError(f"its digest is not the one in {figures.name}")
        model = build()
        model.load_weights(path)
    except Exception as error:  # HDF5 and Keras raise different errors for each damage
        raise ValueError(f"{name}'s weights are damaged ({error}): {path}. {way_out}") from error
    return model


def load_int8_baseline(path: Path = INT8) -> bytes:
    """Load the baseline as a full-integer int8 `.tflite` file, shipped with the course (lesson 07).

    The file is the result of `tflite.convert(load_baseline(), "int8", calibration=…)` with the
    first 500 training images. The converter measures the ranges in float arithmetic, whose last
    digits depend on the processor. With this file the integers are the same everywhere.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: when it is damaged or made from other weights.
    """
    way_out = (
        f"Get it back with `git checkout -- quant_tutorial/data`, or make it: {_COMMAND} --int8"
    )
    if not path.exists():
        raise FileNotFoundError(f"The int8 baseline is missing: {path}. {way_out}")
    figures = figures_path(WEIGHTS)
    if figures.exists() and _recorded_digest(
        figures, "int8_sha256", "The baseline", way_out
    ) != digest(path):
        raise ValueError(f"The int8 baseline is damaged, or of other weights: {path}. {way_out}")
    return path.read_bytes()


def predict(model: keras.Model, x: Any) -> Any:
    """Run a Keras model on images, shape (n, …), and return NumPy arrays (lesson 01).

    A model with several inputs takes them as `arguments.by_input` does: a mapping from their names
    to arrays, or a list. A model with several outputs returns them in its own structure, such as a
    list or a dictionary. There is no progress bar, and no function is compiled, so that different
    models can be run in quick succession.

    Raises:
        ValueError: for arrays that do not fit the several inputs of a model.
    """
    if len(getattr(model, "inputs", None) or ()) > 1:
        names, listed = input_names(model), has_ordered_inputs(model)
        given = {key: np.asarray(v) for key, v in by_input("x", x, names, listed=listed).items()}
        require_same_count("x", given)
        size = _batch_size(given.values())
        parts = [
            packed_inputs(model, {key: v[start : start + size] for key, v in given.items()})
            for start in range(0, len(given[names[0]]), size)
        ]
    else:
        size = _batch_size([x])
        parts = (x[start : start + size] for start in range(0, len(x), size))
    batches = [model(part, training=False) for part in parts]
    return keras.tree.map_structure(lambda *each: np.concatenate(each), *batches)


def _batch_size(inputs: Iterable[Any]) -> int:
    """Return how many images to run at a time.

    Keras takes a millisecond for each call of a layer, which is much for a batch of small images.
    Large ones need the memory: what the layers compute from a batch is many times its size.
    """
    values = sum(math.prod(np.shape(each)[1:]) for each in inputs)
    return min(max(_BATCH_VALUES // max(values, 1), _BATCH_SIZES[0]), _BATCH_SIZES[1])


def input_names(model: Any) -> list[str]:
    """Return the names by which a model's inputs are told apart, in the order of `model.inputs`.

    They are the names of its Input layers, or the keys where it takes a dictionary (lesson 06).

    Args:
        model: A built Keras 3 or tf_keras model.
    """
    structure = getattr(model, "input", None)
    if isinstance(structure, Mapping) and _is_flat(structure.values()):
        keys = {id(tensor): str(key) for key, tensor in structure.items()}
        return [keys[id(tensor)] for tensor in model.inputs]
    # Keras 3 gives an Input without a name a tensor of another name.
    histories = [getattr(tensor, "_keras_history", None) for tensor in model.inputs]
    owners = [getattr(history, "operation", None) for history in histories]
    return [(own or x).name for own, x in zip(owners, model.inputs, strict=True)]


def has_ordered_inputs(model: Any) -> bool:
    """Return whether a model takes a list of its inputs, so that its caller knows their order.

    Keras sorts the keys of a dictionary, and a list in the order in which they are written would
    swap inputs of the same shape without a word. Lesson 06.
    """
    structure = getattr(model, "input", None)
    return not isinstance(structure, list | tuple | Mapping) or (
        not isinstance(structure, Mapping) and _is_flat(structure)
    )


def packed_inputs(model: Any, values: Mapping[str, Any]) -> Any:
    """Return values for a model's inputs, by their names, in the structure that it takes."""
    ordered = [values[name] for name in input_names(model)]
    return keras.tree.pack_sequence_as(model.input, ordered)


def _is_flat(tensors: Iterable[Any]) -> bool:
    return all(hasattr(tensor, "shape") for tensor in tensors)


def multiply_adds(model: keras.Model) -> int:
    """Count the multiply-adds (a multiplication and its addition) for one image (lesson 01).

    Convolutions and dense layers are counted, those of nested models as well, and a layer that is
    used several times at each use. Biases, batch norm, other multiplications of single values and
    pooling are left out.

    Raises:
        ValueError: for any other layer with weights, and for a model without a graph of layers.
    """
    graph = layer_graph(model)
    uses = (
        node
        for nodes in graph._nodes_by_depth.values()
        for node in nodes
        if isinstance(node.operation, keras.Layer) and node.input_tensors
    )
    return sum(
        _multiply_adds(node.operation, node.input_tensors[0].shape, node.outputs[0].shape)
        for node in uses
    )


def _multiply_adds(layer: keras.Layer, before: Sequence[int], after: Sequence[int]) -> int:
    """Return the multiply-adds of one use of a layer, by the shapes of its input and output."""
    kinds = keras.layers
    if isinstance(layer, keras.Model):
        return multiply_adds(layer)
    if isinstance(layer, _DEPTHWISE):
        return math.prod(after[1:]) * math.prod(layer.kernel.shape[:-2])
    if isinstance(layer, (kinds.SeparableConv1D, kinds.SeparableConv2D)):
        each = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
        return math.prod(after[1:-1]) * each
    if isinstance(layer, (kinds.Conv1DTranspose, kinds.Conv2DTranspose)):
        return math.prod(before[1:-1]) * math.prod(layer.kernel.shape)
    if isinstance(layer, (kinds.Conv1D, kinds.Conv2D, kinds.Dense)):
        return math.prod(after[1:]) * math.prod(layer.kernel.shape[:-1])
    if layer.weights and not isinstance(layer, _ELEMENTWISE):
        raise ValueError(f"Layer {layer.name} ({type(layer).__name__}) cannot be counted.")
    return 0


def weights(model: keras.Model) -> dict[str, NDArray[np.float32]]:
    """Return the weights of all convolutions and dense layers by layer name (lesson 04).

    Biases and batch norm are left out. Keras calls a layer's weights without the bias its kernel.

    The output channels are on the last axis. The weights of a depthwise convolution, of shape
    (height, width, input channels, multiplier), are reshaped to (height, width, output channels),
    and the last two axes of a transposed convolution's are swapped.

    Raises:
        ValueError: for a nested model with weights, whose layers have no names of their own here.
    """
    for layer in model.layers:
        if isinstance(layer, keras.Model) and layer.weights:
            raise ValueError(
                f"Layer {layer.name} is a model of its own, whose layers are not among those of "
                f"{model.name}: call weights(model.get_layer({layer.name!r})) for them."
            )
    return {
        layer.name: _by_output_channel(layer, layer.kernel.numpy())
        for layer in model.layers
        if hasattr(layer, "kernel")
    }


def single_ended(model: keras.Model) -> keras.Model:
    """Return a model that takes and gives tensors, where it has lists or dictionaries of one.

    Layers and weights are shared; other models are returned as they are. Lesson 12.
    """
    ends = [getattr(model, "input", None), getattr(model, "output", None)]
    if not any(isinstance(end, list | tuple | dict) and len(end) == 1 for end in ends):
        return model
    ends = [
        tensors[0] if len(tensors) == 1 else end
        for end, tensors in zip(ends, (model.inputs, model.outputs), strict=True)
    ]
    return keras.Model(*ends, name=model.name)


def copied(model: keras.Model) -> keras.Model:
    """Return a copy of a model with weights of its own, and without an optimizer (lesson 08).

    So a saved copy is a third of the size: the optimizer's state is twice that of the weights.
    """
    copy = keras.models.clone_model(model, clone_function=copied_layer)
    copy.set_weights(model.get_weights())
    return copy


def copied_layer(layer: keras.Layer, **settings: Any) -> keras.Layer:
    """Return a layer with the same settings except for those that are given, not yet built.

    Lesson 08.

    Raises:
        ValueError: for a layer of the reader's own that does not tell its settings.
    """
    if isinstance(layer, keras.layers.Lambda):
        # Keras does not rebuild a Python lambda from its settings, and another module than the
        # reader's would lack the names that it uses.
        return keras.layers.Lambda(
            layer.function, layer._output_shape, layer.mask, layer.arguments, name=layer.name
        )
    try:
        return type(layer).from_config({**layer.get_config(), **settings})
    except (NotImplementedError, TypeError) as error:
        raise ValueError(
            f"Layer {layer.name} ({type(layer).__name__}) cannot be copied, since it does not tell "
            "its settings: give its class a get_config() that returns the arguments of __init__, "
            "and let __init__ take **kwargs for Keras' own."
        ) from error


def layer_graph(model: keras.Model) -> keras.Model:
    """Return a model with a graph of layers: a Sequential model as a functional one (lesson 04).

    Raises:
        ValueError: for a model that is not built, or a subclassed one.
    """
    if isinstance(model, keras.Sequential) and model.built:
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if not isinstance(model, keras.Model) or not hasattr(model, "operations"):
        raise ValueError(
            f"model must be a built Sequential or functional Keras model, got {model!r}: a "
            "subclassed model, and one that has not seen its input, shows no graph of layers. "
            "Build it as keras.Model(inputs, outputs) from an Input."
        )
    return model


def require_float32(model: Any) -> None:
    """Raise a ValueError for a layer that does not compute in float32, as LiteRT does (lesson 06).

    Args:
        model: A Keras 3 or tf_keras model.
    """
    for layer in model._flatten_layers(include_self=False):
        kind, policy = type(layer).__name__, getattr(layer, "dtype_policy", None)
        if kind == "InputLayer":
            continue
        if mode := getattr(layer, "quantization_mode", None):
            raise ValueError(
                f"Layer {layer.name} ({kind}) holds the {mode} weights of Keras' own "
                "model.quantize: start from the float model, as it was before that call."
            )
        if {layer.compute_dtype, getattr(layer, "variable_dtype", None)} & _OTHER_FLOATS:
            name = getattr(policy, "name", layer.compute_dtype)
            raise ValueError(
                f"Layer {layer.name} ({kind}) computes in {name}, and the converter takes models "
                "in float32. Call keras.config.set_dtype_policy('float32'), build the model again, "
                "and copy the weights: new.set_weights(model.get_weights())."
            )


def require_same_shapes(model: Any) -> None:
    """Raise a ValueError for a RandomCrop that crops: in inference its output is no such crop.

    Keras leaves the images as they are then, and still gives its output the shape of the crop.
    Lesson 06.

    Args:
        model: A Keras 3 or tf_keras model.
    """
    for layer in model._flatten_layers(include_self=False):
        if not isinstance(layer, keras.layers.RandomCrop):
            continue
        for node in layer._inbound_nodes:
            before, after = node.input_tensors[0].shape, node.outputs[0].shape
            if before != after:
                raise ValueError(
                    f"Layer {layer.name} (RandomCrop) makes {after[1:]} of images of the shape "
                    f"{before[1:]} in training only, and Keras leaves them as they are in "
                    "inference: put keras.layers.CenterCrop in its place, and crop at random in "
                    "the data set."
                )


def require_finite_weights(model: Any) -> None:
    """Raise a ValueError for weights that are NaN or infinite, with the layer's name (lesson 06).

    Args:
        model: A Keras 3 or tf_keras model, or another object with variables.
    """
    for variable in getattr(model, "weights", None) or model.variables:
        values = variable.numpy()
        if values.dtype.kind == "f" and not (fine := np.isfinite(values)).all():
            path = getattr(variable, "path", variable.name).split(":")[0]
            raise ValueError(
                f"The weights {path} hold {values.size - fine.sum()} NaN or infinite values of "
                f"{values.size}: nothing can be quantized with them. Load weights from before "
                "that happened; training that diverges is a frequent cause."
            )


def set_weights(model: keras.Model, new: Mapping[str, NDArray[np.floating]]) -> None:
    """Assign weights, in the form that `weights` returns, to a model's layers (lesson 04)."""
    for name, values in new.items():
        layer = model.get_layer(name)
        layer.kernel.assign(keras_layout(layer, values))


def keras_layout(layer: keras.Layer, weights: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return weights, in the form that `weights` returns, in that of the layer's kernel.

    Lesson 08.
    """
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return np.swapaxes(weights, -1, -2)
    return np.reshape(weights, layer.kernel.shape)


def litert_layout(layer: keras.Layer, kernel: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return a layer's weights with their axes as in a `.tflite` file (lesson 08).

    `kernel` holds the weights in the form that `weights` returns. LiteRT has the output channels on
    the first axis. In a depthwise convolution they are on the last, and an axis of length 1 is
    first. A convolution of one dimension has a height of 1.
    """
    if isinstance(layer, (keras.layers.Conv1D, keras.layers.DepthwiseConv1D)):
        kernel = kernel[np.newaxis]
    if isinstance(layer, _DEPTHWISE):
        return kernel[np.newaxis]
    return np.ascontiguousarray(np.moveaxis(kernel, -1, 0))


def _by_output_channel(layer: keras.Layer, kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    if isinstance(layer, _DEPTHWISE):
        return kernel.reshape(*kernel.shape[:-2], -1)
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return np.swapaxes(kernel, -1, -2)
    return kernel


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Fold each batch norm into the layer before it and return the new model (lesson 04).

    After training, batch norm multiplies each channel by γ/√(variance + ε) and adds an offset. The
    convolution, depthwise convolution or dense layer before it can do both with its own weights and
    bias. The outputs stay the same up to float rounding, and the given model is not changed.
    Source: Jacob et al., CVPR 2018, section 3.2.

    Args:
        model: A built Sequential or functional model. In models nested in it batch norm is folded
            as well.

    Raises:
        ValueError: for a batch norm that does not directly follow such a layer or does not work
            along the channels, for one whose layer has an activation or is used elsewhere, too, and
            for a model or a layer that hides its batch norm.
    """
    graph = layer_graph(model)
    for layer in graph.layers:
        _require_visible(layer)
    folds = {
        _layer_before(layer, graph).name: layer
        for layer in graph.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }

    def clone(layer: keras.Layer) -> keras.Layer:
        if isinstance(layer, keras.Model):
            return fold_batch_norm(layer)
        return copied_layer(layer, **({"use_bias": True} if layer.name in folds else {}))

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, keras.layers.BatchNormalization):
            return args[0]
        return layer(*args, **kwargs)

    folded = keras.models.clone_model(graph, clone_function=clone, call_function=call)
    for layer in folded.layers:
        if layer.weights and not isinstance(layer, keras.Model):
            original = graph.get_layer(layer.name)
            norm = folds.get(layer.name)
            weights = original.get_weights()
            layer.set_weights(with_norm(original, weights, norm) if norm else weights)
    return folded


def _require_visible(layer: keras.Layer) -> None:
    """Raise a ValueError for a layer of the reader's own that has a batch norm inside."""
    if isinstance(layer, keras.Model):
        return
    for inner in layer._flatten_layers(include_self=False):
        if isinstance(inner, keras.layers.BatchNormalization):
            raise ValueError(
                f"Batch norm {inner.name} cannot be folded: it is inside layer {layer.name} "
                f"({type(layer).__name__}), which shows no graph of layers. Build that block from "
                "layers of the model, or as a functional model of its own."
            )


def _layer_before(norm: keras.layers.BatchNormalization, model: keras.Model) -> keras.Layer:
    """Return the layer into which a batch norm can be folded, or raise a ValueError."""
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)

    def refuse(reason: str) -> ValueError:
        return ValueError(f"Batch norm {norm.name} cannot be folded: {reason}.")

    if len(norm._inbound_nodes) != 1:
        raise refuse(f"it is used {len(norm._inbound_nodes)} times; make a batch norm for each use")
    before = norm.input._keras_history.operation
    if not isinstance(before, kinds) or before not in model.layers:
        raise refuse(
            f"it follows {before.name} ({type(before).__name__}), and only a convolution, "
            "depthwise convolution or dense layer takes it in"
        )
    if len(before._inbound_nodes) > 1:
        raise refuse(f"layer {before.name} is used {len(before._inbound_nodes)} times")
    if before.activation is not keras.activations.linear:
        raise refuse(f"layer {before.name} has an activation between the two")
    users = [
        layer.name
        for layer in model.layers
        for node in layer._inbound_nodes
        for tensor in node.input_tensors
        if tensor is before.output
    ]
    if len(set(users)) > 1 or any(output is before.output for output in model.outputs):
        raise refuse(f"the output of {before.name} is used elsewhere too")
    if norm.axis not in (-1, before.output.ndim - 1):
        raise refuse(f"it works along axis {norm.axis}, which is not that of the channels")
    return before


def with_norm(
    layer: keras.Layer,
    weights: list[NDArray[np.float32]],
    norm: keras.layers.BatchNormalization,
) -> list[NDArray[np.float32]]:
    """Return the weights and the bias that replace a layer's and the batch norm after it.

    Lesson 04.
    """
    kernel, bias = weights if len(weights) == 2 else (weights[0], 0.0)
    gain, offset = norm_constants(norm)
    bias = (bias - norm.moving_mean.numpy()) * gain + offset
    return [scaled_kernel(layer, kernel, gain), bias]


def norm_constants(
    norm: keras.layers.BatchNormalization,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return γ/√(variance + ε) and β of a batch norm, one for each channel (lesson 04)."""
    gain = 1 / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
    gain = gain * norm.gamma.numpy() if norm.scale else gain
    return gain, norm.beta.numpy() if norm.center else np.zeros_like(gain)


def scaled_kernel(
    layer: keras.Layer, kernel: NDArray[np.float32], gain: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return Keras' weights of a layer with each output channel multiplied (lesson 04).

    `gain` holds one factor, or one for each channel.
    """
    if np.size(gain) == 1:
        return kernel * gain
    if isinstance(layer, _DEPTHWISE):
        return kernel * gain.reshape(kernel.shape[-2:])  # (input channels, multiplier)
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return kernel * gain[:, np.newaxis]  # (…, output channels, input channels)
    return kernel * gain  # the output channels are the last axis


def figures_path(weights: Path) -> Path:
    """Return the path of the file with the figures that were measured with some weights."""
    return weights.with_name(weights.name.replace(".weights.h5", ".json"))


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _recorded_digest(figures: Path, key: str, name: str, way_out: str) -> str:
    content = saving.read_json(figures, f"{name}'s figures", way_out)
    if not isinstance(content, dict) or not isinstance(content.get(key), str):
        raise ValueError(f"{name}'s figures are damaged (no {key}): {figures}. {way_out}")
    return content[key]
