"""Counts the multiply-adds of a network for one example: all, and of nonzero weights alone.

As in the papers, a convolution has all of its taps at the borders, too. Biases, activations and
normalisations do not count.
"""

import dataclasses
import math
from collections.abc import Callable

import keras
import numpy as np

from lottery_tf.masking import keras_private
from lottery_tf.structure.graph import Call, Shape, graph_of
from lottery_tf.structure.steps import TRANSPOSED

layers = keras.layers


@dataclasses.dataclass
class Count:
    """The kernels of a layer, and its multiply-adds for one example, over all of its calls."""

    weights: int = 0  # of its kernels
    nonzero: int = 0
    dense: int = 0  # multiply-adds with all weights
    sparse: int = 0  # those with nonzero weights, and those without weights (of attention)

    def __add__(self, other: "Count") -> "Count":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Count(*(a + b for a, b in pairs))


# A function of (call, shapes of its inputs, shape of its first output), without the batch; None: it
# holds what is not known here.
Counter = Callable[[Call, list[Shape], Shape], Count | None]


def multiply_adds(model: keras.Model) -> tuple[dict[str, Count], dict[str, str]]:
    """Return {layer: Count}, and {layer: why it is not counted}, of a plain Keras model.

    Args:
        model: functional or sequential, built; nested models are looked into.

    Raises:
        InputError: it is another kind of model.
    """
    graph = graph_of(model)
    counts: dict[str, Count] = {}
    unknown: dict[str, str] = {}
    for call in graph.calls:
        inputs, output = [graph.shapes[i] for i in call.inputs], graph.shapes[call.outputs[0]]
        counter = _counter(call)
        if counter is None:
            if reason := _not_counted(call):
                unknown[call.name] = reason
            continue
        try:
            count = counter(call, inputs, output)
        except TypeError:  # a product with None
            unknown[call.name] = "its input has a length that varies"
            continue
        if count is None:
            unknown[call.name] = f"what {type(call.layer).__name__} holds is not known here"
            continue
        if call.name in counts:  # the weights of a layer that is called again are the same
            count.weights = count.nonzero = 0
            count += counts[call.name]
        counts[call.name] = count
    return counts, unknown


def total(counts: dict[str, Count]) -> Count:
    """Return the sum over layers."""
    return sum(counts.values(), Count())


def _of(times: int, *kernels: keras.Variable) -> Count:
    """Return the Count of kernels each of whose weights is used so many times."""
    arrays = [keras.ops.convert_to_numpy(kernel) for kernel in kernels]
    size, nonzero = sum(a.size for a in arrays), sum(map(int, map(np.count_nonzero, arrays)))
    return Count(size, nonzero, size * times, nonzero * times)


def _without_weights(times: int) -> Count:
    return Count(0, 0, times, times)


def _einsum(call: Call, inputs: list[Shape], output: Shape) -> Count:
    """Count each weight once for each combination of the letters that it does not have."""
    left, result = call.layer.equation.replace(" ", "").split("->")
    features, weights = left.split(",")
    # Keras leaves lengths out of the output's shape that the input's has.
    sizes = _letters(result, output) | _letters(features, inputs[0])
    free = {letter for letter in features + result if letter not in weights + "."}
    return _of(math.prod(sizes[one] for one in free) * sizes.get("...", 1), call.layer.kernel)


def _letters(term: str, shape: Shape) -> dict[str, int]:
    """Return {letter: size} of an einsum's term; under "..." the product of the others.

    The batch counts as 1.
    """
    first, dots, last = term.partition("...")
    shape = (1, *shape)
    if not dots:
        return dict(zip(term, shape, strict=True))
    middle = math.prod(shape[len(first) : len(shape) - len(last)])
    sizes = dict(zip(first, shape, strict=False)) | {"...": middle}
    return sizes | dict(zip(reversed(last), reversed(shape), strict=False))


def _convolution(call: Call, inputs: list[Shape], output: Shape) -> Count:
    return _of(_places(call.layer, output), call.layer.kernel)


def _separable(call: Call, inputs: list[Shape], output: Shape) -> Count:
    layer = call.layer
    return _of(_places(layer, output), layer.depthwise_kernel, layer.pointwise_kernel)


def _places(layer: keras.Layer, shape: Shape) -> int:
    """Return the number of pixels of an image of this shape."""
    return math.prod(shape[1:] if layer.data_format == "channels_first" else shape[:-1])


def _attention(call: Call, inputs: list[Shape], output: Shape) -> Count:
    """Count the projections, and the products of queries with keys and of weights with values."""
    query, value = (math.prod(shape[:-1]) for shape in inputs[:2])
    axes = getattr(call.layer, "_attention_axes", None) or range(1, len(inputs[1]))
    attended = math.prod(inputs[1][axis - 1] for axis in axes)
    count, sizes = Count(), {}
    for name, layer in keras_private.projections(call.layer).items():
        count += _of(value if name in ("key", "value") else query, layer.kernel)
        sizes[name] = layer.kernel.shape
    heads = sizes["query"][1]
    # A projection's kernel is (features, heads, size); the output's first axis are the heads.
    per_pair = heads * (sizes["query"][-1] + sizes["value"][-1])
    return count + _without_weights(query * attended * per_pair)


def _recurrent(call: Call, inputs: list[Shape], output: Shape) -> Count | None:
    """Count every weight of the cells once in each step of the sequence."""
    cells = _cells(call.layer)
    if not all(isinstance(cell, CELLS) for cell in cells):
        return None
    kernels = [kernel for cell in cells for kernel in (cell.kernel, cell.recurrent_kernel)]
    return _of(inputs[0][0], *kernels)


def _cells(layer: keras.Layer) -> list[keras.Layer]:
    """Return the cells of a recurrent layer, of both directions, of all that are stacked."""
    if isinstance(layer, layers.Bidirectional):
        return [*_cells(layer.forward_layer), *_cells(layer.backward_layer)]
    return getattr(layer.cell, "cells", [layer.cell])


def _conv_recurrent(call: Call, inputs: list[Shape], output: Shape) -> Count:
    """Count as `_recurrent`, at each pixel of the output, to whose size the state is padded."""
    shape = output[1:] if call.layer.return_sequences else output
    cell = call.layer.cell
    return _of(inputs[0][0] * _places(call.layer, shape), cell.kernel, cell.recurrent_kernel)


def _in_each_step(call: Call, inputs: list[Shape], output: Shape) -> Count | None:
    """Count what the layer inside multiplies, in each step of a sequence."""
    inside = dataclasses.replace(call, layer=call.layer.layer)
    counter = _counter(inside)
    count = counter and counter(inside, [shape[1:] for shape in inputs], output[1:])
    if count is None:
        return Count() if _not_counted(inside) is None else None
    steps = inputs[0][0]
    return dataclasses.replace(count, dense=count.dense * steps, sparse=count.sparse * steps)


CELLS = (layers.SimpleRNNCell, layers.GRUCell, layers.LSTMCell)
COUNTERS: dict[type, Counter] = {
    layers.Dense: lambda call, inputs, output: _of(math.prod(output[:-1]), call.layer.kernel),
    layers.EinsumDense: _einsum,
    **dict.fromkeys((layers.Conv1D, layers.Conv2D, layers.Conv3D), _convolution),
    **dict.fromkeys((layers.DepthwiseConv1D, layers.DepthwiseConv2D), _convolution),
    **dict.fromkeys(
        TRANSPOSED,
        lambda call, inputs, output: _of(_places(call.layer, inputs[0]), call.layer.kernel),
    ),
    **dict.fromkeys((layers.SeparableConv1D, layers.SeparableConv2D), _separable),
    **dict.fromkeys((layers.MultiHeadAttention, layers.GroupQueryAttention), _attention),
    layers.Attention: lambda call, inputs, output: (  # (queries, size), (values, width)
        _without_weights(inputs[0][0] * inputs[1][0] * (inputs[0][1] + inputs[1][1]))
    ),
    **dict.fromkeys((layers.SimpleRNN, layers.GRU, layers.LSTM, layers.RNN), _recurrent),
    layers.Bidirectional: _recurrent,
    **dict.fromkeys((layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D), _conv_recurrent),
    layers.TimeDistributed: _in_each_step,
}

# Operations of keras.ops that multiply: they would be counted as nothing.
PRODUCTS = {"Matmul", "Dot", "Einsum", "Tensordot", "Conv", "DepthwiseConv", "SeparableConv"}


def _counter(call: Call) -> Counter | None:
    """Return how a call's multiply-adds are counted, also a masked subclass's; None if unknown."""
    return next((COUNTERS[c] for c in type(call.layer).__mro__ if c in COUNTERS), None)


def _not_counted(call: Call) -> str | None:
    """Return why a call that is not counted may multiply; None if it surely has no products."""
    layer, kind = call.layer, type(call.layer).__name__
    if isinstance(layer, layers.Embedding):  # a lookup
        return None
    kernels = [w for w in getattr(layer, "weights", ()) if len(w.shape) >= 2]
    return f"{kind} is not known here" if kernels or kind in PRODUCTS else None
