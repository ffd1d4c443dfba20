"""Start TensorFlow and Keras without their log lines, for all modules that use them.

    from quant_tutorial.frameworks import keras, tf

In this way each module keeps its imports at its top, and none can start TensorFlow before `quiet`
is ready.
"""

from __future__ import annotations

from quant_tutorial.quiet import load_tensorflow

keras, tf = load_tensorflow()
