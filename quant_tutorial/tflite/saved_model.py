"""Write any model that the course uses as a SavedModel for one image at a time (lesson 06).

The TFLite converter reads SavedModels. (Its `from_concrete_functions` does not freeze the variables
of a Keras 3 model.) With a batch of one, the file contains no ops that compute shapes.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from quant_tutorial import quiet
from quant_tutorial.frameworks import keras, tf


def is_tf_keras(model: Any) -> bool:
    """Return whether a model belongs to tf_keras (Keras 2), as TFMOT's do, without importing it."""
    return any(kind.__module__.split(".")[0] == "tf_keras" for kind in type(model).__mro__)


def input_shape(model: Any) -> tuple[int | None, ...]:
    """Return the shape of the only input of a model or SavedModel, with the batch axis first.

    Raises:
        ValueError: for something that is not a model or a SavedModel, and for a model that is not
            built, has several inputs or takes images of any size.
    """
    if isinstance(model, (str, Path)):
        shape = tuple(_signature(model)[1].shape)
    elif isinstance(model, keras.Model) or is_tf_keras(model):
        try:
            shape = model.input_shape
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
    # A model with several inputs has a list or a dictionary of shapes.
    if not isinstance(shape, tuple) or not all(n is None or isinstance(n, int) for n in shape):
        raise ValueError(f"model must have one input, it has {len(shape)}.")
    if None in shape[1:]:
        raise ValueError(
            f"model must take images of a fixed size, its input has the shape {shape}."
        )
    return shape


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

    Raises:
        ValueError: as for `input_shape`.
    """
    shape = (1, *input_shape(model)[1:])
    if isinstance(model, keras.Model):
        if _trains_unless_told(model):
            _export_inference(model, folder, shape)
            return
        signature = [keras.InputSpec(shape=shape, dtype="float32")]
        model.export(folder, format="tf_saved_model", input_signature=signature, verbose=False)
        return
    name = "image"
    if isinstance(model, (str, Path)):
        loaded, spec = _signature(model)
        name = spec.name

        def answer(image: tf.Tensor) -> tf.Tensor:
            return next(iter(loaded.signatures["serving_default"](**{name: image}).values()))

    else:
        loaded = model

        def answer(image: tf.Tensor) -> tf.Tensor:
            return model(image, training=False)

    holder = tf.Module()
    holder.loaded = loaded  # keeps the variables with the function
    function = tf.function(answer, input_signature=[tf.TensorSpec(shape, tf.float32, name=name)])
    tf.saved_model.save(holder, str(folder), signatures=function.get_concrete_function())


def _trains_unless_told(model: keras.Model) -> bool:
    """Return whether a layer is in training mode by default, as Keras' augmentation layers are."""
    calls = (inspect.signature(layer.call).parameters for layer in model._flatten_layers())
    return any("training" in known and known["training"].default is True for known in calls)


def _export_inference(model: keras.Model, folder: str | Path, shape: tuple[int, ...]) -> None:
    """Write a model as it is in inference; `model.export` leaves the mode to each layer."""
    archive = keras.export.ExportArchive()
    archive.track(model)
    spec = tf.TensorSpec(shape, tf.float32, name="args_0")
    archive.add_endpoint("serving_default", lambda x: model(x, training=False), [spec])
    archive.write_out(str(folder), verbose=False)


def has_fake_quant(folder: str | Path) -> bool:
    """Return whether a SavedModel has fake-quantization ops, which contain their own ranges."""
    with quiet.all_output():
        loaded = tf.saved_model.load(str(folder))
    graph = loaded.signatures["serving_default"].graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    return any(node.op.startswith("FakeQuantWithMinMaxVars") for node in nodes)


def _signature(folder: str | Path) -> tuple[Any, Any]:
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
        raise ValueError(f"model must have one input, it has {len(specs)}.")
    return loaded, next(iter(specs.values()))
