"""Writes each kind of layer in C: turns the Tensors of its inputs into that of its output."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.export import c_int8
from lottery_tf.export.c_kernels import ACTIVATIONS, COMBINATIONS
from lottery_tf.export.c_source import NotInC, Source, Tensor, images_last
from lottery_tf.export.numpy_recipe import is_plain
from lottery_tf.pruning import Array
from lottery_tf.structure.graph import Graph

layers = keras.layers
Layer = Callable[[Source, Any, list[Tensor]], Tensor]  # (source, layer, inputs) -> output


def write_layers(
    source: Source, graph: Graph, inputs: Sequence[Tensor], calibration: Mapping[str, Array]
) -> list[Tensor]:
    """Add the steps of a network; return its outputs. int8 is calibrated on examples.

    Raises:
        InputError: it has layers that cannot be written in C; the message names them.
    """
    tensors, unknown = dict(zip(graph.inputs, inputs, strict=True)), []
    for call in graph.calls:
        line = LAYERS.get(type(call.layer))
        if line is None or not is_plain(call):
            unknown.append(f"{call.name} ({type(call.layer).__name__})")
    if unknown:
        raise InputError(
            f"--format=c: expected layers that are written in C. Received: {', '.join(unknown)}. "
            "docs/guides/export_formats.md lists the layers; use another format."
        )
    ranges = c_int8.ranges(graph, calibration) if source.int8 else {}
    for call in graph.calls:
        source.ranges = list(ranges.get(call.name, ()))
        given = [_seen(graph, number, tensors[number]) for number in call.inputs]
        source.current = f"{call.name}: {type(call.layer).__name__}"
        try:
            (out,) = call.outputs
            tensors[out] = LAYERS[type(call.layer)](source, call.layer, given)
        except NotInC as reason:
            raise refused(call.name, type(call.layer).__name__, reason) from None
    return [tensors[number] for number in graph.outputs]


def refused(name: str, kind: str, reason: object) -> InputError:
    """Return the error of a layer, of a class, that is not written."""
    return InputError(f"--format=c does not write {name} ({kind}): {reason}.")


def _seen(graph: Graph, number: int, tensor: Tensor) -> Tensor:
    """Return a tensor for a layer to read; only its sole reader may change the step behind it."""
    if graph.consumers(number) > 1:
        tensor.step = None
    return tensor


def _restored(view: Tensor, rank: int, axis: int) -> Tensor:
    """Return a tensor of Keras's axes from (channels, rows, columns)."""

    def change(array: Array) -> Array:
        shape = array.shape[:1] + array.shape[4 - rank :]
        return np.moveaxis(array.reshape(shape), 0, axis)

    return view.map(change)


def _channel_axis(layer: keras.Layer) -> int:
    return 0 if layer.data_format == "channels_first" else -1


def _two(numbers: Any, filler: int = 1) -> tuple[int, int]:
    """Return the settings of rows and columns; a single axis is columns."""
    first, *rest = (numbers,) if isinstance(numbers, int) else numbers
    return (first, *rest) if rest else (filler, first)


def _borders(length: int, size: int, step: int) -> tuple[int, int]:
    """Return how much the padding "same" adds before and after."""
    needed = max((-(-length // step) - 1) * step + size - length, 0)
    return needed // 2, needed - needed // 2


def _activated(source: Source, tensor: Tensor, activation: Any) -> Tensor:
    """Return a tensor behind an activation, a function of keras.activations."""
    name = getattr(activation, "__name__", "")
    if name == "linear":
        return tensor
    if activation is not getattr(keras.activations, name, None):
        raise NotInC(f"the activation {name or activation}")
    if name == "softmax":
        return source.softmax(tensor, -1)
    if name not in ACTIVATIONS:
        raise NotInC(f"the activation {name}")
    slopes = {"leaky_relu": 0.2, "elu": 1.0}
    return _shaped(source, tensor, name, slope=slopes.get(name, 0.0))


def _shaped(source: Source, tensor: Tensor, name: str, **numbers: float) -> Tensor:
    """Return a tensor behind an activation with numbers."""
    texts = {key: f"{np.float32(number)!s}f" for key, number in numbers.items()}
    return source.activate(tensor, name, ACTIVATIONS[name].format(**texts))


def _dense(source: Source, layer: Any, inputs: list[Tensor]) -> Tensor:
    (tensor,), kernel = inputs, np.array(layer.kernel)
    bias = np.array(layer.bias) if layer.use_bias else None
    rank = tensor.places.ndim
    if rank == 1:
        made = source.linear(tensor, kernel, bias)
    else:
        view = images_last(tensor, -1)
        one = (1, 1)
        made = _restored(source.convolve(view, kernel, bias, one, one, one), rank, -1)
    return _activated(source, made, layer.activation)


def _convolved(source: Source, layer: Any, tensor: Tensor, kernel: Array, bias: Any) -> Tensor:
    """Return a convolution with a kernel (channels * height * width, outputs)."""
    axis, rank = _channel_axis(layer), tensor.places.ndim
    view = images_last(tensor, axis)
    sizes, steps, rates = map(_two, (layer.kernel_size, layer.strides, layer.dilation_rate))
    reach = [(size - 1) * rate + 1 for size, rate in zip(sizes, rates, strict=True)]
    if layer.padding == "same":
        borders = map(_borders, view.places.shape[1:], reach, steps)
        view = view.pad([(0, 0), *borders])
    elif layer.padding == "causal":
        view = view.pad([(0, 0), (0, 0), (reach[1] - 1, 0)])
    return _restored(source.convolve(view, kernel, bias, sizes, steps, rates), rank, axis)


def _spread(kernel: Array, groups: int) -> Array:
    """Return (inputs, outputs) of a kernel (height, width, channels of a group, outputs)."""
    *_, channels, outputs = kernel.shape
    kernel = kernel.reshape(-1, channels, groups, outputs // groups)
    whole = np.zeros((groups, channels, len(kernel), groups, outputs // groups), kernel.dtype)
    for group in range(groups):
        whole[group, :, :, group] = kernel[:, :, group].transpose(1, 0, 2)
    return whole.reshape(-1, outputs)


def _conv(source: Source, layer: Any, inputs: list[Tensor]) -> Tensor:
    kernel = _spread(np.array(layer.kernel), layer.groups)
    bias = np.array(layer.bias) if layer.use_bias else None
    made = _convolved(source, layer, inputs[0], kernel, bias)
    return _activated(source, made, layer.activation)


def _of_depth(kernel: Array) -> Array:
    """Return (inputs, outputs) of a kernel (height, width, channels, multiplier)."""
    *sizes, channels, multiplier = kernel.shape
    return _spread(kernel.reshape(*sizes, 1, channels * multiplier), channels)


def _depthwise(source: Source, layer: Any, inputs: list[Tensor]) -> Tensor:
    bias = np.array(layer.bias) if layer.use_bias else None
    made = _convolved(source, layer, inputs[0], _of_depth(np.array(layer.kernel)), bias)
    return _activated(source, made, layer.activation)


def _separable(source: Source, layer: Any, inputs: list[Tensor]) -> Tensor:
    axis, rank = _channel_axis(layer), inputs[0].places.ndim
    kernel = _of_depth(np.array(layer.depthwise_kernel))
    made = images_last(_convolved(source, layer, inputs[0], kernel, None), axis)
    kernel = _spread(np.array(layer.pointwise_kernel), 1)
    bias = np.array(layer.bias) if layer.use_bias else None
    made = _restored(source.convolve(made, kernel, bias, (1, 1), (1, 1), (1, 1)), rank, axis)
    return _activated(source, made, layer.activation)


def _scaled(tensor: Tensor, scale: Array, offset: Array) -> Tensor:
    """Return a tensor whose elements are scale * x + offset, in the weights of its step if able."""
    shape, step = tensor.places.shape, tensor.step
    scale, offset = (np.broadcast_to(a, shape).astype(np.float64) for a in (scale, offset))
    free = step and step.weights.size and not (step.activation[0] or step.softmax[0])
    if step and free and tensor.is_float and (tensor.places >= 0).all():
        outputs = tensor.places.reshape(-1) // step.plane
        of_output = np.zeros((2, len(step.bias)))
        of_output[:, outputs] = scale.reshape(-1), offset.reshape(-1)
        if (of_output[:, outputs] == [scale.reshape(-1), offset.reshape(-1)]).all():
            step.weights = step.weights * of_output[0]
            step.bias = step.bias * of_output[0] + of_output[1]
            return tensor
    if tensor.scale is not None and tensor.offset is not None:
        offset = offset + scale * tensor.offset
        scale = scale * tensor.scale
    return Tensor(tensor.buffer, tensor.places, scale, offset)


def _rescaling(source: Source, layer: Any, inputs: list[Tensor]) -> Tensor:
    return _scaled(inputs[0], np.array(layer.scale), np.array(layer.offset))


def _batch_normalization(source: Source, layer: Any, inputs: list[Tensor]) -> Tensor:
    (tensor,) = inputs
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    axis = axis if axis < 0 else axis - 1
    mean, variance = (
        np.array(weight, np.float64) for weight in (layer.moving_mean, layer.moving_variance)
    )
    scale = 1 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * np.array(layer.gamma, np.float64)
    offset = -mean * scale
    if layer.center:
        offset = offset + np.array(layer.beta, np.float64)
    shape = [1] * tensor.places.ndim
    shape[axis] = -1
    return _scaled(tensor, scale.reshape(shape), offset.reshape(shape))


def _relu(source: Source, layer: Any, inputs: list[Tensor]) -> Tensor:
    if layer.threshold:
        raise NotInC("a threshold")
    slope = float(layer.negative_slope or 0)
    if layer.max_value is None and not slope:
        return _shaped(source, inputs[0], "relu")
    if layer.max_value is None:
        return _shaped(source, inputs[0], "leaky_relu", slope=slope)
    return _shaped(source, inputs[0], "limited", slope=slope, limit=float(layer.max_value))


def _softmax(source: Source, layer: Any, inputs: list[Tensor]) -> Tensor:
    if not isinstance(layer.axis, int):
        raise NotInC("a softmax over several axes")
    return source.softmax(inputs[0], layer.axis if layer.axis < 0 else layer.axis - 1)


def _pooling(kind: str) -> Layer:
    def line(source: Source, layer: Any, inputs: list[Tensor]) -> Tensor:
        axis, rank = _channel_axis(layer), inputs[0].places.ndim
        view = images_last(inputs[0], axis)
        sizes, steps = _two(layer.pool_size), _two(layer.strides)
        lengths = view.places.shape[1:]
        ends = zip(lengths, sizes, steps, strict=True)
        if layer.padding == "same":
            (top, rows), (left, columns) = (
                (_borders(length, size, step)[0], -(-length // step)) for length, size, step in ends
            )
        else:
            top = left = 0
            rows, columns = ((length - size) // step + 1 for length, size, step in ends)
        made = source.pool(view, kind, sizes, steps, (top, left), (rows, columns))
        return _restored(made, rank, axis)

    return line


def _global(kind: str) -> Layer:
    def line(source: Source, layer: Any, inputs: list[Tensor]) -> Tensor:
        axis, rank = _channel_axis(layer), inputs[0].places.ndim
        view = images_last(inputs[0], axis)
        sizes = view.places.shape[1:]
        made = source.pool(view, kind, sizes, sizes, (0, 0), (1, 1))
        if layer.keepdims:
            return _restored(made, rank, axis)
        return made.map(lambda array: array.reshape(-1))

    return line


def _padding(source: Source, layer: Any, inputs: list[Tensor]) -> Tensor:
    widths = [layer.padding] if isinstance(layer.padding[0], int) else list(layer.padding)
    last = getattr(layer, "data_format", "channels_last") != "channels_first"
    return inputs[0].pad([*widths, (0, 0)] if last else [(0, 0), *widths])


def _combination(name: str) -> Layer:
    return lambda source, layer, inputs: source.combine(inputs, name.lower(), COMBINATIONS[name])


def _concatenate(source: Source, layer: Any, inputs: list[Tensor]) -> Tensor:
    return source.concatenate(inputs, layer.axis if layer.axis < 0 else layer.axis - 1)


def _flatten(source: Source, layer: Any, inputs: list[Tensor]) -> Tensor:
    (tensor,) = inputs
    if layer.data_format == "channels_first" and tensor.places.ndim > 1:  # it moves channels last
        tensor = tensor.map(lambda array: np.moveaxis(array, 0, -1))
    return tensor.map(lambda array: array.reshape(-1))


def _reshape(source: Source, layer: Any, inputs: list[Tensor]) -> Tensor:
    return inputs[0].map(lambda array: array.reshape(layer.target_shape))


def _permute(source: Source, layer: Any, inputs: list[Tensor]) -> Tensor:
    return inputs[0].map(lambda array: array.transpose([axis - 1 for axis in layer.dims]))


def _same(source: Source, layer: Any, inputs: list[Tensor]) -> Tensor:
    return inputs[0]


NOTHING: tuple[type, ...] = (
    layers.Identity,
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
)
NOTHING += (layers.GaussianNoise, layers.GaussianDropout, layers.ActivityRegularization)
LAYERS: dict[type, Layer] = {
    **dict.fromkeys(NOTHING, _same),
    layers.Rescaling: _rescaling,
    layers.Flatten: _flatten,
    layers.Reshape: _reshape,
    layers.Permute: _permute,
    layers.ZeroPadding1D: _padding,
    layers.ZeroPadding2D: _padding,
    layers.Dense: _dense,
    layers.Conv1D: _conv,
    layers.Conv2D: _conv,
    layers.DepthwiseConv1D: _depthwise,
    layers.DepthwiseConv2D: _depthwise,
    layers.SeparableConv1D: _separable,
    layers.SeparableConv2D: _separable,
    layers.BatchNormalization: _batch_normalization,
    layers.Activation: lambda source, layer, inputs: _activated(
        source, inputs[0], layer.activation
    ),
    layers.ReLU: _relu,
    layers.LeakyReLU: lambda source, layer, inputs: _shaped(
        source, inputs[0], "leaky_relu", slope=float(layer.negative_slope)
    ),
    layers.ELU: lambda source, layer, inputs: _shaped(
        source, inputs[0], "elu", slope=float(layer.alpha)
    ),
    layers.Softmax: _softmax,
    layers.MaxPooling1D: _pooling("max"),
    layers.MaxPooling2D: _pooling("max"),
    layers.AveragePooling1D: _pooling("mean"),
    layers.AveragePooling2D: _pooling("mean"),
    layers.GlobalMaxPooling1D: _global("max"),
    layers.GlobalMaxPooling2D: _global("max"),
    layers.GlobalAveragePooling1D: _global("mean"),
    layers.GlobalAveragePooling2D: _global("mean"),
    layers.Add: _combination("Add"),
    layers.Subtract: _combination("Subtract"),
    layers.Multiply: _combination("Multiply"),
    layers.Maximum: _combination("Maximum"),
    layers.Minimum: _combination("Minimum"),
    layers.Concatenate: _concatenate,
}
