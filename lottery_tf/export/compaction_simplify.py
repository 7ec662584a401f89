"""The calls of a graph with what a compaction knows of each; identities and BatchNorms go."""

import dataclasses
from typing import Any

import keras
import numpy as np

from lottery_tf.export import compaction_kinds as kinds
from lottery_tf.export.compaction_kernels import (
    TRANSPOSED,
    Depthwise,
    Linear,
    elementwise,
)
from lottery_tf.export.graph import Call, Graph, Slot
from lottery_tf.models.layers import PadChannels
from lottery_tf.models.normalization import FusedBatchNormalization

layers = keras.layers

IDENTITIES = {
    layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D,
    layers.GaussianDropout, layers.GaussianNoise, layers.AlphaDropout, layers.Identity,
    layers.ActivityRegularization,
}  # fmt: skip
# What gives a constant image back as it came. Averages leave the padding out.
SPATIAL = {
    getattr(layers, f"{name}{n}D")
    for n in (1, 2, 3)
    for name in ("MaxPooling", "AveragePooling", "GlobalMaxPooling", "GlobalAveragePooling",
                 "UpSampling", "Cropping")
}  # fmt: skip
PADDINGS = {layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D}
FUNCTIONS = {layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Rescaling}
CONVOLUTIONS = {layers.Conv1D, layers.Conv2D, layers.Conv3D, *TRANSPOSED}
SEPARABLE = {
    layers.SeparableConv1D: (layers.DepthwiseConv1D, layers.Conv1D),
    layers.SeparableConv2D: (layers.DepthwiseConv2D, layers.Conv2D),
}

OF_DEPTHWISE = ("kernel_size", "strides", "padding", "dilation_rate", "depth_multiplier", "dtype")
OF_POINTWISE = ("name", "activation", "dtype", "use_bias")


@dataclasses.dataclass(eq=False)
class Step:
    """A Call with its kind, as compaction_kinds describes them."""

    call: Call
    kind: Any


def steps_of(graph: Graph) -> tuple[list[Step], dict[str, str]]:
    """The steps of a graph, whose calls are changed, and {layer that went: why}.

    Layers that do nothing in inference are left out, separable convolutions are split, and a
    BatchNorm directly behind a layer with a kernel is folded into it.
    """
    gone: dict[str, str] = {}
    steps: list[Step] = []
    renamed: dict[int, int] = {}
    for call in graph.calls:
        call.inputs = [renamed.get(tensor, tensor) for tensor in call.inputs]
        identity = type(call.layer) in IDENTITIES and _plain(call)
        if identity and call.outputs[0] not in graph.outputs:
            renamed[call.outputs[0]] = call.inputs[0]
            gone[call.name] = "does nothing in inference"
        elif type(call.layer) in SEPARABLE and not _reason(call):
            steps += _split(graph, call)
        else:
            steps.append(Step(call, kind_of(graph, call)))
    graph.calls = [step.call for step in steps]
    return _without_norms(graph, steps, gone), gone


def _without_norms(graph, steps, gone):
    """The steps after BatchNorms have been folded into what makes their input."""
    makers = {tensor: step for step in steps for tensor in step.call.outputs}
    left = []
    for step in steps:
        source, out = makers.get(step.call.inputs[0]), step.call.outputs[0]
        foldable = (
            isinstance(step.kind, kinds.Normalization)
            and source is not None
            and isinstance(source.kind, Linear | Depthwise)
            and source.kind.linear
            and graph.consumers(step.call.inputs[0]) == 1
            and out not in graph.outputs
        )
        if not foldable:
            left.append(step)
            continue
        source.kind.scale(step.kind.scale, step.kind.offset)
        source.call.outputs, makers[out] = [out], source
        gone[step.call.name] = f"folded into {source.call.name}"
    graph.calls = [step.call for step in left]
    return left


def _split(graph, call):
    """A separable convolution as its depthwise and its pointwise part."""
    layer, (depthwise, conv) = call.layer, SEPARABLE[type(call.layer)]
    between = len(graph.shapes)
    kernels = [
        keras.ops.convert_to_numpy(kernel)
        for kernel in (layer.depthwise_kernel, layer.pointwise_kernel)
    ]
    graph.shapes.append((*graph.shapes[call.outputs[0]][:-1], kernels[1].shape[-2]))
    config = kinds.new_config(layer, call.name)
    own = {key: config[key] for key in OF_DEPTHWISE}
    first = Call(f"{call.name}_depthwise", layer, call.inputs, [between], call.args, call.kwargs)
    second = Call(call.name, layer, [between], call.outputs, (Slot(0),), {})
    own |= {"name": first.name, "use_bias": False}
    point = {key: config[key] for key in OF_POINTWISE} | {"kernel_size": 1}
    return [
        Step(first, Depthwise(first, kernels[0], depthwise, own)),
        Step(second, Linear(second, kernels[1], conv, point)),
    ]


def kind_of(graph: Graph, call: Call) -> Any:
    """What is known of a call."""
    reason = _reason(call) or ("" if _plain_shapes(graph, call) else "of the shapes of its inputs")
    return kinds.Untreated(reason) if reason else _known(graph, call)


def _known(graph, call):
    """The kind of a call that is plain; Untreated if its class is not known."""
    layer, cls = call.layer, type(call.layer)
    if cls is layers.Dense or cls in CONVOLUTIONS or cls is layers.EinsumDense:
        return Linear(call, keras.ops.convert_to_numpy(layer.kernel))
    if cls in (layers.DepthwiseConv1D, layers.DepthwiseConv2D):
        return Depthwise(call, keras.ops.convert_to_numpy(layer.kernel))
    if cls in (layers.BatchNormalization, FusedBatchNormalization):
        return kinds.Normalization(call)
    if cls in kinds.MERGED:
        return kinds.Merge(call)
    if cls is layers.Concatenate:
        return kinds.Concatenate(call)
    if cls is PadChannels:
        return kinds.PadChannels(call)
    if cls in SPATIAL or cls in PADDINGS:
        return kinds.Channelwise(call, borders=cls in PADDINGS)
    if cls in FUNCTIONS:
        return kinds.Channelwise(call, lambda values: _computed(layer, values))
    if cls in (layers.Flatten, layers.Reshape, layers.Permute):
        return _moved(graph, call)
    return kinds.Untreated(f"{cls.__name__} is not known here")


def _computed(layer, values):
    """A layer on constants, in its own precision."""
    tensor = keras.ops.convert_to_tensor(values[None], dtype=layer.compute_dtype)
    return keras.ops.convert_to_numpy(layer(tensor))[0].astype(float)


def _moved(graph, call):
    """The kind of a layer that moves numbers to other places."""
    before, after = graph.shapes[call.inputs[0]], graph.shapes[call.outputs[0]]
    flat = len(after) == 1 and None not in before
    if isinstance(call.layer, layers.Permute):
        if call.layer.dims[-1] != len(before):
            return kinds.Untreated("it moves the channels")
        return kinds.Channelwise(call)
    if not flat and before[-1] != after[-1]:
        return kinds.Untreated("it changes the channels")
    if isinstance(call.layer, layers.Flatten):
        return kinds.Channelwise(call, where=lambda sizes: np.arange(sizes.output) % before[-1])
    if None in after:
        return kinds.Untreated("of a length that varies")
    return kinds.Channelwise(
        call,
        where=lambda sizes: np.arange(sizes.output) % before[-1],
        config=lambda config, kept: config | {"target_shape": (*after[:-1], len(kept))},
    )


def _plain(call):
    """Whether a call is one of tensors alone: no training=True, mask or state."""
    options = [value for value in call.kwargs.values() if value is not None and value is not False]
    given = call.args[0] if len(call.args) == 1 else None
    tensors = given if isinstance(given, list | tuple) else [given]
    return not options and all(isinstance(tensor, Slot) for tensor in tensors)


def _plain_shapes(graph, call):
    """Whether a call has one output with channels, and inputs of its rank and known channels."""
    if len(call.outputs) != 1 or not all(map(graph.channels, call.inputs + call.outputs)):
        return False
    if len(call.inputs) == 1:
        return True
    shapes = [graph.shapes[tensor] for tensor in call.inputs + call.outputs]
    if isinstance(call.layer, layers.Concatenate):
        return True
    return len({(len(shape), shape[-1]) for shape in shapes}) == 1


def _reason(call):
    """Why a call is left as it is, whatever its class; "" if nothing speaks against it."""
    layer = call.layer
    if call.shared and getattr(layer, "weights", ()):
        return "it is called more than once"
    if not _plain(call):
        return "it is called with options, or with more than tensors"
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return "its channels come first"
    if getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
        return "it is quantized, or has LoRA weights"
    if getattr(layer, "groups", 1) != 1:
        return "its convolution has groups"
    return _reason_of_class(layer, len(call.inputs))


def _reason_of_class(layer, inputs):
    """Why a layer of a known class computes otherwise than is known."""
    if isinstance(layer, layers.EinsumDense):
        left, out = layer.equation.replace(" ", "").split("->")
        features, weights = left.split(",")
        if weights != features[-1] + out[-1] or features[:-1] != out[:-1]:
            return f"its equation {layer.equation} is not that of a Dense layer"
        if layer.bias is not None and len(layer.bias.shape) > 1:
            return f"its bias of axes {layer.bias_axes} is not that of a Dense layer"
    axis = getattr(layer, "axis", -1)
    rank = layer.input_spec.ndim if isinstance(layer, layers.BatchNormalization) else None
    if isinstance(layer, layers.Concatenate | layers.BatchNormalization) and axis not in (
        -1, rank and rank - 1,
    ):  # fmt: skip
        return f"its axis is {axis}"
    if getattr(layer, "renorm", False):
        return "it renormalizes"
    if isinstance(layer, layers.Rescaling) and (np.ndim(layer.scale) or np.ndim(layer.offset)):
        return "it scales each channel otherwise"
    by_channel = layers.Activation | layers.DepthwiseConv1D | layers.DepthwiseConv2D
    if isinstance(layer, by_channel) and not elementwise(layer.activation):
        return "its activation may mix channels"
    return ""
