"""Turns products of floats into products of bytes: uint8 inputs, int8 weights, sums of 32 bits."""

import dataclasses
from collections.abc import Mapping

import keras
import numpy as np

from lottery_tf.pruning import Array
from lottery_tf.structure.graph import Graph, Slot

EXAMPLES = 500  # that ranges are taken from, at most
BATCH = 20  # of these at once
Range = tuple[float, float]  # the smallest and the largest value


@dataclasses.dataclass(frozen=True)
class Codes:
    """How bytes stand for floats: a code is about (x - low) / step."""

    low: float
    step: float

    @classmethod
    def of_range(cls, low: float, high: float) -> "Codes":
        """Return the codes of a range; zero, which padding adds, is one of them."""
        low, high = min(low, 0.0), max(high, 0.0)
        step = float(np.float32((high - low) / 255)) or 1.0
        return cls(-step * round(-low / step), step)


def quantized(weights: Array, bias: Array, codes: Codes) -> tuple[Array, Array, Array]:
    """Return int8 weights (inputs, outputs), and the scale and bias of each output.

    An output is about scale * (codes @ weights) + bias.
    """
    scale = np.abs(weights).max(0, initial=0) / 127
    scale[scale == 0] = 1
    whole = np.rint(weights / scale)
    bias = bias + codes.low * scale * whole.sum(0)
    return whole.astype(np.int8), np.float32(codes.step * scale), np.float32(bias)


def ranges(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, list[Range]]:
    """Return {layer: the Range of the input of each of its products} for calibration examples.

    A layer has one product, a separable convolution two. A shared layer has the range of all of
    its calls.
    """
    found: dict[str, list[Range]] = {}
    count = min(EXAMPLES, *map(len, inputs.values()))
    for start in range(0, count, BATCH):
        end = min(start + BATCH, count)
        given = [keras.ops.convert_to_tensor(inputs[t.name][start:end]) for t in graph.model.inputs]
        values = dict(zip(graph.inputs, given, strict=True))
        for call in graph.calls:
            read = [values[number] for number in call.inputs]
            args, kwargs = keras.tree.map_structure(
                lambda argument, read=read: (
                    read[argument.index] if isinstance(argument, Slot) else argument
                ),
                (call.args, call.kwargs),
            )
            values[call.outputs[0]] = call.layer(*args, **kwargs)
            factors = [read[0]]
            if isinstance(call.layer, keras.layers.SeparableConv1D | keras.layers.SeparableConv2D):
                factors.append(_depthwise(call.layer, read[0]))
            seen = [_range(factor) for factor in factors]
            before = found.get(call.name, seen)
            found[call.name] = [
                (min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(before, seen, strict=True)
            ]
    return found


def _depthwise(layer: keras.Layer, inputs: keras.KerasTensor) -> keras.KerasTensor:
    """Return what a separable convolution gives to its second product."""
    return keras.ops.depthwise_conv(
        inputs,
        layer.depthwise_kernel,
        strides=layer.strides if len(layer.strides) > 1 else layer.strides[0],
        padding=layer.padding,
        data_format=layer.data_format,
        dilation_rate=layer.dilation_rate,
    )


def _range(tensor: keras.KerasTensor) -> Range:
    array = keras.ops.convert_to_numpy(tensor)
    return float(array.min()), float(array.max())
