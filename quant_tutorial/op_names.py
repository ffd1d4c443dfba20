"""Name the ops of a `.tflite` file after the Keras layers in them (lesson 06).

The converter writes the layers' names into the names of the tensors. A name such as
`model/relu1/Relu;model/conv1/convolution` shows which ops were fused. The parts of each path are
the model, the layer (or several, if layers are nested) and the op.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

_SUFFIX = re.compile(r"_\d+$")


def scopes(tensor_name: str) -> list[tuple[str, ...]]:
    """Return the layer paths in a tensor's name, without the model and the op at their ends.

    The list is empty for a name without a path.
    """
    parts = [part.split("/") for part in tensor_name.split(";")]
    return list(dict.fromkeys(tuple(part[1:-1]) for part in parts if len(part) > 2))


def op_scopes(outputs: Iterable[str], weights: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the layer paths of an op, from the names of its outputs or else of its weights.

    The names of the weights are needed for the model's output, whose name has no layer path.
    """
    for group in (outputs, weights):
        if paths := [path for name in group for path in scopes(name)]:
            return list(dict.fromkeys(paths))
    return []


def without_suffix(name: str) -> str:
    """Return a layer's name without the number that Keras 3's export adds: conv1_1 → conv1."""
    return _SUFFIX.sub("", name)


def has_suffixes(tensor_names: Iterable[str]) -> bool:
    """Return whether all layers' names look like those of Keras 3's export.

    These end in a number, and they are still different from one another without it.
    """
    layers = {path[0] for name in tensor_names for path in scopes(name)}
    return all(map(_SUFFIX.search, layers)) and len(set(map(without_suffix, layers))) == len(layers)


def layer_name(path: tuple[str, ...], suffixed: bool) -> str:
    """Return the name of the layer in a path, without the scopes inside the layer.

    Nested layers are part of the name only if `suffixed` is true, because only Keras 3's numbers
    distinguish them from scopes.
    """
    if not suffixed:
        return path[0]
    return "/".join(map(without_suffix, itertools.takewhile(_SUFFIX.search, path)))
