"""Two further networks, with the layers that the baseline does not have; trained for a moment.

`python tests/architectures.py` trains them, and writes their weights beside this file.
"""

from pathlib import Path
from typing import Any

import numpy as np

NETWORKS = Path(__file__).with_name("networks")


def separable() -> Any:
    """Depthwise convolutions, strides, ReLU6, global average pooling, dropout."""
    import keras

    keras.utils.set_random_seed(4)
    layers = keras.layers

    def block(x: Any, layer: Any, number: int) -> Any:
        x = layers.BatchNormalization(momentum=0.9, name=f"norm{number}")(layer(x))
        return layers.ReLU(6.0, name=f"relu{number}")(x)

    image = keras.Input((28, 28, 1), name="image")
    x = block(image, layers.Conv2D(16, 3, strides=2, padding="same", name="conv1"), 1)
    x = block(x, layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depth2"), 2)
    x = block(x, layers.Conv2D(32, 1, use_bias=False, name="point3"), 3)
    depth4 = layers.DepthwiseConv2D(
        3, strides=2, padding="same", depth_multiplier=2, use_bias=False, name="depth4"
    )
    x = block(x, depth4, 4)
    x = block(x, layers.Conv2D(48, 1, use_bias=False, name="point5"), 5)
    x = layers.Dropout(0.1, name="drop")(layers.GlobalAveragePooling2D(name="mean")(x))
    return keras.Model(image, layers.Dense(10, name="logits")(x), name="separable")


def residual() -> Any:
    """An addition, average pooling, padding, activations inside layers, a softmax at the end."""
    import keras

    keras.utils.set_random_seed(4)
    layers = keras.layers
    image = keras.Input((28, 28, 1), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv1")(image)
    skip = x = layers.AveragePooling2D(2, name="average1")(x)
    x = layers.Conv2D(8, 3, padding="same", name="conv2")(x)
    x = layers.ReLU(name="relu2")(layers.BatchNormalization(momentum=0.9, name="norm2")(x))
    x = layers.Conv2D(8, 3, name="conv3")(layers.ZeroPadding2D(1, name="pad3")(x))
    x = layers.ReLU(name="relu3")(layers.Add(name="add")([skip, x]))
    x = layers.Flatten(name="flatten")(layers.MaxPooling2D(2, name="pool3")(x))
    x = layers.Dense(24, activation="relu", name="hidden")(x)
    return keras.Model(
        image, layers.Dense(10, activation="softmax", name="answer")(x), name="residual"
    )


def trained(model: Any, images: np.ndarray, labels: np.ndarray) -> Any:
    """Train a model for a few seconds, from a fixed seed."""
    import keras

    from_logits = model.layers[-1].activation is keras.activations.linear
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits)
    epochs, batch = 4, 64
    rate = keras.optimizers.schedules.CosineDecay(1e-2, epochs * len(images) // batch)
    model.compile(keras.optimizers.Adam(rate), loss)
    model.fit(images, labels, batch_size=batch, epochs=epochs, verbose=0)
    return model


def load(name: str) -> Any:
    """Return a network with its trained weights: "separable" or "residual"."""
    model = {"separable": separable, "residual": residual}[name]()
    model.load_weights(NETWORKS / f"{name}.weights.h5")
    return model


if __name__ == "__main__":
    from quant_tutorial import mnist, models

    data = mnist.load()
    NETWORKS.mkdir(exist_ok=True)
    for network in (separable(), residual()):
        trained(network, mnist.to_float(data.x_train[:12_000]), data.y_train[:12_000])
        # A copy, so that the optimizer's state is not in the file.
        models.copied(network).save_weights(NETWORKS / f"{network.name}.weights.h5")
