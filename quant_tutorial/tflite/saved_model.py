"""Write any model that the course uses as a SavedModel for one image at a time (lesson 06).

The TFLite converter reads SavedModels. (Its `from_concrete_functions` does not freeze the variables
of a Keras 3 model.) With a batch of one, the file contains no ops that compute shapes.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, NamedTuple

from quant_tutorial import models, quiet
from quant_tutorial.frameworks import keras, tf

import numpy as np

_OTHER_FLOATS = ("float64", "float16", "bfloat16")
# What reads or passes on values of any type.
_PASSING = ("Cast", "Const", "Identity", "Placeholder", "ReadVariableOp", "VarHandleOp")


def is_tf_keras(model: Any) -> bool:
    """Return whether a model belongs to tf_keras (Keras 2), as TFMOT's do, without importing it."""
    return any(kind.__module__.split(".")[0] == "tf_keras" for kind in type(model).__mro__)


class ModelInput(NamedTuple):
    """What the only input of a model takes."""

    shape: tuple[int | None, ...]  # with the batch axis first
    dtype: np.dtype  # an integer type, bool, or float32 for floats of any width

    @property
    def is_integer(self) -> bool:
        """Whether it takes integers or truth values, such as the numbers of words."""
        return self.dtype.kind in "iub"


def model_input(model: Any) -> ModelInput:
    """Return the shape and the type of the only input of a model or SavedModel.

    A list or a dictionary with a single input counts as one.

    Raises:
        ValueError: for something that is not a model or a SavedModel, and for a model that is not
            built, has several inputs, takes images of any size or takes something else than
            numbers, and for a SavedModel that takes several images at a time.
    """
    if isinstance(model, (str, Path)):
        spec = signature_of(model)[1]
        if spec.shape.rank is None:
            raise ValueError(
                f"model: the SavedModel in {model} does not say how many axes its input has. "
                "Export it with an input_signature, such as "
                "tf.TensorSpec((None, 28, 28, 1), tf.float32)."
            )
        inputs = [spec]
    elif isinstance(model, keras.Model) or is_tf_keras(model):
        try:
            _, inputs = model.input_shape, model.inputs
        except (AttributeError, RuntimeError):  # subclassed models and unbuilt ones have no shape
            raise ValueError(
                f"model {getattr(model, 'name', '')!r} must say the shape of its input: build it "
                "as a functional or Sequential model with an Input."
            ) from None
    else:
        raise ValueError(
            "model must be a Keras 3 model, a tf_keras model or the folder of a SavedModel, got "
            f"{type(model).__name__}."
        )
    if len(inputs) != 1:
        raise ValueError(
            f"model must have one input, it has {len(inputs)}. Build a model with a single input "
            "that holds them side by side, and cut it apart inside, for example with "
            "keras.ops.split."
        )
    return _checked_input(tuple(inputs[0].shape), tf.as_dtype(inputs[0].dtype), model)


def _checked_input(shape: tuple[int | None, ...], dtype: tf.DType, model: Any) -> ModelInput:
    if not shape:
        raise ValueError("model must have an axis for the images, its input is a single number.")
    if None in shape[1:]:
        raise ValueError(
            f"model must take images of a fixed size, its input has the shape {shape}: build it "
            "with that size, and give it the trained weights with set_weights."
        )
    if isinstance(model, (str, Path)) and shape[0] not in (None, 1):
        raise ValueError(
            f"model: the SavedModel in {model} takes {shape[0]} images at a time: export it with "
            f"the shape {(None, *shape[1:])}, so that a file for one image can be made."
        )
    if not (dtype.is_floating or dtype.is_integer or dtype.is_bool):
        raise ValueError(
            f"model must take numbers, its input holds {dtype.name}: leave the preprocessing out "
            "of the model, and give it the result."
        )
    return ModelInput(shape, np.dtype(np.float32 if dtype.is_floating else dtype.as_numpy_dtype))


def input_shape(model: Any) -> tuple[int | None, ...]:
    """Return the shape of the only input of a model or SavedModel, with the batch axis first.

    Raises:
        ValueError: as for `model_input`.
    """
    return model_input(model).shape


def layer_names(model: Any) -> tuple[str, ...] | None:
    """Return the names of a model's layers and of those nested in them; None for a SavedModel."""
    if isinstance(model, (str, Path)):
        return None
    return tuple(
        dict.fromkeys(
            name
            for layer in model.layers
            for name in (layer.name, *(layer_names(layer) if hasattr(layer, "layers") else ()))
        )
    )


def export_saved_model(model: Any, folder: str | Path) -> None:
    """Write a model as a SavedModel that takes one image at a time.

    Its input has the type that `model_input` returns.

    Raises:
        ValueError: as for `model_input`.
    """
    entry = model_input(model)
    shape = (1, *entry.shape[1:])
    if isinstance(model, keras.Model):
        _write(models.single_ended(model), folder, tf.TensorSpec(shape, entry.dtype, name="args_0"))
        return
    name = "image"
    if isinstance(model, (str, Path)):
        loaded, spec = signature_of(model)
        name = spec.name

        def answer(image: tf.Tensor) -> Any:
            image = tf.cast(image, spec.dtype)  # floats may be wider or narrower
            outputs = loaded.signatures["serving_default"](**{name: image})
            return outputs if len(outputs) > 1 else next(iter(outputs.values()))

    else:
        loaded = model

        def answer(image: tf.Tensor) -> Any:
            return model(packed(image, model.input), training=False)

    holder = tf.Module()
    holder.loaded = loaded  # keeps the variables with the function
    function = tf.function(answer, input_signature=[tf.TensorSpec(shape, entry.dtype, name=name)])
    tf.saved_model.save(holder, str(folder), signatures=function.get_concrete_function())


def export_spec(entry: ModelInput) -> keras.InputSpec:
    """Return the signature of a model's input with one image at a time, for Keras' export."""
    return keras.InputSpec(shape=(1, *entry.shape[1:]), dtype=entry.dtype.name)


def packed(image: tf.Tensor, like: Any) -> Any:
    """Put an image into the list or the dictionary that a tf_keras model takes."""
    if isinstance(like, dict):
        return dict.fromkeys(like, image)
    return [image] if isinstance(like, (list, tuple)) else image


def _trains_unless_told(model: keras.Model) -> bool:
    """Return whether a layer is in training mode by default, as Keras' augmentation layers are."""
    calls = (inspect.signature(layer.call).parameters for layer in model._flatten_layers())
    return any("training" in known and known["training"].default is True for known in calls)


def _write(model: keras.Model, folder: str | Path, spec: tf.TensorSpec) -> None:
    """Write a model as it is in inference.

    `model.export` takes twice as long, because it looks at each layer, and lets layers augment. The
    two signatures are those of `model.export`, so the converter makes the same file of both.
    """
    for layer in model._flatten_layers():
        if hasattr(layer, "lookup_table"):
            raise ValueError(
                f"Layer {layer.name} ({type(layer).__name__}) looks values up in a table, for "
                "which LiteRT has no op: do that before the model, and give it the numbers found."
            )
    holder = tf.Module()
    holder.held = [variable.value for variable in model.variables]
    # A layer that the reader has called with training=True stays in that mode.
    mode = {"training": False} if _trains_unless_told(model) else {}
    # Without autograph, which would look for loops in Keras' own code.
    holder.serve = tf.function(lambda x: model(x, **mode), input_signature=[spec], autograph=False)
    signatures = dict.fromkeys(("serve", "serving_default"), holder.serve)
    tf.saved_model.save(holder, str(folder), signatures=signatures)


def other_floats(folder: str | Path) -> tuple[str, str] | None:
    """Return the type and the name of the first op that computes in other floats than float32.

    Args:
        folder: The folder of a SavedModel with a signature "serving_default".
    """
    for node in _nodes(folder):
        numbers = {node.attr[name].type for name in ("T", "dtype") if name in node.attr}
        names = {tf.as_dtype(number).name for number in numbers if number}
        if node.op not in _PASSING and (found := names.intersection(_OTHER_FLOATS)):
            return found.pop(), node.name
    return None


def _nodes(folder: str | Path) -> list[Any]:
    """List the ops of a SavedModel, those of its functions as well."""
    with quiet.all_output():
        loaded = tf.saved_model.load(str(folder))
    graph = loaded.signatures["serving_default"].graph.as_graph_def()
    return [*graph.node, *(node for f in graph.library.function for node in f.node_def)]


def has_fake_quant(folder: str | Path) -> bool:
    """Return whether a SavedModel has fake-quantization ops, which contain their own ranges."""
    return any(node.op.startswith("FakeQuantWithMinMaxVars") for node in _nodes(folder))


def signature_of(folder: str | Path) -> tuple[Any, Any]:
    """Load a SavedModel and return it with the specification of its only input."""
    if not (Path(folder) / "saved_model.pb").is_file():
        raise ValueError(
            f"model: {folder} is not the folder of a SavedModel (it holds no saved_model.pb). Load "
            "a .keras file with keras.models.load_model and give the model itself."
        )
    with quiet.all_output():
        loaded = tf.saved_model.load(str(folder))
    if "serving_default" not in loaded.signatures:
        raise ValueError(
            f"model: the SavedModel in {folder} has no signature 'serving_default', it has "
            f"{', '.join(loaded.signatures) or 'none'}."
        )
    specs = loaded.signatures["serving_default"].structured_input_signature[1]
    if len(specs) != 1:
        raise ValueError(
            f"model must have one input, it has {len(specs)}: {', '.join(sorted(specs))}. Export "
            "a model with a single input that holds them side by side."
        )
    return loaded, next(iter(specs.values()))
