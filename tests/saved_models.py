"""SavedModels as other tools write them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from quant_tutorial import quiet

import tensorflow as tf


def saved_model(folder: Path, function: Callable[..., Any], *specs: tf.TensorSpec) -> str:
    """Write a function as a SavedModel into a folder, and return the folder."""
    module = tf.Module()
    module.function = tf.function(function, input_signature=specs)
    signature = module.function.get_concrete_function()
    with quiet.all_output():
        tf.saved_model.save(module, str(folder), signatures=signature)
    return str(folder)
