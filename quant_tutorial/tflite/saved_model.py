"""Write any model that the course uses as a SavedModel for one image at a time (lesson 06).

The TFLite converter reads SavedModels. (Its `from_concrete_functions` does not freeze the variables
of a Keras 3 model.) With a batch of one, the file contains no ops that compute shapes.
"""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from quant_tutorial import flatbuffer, models, quiet
from quant_tutorial.arguments import ModelInput
from quant_tutorial.frameworks import keras, tf

import numpy as np
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

_OTHER_FLOATS = ("float64", "float16", "bfloat16")
_ARGUMENT = re.compile("[A-Za-z][A-Za-z0-9_]*")
# As many parameters may be constants of a SavedModel: 16 MB. For more, that takes more memory.
_MOST = 2**22
# What reads, sets or passes on values of any type.
_PASSING = (
    "AssignVariableOp",
    "Cast",
    "Const",
    "DisableCopyOnRead",
    "Identity",
    "Placeholder",
    "ReadVariableOp",
    "VarHandleOp",
)


def is_tf_keras(model: Any) -> bool:
    """Return whether a model belongs to tf_keras (Keras 2), as TFMOT's do, without importing it."""
    return any(kind.__module__.split(".")[0] == "tf_keras" for kind in type(model).__mro__)


def model_inputs(model: Any) -> dict[str, ModelInput]:
    """Return what each input of a model or SavedModel takes, by its name and in the model's order.

    The names are those of `models.input_names`, and for a SavedModel those of its signature, which
    has no order that its writer knows.

    Raises:
        ValueError: for something that is not a model or a SavedModel, and for a model that is not
            built, takes images of any size or takes something else than numbers, and for a
            SavedModel that takes several images at a time.
    """
    if isinstance(model, (str, Path)):
        specs = signature_of(model)[1]
        if any(spec.shape.rank is None for spec in specs.values()):
            raise ValueError(
                f"model: the SavedModel in {model} does not say how many axes its input has. "
                "Export it with an input_signature, such as "
                "tf.TensorSpec((None, 28, 28, 1), tf.float32)."
            )
    elif isinstance(model, keras.Model) or is_tf_keras(model):
        try:
            _, inputs = model.input_shape, model.inputs
        except (AttributeError, RuntimeError):  # subclassed models and unbuilt ones have no shape
            raise ValueError(
                f"model {getattr(model, 'name', '')!r} must say the shape of its input: build it "
                "as a functional or Sequential model with an Input."
            ) from None
        specs = dict(zip(models.input_names(model), inputs, strict=True))
    else:
        raise ValueError(
            "model must be a Keras 3 model, a tf_keras model or the folder of a SavedModel, got "
            f"{type(model).__name__}."
        )
    if not specs:
        raise ValueError("model must have an input, it has none.")
    return {
        name: _checked_input(
            f"its input {name!r}" if len(specs) > 1 else "its input",
            tuple(spec.shape),
            tf.as_dtype(spec.dtype),
            model,
        )
        for name, spec in specs.items()
    }


def model_input(model: Any) -> ModelInput:
    """Return what the only input of a model or SavedModel takes.

    A list or a dictionary with a single input counts as one.

    Raises:
        ValueError: as for `model_inputs`, and for several inputs.
    """
    found = model_inputs(model)
    if len(found) != 1:
        raise ValueError(
            f"model must have one input, it has {len(found)}: {', '.join(found)}. Build a "
            "model with a single input that holds them side by side, and cut it apart inside, for "
            "example with keras.ops.split."
        )
    return next(iter(found.values()))


def fixed_batch(inputs: Mapping[str, ModelInput]) -> int | None:
    """Return how many images a model takes at a time, or None for any number."""
    return next((entry.shape[0] for entry in inputs.values() if entry.shape[0]), None)


def takes_lists(model: Any) -> bool:
    """Return whether a model's inputs have an order that its writer knows, see `by_input`."""
    return not isinstance(model, (str, Path)) and models.has_ordered_inputs(model)


def output_names(model: Any) -> list[str]:
    """Return the names that the outputs of a model get in a file, in the model's order.

    They are the keys of a dictionary, and otherwise output_0, output_1 and so on.
    """
    if isinstance(model, (str, Path)):
        return _signature_outputs(signature_of(model)[0].signatures["serving_default"])
    structure = getattr(model, "output", None)  # a Sequential model of Keras 3 shows none
    if isinstance(structure, Mapping) and len(structure) == len(model.outputs):
        return [*map(str, _flatten(model)({key: key for key in structure}))]
    return [f"output_{number}" for number in range(len(model.outputs))]


def _by_place(name: str) -> tuple[str, int]:
    """Return what sorts names such as output_2 and output_10 by their numbers."""
    stem, _, number = name.rpartition("_")
    return (stem, int(number)) if stem and number.isdecimal() else (name, -1)


def _checked_input(
    name: str, shape: tuple[int | None, ...], dtype: tf.DType, model: Any
) -> ModelInput:
    if not shape:
        raise ValueError(f"model must have an axis for the images, {name} is a single number.")
    if None in shape[1:]:
        raise ValueError(
            f"model must take images of a fixed size, {name} has the shape {shape}: build it "
            "with that size, and give it the trained weights with set_weights."
        )
    if isinstance(model, (str, Path)) and shape[0] not in (None, 1):
        raise ValueError(
            f"model: the SavedModel in {model} takes {shape[0]} images at a time: export it with "
            f"the shape {(None, *shape[1:])}, so that a file for one image can be made."
        )
    if not (dtype.is_floating or dtype.is_integer or dtype.is_bool):
        raise ValueError(
            f"model must take numbers, {name} holds {dtype.name}: leave the preprocessing out "
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


def export_saved_model(model: Any, folder: str | Path, *, inference: bool = False) -> None:
    """Write a model as a SavedModel that takes one image at a time.

    Its inputs have the types that `model_inputs` returns. Several inputs have the names of
    `export_names`, and several outputs those of `output_names`.

    Args:
        model: A Keras 3 or tf_keras model, or the folder of a SavedModel.
        folder: Where to write it.
        inference: Whether layers of a Keras 3 model that were called with training=True are in
            inference all the same, as in Keras' own export.

    Raises:
        ValueError: as for `model_inputs`.
    """
    inputs = model_inputs(model)
    if isinstance(model, keras.Model):
        _write(model, folder, inputs, inference)
        return
    holder = tf.Module()
    whole, names, answers = called(model)
    if len(inputs) == 1:
        ((name, entry),) = inputs.items()
        spec_name = name if isinstance(model, (str, Path)) else "image"
        spec = tf.TensorSpec((1, *entry.shape[1:]), entry.dtype, name=spec_name)

        def serve(image: tf.Tensor) -> Any:
            return _named(names, answers({name: image}))

        function = tf.function(serve, input_signature=[spec]).get_concrete_function()
    else:
        known = export_names(inputs)

        def serve_several(**images: tf.Tensor) -> Any:
            return _named(names, answers({known[key]: images[key] for key in images}))

        function = tf.function(serve_several).get_concrete_function(**_specs(inputs))
    # With the whole model, TensorFlow would also write each of its layers as a function of its own,
    # in training and in inference: for tf_keras' LSTM that takes ten times as long.
    holder.held = function.variables
    try:
        tf.saved_model.save(holder, str(folder), signatures=function)
    except AssertionError:  # the function uses more than variables, such as a table
        holder.held = whole
        tf.saved_model.save(holder, str(folder), signatures=function)


def export_names(inputs: Iterable[str]) -> dict[str, str]:
    """Return the names that several inputs have in a SavedModel, with their own.

    TensorFlow takes the names of Python's arguments only, and Keras takes others as well.
    """
    return {
        name if _ARGUMENT.fullmatch(name) and not keyword.iskeyword(name) else f"at__{place}": name
        for place, name in enumerate(inputs)
    }


def in_models_order(content: bytes, model: Any) -> bytes:
    """Return a file of a model with its inputs and outputs in the model's order and by its names.

    The converter puts several of them in an order of its own. A file with one of each stays as it
    is.
    """
    if not isinstance(model, (str, Path)) and len(model.inputs) == len(model.outputs) == 1:
        return content
    graph = flatbuffer.graph(content)
    if len(graph.inputs) == len(graph.outputs) == 1:
        return content
    inputs, outputs = model_inputs(model), output_names(model)
    known = (
        export_names(inputs) if len(inputs) > 1 else {name: name for name in graph.inputs_by_name}
    )
    names = outputs if len(outputs) > 1 else graph.outputs_by_name
    return flatbuffer.with_ends(
        content, known, {name: name for name in names}, is_ordered=takes_lists(model)
    )


def _specs(inputs: Mapping[str, ModelInput]) -> dict[str, tf.TensorSpec]:
    """Return the specifications of inputs for one image at a time, by their names in the export."""
    return {
        export: tf.TensorSpec((1, *inputs[name].shape[1:]), inputs[name].dtype, name=export)
        for export, name in export_names(inputs).items()
    }


class Called(NamedTuple):
    """A model in inference as a function of its inputs by name."""

    holder: Any  # what holds its variables
    output_names: list[str]  # see `output_names`
    outputs: Callable[[Mapping[str, Any]], list[Any]]  # in the same order


def called(model: Any) -> Called:
    """Return a model in inference as a function of its inputs by name."""
    if not isinstance(model, (str, Path)):
        plain = models.single_ended(model) if isinstance(model, keras.Model) else model
        return Called(
            model,
            output_names(model),
            lambda values: _flatten(model)(plain(packed(plain, values), training=False)),
        )
    loaded, specs = signature_of(model)
    signature = loaded.signatures["serving_default"]
    names = _signature_outputs(signature)

    def outputs(values: Mapping[str, Any]) -> list[Any]:
        # Floats may be wider or narrower.
        cast = {name: tf.cast(values[name], spec.dtype) for name, spec in specs.items()}
        found = signature(**cast)
        return [found[name] for name in names]

    return Called(loaded, names, outputs)


def _signature_outputs(signature: Any) -> list[str]:
    return sorted(signature.structured_outputs, key=_by_place)


def _flatten(model: Any) -> Callable[[Any], list[Any]]:
    """Return what lists the outputs of a Keras 3 or tf_keras model in its order."""
    return keras.tree.flatten if isinstance(model, keras.Model) else tf.nest.flatten


def _named(names: Sequence[str], outputs: Sequence[Any]) -> Any:
    """Return the only output of a model, or several by the names that they get in a file."""
    return outputs[0] if len(outputs) == 1 else dict(zip(names, outputs, strict=True))


def packed(model: Any, values: Mapping[str, Any]) -> Any:
    """Return a model's inputs, by name, in the structure that it takes."""
    like = getattr(model, "input", None)
    if len(values) > 1:
        return models.packed_inputs(model, values)
    ((_, image),) = values.items()
    if isinstance(like, dict):
        return dict.fromkeys(like, image)
    return [image] if isinstance(like, (list, tuple)) else image


def _trains_unless_told(model: keras.Model) -> bool:
    """Return whether a layer is in training mode by default, as Keras' augmentation layers are."""
    calls = (inspect.signature(layer.call).parameters for layer in model._flatten_layers())
    return any("training" in known and known["training"].default is True for known in calls)


def _write(
    model: keras.Model, folder: str | Path, inputs: Mapping[str, ModelInput], inference: bool
) -> None:
    """Write a model as it is in inference.

    `model.export` takes four times as long, because it looks at each layer and writes all weights
    as variables, and lets layers augment. The two signatures are those of `model.export`, so the
    converter makes the same file of both, except for the names of some tensors.
    """
    plain = models.single_ended(model)
    for layer in plain._flatten_layers():
        if hasattr(layer, "lookup_table"):
            raise ValueError(
                f"Layer {layer.name} ({type(layer).__name__}) looks values up in a table, for "
                "which LiteRT has no op: do that before the model, and give it the numbers found."
            )
    constants = _constants(plain)
    # A layer that the reader has called with training=True stays in that mode.
    mode = {"training": False} if inference or _trains_unless_told(plain) else {}
    serve = _traced(model, inputs, mode, constants)
    if serve is None:
        constants = []
        serve = _traced(model, inputs, mode, constants)
    holder, fixed = tf.Module(), {id(variable) for variable, _ in constants}
    holder.serve = serve
    holder.held = [variable.value for variable in plain.variables if id(variable) not in fixed]
    keys = ("serve", "serving_default") if len(inputs) == 1 else ("serving_default",)
    tf.saved_model.save(holder, str(folder), signatures=dict.fromkeys(keys, serve))


def _traced(
    model: keras.Model,
    inputs: Mapping[str, ModelInput],
    mode: Mapping[str, bool],
    constants: Sequence[tuple[Any, Any]],
) -> Any:
    """Return a model, called in a mode, as a function with some variables as constants.

    None where these must stay variables: the model changes one, or reads its weights again.
    """
    plain, names, known = models.single_ended(model), output_names(model), export_names(inputs)
    before = {id(variable): value for variable, value in constants}
    changes = False

    def outputs(values: Any) -> Any:
        nonlocal changes
        if not constants:
            return _named(names, keras.tree.flatten(plain(values, **mode)))
        with keras.StatelessScope(state_mapping=constants) as scope:
            found = keras.tree.flatten(plain(values, **mode))
        now = {id(variable): scope.get_current_value(variable) for variable in plain.variables}
        changes = any(value is not before.get(key) for key, value in now.items())
        return _named(names, found)

    # Without autograph, which would look for loops in Keras' own code.
    if len(inputs) == 1:
        (entry,) = inputs.values()
        spec = tf.TensorSpec((1, *entry.shape[1:]), entry.dtype, name="args_0")
        serve = tf.function(lambda x: outputs(x), input_signature=[spec], autograph=False)
        traced = serve.get_concrete_function()
    else:
        by_name = tf.function(
            lambda **x: outputs(packed(plain, {known[key]: x[key] for key in x})), autograph=False
        )
        serve = traced = by_name.get_concrete_function(**_specs(inputs))
    return None if constants and (changes or not _reads_once(traced.graph)) else serve


def _constants(model: keras.Model) -> list[tuple[Any, tf.Tensor]]:
    """Return the variables that may be constants of a SavedModel, with their values.

    TensorFlow traces two functions to save and to restore variables, which takes half the time of a
    conversion. One variable stays: the converter names the output after the kind of function, and
    one that reads a variable is of another kind.
    """
    variables = model.variables
    count = sum(variable.value.shape.num_elements() for variable in variables)
    if count > _MOST or any(isinstance(one, keras.layers.RNN) for one in model._flatten_layers()):
        return []
    read = next((v for v in variables if v.dtype.startswith("float")), None)
    return [(v, tf.convert_to_tensor(v.value)) for v in variables if v is not read]


def _reads_once(graph: Any) -> bool:
    """Return whether a graph reads each of its weights once, and has no loop.

    The converter would write a constant that is read twice into the file twice.
    """
    weights = (inner for _, inner in graph.captures if inner.shape.rank and inner.shape.rank > 1)
    return all(len(weight.consumers()) == 1 for weight in weights) and not any(
        op.type.endswith("While") for op in graph.get_operations()
    )


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
    """List the ops of a SavedModel, those of its functions as well; loading it takes far longer."""
    content = (Path(folder) / "saved_model.pb").read_bytes()
    graphs = [part.graph_def for part in SavedModel.FromString(content).meta_graphs]
    functions = [function for graph in graphs for function in graph.library.function]
    return [node for each in graphs for node in each.node] + [
        node for function in functions for node in function.node_def
    ]


def has_fake_quant(folder: str | Path) -> bool:
    """Return whether a SavedModel has fake-quantization ops, which contain their own ranges."""
    return any(node.op.startswith("FakeQuantWithMinMaxVars") for node in _nodes(folder))


def signature_of(folder: str | Path) -> tuple[Any, dict[str, Any]]:
    """Load a SavedModel and return it with the specifications of its inputs, by name."""
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
    return loaded, {name: specs[name] for name in sorted(specs, key=_by_place)}
