"""Compare TensorFlow's two sparse products with the dense one, on layers of several sizes.

The environment decides whether the CSR kernel uses oneDNN: TF_ENABLE_ONEDNN_SPMM=1 (by default 0).
"""

import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from lottery_tf.benchmarks.turns import take_turns
from lottery_tf.export.sparse_products import repeated, ways

# {where a dense layer is from: its (inputs, units)}
LAYERS = {
    "LeNet 1": (784, 300),
    "LeNet 2": (300, 100),
    "VGG-19": (512, 512),
    "large": (4096, 4096),
}
DENSITIES, BATCHES = (0.107, 0.035, 0.0115, 0.005), (1, 128)


def product_times(*, repeats: int) -> dict[tuple[str, float, int], dict[str, list[float]]]:
    """Return {(layer, density, batch size): {"dense", "coo", "csr": [seconds of each repeat]}}."""
    times: dict[tuple[str, float, int], dict[str, list[float]]] = {}
    for name, (inputs, units) in LAYERS.items():
        layer = keras.layers.Dense(units)
        layer.build((None, inputs))
        generator = np.random.default_rng(0)
        kernel = generator.standard_normal((inputs, units), np.float32)
        order = generator.random(kernel.shape)
        for density in DENSITIES:
            layer.kernel.assign(np.where(order < density, kernel, 0))
            layers = ways(layer)
            for batch in BATCHES:
                given = tf.random.stateless_normal((batch, inputs), (0, 0))
                measured = {way: _seconds(one, given) for way, one in layers.items()}
                what = f"{name}, {density:.2%}, batch {batch}"
                times[name, density, batch] = take_turns(measured, repeats=repeats, what=what)
    return times


def _seconds(layer: keras.layers.Layer, inputs: tf.Tensor) -> Callable[[], float]:
    """Return a function that measures the seconds of one call of a layer."""
    call, count = repeated(layer, inputs)

    def measure() -> float:
        began = time.perf_counter()
        call()
        return (time.perf_counter() - began) / count

    return measure
