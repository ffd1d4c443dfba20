"""Check the arguments that callers pass to any module: choices, whole numbers, images, classes.

Each check returns the argument in the form in which it is used. If the argument is wrong, the check
raises a `ValueError` that names the argument, the value and the remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

# What scales the pixels of the course's own images, by the shape of one image.
_COURSE = {(28, 28, 1): "mnist.to_float", (32, 32, 3): "colour_digits.to_float"}

Range = tuple[float, float] | None


class ModelInput(NamedTuple):
    """What an input of a model takes."""

    shape: tuple[int | None, ...]  # with the batch axis first
    dtype: np.dtype  # an integer type, bool, or float32 for floats of any width

    @property
    def is_integer(self) -> bool:
        """Whether it takes integers or truth values, such as the numbers of words."""
        return self.dtype.kind in "iub"


def checked_choice(name: str, value: Any, known: Iterable[str]) -> str:
    """Return `value` if it is one of the known choices.

    Raises:
        ValueError: for any other value; the message lists the known ones.
    """
    known = list(known)
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}.")
    return value


def is_whole(value: Any) -> bool:
    """Return whether a value is a Python or NumPy integer; True and False do not count as one."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def checked_whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return a Python or NumPy integer from `low` to `high` as a Python integer.

    NumPy's small integer types would overflow in 2^bits.

    Raises:
        ValueError: for a value that is not an integer or is out of range.
    """
    if not is_whole(value):
        raise ValueError(f"{name} must be an integer, got {value!r}.")
    if value < low or (high is not None and value > high):
        limits = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be {limits}, got {value}.")
    return int(value)


def checked_images(
    name: str, images: ArrayLike, shape: tuple[int, ...], dtype: DTypeLike | None = None
) -> NDArray[Any]:
    """Return images as an array that a model accepts.

    Args:
        name: The name of the argument, for the error messages.
        images: The images, shape (n, …), n ≥ 1: an array, a list of arrays or a tensor.
        shape: The shape of one image that the model expects, without the batch axis.
        dtype: The integer type of the model's input. For None or a floating-point type, the images
            must be floats and are returned as float32.

    Raises:
        ValueError: for something that is not an array, a wrong shape, no images, a wrong type (such
            as integer pixels for a float input), or values that are not finite.
    """
    images = _as_array(name, images, shape)
    if dtype is not None and np.dtype(dtype).kind in "iu":
        if images.dtype != dtype:
            raise ValueError(
                f"{name} must hold {np.dtype(dtype)} images, got {images.dtype}: quantize the "
                "images, or use predict."
            )
    elif images.dtype.kind != "f":
        raise ValueError(
            f"{name} must hold floats as the float model gets them, shape {('n', *shape)}, got "
            f"{images.dtype}{_extent(images)}: scale them {_as_in_training(shape)}. A model that "
            "scales pixels itself takes them with astype(np.float32)."
        )
    _require_shape(name, images, shape)
    return images if images.dtype.kind in "iu" else _finite(name, images)


def checked_integers(
    name: str, values: ArrayLike, shape: tuple[int, ...], dtype: DTypeLike
) -> NDArray[Any]:
    """Return whole numbers, such as the numbers of words, in the type of a model's input.

    Args:
        name: The name of the argument, for the error messages.
        values: Integers or truth values, shape (n, …), n ≥ 1.
        shape: The shape of one example that the model expects, without the batch axis.
        dtype: The type of the model's input, an integer type or bool.

    Raises:
        ValueError: for something that is not an array, a wrong shape, no examples, floats, and
            numbers for which the type has no room.
    """
    values, dtype = _as_array(name, values, shape), np.dtype(dtype)
    if values.dtype.kind not in "iub":
        raise ValueError(
            f"{name} must hold {dtype} values, because the model's input does, got "
            f"{values.dtype}: give {name}.astype({dtype.name!r}) if that loses nothing."
        )
    _require_shape(name, values, shape)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if values.size and not (low <= values.min() and values.max() <= high):
        raise ValueError(
            f"{name} must hold values from {low} to {high}, as the model's input ({dtype}) does, "
            f"got {values.min()} to {values.max()}."
        )
    return values.astype(dtype, copy=False)


def by_input(
    name: str, given: Any, inputs: Sequence[str], *, listed: bool = True
) -> dict[str, Any]:
    """Return what a caller gives for a model's inputs by their names, in the model's order.

    This is the one place that says in which forms a model's inputs may be given. The values are not
    looked at: `checked_inputs` and `checked_calibration_inputs` do that as well.

    Args:
        name: The name of the argument, for the error messages.
        given: For a model with one input, an array, which is returned as it is. For one with
            several, a mapping from the names of the inputs to arrays, or a list or tuple of arrays
            in the order of the inputs.
        inputs: The names of the model's inputs, in its order.
        listed: Whether the inputs have an order that the caller knows, so that a list may be given.

    Raises:
        ValueError: for several inputs: for something else than a mapping or a list, names that are
            missing or that the model does not have, a wrong number of arrays, and a pair such as
            one of inputs and labels.
    """
    if len(inputs) == 1:
        return {inputs[0]: given}
    form = "{" + ", ".join(f"{key!r}: …" for key in inputs) + "}"
    wanted = f"{name} must hold an array for each of the model's {len(inputs)} inputs"
    if isinstance(given, Mapping):
        if missing := [key for key in inputs if key not in given]:
            raise ValueError(f"{wanted}, and {missing[0]!r} is missing: give {form}.")
        if unknown := [key for key in given if key not in inputs]:
            raise ValueError(
                f"{wanted}, and the model has no input {unknown[0]!r}: give {form} alone."
            )
        return {key: given[key] for key in inputs}
    is_list = isinstance(given, list | tuple)
    if is_list and len(given) == 2 and _is_grouped(*given):
        raise ValueError(
            f"{wanted}, got a pair, as of inputs and labels: give the inputs alone, {form}."
        )
    if not listed and is_list:
        raise ValueError(
            f"{wanted} under its name, because the model says no order of its inputs, got a "
            f"{type(given).__name__}: give {form}."
        )
    if not is_list or len(given) != len(inputs):
        got = f"{len(given)} arrays" if is_list else _kind(given)
        order = f", or a list in the order {', '.join(inputs)}" if listed else ""
        raise ValueError(f"{wanted}, got {got}: give {form}{order}.")
    return dict(zip(inputs, given, strict=True))


def checked_inputs(
    name: str, given: Any, inputs: Mapping[str, ModelInput], *, listed: bool = True
) -> dict[str, NDArray[Any]]:
    """Return values for a model's inputs as arrays that it accepts, by the names of the inputs.

    Args:
        name: The name of the argument, for the error messages; those about one of several inputs
            name it as well, as in x['image'].
        given: What `by_input` takes: floats, or integers for an input that takes integers.
        inputs: What each input takes, in the model's order.
        listed: As for `by_input`.

    Raises:
        ValueError: as for `by_input`, `checked_images` and `checked_integers`, and for inputs with
            different numbers of examples.
    """

    def checked(label: str, values: Any, key: str) -> NDArray[Any]:
        entry = inputs[key]
        check = checked_integers if entry.is_integer else checked_images
        return check(label, values, tuple(entry.shape[1:]), entry.dtype)

    return _each_checked(name, given, inputs, listed, checked)


def checked_calibration_inputs(
    given: Any,
    inputs: Mapping[str, ModelInput],
    input_range: Range | Mapping[str, Range],
    *,
    listed: bool = True,
) -> dict[str, NDArray[Any]]:
    """Return calibration data for a model's inputs as arrays, by the names of the inputs.

    Args:
        given: What `by_input` takes.
        inputs: What each input takes, in the model's order.
        input_range: As for `ranges_by_input`.
        listed: As for `by_input`.

    Raises:
        ValueError: as for `by_input`, `ranges_by_input` and `checked_calibration`, and for inputs
            with different numbers of examples.
    """
    ranges = ranges_by_input(input_range, inputs)

    def checked(label: str, values: Any, key: str) -> NDArray[Any]:
        entry = inputs[key]
        told = "input_range" if len(inputs) == 1 else f"input_range[{key!r}]"
        return checked_calibration(values, entry.shape, ranges[key], entry.dtype, label, told)

    return _each_checked("calibration", given, inputs, listed, checked)


def ranges_by_input(
    input_range: Range | Mapping[str, Range], inputs: Mapping[str, ModelInput]
) -> dict[str, Range]:
    """Return the range of each input of a model; None for one that is not known, and for integers.

    Args:
        input_range: One range for all inputs that take floats; a mapping from the names of these
            inputs to their ranges, of which any may be None; or None for all.
        inputs: What each input takes.

    Raises:
        ValueError: for a mapping without one of these inputs, or with a name of none.
    """
    floats = [key for key, entry in inputs.items() if not entry.is_integer]
    if not isinstance(input_range, Mapping):
        return {key: input_range if key in floats else None for key in inputs}
    form = "{" + ", ".join(f"{key!r}: (low, high)" for key in floats) + "}"
    way_out = f"give {form}, with None for a range that is not known."
    if missing := [key for key in floats if key not in input_range]:
        raise ValueError(f"input_range lacks the input {missing[0]!r}: {way_out}")
    if unknown := [key for key in input_range if key not in inputs]:
        raise ValueError(f"input_range: the model has no input {unknown[0]!r}: {way_out}")
    return {key: input_range[key] if key in floats else None for key in inputs}


def _each_checked(
    name: str,
    given: Any,
    inputs: Mapping[str, ModelInput],
    listed: bool,
    check: Callable[[str, Any, str], NDArray[Any]],
) -> dict[str, NDArray[Any]]:
    """Return the checked values of each input; all inputs have the same number of examples."""
    several = len(inputs) > 1
    arrays = {
        key: check(f"{name}[{key!r}]" if several else name, values, key)
        for key, values in by_input(name, given, [*inputs], listed=listed).items()
    }
    require_same_count(name, arrays)
    return arrays


def as_given(arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Return arrays by the names of a model's inputs in a form that `by_input` takes."""
    return dict(arrays) if len(arrays) > 1 else next(iter(arrays.values()))


def require_same_count(name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raise a ValueError for a model's inputs with different numbers of examples."""
    counts = {key: len(values) for key, values in arrays.items()}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count} for {key!r}" for key, count in counts.items())
        raise ValueError(
            f"{name} must hold the same number of examples for each input, got {found}."
        )


def _is_grouped(inputs: Any, labels: Any) -> bool:
    """Return whether the first of two values holds arrays, and the second is one."""
    return isinstance(inputs, Mapping | list | tuple) and hasattr(labels, "__array__")


def _kind(given: Any) -> str:
    """Say what a caller has given, with the shape of an array."""
    kind, shape = type(given).__name__, getattr(given, "shape", None)
    if hasattr(given, "element_spec"):
        return f"{kind} (collect some hundred of its examples into an array for each input)"
    return kind if shape is None else f"one array of the shape {tuple(shape)}"


def checked_calibration(
    images: ArrayLike,
    shape: tuple[int | None, ...],
    input_range: tuple[float, float] | None,
    dtype: DTypeLike = np.float32,
    name: str = "calibration",
    range_name: str = "input_range",
) -> NDArray[Any]:
    """Return calibration images as float32; integers are converted without rescaling.

    Args:
        images: The images, shape (n, …), n ≥ 1.
        shape: The input shape of the model, with the batch axis first.
        input_range: The range that the model was trained on; None skips the check.
        dtype: The type of the model's input. An integer type, or bool, has no range to check: the
            values are returned in it, see `checked_integers`.
        name: What messages call the images.
        range_name: What they call the range.

    Raises:
        ValueError: for no images, something that is not an array, a wrong shape, values that are
            not finite or lie outside the range, and for images whose largest magnitude is less than
            1% of the range's width.
    """
    if np.dtype(dtype).kind in "iub":
        return checked_integers(name, images, tuple(shape[1:]), dtype)
    images = _as_array(name, images, tuple(shape[1:]))
    if images.size == 0:
        raise ValueError(f"{name} must hold at least one image, got none.")
    if images.dtype.kind in "iub":
        images = images.astype(np.float32)
    images = checked_images(name, images, tuple(shape[1:]))
    if input_range is None:
        return images
    (low, high), smallest, largest = _ends(range_name, input_range), images.min(), images.max()
    found = f"{name} holds values from {smallest:g} to {largest:g}"
    way_out = (
        f"Scale the images {_as_in_training(shape[1:])}, or say {range_name}=(low, high) if the "
        "model was trained on another range."
    )
    if tuple(shape[1:]) not in _COURSE:
        way_out += " Where a Rescaling layer of the model scales pixels, that is (0, 255)."
    # Rounding in a reader's preprocessing may slightly exceed the range, which does no harm.
    slack = 0.01 * (high - low)
    if smallest < low - slack or largest > high + slack:
        raise ValueError(f"{found}, but the model expects {low:g} to {high:g}. {way_out}")
    if max(abs(smallest), abs(largest)) < slack:
        raise ValueError(
            f"{found}, less than a hundredth of {low:g} to {high:g}: were they divided by 255 "
            f"twice? {way_out}"
        )
    return images


def checked_classes(name: str, classes: ArrayLike) -> NDArray[np.integer]:
    """Return the numbers of classes as integers; whole floats and booleans are converted.

    Raises:
        ValueError: for text, for NaN and for numbers that are not whole.
    """
    classes = np.asarray(classes)
    if classes.dtype.kind in "iu":
        return classes
    if classes.dtype.kind == "b":
        return classes.astype(np.int64)
    if classes.dtype.kind != "f":
        first = f" such as {classes.ravel().tolist()[0]!r}" if classes.size else ""
        raise ValueError(
            f"{name} must hold the number of a class for each image, got {classes.dtype}{first}. "
            f"Number the classes in the order of the model's outputs: {name} = "
            f"np.array([names.index(name) for name in {name}])."
        )
    if (missing := ~np.isfinite(classes)).any():
        raise ValueError(
            f"{name} must hold the number of a class for each image, got NaN or infinite values, "
            f"the first at {np.flatnonzero(missing)[0]}. Leave these images out."
        )
    if (parts := classes != np.round(classes)).any():
        raise ValueError(
            f"{name} must hold the number of a class for each image, got {classes[parts][0]:g}."
        )
    return classes.astype(np.int64)


def _ends(name: str, input_range: Any) -> tuple[float, float]:
    """Return the ends of a range, or raise a ValueError for anything but two finite numbers."""
    try:
        low, high = (np.nan if isinstance(end, str) else float(end) for end in input_range)
    except (TypeError, ValueError):
        low = high = np.nan
    if not (low < high and np.isfinite([low, high]).all()):
        raise ValueError(
            f"{name} must be (low, high), two numbers with low < high such as (0, 1), or None, "
            f"got {input_range!r}."
        )
    return low, high


def _as_in_training(shape: tuple[int | None, ...]) -> str:
    """Say how to scale images for a model with this input, as the end of a sentence."""
    known = _COURSE.get(tuple(shape))
    return "as for the model's training" + (f" (the course's digits: {known})" if known else "")


def _extent(images: NDArray[Any]) -> str:
    numbers = images.size and images.dtype.kind in "iu"
    return f" from {images.min()} to {images.max()}" if numbers else ""


def _as_array(name: str, images: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return an array, a list of arrays or a tensor as an array."""
    wanted = ("n", *shape)
    if not isinstance(images, list | tuple) and not hasattr(images, "__array__"):
        raise ValueError(
            f"{name} must be an array of images, shape {wanted}, got {type(images).__name__}: "
            f"{_way_out(images)}."
        )
    if isinstance(images, list | tuple) and len(images) == 2 and _is_pair(images, len(shape) + 1):
        raise ValueError(
            f"{name} must be an array of images, shape {wanted}, got a pair, as of images and "
            "labels: give the images alone."
        )
    try:
        array = np.asarray(images)
    except ValueError:  # lists of different lengths
        raise ValueError(
            f"{name} must hold images of one shape, {wanted}, got several shapes."
        ) from None
    # NumPy has no such type of its own, and takes it for bytes.
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _way_out(images: Any) -> str:
    """Say how to make an array of what is none."""
    if isinstance(images, Mapping):
        keys = ", ".join(map(repr, images)) or "none"
        return f"give the array of the model's one input (the keys are {keys})"
    if hasattr(images, "element_spec"):  # a tf.data.Dataset
        labelled = isinstance(images.element_spec, tuple)
        return (
            "collect some hundred of its images, for a batched set with np.concatenate([images for "
            f"images{', *_' if labelled else ''} in data.take(5)])"
        )
    return "collect some hundred images with np.concatenate"


def _is_pair(pair: Any, rank: int) -> bool:
    """Return whether two values are a batch of images and something else, such as its labels."""
    first, second = (getattr(part, "shape", None) for part in pair)
    return first is not None and len(first) == rank and first != second


def _require_shape(name: str, values: NDArray[Any], shape: tuple[int, ...]) -> None:
    if values.shape[1:] != tuple(shape) or values.ndim == 0 or len(values) == 0:
        wanted = ("n", *shape)
        raise ValueError(f"{name} must have the shape {wanted} with n ≥ 1, got {values.shape}.")


def _finite(name: str, images: NDArray[np.floating]) -> NDArray[np.float32]:
    images = images.astype(np.float32, copy=False)
    if not np.isfinite(images).all():
        raise ValueError(f"{name} must be finite, got NaN or infinite values.")
    return images
