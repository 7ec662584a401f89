"""Which axes of a kernel a product sums over, by the layer that holds it."""

import keras

from lottery_tf import masking
from lottery_tf.masking import Kernel
from lottery_tf.pruning.structure import Layout
from lottery_tf.structure.steps import TRANSPOSED

layers = keras.layers


def layouts(network: keras.Layer) -> dict[str, Layout | str]:
    """Return {kernel path: its Layout, or why it has none} of a masked network."""
    return {path: layout(kernel) for path, kernel in masking.kernels(network).items()}


def layout(kernel: Kernel) -> Layout | str:
    """Return the layout of a kernel, or why it has none; pruning/structure.py has the table."""
    layer = kernel.layer
    if isinstance(layer, layers.EinsumDense):
        return of_equation(layer.equation)
    if isinstance(layer, TRANSPOSED):
        return Layout((-1,), (-2,))
    depthwise = isinstance(layer, layers.DepthwiseConv1D | layers.DepthwiseConv2D)
    if depthwise or kernel.variable.name == "depthwise_kernel":
        return "a depthwise convolution sums over no channels"
    if isinstance(layer, layers.ReversibleEmbedding) and layer.tie_weights:
        return Layout((-1,), (-2,))
    if isinstance(layer, layers.Embedding) and kernel.variable.name == "embeddings":
        return "no product sums over a table that is looked up"
    return Layout()


def of_equation(equation: str) -> Layout | str:
    """Return the layout of the kernel in an EinsumDense's equation, or why it has none."""
    left, result = equation.replace(" ", "").split("->")
    features, weights = left.split(",")
    inputs = [axis for axis, letter in enumerate(weights) if letter not in result]
    outputs = [
        axis for axis, letter in enumerate(weights) if letter in result and letter not in features
    ]
    if not inputs:
        return f"its equation {equation} sums over none of its axes"
    return Layout(tuple(inputs), tuple(outputs))
