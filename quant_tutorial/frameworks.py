"""Start TensorFlow and Keras without their log lines, for all modules that use them.

    from quant_tutorial.frameworks import keras, tf

In this way each module keeps its imports at its top, and none can start TensorFlow before `quiet`
is ready.
"""

from __future__ import annotations

import gc

from quant_tutorial.quiet import load_tensorflow

# What an import makes stays. To look through it for garbage took a quarter of a second each time,
# which the TFLite converter asks for at every conversion.
_collects = gc.isenabled()
gc.disable()
try:
    keras, tf = load_tensorflow()
    gc.freeze()
finally:
    if _collects:
        gc.enable()
