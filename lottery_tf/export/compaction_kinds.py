"""What a compaction knows of layers without kernels: how channels pass through, and constants.

A channel is a place on a tensor's last axis. Each kind of call says

    where(…)      which input channel an output channel is made of (-1: none), for each input;
                  None if all outputs depend on all inputs
    constants(…)  which output channels are the same for all examples
    build(…)      the layer for the channels that are kept
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.export.graph import Call, Slot
from lottery_tf.masking import copying, keras_private
from lottery_tf.pruning import Array


@dataclasses.dataclass
class Facts:
    """What is known of a tensor's channels without seeing an example.

    Attributes:
        constant: float64 (channels,), NaN where a channel depends on the example or the place.
        bordered: the constants hold inside, with zeros around, as ZeroPadding leaves them.
    """

    constant: Array
    bordered: bool = False

    @classmethod
    def unknown(cls, channels: int) -> "Facts":
        """Every channel may depend on the example."""
        return cls(np.full(channels, np.nan))

    def everywhere(self) -> Array:
        """The constants that hold at all places; NaN for the others."""
        if not self.bordered:
            return self.constant
        return np.where(self.constant == 0, 0.0, np.nan)


@dataclasses.dataclass
class Sizes:
    """The channels of a call's inputs and of its output."""

    inputs: list[int]
    output: int


@dataclasses.dataclass
class Built:
    """What a call is built from again: its inputs in the new model, and the channels kept.

    Attributes:
        tensors: KerasTensors, of the kept channels of the inputs.
        kept: the numbers of those channels, for each input.
        kept_out: the numbers of the output's kept channels.
        facts: of the inputs, all channels.
    """

    tensors: list[Any]
    kept: list[Array]
    kept_out: Array
    facts: list[Facts]


class Untreated:
    """A call that stays as it is: all of its inputs are needed, all of its outputs are kept."""

    def __init__(self, reason: str):
        self.reason = reason

    def where(self, sizes: Sizes) -> None:
        return None

    def constants(self, facts: list[Facts], sizes: Sizes) -> Facts:
        return Facts.unknown(sizes.output)


class Channelwise:
    """A call each of whose output channels is a function of one input channel.

    Args:
        call: the Call.
        function: what a constant becomes: a function of arrays (channels,).
        where: a function of Sizes, of the input channels of the outputs; by default the same ones.
        borders: whether zeros are put around.
        config: a function of (configuration, kept outputs) that changes the configuration.
    """

    def __init__(self, call: Call, function: Callable[[Array], Array] = lambda values: values,
                 *, where: Callable[[Sizes], Array] | None = None, borders: bool = False,
                 config: Callable[[dict, Array], dict] | None = None):  # fmt: skip
        self.call, self.function, self.borders = call, function, borders
        self._where, self._change = where, config

    def where(self, sizes: Sizes) -> list[Array]:
        return [self._where(sizes) if self._where else np.arange(sizes.output)]

    def constants(self, facts: list[Facts], sizes: Sizes) -> Facts:
        values = facts[0].everywhere()[self.where(sizes)[0]]
        known = ~np.isnan(values)
        return Facts(np.where(known, self.function(np.where(known, values, 0)), np.nan),
                     self.borders)  # fmt: skip

    def build(self, built: Built) -> Any:
        config = new_config(self.call.layer, self.call.name)
        if self._change:
            config = self._change(config, built.kept_out)
        return type(self.call.layer).from_config(config)(built.tensors[0])


class Merge(Channelwise):
    """Add and its like: each output channel is a function of the same channel of all inputs."""

    def where(self, sizes: Sizes) -> list[Array]:
        return [np.arange(sizes.output)] * len(sizes.inputs)

    def constants(self, facts: list[Facts], sizes: Sizes) -> Facts:
        inputs = np.stack([fact.everywhere() for fact in facts])  # (inputs, channels)
        result = MERGED[type(self.call.layer)](inputs)
        if isinstance(self.call.layer, keras.layers.Multiply):  # by zero
            result = np.where((inputs == 0).any(0), 0.0, result)
        return Facts(result)

    def build(self, built: Built) -> Any:
        config = new_config(self.call.layer, self.call.name)
        return type(self.call.layer).from_config(config)(built.tensors)


MERGED = {
    keras.layers.Add: lambda inputs: inputs.sum(0),
    keras.layers.Subtract: lambda inputs: inputs[0] - inputs[1],
    keras.layers.Average: lambda inputs: inputs.mean(0),
    keras.layers.Maximum: lambda inputs: inputs.max(0),
    keras.layers.Minimum: lambda inputs: inputs.min(0),
    keras.layers.Multiply: lambda inputs: inputs.prod(0),
}


class Concatenate(Merge):
    """Channels of several tensors one behind the other."""

    def where(self, sizes: Sizes) -> list[Array]:
        ends = np.cumsum(sizes.inputs)
        out = np.arange(sizes.output)
        return [
            np.where((out >= end - size) & (out < end), out - (end - size), -1)
            for size, end in zip(sizes.inputs, ends, strict=True)
        ]

    def constants(self, facts: list[Facts], sizes: Sizes) -> Facts:
        return Facts(np.concatenate([fact.everywhere() for fact in facts]))


class PadChannels:
    """Channels of zeros behind those of the input: the shortcut without weights (option A)."""

    def __init__(self, call: Call):
        self.call = call

    def where(self, sizes: Sizes) -> list[Array]:
        out = np.arange(sizes.output)
        return [np.where(out < sizes.inputs[0], out, -1)]

    def constants(self, facts: list[Facts], sizes: Sizes) -> Facts:
        zeros = np.zeros(sizes.output - sizes.inputs[0])
        return Facts(np.concatenate([facts[0].everywhere(), zeros]))

    def build(self, built: Built) -> Any:
        (tensor,), added = built.tensors, len(built.kept_out) - len(built.kept[0])
        if not added:
            return tensor
        padded = keras.ops.pad(tensor, [*[(0, 0)] * (len(tensor.shape) - 1), (0, added)])
        keras_private.rename(padded, self.call.name)
        return padded


class Normalization(Channelwise):
    """BatchNorm as it is in inference: scale * x + offset for each channel."""

    def __init__(self, call: Call):
        layer = call.layer
        self.arrays = {
            name: keras.ops.convert_to_numpy(variable)
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
            if (variable := getattr(layer, name, None)) is not None
        }
        mean, variance = (self.arrays[f"moving_{m}"].astype(float) for m in ("mean", "variance"))
        self.scale = self.arrays.get("gamma", 1.0) / np.sqrt(variance + layer.epsilon)
        self.offset = self.arrays.get("beta", 0.0) - mean * self.scale
        super().__init__(call, lambda values: values * self.scale + self.offset)

    def constants(self, facts: list[Facts], sizes: Sizes) -> Facts:
        result = super().constants(facts, sizes)
        result.constant = np.where(self.scale == 0, self.offset, result.constant)
        return result

    def build(self, built: Built) -> Any:
        config = new_config(self.call.layer, self.call.name)
        normalize = keras.layers.BatchNormalization.from_config(config)
        result = normalize(built.tensors[0])
        normalize.set_weights([array[built.kept_out] for array in self.arrays.values()])
        return result


def new_config(layer: Any, name: str) -> dict:
    """The configuration of a layer for a new one, which begins with zeros."""
    config = layer.get_config() | {"name": name}
    return config | {key: "zeros" for key in config if key.endswith("_initializer")}


def rebuild(call: Call, tensors: Sequence[Any], made: dict[int, Any]) -> Any:
    """A call as it is on new tensors.

    Args:
        made: {id of an original layer: its copy}, to which new ones are added; a shared layer is
            copied once.

    Raises:
        InputError: the layer cannot be rebuilt.
    """
    layer = call.layer
    args, kwargs = keras.tree.map_structure(
        lambda argument: tensors[argument.index] if isinstance(argument, Slot) else argument,
        (call.args, call.kwargs),
    )
    if not isinstance(layer, keras.layers.Layer):  # an operation of keras.ops has no state
        return layer(*args, **kwargs)
    if id(layer) in made:
        return made[id(layer)](*args, **kwargs)
    try:
        copy = made[id(layer)] = type(layer).from_config(layer.get_config() | {"name": call.name})
        result = copy(*args, **kwargs)
        copying.copy_state(layer, copy)
        copy.set_weights(layer.get_weights())
    except Exception as error:  # whatever Keras and the user's class raise
        raise InputError(
            f"The layer {call.name}, a {type(layer).__name__}, cannot be rebuilt. Give it "
            f"get_config and from_config. {type(error).__name__}: {error}"
        ) from error
    return result
