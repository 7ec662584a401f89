"""The steps of a graph: how each layer's channels depend on those of its inputs.

Compaction removes the channels without effect by them, and structured pruning finds the channels
that must go together. A channel is an index of a tensor's last axis. Each call of a layer is a
Step, which says

    sources         which input channel an output channel is made of (-1: none), for each input;
                    empty if all outputs depend on all inputs
    constants(…)    which output channels are the same for all examples
    build(…)        the layer for the channels that are kept

`Channels` has the channels of all tensors, in groups that are kept or removed together.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.masking import copying, keras_private
from lottery_tf.pruning import Array
from lottery_tf.structure.graph import Call, Graph, Slot

layers = keras.layers
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
Config = dict[str, Any]  # of a layer, as Keras has it
Part = tuple[type[keras.Layer], Config]  # the class of a layer and its configuration

ATTENTION = (layers.MultiHeadAttention, layers.GroupQueryAttention)
OUTPUTS = "they are the network's outputs"
# Activations that mix the units of a layer; all others are functions of one unit.
MIXING = {"softmax", "log_softmax", "sparsemax", "glu"}
ELEMENTWISE = {
    function
    for name, function in vars(keras.activations).items()
    if callable(function) and name not in MIXING | {"get", "serialize", "deserialize"}
}
# Gathering a number takes as long as this many multiply-adds of a dense layer, and of a convolution
# with several taps, whose multiply-adds are faster (measured: TensorFlow 2.21, two CPU cores).
GATHER_DENSE, GATHER_CONV = 256, 600


@dataclasses.dataclass
class Constants:
    """The channels of a tensor that are the same for all examples."""

    values: Array  # float64 (channels,), NaN where a channel depends on the example or the place
    bordered: bool = False  # the values hold inside, with zeros around, as ZeroPadding leaves them

    @classmethod
    def none(cls, channels: int) -> "Constants":
        """Return those of a tensor all of whose channels may depend on the example."""
        return cls(np.full(channels, np.nan))

    def everywhere(self) -> Array:
        """Return the constants that hold at all places; NaN for the others."""
        if not self.bordered:
            return self.values
        return np.where(self.values == 0, 0.0, np.nan)


@dataclasses.dataclass
class Kept:
    """What a step is built from in the smaller network."""

    tensors: list[keras.KerasTensor]  # the kept channels of the inputs
    inputs: list[Array]  # the numbers of those channels, for each input
    outputs: Array  # the numbers of the output's kept channels
    constants: list[Constants]  # of the inputs, all channels


class Step:
    """A call of a layer with one output, of so many channels; `sources` as the module says."""

    def __init__(self, graph: Graph, call: Call):
        self.call, self.channels = call, graph.channels(call.outputs[0])
        self.sources: list[Array] = []

    def constants(self, inputs: list[Constants]) -> Constants:
        """Return the constants of the output, from those of the inputs."""
        raise NotImplementedError

    def build(self, kept: Kept) -> keras.KerasTensor:
        """Return the output of the layer for the channels that are kept."""
        config = new_config(self.call.layer, self.call.name)
        if isinstance(self.call.layer, layers.Reshape):
            config["target_shape"] = (*config["target_shape"][:-1], len(kept.outputs))
        return type(self.call.layer).from_config(config)(*kept.tensors)


class Unchanged(Step):
    """A call that stays as it is: all of its inputs are needed, all of its outputs are kept."""

    def __init__(self, graph: Graph, call: Call, reason: str):
        super().__init__(graph, call)
        self.reason = reason
        self.last = all(tensor in graph.outputs for tensor in call.outputs)

    @property
    def why(self) -> str:
        """Why the channels around it stay."""
        return OUTPUTS if self.last else f"{self.call.name} is left as it is: {self.reason}"

    def options(self) -> Config:
        """Return what of its configuration the new layer has otherwise."""
        return {}

    def weights(self) -> list[Array]:
        """Return the weights of the new layer."""
        return self.call.layer.get_weights()

    def rebuild(self, tensors: Sequence[keras.KerasTensor], made: dict[int, keras.Layer]) -> Any:
        """Call the layer as it is on new tensors, and return its outputs.

        A shared layer is copied once: `made` is {id of an original layer: its copy}.
        """
        layer, name = self.call.layer, self.call.name
        args, kwargs = keras.tree.map_structure(
            lambda argument: tensors[argument.index] if isinstance(argument, Slot) else argument,
            (self.call.args, self.call.kwargs),
        )
        if not isinstance(layer, layers.Layer):  # an operation of keras.ops has no state
            return layer(*args, **kwargs)
        if id(layer) in made:
            return made[id(layer)](*args, **kwargs)
        try:
            options = self.options()
            config = layer.get_config() | {"name": name} | options
            copy = made[id(layer)] = type(layer).from_config(config)
            outputs = copy(*args, **kwargs)
            if not options:  # a smaller layer has weights alone
                copying.copy_state(layer, copy)
            copy.set_weights(self.weights())
        except Exception as error:  # whatever Keras and the user's class raise
            raise InputError(
                f"The layer {name}, a {type(layer).__name__}, cannot be rebuilt. Give it "
                f"get_config and from_config. {type(error).__name__}: {error}"
            ) from error
        return outputs


class Attention(Unchanged):
    """Attention between channels that all stay; the heads that reach no output go."""

    def __init__(self, graph: Graph, call: Call, reason: str):
        super().__init__(graph, call, reason)
        self.projections = keras_private.projections(call.layer)
        shared = self.projections["key"].kernel.shape[1]  # by several queries, where they are fewer
        output = keras.ops.convert_to_numpy(self.projections["output"].kernel)
        alive = output.reshape(shared, -1).any(1)
        alive[0] |= not alive.any()
        self.heads = np.flatnonzero(np.ones_like(alive) if call.shared else alive)

    def options(self) -> Config:
        heads = self.projections["key"].kernel.shape[1]
        if len(self.heads) == heads:
            return {}
        return {
            name: count // heads * len(self.heads)
            for name, count in self.call.layer.get_config().items()
            if name in ("num_heads", "num_query_heads", "num_key_value_heads")
        }

    def weights(self) -> list[Array]:
        places = {}  # {id of a variable: the axis of its heads}
        for name, layer in self.projections.items():
            kernel = keras_private.stored_variable(layer, "kernel")
            places[id(kernel)] = 0 if name == "output" else 1
            if layer.bias is not None and name != "output":
                places[id(layer.bias)] = 0
        found = []
        for variable in self.call.layer.weights:
            array = keras.ops.convert_to_numpy(variable)
            if (axis := places.get(id(variable))) is not None:
                each = array.shape[axis] // self.projections["key"].kernel.shape[1]
                taken = (self.heads[:, None] * each + np.arange(each)).ravel()
                array = np.take(array, taken, axis)
            found.append(array)
        return found


class Channelwise(Step):
    """A call each of whose output channels is a function of one input channel.

    `function` says what constants (channels,) become; with `borders`, zeros are put around.
    """

    def __init__(
        self,
        graph: Graph,
        call: Call,
        function: Callable[[Array], Array] = lambda values: values,
        *,
        borders: bool = False,
    ):
        super().__init__(graph, call)
        self.sources = [np.arange(self.channels)]
        self.function, self.borders = function, borders

    def constants(self, inputs: list[Constants]) -> Constants:
        values = inputs[0].everywhere()[self.sources[0]]
        known = ~np.isnan(values)
        function = self.function(np.where(known, values, 0))
        return Constants(np.where(known, function, np.nan), self.borders)


class Reshaped(Channelwise):
    """Flatten and Reshape: channels come back in their order, several times over."""

    def __init__(self, graph: Graph, call: Call):
        super().__init__(graph, call)
        self.sources = [np.arange(self.channels) % graph.channels(call.inputs[0])]


class BatchNorm(Channelwise):
    """BatchNorm as it is in inference: scale * x + offset for each channel."""

    def __init__(self, graph: Graph, call: Call):
        layer = call.layer
        self.arrays = {
            name: keras.ops.convert_to_numpy(variable)
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
            if (variable := getattr(layer, name, None)) is not None
        }
        mean, variance = (self.arrays[f"moving_{m}"].astype(float) for m in ("mean", "variance"))
        self.scale = self.arrays.get("gamma", 1.0) / np.sqrt(variance + layer.epsilon)
        self.offset = self.arrays.get("beta", 0.0) - mean * self.scale
        super().__init__(graph, call, lambda values: values * self.scale + self.offset)

    def constants(self, inputs: list[Constants]) -> Constants:
        values = super().constants(inputs).values
        return Constants(np.where(self.scale == 0, self.offset, values))

    def build(self, kept: Kept) -> keras.KerasTensor:
        config = new_config(self.call.layer, self.call.name)
        normalize = layers.BatchNormalization.from_config(config)
        output = normalize(kept.tensors[0])
        normalize.set_weights([array[kept.outputs] for array in self.arrays.values()])
        return output


MERGED: dict[type, Callable[[Array], Array]] = {  # of constants (inputs, channels)
    layers.Add: lambda inputs: inputs.sum(0),
    layers.Subtract: lambda inputs: inputs[0] - inputs[1],
    layers.Average: lambda inputs: inputs.mean(0),
    layers.Maximum: lambda inputs: inputs.max(0),
    layers.Minimum: lambda inputs: inputs.min(0),
    # A product with zero is zero, whatever the other factors are.
    layers.Multiply: lambda inputs: np.where((inputs == 0).any(0), 0.0, inputs.prod(0)),
}


class Merge(Step):
    """Add and its like: each output channel is a function of the same channel of all inputs."""

    def __init__(self, graph: Graph, call: Call):
        super().__init__(graph, call)
        self.sources = [np.arange(self.channels)] * len(call.inputs)

    def constants(self, inputs: list[Constants]) -> Constants:
        return Constants(MERGED[self.call.kind](np.stack([i.everywhere() for i in inputs])))

    def build(self, kept: Kept) -> keras.KerasTensor:
        return super().build(dataclasses.replace(kept, tensors=[kept.tensors]))


class Concatenation(Merge):
    """Channels of several tensors one behind the other."""

    def __init__(self, graph: Graph, call: Call):
        super().__init__(graph, call)
        sizes, out = list(map(graph.channels, call.inputs)), np.arange(self.channels)
        self.sources = [
            np.where((out >= end - size) & (out < end), out - (end - size), -1)
            for size, end in zip(sizes, np.cumsum(sizes), strict=True)
        ]

    def constants(self, inputs: list[Constants]) -> Constants:
        parts = [one.everywhere() for one in inputs]
        zeros = np.zeros(self.channels - sum(map(len, parts)))  # only of PaddedChannels
        return Constants(np.concatenate([*parts, zeros]))


class PaddedChannels(Concatenation):
    """Channels of zeros behind those of the input: the shortcut without weights (option A)."""

    def build(self, kept: Kept) -> keras.KerasTensor:
        (tensor,), added = kept.tensors, len(kept.outputs) - len(kept.inputs[0])
        if not added:
            return tensor
        padded = keras.ops.pad(tensor, [*[(0, 0)] * (len(tensor.shape) - 1), (0, added)])
        keras_private.rename(padded, self.call.name)
        return padded


class Weighted(Step):
    """A layer with a kernel and a bias, to which a BatchNorm behind it can be folded.

    Its `kernel` is float64 (taps, …, outputs), its `bias` (outputs,), zeros if there is none. It is
    `even` if all places see the same taps, and `linear` if its activation does nothing. `part` is
    what to build, if it is a part of the layer: of a separable convolution.
    """

    def __init__(self, graph: Graph, call: Call, kernel: Array, part: Part | None):
        super().__init__(graph, call)
        layer = call.layer
        whole: Part = (call.kind, new_config(layer, call.name))
        self.layer_class, self.config = part or whole
        self.kernel, outputs = kernel.astype(float), kernel.shape[-1]
        bias = np.zeros(outputs) if layer.bias is None else keras.ops.convert_to_numpy(layer.bias)
        self.bias = bias.astype(float)
        self.even = len(kernel) == 1 or self.config.get("padding") == "valid"
        self.activation = layer.activation
        self.linear = self.activation in (None, keras.activations.linear)

    def made(
        self, sizes: Config, tensor: keras.KerasTensor, kernel: Array, bias: Array | None
    ) -> keras.KerasTensor:
        """Return the output of the layer in the smaller network, with these weights."""
        layer = self.layer_class.from_config(self.config | sizes)
        output = layer(tensor)
        layer.set_weights([kernel] if bias is None else [kernel, bias])
        return output

    def activated(self, values: Array) -> Array:
        """Return the activation of constants, computed as the layer does; float64."""
        if self.activation is None:
            return values
        tensor = keras.ops.convert_to_tensor(values, dtype=self.call.layer.compute_dtype)
        return keras.ops.convert_to_numpy(self.activation(tensor)).astype(float)


class Linear(Weighted):
    """A layer each of whose outputs is a sum over the inputs: Dense, convolutions, their like.

    Its kernel is (taps, inputs, outputs). It is `whole` if the activation mixes outputs, so that
    all are needed.
    """

    def __init__(self, graph: Graph, call: Call, kernel: Any = None, part: Part | None = None):
        kernel = keras.ops.convert_to_numpy(call.layer.kernel if kernel is None else kernel)
        self.taps, self.transposed = kernel.shape[:-2], call.kind in TRANSPOSED
        kernel = np.swapaxes(kernel, -1, -2) if self.transposed else kernel
        super().__init__(graph, call, kernel.reshape(-1, *kernel.shape[-2:]), part)
        self.even = self.even and not self.transposed
        self.whole = not is_elementwise(self.activation)

    def links(self) -> Array:
        """Return which outputs have a weight from which inputs: bool (inputs, outputs)."""
        return (self.kernel != 0).any(0)

    def foldable(self, constants: Constants) -> Array:
        """Return which inputs are constants that a bias can replace: bool (inputs,)."""
        known = ~np.isnan(constants.values)
        return known if self.even and not constants.bordered else known & (constants.values == 0)

    def constants(self, inputs: list[Constants]) -> Constants:
        if self.whole:
            return Constants.none(self.channels)
        foldable = self.foldable(inputs[0])
        depends = self.links()[~foldable].any(0)
        values = self.bias + np.where(foldable, inputs[0].values, 0) @ self.kernel.sum(0)
        values = self.activated(values)
        return Constants(np.where(depends | ~np.isfinite(values), np.nan, values))

    def build(self, kept: Kept) -> keras.KerasTensor:
        kernel, bias = self._folded(kept.inputs[0], kept.outputs, kept.constants[0])
        tensor, kernel = self._gathered(kept.tensors[0], kernel)
        biased = self.call.layer.bias is not None or bool(bias.any())
        if self.layer_class is layers.EinsumDense:
            shape = np.ravel(self.config["output_shape"]).tolist()
            axes = self.config["equation"][-1] if biased else None
            sizes = {"output_shape": (*shape[:-1], len(bias)), "bias_axes": axes}
        else:
            size = "units" if self.layer_class is layers.Dense else "filters"
            sizes = {size: len(bias), "use_bias": biased}
        kernel = kernel.reshape(*self.taps, *kernel.shape[1:])
        kernel = np.swapaxes(kernel, -1, -2) if self.transposed else kernel
        return self.made(sizes, tensor, kernel, bias if biased else None)

    def _folded(self, kept: Array, outputs: Array, constants: Constants) -> tuple[Array, Array]:
        """Return the kernel and bias for the kept channels, with the removed constants in them."""
        removed = np.setdiff1d(np.arange(self.kernel.shape[1]), kept)
        kernel, bias = self.kernel[:, :, outputs], self.bias[outputs]
        lost, kernel = kernel[:, removed], kernel[:, kept]
        values = np.nan_to_num(constants.values[removed])
        if self.even and not constants.bordered:
            return kernel, bias + values @ lost.sum(0)
        values[~lost.any((0, 2))] = 0
        if values.any():
            # A border sees less of a constant than the inside, which no bias can say: another
            # constant channel, which is kept for it, takes the weights over.
            candidates = np.nan_to_num(constants.values[kept])
            keeper = np.argmax(np.abs(candidates))
            kernel[:, keeper] += np.einsum("i,tio->to", values / candidates[keeper], lost)
        return kernel, bias

    def _gathered(
        self, tensor: keras.KerasTensor, kernel: Array
    ) -> tuple[keras.KerasTensor, Array]:
        """Return the inputs that have weights, and their kernel, if choosing them saves time."""
        used = np.flatnonzero(kernel.any((0, 2)))
        taps, count, outputs = kernel.shape
        strides = math.prod(np.ravel(self.config.get("strides", 1)).tolist())
        saved = (count - len(used)) * taps * outputs / (1 if self.transposed else strides)
        cost = len(used) * (GATHER_DENSE if taps == 1 else GATHER_CONV)
        if not len(used) or saved <= cost:
            return tensor, kernel
        taken = keras.ops.take(tensor, used.tolist(), axis=-1)
        keras_private.rename(taken, f"{self.call.name}_used_inputs")
        return taken, kernel[:, used]


class Depthwise(Weighted):
    """A convolution of each channel by itself, with `multiplier` outputs side by side.

    Its kernel is (taps, inputs * multiplier).
    """

    def __init__(self, graph: Graph, call: Call, kernel: Any = None, part: Part | None = None):
        kernel = keras.ops.convert_to_numpy(call.layer.kernel if kernel is None else kernel)
        *self.taps, _, self.multiplier = kernel.shape
        super().__init__(graph, call, kernel.reshape(math.prod(self.taps), -1), part)
        if part:  # the bias and the activation are the pointwise part's
            self.bias = np.zeros(self.kernel.shape[1])
            self.activation, self.linear = None, True
        self.sources = [np.arange(self.channels) // self.multiplier]

    def constants(self, inputs: list[Constants]) -> Constants:
        values = inputs[0].everywhere()[self.sources[0]]
        same = (values == 0) | ~self.kernel.any(0) | (self.even & ~np.isnan(values))
        values = self.activated(self.bias + np.nan_to_num(values) * self.kernel.sum(0))
        return Constants(np.where(same & np.isfinite(values), values, np.nan))

    def build(self, kept: Kept) -> keras.KerasTensor:
        bias = self.bias[kept.outputs]
        biased = bool(self.config["use_bias"] or bias.any())
        kernel = self.kernel[:, kept.outputs].reshape(*self.taps, -1, self.multiplier)
        return self.made({"use_bias": biased}, kept.tensors[0], kernel, bias if biased else None)


def is_elementwise(activation: Callable | None) -> bool:
    """Return whether an activation is known to compute each unit by itself."""
    return activation is None or activation in ELEMENTWISE


def new_config(layer: keras.Layer, name: str) -> Config:
    """Return the configuration of a layer for a new one, which begins with zeros."""
    config = layer.get_config() | {"name": name}
    return config | {key: "zeros" for key in config if key.endswith("_initializer")}


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


# {class of layers: function of (graph, call) that returns the Step}; models/layers.py adds its own
STEPS: dict[type, Callable[[Graph, Call], Step]] = {
    **dict.fromkeys((layers.Dense, layers.EinsumDense), Linear),
    **dict.fromkeys((layers.Conv1D, layers.Conv2D, layers.Conv3D, *TRANSPOSED), Linear),
    **dict.fromkeys((layers.DepthwiseConv1D, layers.DepthwiseConv2D), Depthwise),
    layers.BatchNormalization: BatchNorm,
    **dict.fromkeys(MERGED, Merge),
    layers.Concatenate: Concatenation,
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
        identity = call.kind in IDENTITIES and _takes_tensors_alone(call)
        if identity and call.outputs[0] not in graph.outputs:
            renamed[call.outputs[0]] = call.inputs[0]
            gone[call.name] = "does nothing in inference"
        elif call.kind in SEPARABLE and not _reason(call):
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
            source.kernel = source.kernel * step.scale
            source.bias = source.bias * step.scale + step.offset
            source.call.outputs, makers[out] = [out], source
            gone[step.call.name] = f"folded into {source.call.name}"
        else:
            left.append(step)
            makers |= dict.fromkeys(step.call.outputs, step)
    graph.calls = [step.call for step in left]
    return left, gone


def _split(graph: Graph, call: Call) -> list[Step]:
    """Return a separable convolution as its depthwise and its pointwise part."""
    layer, (depthwise, conv) = call.layer, SEPARABLE[call.kind]
    between = len(graph.shapes)
    graph.shapes.append((*graph.shapes[call.outputs[0]][:-1], layer.pointwise_kernel.shape[-2]))
    name = f"{call.name}_depthwise"
    first = Call(name, layer, call.inputs, [between], call.args, call.kwargs)
    second = Call(call.name, layer, [between], call.outputs, (Slot(0),), {})
    config = new_config(layer, call.name)
    deep = {key: config[key] for key in OF_DEPTHWISE} | {"name": name, "use_bias": False}
    point = {key: config[key] for key in OF_POINTWISE} | {"kernel_size": 1}
    return [
        Depthwise(graph, first, layer.depthwise_kernel, (depthwise, deep)),
        Linear(graph, second, layer.pointwise_kernel, (conv, point)),
    ]


def _step(graph: Graph, call: Call) -> Step:
    """Return the step of a call; Unchanged where it is not known what it does."""
    reason, make = _reason(call), STEPS.get(call.kind)
    if not reason and not _has_usual_shapes(graph, call):
        reason = "of the shapes of its inputs"
    if reason or make is None:
        left = Attention if call.kind in ATTENTION else Unchanged
        return left(graph, call, reason or f"{call.kind.__name__} is not known here")
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


def fixed(graph: Graph, steps: Sequence[Step]) -> Iterator[tuple[int, str]]:
    """Yield the tensors all of whose channels stay, and why."""
    yield from ((tensor, OUTPUTS) for tensor in graph.outputs)
    yield from ((tensor, "they are the network's inputs") for tensor in graph.inputs)
    for step in steps:
        if isinstance(step, Unchanged):
            yield from ((tensor, step.why) for tensor in step.call.inputs + step.call.outputs)
        elif isinstance(step, Linear) and step.whole:
            yield step.call.outputs[0], f"the activation of {step.call.name} mixes channels"


class Channels:
    """The channels of all tensors, in groups that are kept or removed together.

    A layer without a kernel ties its output channels to those of its inputs. `groups` is {tensor:
    the group of each channel}, `kept` is bool (groups,).
    """

    def __init__(self, graph: Graph, steps: list[Step]):
        tensors = sorted({*graph.inputs, *(t for step in steps for t in step.call.outputs)})
        *begins, count = np.cumsum([0, *map(graph.channels, tensors)])
        starts = dict(zip(tensors, begins, strict=True))
        ties: list[Array] = [np.zeros((2, 0), int)]
        for step in steps:
            for tensor, source in zip(step.call.inputs, step.sources, strict=False):
                tied = np.flatnonzero(source >= 0)
                ties.append(
                    np.stack([starts[tensor] + source[tied], starts[step.call.outputs[0]] + tied])
                )
        labels = _connected(np.concatenate(ties, axis=1), count)
        self.groups = {t: labels[starts[t] : starts[t] + graph.channels(t)] for t in tensors}
        self.kept = np.zeros(labels.max(initial=-1) + 1, bool)

    def of_tensor(self, tensor: int) -> Array:
        """Return which channels of a tensor are kept: bool (channels,)."""
        return self.kept[self.groups[tensor]]

    def keep(self, tensor: int, channels: Array | slice = slice(None)) -> None:
        """Keep some channels of a tensor, and all that are tied to them."""
        self.kept[self.groups[tensor][channels]] = True


def _connected(ties: Array, count: int) -> Array:
    """Return the number of each channel's group, counted in the order of their first channels.

    Args:
        ties: int (2, ties): pairs of channels that belong together.
        count: of the channels.
    """
    first = np.arange(count)  # the least channel that is known to be in a channel's group
    while True:
        least = np.minimum(*first[ties])
        before = first.copy()
        for end in ties:
            np.minimum.at(first, before[end], least)
            np.minimum.at(first, end, least)
        first = first[first]
        if np.array_equal(first, before):
            return np.unique(first, return_inverse=True)[1]
