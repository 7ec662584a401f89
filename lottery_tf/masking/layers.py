"""Keras layers whose kernels are multiplied by masks, and the weights and masks of a network."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.masking import keras_private
from lottery_tf.method import Array

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
        return _select(self.mask, kernel)


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
        return config and config | {_TO_LOAD: "import lottery_tf"}

    def build_from_config(self, config: dict) -> None:
        super().build_from_config({k: value for k, value in config.items() if k != _TO_LOAD})


_TO_LOAD = "before load_model"


class Masked(SaysWhatLoadsIt):
    """Mixin of the masked layers: each kernel is computed with under its mask.

    A mask is a non-trainable bool weight of the kernel's shape beside it, True where the weight
    lives; Keras saves and loads it with the layer, and pruned weights as zeros.
    """

    def build(self, input_shape: tuple) -> None:
        super().build(input_shape)
        keras_private.add_weights(self, self.add_masks)  # LoRA locks the layer while it is built

    def add_masks(self) -> None:
        """Gives every kernel of a built layer a mask that keeps all of it.

        Raises:
            InputError: masks do not hold on Keras's backend.
        """
        if keras.backend.backend() not in BACKENDS:
            raise InputError(
                f"Masks hold in training on the backends {' and '.join(BACKENDS)}. Received: "
                f"{keras.backend.backend()}. Set KERAS_BACKEND, and load the plain model that "
                "lottery_tf.unmasked gives on any other."
            )
        for name in self.kernel_names:
            variable = keras_private.stored_variable(self, name)
            mask = self.add_weight(
                name=_mask_name(name),
                shape=variable.shape,
                dtype="bool",
                initializer="ones",
                trainable=False,
            )
            setattr(self, _mask_name(name), mask)
            variable.constraint = KeepMasked(mask, variable.constraint)
        self.saved_masks = SavedMasks(self.kernels)

    @property
    def kernels(self) -> list[Kernel]:
        """A Kernel for each prunable weight of the layer."""
        return [
            Kernel(keras_private.stored_variable(self, name), getattr(self, _mask_name(name)), self)
            for name in self.kernel_names
        ]

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


def _mask_name(kernel_name):
    return kernel_name.replace("kernel", "mask")


def _masked_property(base, name):
    inherited = getattr(base, name, None)

    def get(self):
        if not inherited and name not in self.__dict__:
            raise AttributeError(f"{self.name} has no {name} before it is built.")
        kernel = inherited.fget(self) if inherited else self.__dict__[name]
        mask = self.__dict__.get(_mask_name(name))
        return kernel if mask is None else _select(mask, kernel)  # none while it is built

    def put(self, variable):
        self.__dict__[name] = variable

    return property(get, None if inherited else put, doc="The kernel under its mask.")


def _masked_class(base, kernel_names=("kernel",)):
    """A masked subclass of a Keras layer that keeps its kernels under these names."""
    own_saving = base.save_own_variables is not keras.layers.Layer.save_own_variables
    members = {name: _masked_property(base, name) for name in kernel_names}
    members |= {
        "__doc__": f"keras.layers.{base.__name__} with a mask beside its kernel.",
        "__module__": "lottery_tf.masking",
        "kernel_names": kernel_names,
        "plain": base,
        # Layers with a saving of their own list their weights in it, without masks.
        "saves_kernels_alone": own_saving,
    }
    masked = type(f"Masked{base.__name__}", (Masked, base), members)
    return keras.saving.register_keras_serializable(package="lottery_tf")(masked)


MaskedDense = _masked_class(keras.layers.Dense)
MaskedEinsumDense = _masked_class(keras.layers.EinsumDense)
MaskedConv1D = _masked_class(keras.layers.Conv1D)
MaskedConv2D = _masked_class(keras.layers.Conv2D)
MaskedConv3D = _masked_class(keras.layers.Conv3D)
MaskedConv1DTranspose = _masked_class(keras.layers.Conv1DTranspose)
MaskedConv2DTranspose = _masked_class(keras.layers.Conv2DTranspose)
MaskedConv3DTranspose = _masked_class(keras.layers.Conv3DTranspose)
MaskedDepthwiseConv1D = _masked_class(keras.layers.DepthwiseConv1D)
MaskedDepthwiseConv2D = _masked_class(keras.layers.DepthwiseConv2D)
_BOTH = ("depthwise_kernel", "pointwise_kernel")
MaskedSeparableConv1D = _masked_class(keras.layers.SeparableConv1D, _BOTH)
MaskedSeparableConv2D = _masked_class(keras.layers.SeparableConv2D, _BOTH)

# Keras layer: its masked subclass. Exactly these classes: a subclass of the user's own may
# compute otherwise.
MASKED = {layer.plain: layer for layer in Masked.__subclasses__()}


def _select(mask, kernel):
    """kernel * mask; selecting by bools costs LeNet's step nothing, multiplying floats 15%."""
    return keras.ops.where(mask, kernel, keras.ops.zeros((), kernel.dtype))


def check_masked(path: str, kernel: Array, mask: Array) -> None:
    """Raises RuntimeError if a pruned weight is not exactly zero."""
    alive = np.count_nonzero(kernel[np.logical_not(mask)])
    if alive:
        raise RuntimeError(f"{alive} pruned weights of {path} are not zero.")
