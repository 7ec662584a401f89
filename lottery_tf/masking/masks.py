"""What masked layers have in common: a mask beside each kernel, in training and in files."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.masking import keras_private
from lottery_tf.method import Array

LEFT_DENSE = "left_dense"  # in configurations
BACKENDS = ("tensorflow", "torch")
_Mixin: Any = object  # what `Masked` lacks is in the Keras layer that stands beside it


class KeepMasked(keras.constraints.Constraint):
    """Sets pruned weights to zero; Keras applies it after every update by an optimizer.

    So neither momentum nor weight decay nor the slots of Adam can revive a pruned weight. The
    layer makes it with its mask: it is not part of the layer's configuration.
    """

    def __init__(self, mask: keras.Variable, user_constraint: keras.constraints.Constraint | None):
        self.mask = mask
        self.user_constraint = user_constraint

    def __call__(self, kernel: Any) -> Any:
        if self.user_constraint is not None:
            kernel = self.user_constraint(kernel)
        return select(self.mask, kernel)


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A prunable weight: its Keras variable, its mask (a bool Keras variable), and its layer."""

    variable: keras.Variable
    mask: keras.Variable
    layer: keras.layers.Layer


class SaysWhatLoadsIt(_Mixin):
    """Mixin: Keras's error, where it does not know the class in a file, ends with what to do."""

    def get_build_config(self) -> dict | None:
        config = super().get_build_config()
        return config and config | {_TO_LOAD: f"import {_to_import(type(self))}"}

    def build_from_config(self, config: dict) -> None:
        super().build_from_config({k: value for k, value in config.items() if k != _TO_LOAD})


_TO_LOAD = "before load_model"


def _to_import(layer_class):
    """What registers a class: this package its own; the user's modules theirs."""
    package = layer_class.__module__.split(".")[0]
    return package if package == "lottery_tf" else layer_class.__module__


class Masked(SaysWhatLoadsIt):
    """Mixin of the masked layers: each kernel is computed with under its mask.

    A mask is a non-trainable bool weight of the kernel's shape beside it, True where the weight
    lives; Keras saves and loads it with the layer, and pruned weights as zeros.
    """

    left_dense: tuple[str, ...] = ()  # names of kernels without a mask

    @classmethod
    def from_config(cls, config: dict) -> Any:
        return with_left_dense(super().from_config, config)

    def build(self, input_shape: tuple) -> None:
        super().build(input_shape)
        keras_private.add_weights(self, self.add_masks)  # LoRA locks the layer while it is built

    def add_masks(self) -> None:
        """Gives every kernel of a built layer, but those left dense, a mask that keeps all of it.

        Raises:
            InputError: masks do not hold on Keras's backend.
        """
        if keras.backend.backend() not in BACKENDS:
            raise InputError(
                f"Masks hold in training on the backends {' and '.join(BACKENDS)}. Received: "
                f"{keras.backend.backend()}. Set KERAS_BACKEND, and load the plain model that "
                "lottery_tf.unmasked gives on any other."
            )
        for name in self._names():
            variable = keras_private.stored_variable(self, name)
            mask = self.add_weight(
                name=mask_name(name),
                shape=variable.shape,
                dtype="bool",
                initializer="ones",
                trainable=False,
            )
            setattr(self, mask_name(name), mask)
            variable.constraint = KeepMasked(mask, variable.constraint)
        self.saved_masks = SavedMasks(self.kernels)

    @property
    def kernels(self) -> list[Kernel]:
        """A Kernel for each prunable weight of the layer."""
        return [
            Kernel(keras_private.stored_variable(self, name), getattr(self, mask_name(name)), self)
            for name in self._names()
        ]

    def _names(self):
        kept = [name for name in self.kernel_names if name not in self.left_dense]
        return [name for name in kept if keras_private.stored_variable(self, name) is not None]

    def save_own_variables(self, store: Any) -> None:
        """Saves what the plain layer would: its files are read by both. `SavedMasks` is beside."""
        if not self.built:
            return super().save_own_variables(store)
        zero_pruned(self.kernels)  # Keras may have written the kernels without constraints
        arrays: dict[str, Any] = {}
        super().save_own_variables(arrays)
        if not self.saves_kernels_alone:
            own = [array for index, array in enumerate(arrays.values()) if index not in self._at()]
            arrays = {str(index): array for index, array in enumerate(own)}
        for name, array in arrays.items():
            store[name] = array

    def load_own_variables(self, store: Any) -> None:
        """Loads what a plain layer saved, or a masked one of an earlier version with its masks."""
        if not self.built:
            return super().load_own_variables(store)
        arrays = keras_private.saved_arrays(store, self)
        if not arrays:
            raise ValueError(
                f"{self.name}: the file holds no weights in its place. If it is of a plain model, "
                "load it into that, before lottery_tf.masked."
            )
        dense = {kernel.mask.name: np.ones(kernel.mask.shape, bool) for kernel in self.kernels}
        if self.saves_kernels_alone:
            arrays = dense | arrays
        elif len(arrays) < len(self.weights):
            own = [arrays[str(index)] for index in range(len(arrays))]
            for index, mask in zip(self._at(), dense.values(), strict=True):
                own.insert(index, mask)
            arrays = {str(index): array for index, array in enumerate(own)}
        super().load_own_variables(arrays)
        if self.saves_kernels_alone:
            for kernel in self.kernels:
                kernel.mask.assign(arrays[kernel.mask.name])
        zero_pruned(self.kernels)

    def _at(self):
        """The places of the masks among the layer's weights, as Keras numbers them in a file."""
        places = {id(weight): index for index, weight in enumerate(self.weights)}
        return [places[id(kernel.mask)] for kernel in self.kernels]


class SavedMasks(keras_private.Saveable):
    """The masks of a layer in saved files: one bit for each weight.

    Keras saves it as a part of the layer that plain layers do not have, so that these read the
    file of a masked layer; where a file has no such part, the masks keep everything.
    """

    def __init__(self, kernels: list[Kernel]):
        self.kernels = kernels

    def save_own_variables(self, store: Any) -> None:
        for kernel in self.kernels:
            store[kernel.mask.name] = np.packbits(kernel.mask.numpy())

    def load_own_variables(self, store: Any) -> None:
        saved = set(store.keys())
        for kernel in self.kernels:
            if kernel.mask.name in saved:
                shape = tuple(kernel.mask.shape)
                bits = np.unpackbits(np.asarray(store[kernel.mask.name]), count=math.prod(shape))
                kernel.mask.assign(bits.reshape(shape).astype(bool))
        zero_pruned(self.kernels)


def zero_pruned(kernels: Iterable[Kernel]) -> None:
    """Sets the pruned weights of kernels to zero."""
    for kernel in kernels:
        weights, mask = kernel.variable.numpy(), kernel.mask.numpy()
        if weights[~mask].any():
            kernel.variable.assign(np.where(mask, weights, 0))


def mask_name(kernel_name: str) -> str:
    """The name of the mask of a kernel: "depthwise_mask" of "depthwise_kernel"."""
    if "kernel" not in kernel_name:
        return f"{kernel_name}_mask"
    return kernel_name.replace("kernel", "mask")


def with_left_dense(make: Callable[[dict], Any], config: dict) -> Any:
    """What `make` makes of a configuration, with the kernels that this leaves dense."""
    layer = make({key: value for key, value in config.items() if key != LEFT_DENSE})
    layer.left_dense = tuple(config.get(LEFT_DENSE, ()))
    return layer


def naming_left_dense(base: Any) -> Callable[[Any], dict]:
    """The get_config of the masked subclass of a layer class: it names the kernels left dense."""

    @functools.wraps(base.get_config)  # Keras asks whether it is its own
    def get_config(self):
        config = base.get_config(self)
        return config | {LEFT_DENSE: list(self.left_dense)} if self.left_dense else config

    return get_config


def select(mask: Any, kernel: Any) -> Any:
    """kernel * mask; selecting by bools costs LeNet's step nothing, multiplying floats 15%."""
    return keras.ops.where(mask, kernel, keras.ops.zeros((), kernel.dtype))


def check_masked(path: str, kernel: Array, mask: Array) -> None:
    """Raises RuntimeError if a pruned weight is not exactly zero."""
    alive = np.count_nonzero(kernel[np.logical_not(mask)])
    if alive:
        raise RuntimeError(f"{alive} pruned weights of {path} are not zero.")
