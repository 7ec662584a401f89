"""What a compaction knows of layers with kernels: Dense, convolutions, depthwise ones."""

import math
from typing import Any

import keras
import numpy as np

from lottery_tf.export.compaction_kinds import Built, Channelwise, Facts, Sizes, new_config
from lottery_tf.export.graph import Call
from lottery_tf.masking import keras_private
from lottery_tf.pruning import Array

layers = keras.layers

# Activations that mix the units of a layer; all others are functions of one unit.
MIXING = {"softmax", "log_softmax", "sparsemax", "glu"}
ELEMENTWISE = {
    function
    for name, function in vars(keras.activations).items()
    if callable(function)
    and name not in MIXING | {"get", "serialize", "deserialize"}
}  # fmt: skip

# Gathering a number takes as long as this many multiply-adds of a dense layer, and of a convolution
# with several taps, whose multiply-adds are faster (measured: TensorFlow 2.21, two CPU cores).
GATHER_DENSE, GATHER_CONV = 256, 600


def elementwise(activation: Any) -> bool:
    """Whether an activation is known to compute each unit by itself."""
    return activation is None or activation in ELEMENTWISE


def activated(layer: Any, values: Array) -> Array:
    """The activation of a layer on constants, computed as the layer does; float64."""
    if getattr(layer, "activation", None) is None:
        return values
    tensor = keras.ops.convert_to_tensor(values, dtype=layer.compute_dtype)
    return keras.ops.convert_to_numpy(layer.activation(tensor)).astype(float)


def with_bias(layer: Any, outputs: int) -> Array:
    """The bias of a layer, float64 (outputs,); zeros if it has none."""
    bias = getattr(layer, "bias", None)
    return np.zeros(outputs) if bias is None else keras.ops.convert_to_numpy(bias).astype(float)


class Linear:
    """A layer each of whose outputs is a sum over the inputs: Dense, Conv, their like.

    Attributes:
        kernel: float64 (taps, inputs, outputs).
        bias: float64 (outputs,); zeros if there is none.
        even: whether all places see the same taps: no padding.
        whole: whether the activation mixes outputs, so that all are needed.

    Args:
        call: the Call of the layer.
        kernel: as the layer stores it.
        cls, config: the class and configuration to build it with; by default the layer's own.
    """

    def __init__(self, call: Call, kernel: Array, cls: Any = None, config: dict | None = None):
        layer = self.layer = call.layer
        self.name, self.taps = call.name, kernel.shape[:-2]
        self.cls, self.config = cls or type(layer), config or new_config(layer, call.name)
        self.transposed = self.cls in TRANSPOSED
        kernel = np.swapaxes(kernel, -1, -2) if self.transposed else kernel
        self.kernel = kernel.reshape(-1, *kernel.shape[-2:]).astype(float)
        self.bias = with_bias(layer, self.kernel.shape[2])
        unpadded = len(self.kernel) == 1 or self.config.get("padding") == "valid"
        self.even = unpadded and not self.transposed
        self.whole = not elementwise(layer.activation)
        self.linear = layer.activation in (None, keras.activations.linear)

    def where(self, sizes: Sizes) -> None:
        return None

    def links(self) -> Array:
        """Which outputs have a weight from which inputs: bool (inputs, outputs)."""
        return (self.kernel != 0).any(0)

    def scale(self, scale: Array, offset: Array) -> None:
        """Makes the outputs scale * output + offset, as a BatchNorm behind it does."""
        self.kernel = self.kernel * scale
        self.bias = self.bias * scale + offset

    def foldable(self, facts: Facts) -> Array:
        """Which inputs are constants that a bias can replace: bool (inputs,)."""
        known = ~np.isnan(facts.constant)
        return known if self.even and not facts.bordered else known & (facts.constant == 0)

    def constants(self, facts: list[Facts], sizes: Sizes) -> Facts:
        if self.whole:
            return Facts.unknown(sizes.output)
        foldable = self.foldable(facts[0])
        depends = self.links()[~foldable].any(0)
        values = self.bias + np.where(foldable, facts[0].constant, 0) @ self.kernel.sum(0)
        values = activated(self.layer, values)
        return Facts(np.where(depends | ~np.isfinite(values), np.nan, values))

    def build(self, built: Built) -> Any:
        kernel, bias = self._folded(built.kept[0], built.kept_out, built.facts[0])
        tensor, kernel = self._gathered(built.tensors[0], kernel)
        biased = self.layer.bias is not None or bool(bias.any())
        layer = self.cls.from_config(self._sized(len(bias), biased))
        result = layer(tensor)
        kernel = kernel.reshape(*self.taps, *kernel.shape[1:])
        kernel = np.swapaxes(kernel, -1, -2) if self.transposed else kernel
        layer.set_weights([kernel, bias] if biased else [kernel])
        return result

    def _folded(self, kept, kept_out, facts):
        """The kernel and bias for the kept channels, with the removed constants in them."""
        removed = np.setdiff1d(np.arange(self.kernel.shape[1]), kept)
        kernel, bias = self.kernel[:, :, kept_out], self.bias[kept_out]
        lost, kernel = kernel[:, removed], kernel[:, kept]
        constants = np.nan_to_num(facts.constant[removed])
        if self.even and not facts.bordered:
            return kernel, bias + constants @ lost.sum(0)
        constants[~lost.any((0, 2))] = 0
        if constants.any():
            # A border sees less of a constant than the inside, which no bias can say: another
            # constant channel, which is kept for it, takes the weights over.
            candidates = np.nan_to_num(facts.constant[kept])
            keeper = np.argmax(np.abs(candidates))
            kernel[:, keeper] += np.einsum("i,tio->to", constants / candidates[keeper], lost)
        return kernel, bias

    def _gathered(self, tensor, kernel):
        """The inputs that have weights, and their kernel, where choosing them saves time."""
        used = np.flatnonzero(kernel.any((0, 2)))
        taps, count, outputs = kernel.shape
        strides = math.prod(np.ravel(self.config.get("strides", 1)).tolist())
        saved = (count - len(used)) * taps * outputs / (1 if self.transposed else strides)
        cost = len(used) * (GATHER_DENSE if taps == 1 else GATHER_CONV)
        if not len(used) or saved <= cost:
            return tensor, kernel
        taken = keras.ops.take(tensor, used.tolist(), axis=-1)
        keras_private.rename(taken, f"{self.name}_used_inputs")
        return taken, kernel[:, used]

    def _sized(self, outputs, biased):
        """The configuration for this many outputs."""
        if self.cls is not layers.EinsumDense:
            size = "units" if self.cls is layers.Dense else "filters"
            return self.config | {size: outputs, "use_bias": biased}
        shape = np.ravel(self.config["output_shape"]).tolist()
        last = self.config["equation"][-1]
        return self.config | {
            "output_shape": (*shape[:-1], outputs),
            "bias_axes": last if biased else None,
        }


TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)


class Depthwise(Channelwise):
    """A convolution of each channel by itself, with `multiplier` outputs side by side.

    Attributes:
        kernel: float64 (taps, inputs * multiplier).
        bias: float64 (inputs * multiplier,).

    Args:
        call, kernel, cls, config: as of Linear.
    """

    def __init__(self, call: Call, kernel: Array, cls: Any = None, config: dict | None = None):
        self.call, self.layer = call, call.layer
        *self.taps, _, self.multiplier = kernel.shape
        self.cls = cls or type(call.layer)
        self.config: dict = config or new_config(call.layer, call.name)
        self.kernel = kernel.reshape(math.prod(self.taps), -1).astype(float)
        # Of a separable convolution, the bias and the activation are the pointwise part's.
        own = cls is None
        self.bias = with_bias(call.layer if own else None, self.kernel.shape[1])
        self.activation = call.layer if own else None
        self.even = len(self.kernel) == 1 or self.config["padding"] == "valid"
        self.linear = not own or call.layer.activation in (None, keras.activations.linear)

    def where(self, sizes: Sizes) -> list[Array]:
        return [np.arange(sizes.output) // self.multiplier]

    def scale(self, scale: Array, offset: Array) -> None:
        """Makes the outputs scale * output + offset, as a BatchNorm behind it does."""
        self.kernel = self.kernel * scale
        self.bias = self.bias * scale + offset

    def constants(self, facts: list[Facts], sizes: Sizes) -> Facts:
        inputs = facts[0].everywhere()[self.where(sizes)[0]]
        same = (inputs == 0) | ~self.kernel.any(0) | (self.even & ~np.isnan(inputs))
        values = self.bias + np.nan_to_num(inputs) * self.kernel.sum(0)
        values = activated(self.activation, values)
        return Facts(np.where(same & np.isfinite(values), values, np.nan))

    def build(self, built: Built) -> Any:
        bias = self.bias[built.kept_out]
        biased = bool(self.config["use_bias"] or bias.any())
        layer = self.cls.from_config(self.config | {"use_bias": biased})
        result = layer(built.tensors[0])
        kernel = self.kernel[:, built.kept_out].reshape(*self.taps, -1, self.multiplier)
        layer.set_weights([kernel, bias] if biased else [kernel])
        return result
