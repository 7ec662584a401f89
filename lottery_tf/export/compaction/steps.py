"""From the calls of a graph to the steps of a compaction; identities and BatchNorms go."""

from collections.abc import Callable

import keras
import numpy as np

from lottery_tf.export.compaction.layers import (
    MERGED,
    TRANSPOSED,
    BatchNorm,
    Channelwise,
    Concatenation,
    Depthwise,
    Linear,
    Merge,
    PaddedChannels,
    Reshaped,
    Step,
    Unchanged,
    Weighted,
    is_elementwise,
    new_config,
)
from lottery_tf.export.graph import Call, Graph, Slot
from lottery_tf.models.layers import PadChannels
from lottery_tf.models.normalization import FusedBatchNormalization
from lottery_tf.pruning import Array

layers = keras.layers

IDENTITIES = {
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.AlphaDropout,
    layers.Identity,
    layers.ActivityRegularization,
}
# A separable convolution is split into these two.
SEPARABLE = {
    layers.SeparableConv1D: (layers.DepthwiseConv1D, layers.Conv1D),
    layers.SeparableConv2D: (layers.DepthwiseConv2D, layers.Conv2D),
}
OF_DEPTHWISE = ("kernel_size", "strides", "padding", "dilation_rate", "depth_multiplier", "dtype")
OF_POINTWISE = ("name", "activation", "dtype", "use_bias")


def _kernel(layer: keras.Layer) -> Array:
    return keras.ops.convert_to_numpy(layer.kernel)


def _function(graph: Graph, call: Call) -> Step:
    """Return the step of a layer that computes each number by itself."""

    def computed(values: Array) -> Array:
        """Return the layer's outputs for constants, in its own precision."""
        tensor = keras.ops.convert_to_tensor(values[None], dtype=call.layer.compute_dtype)
        return keras.ops.convert_to_numpy(call.layer(tensor))[0].astype(float)

    return Channelwise(graph, call, computed)


def _moved(graph: Graph, call: Call) -> Step:
    """Return the step of a layer that moves numbers to other places."""
    before, after = graph.shapes[call.inputs[0]], graph.shapes[call.outputs[0]]
    if isinstance(call.layer, layers.Permute):
        if call.layer.dims[-1] != len(before):
            return Unchanged(graph, call, "it moves the channels")
        return Channelwise(graph, call)
    if before[-1] != after[-1] and (len(after) > 1 or None in before):
        return Unchanged(graph, call, "it changes the channels")
    if isinstance(call.layer, layers.Reshape) and None in after:
        return Unchanged(graph, call, "of a length that varies")
    return Reshaped(graph, call)


# {class of layers: function of (graph, call) that returns the Step}
STEPS: dict[type, Callable[[Graph, Call], Step]] = {
    **dict.fromkeys(
        (
            layers.Dense,
            layers.EinsumDense,
            layers.Conv1D,
            layers.Conv2D,
            layers.Conv3D,
            *TRANSPOSED,
        ),
        lambda graph, call: Linear(graph, call, _kernel(call.layer)),
    ),
    **dict.fromkeys(
        (layers.DepthwiseConv1D, layers.DepthwiseConv2D),
        lambda graph, call: Depthwise(graph, call, _kernel(call.layer)),
    ),
    **dict.fromkeys((layers.BatchNormalization, FusedBatchNormalization), BatchNorm),
    **dict.fromkeys(MERGED, Merge),
    layers.Concatenate: Concatenation,
    PadChannels: PaddedChannels,
    # They give a constant image back as it came: averages leave the padding out.
    **{
        getattr(layers, f"{name}{n}D"): Channelwise
        for n in (1, 2, 3)
        for name in (
            "MaxPooling",
            "AveragePooling",
            "GlobalMaxPooling",
            "GlobalAveragePooling",
            "UpSampling",
            "Cropping",
        )
    },
    **dict.fromkeys(
        (layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D),
        lambda graph, call: Channelwise(graph, call, borders=True),
    ),
    **dict.fromkeys(
        (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Rescaling), _function
    ),
    **dict.fromkeys((layers.Flatten, layers.Reshape, layers.Permute), _moved),
}


def steps_of(graph: Graph) -> tuple[list[Step], dict[str, str]]:
    """Return the steps of a graph, whose calls are changed, and {layer that went: why}.

    Layers that do nothing in inference are left out, separable convolutions are split, and a
    BatchNorm directly behind a layer with a kernel is folded into it.
    """
    gone: dict[str, str] = {}
    steps: list[Step] = []
    renamed: dict[int, int] = {}
    makers: dict[int, Step] = {}
    for call in graph.calls:
        call.inputs = [renamed.get(tensor, tensor) for tensor in call.inputs]
        identity = type(call.layer) in IDENTITIES and _takes_tensors_alone(call)
        if identity and call.outputs[0] not in graph.outputs:
            renamed[call.outputs[0]] = call.inputs[0]
            gone[call.name] = "does nothing in inference"
        elif type(call.layer) in SEPARABLE and not _reason(call):
            steps += _split(graph, call)
        else:
            steps.append(_step(graph, call))
    graph.calls = [step.call for step in steps]
    left: list[Step] = []
    for step in steps:
        source, out = makers.get(step.call.inputs[0]), step.call.outputs[0]
        if (
            isinstance(step, BatchNorm)
            and isinstance(source, Weighted)
            and source.linear
            and graph.consumers(step.call.inputs[0]) == 1
            and out not in graph.outputs
        ):
            source.scale(step.scale, step.offset)
            source.call.outputs, makers[out] = [out], source
            gone[step.call.name] = f"folded into {source.call.name}"
        else:
            left.append(step)
            makers |= dict.fromkeys(step.call.outputs, step)
    graph.calls = [step.call for step in left]
    return left, gone


def _split(graph: Graph, call: Call) -> list[Step]:
    """Return a separable convolution as its depthwise and its pointwise part."""
    layer, (depthwise, conv) = call.layer, SEPARABLE[type(call.layer)]
    kernels = [
        keras.ops.convert_to_numpy(kernel)
        for kernel in (layer.depthwise_kernel, layer.pointwise_kernel)
    ]
    between = len(graph.shapes)
    graph.shapes.append((*graph.shapes[call.outputs[0]][:-1], kernels[1].shape[-2]))
    name = f"{call.name}_depthwise"
    first = Call(name, layer, call.inputs, [between], call.args, call.kwargs)
    second = Call(call.name, layer, [between], call.outputs, (Slot(0),), {})
    config = new_config(layer, call.name)
    deep = {key: config[key] for key in OF_DEPTHWISE} | {"name": name, "use_bias": False}
    point = {key: config[key] for key in OF_POINTWISE} | {"kernel_size": 1}
    return [
        Depthwise(graph, first, kernels[0], (depthwise, deep)),
        Linear(graph, second, kernels[1], (conv, point)),
    ]


def _step(graph: Graph, call: Call) -> Step:
    """Return the step of a call; Unchanged where it is not known what it does."""
    reason, make = _reason(call), STEPS.get(type(call.layer))
    if not reason and not _has_usual_shapes(graph, call):
        reason = "of the shapes of its inputs"
    if not reason and make is None:
        reason = f"{type(call.layer).__name__} is not known here"
    if reason or make is None:
        return Unchanged(graph, call, reason)
    return make(graph, call)


def _takes_tensors_alone(call: Call) -> bool:
    """Return whether a call has no training=True, mask, state or other arguments."""
    options = [value for value in call.kwargs.values() if value is not None and value is not False]
    given = call.args[0] if len(call.args) == 1 else None
    tensors = given if isinstance(given, list | tuple) else [given]
    return not options and all(isinstance(tensor, Slot) for tensor in tensors)


def _has_usual_shapes(graph: Graph, call: Call) -> bool:
    """Return whether a call has one output with channels, and inputs of its rank and channels."""
    if len(call.outputs) != 1 or not all(map(graph.channels, call.inputs + call.outputs)):
        return False
    if len(call.inputs) == 1 or isinstance(call.layer, layers.Concatenate):
        return True
    shapes = [graph.shapes[tensor] for tensor in call.inputs + call.outputs]
    return len({(len(shape), shape[-1]) for shape in shapes}) == 1


def _reason(call: Call) -> str:
    """Return why a call must be left as it is, whatever is known of its class; "" if it need not.

    Such a layer computes otherwise than its class does with usual options.
    """
    layer = call.layer
    if call.shared and call.has_weights:
        return "it is called more than once"
    if not _takes_tensors_alone(call):
        return "it is called with options, or with more than tensors"
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return "its channels come first"
    if getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
        return "it is quantized, or has LoRA weights"
    if getattr(layer, "groups", 1) != 1:
        return "its convolution has groups"
    if isinstance(layer, layers.EinsumDense):
        left, out = layer.equation.replace(" ", "").split("->")
        features, weights = left.split(",")
        if weights != features[-1] + out[-1] or features[:-1] != out[:-1]:
            return f"its equation {layer.equation} is not that of a Dense layer"
        if layer.bias is not None and len(layer.bias.shape) > 1:
            return f"its bias of axes {layer.bias_axes} is not that of a Dense layer"
    last = [-1]
    if isinstance(layer, layers.BatchNormalization):
        last.append(layer.input_spec.ndim - 1)
    normalizes = isinstance(layer, layers.Concatenate | layers.BatchNormalization)
    if normalizes and layer.axis not in last:
        return f"its axis is {layer.axis}"
    if getattr(layer, "renorm", False):
        return "it renormalizes"
    if isinstance(layer, layers.Rescaling) and (np.ndim(layer.scale) or np.ndim(layer.offset)):
        return "it scales each channel otherwise"
    by_channel = layers.Activation | layers.DepthwiseConv1D | layers.DepthwiseConv2D
    if isinstance(layer, by_channel) and not is_elementwise(layer.activation):
        return "its activation may mix channels"
    return ""
