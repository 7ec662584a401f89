"""Keras layers whose kernels are multiplied by masks, and the weights and masks of a network."""

import dataclasses
from typing import Any

import keras
import numpy as np

from lottery_tf.masking import keras_private
from lottery_tf.method import Array

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


class Masked(_Mixin):
    """Mixin of the masked layers: each kernel is computed with under its mask.

    A mask is a non-trainable bool weight of the kernel's shape beside it, True where the weight
    lives; Keras saves and loads it with the layer.
    """

    def build(self, input_shape: tuple) -> None:
        super().build(input_shape)
        self.add_masks()

    def add_masks(self) -> None:
        """Gives every kernel of a built layer a mask that keeps all of it."""
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

    @property
    def kernels(self) -> list[Kernel]:
        """A Kernel for each prunable weight of the layer."""
        return [
            Kernel(keras_private.stored_variable(self, name), getattr(self, _mask_name(name)), self)
            for name in self.kernel_names
        ]

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        for kernel in self.kernels:
            check_masked(kernel.variable.path, kernel.variable.numpy(), kernel.mask.numpy())
            if self.saves_kernels_alone:
                store[kernel.mask.name] = kernel.mask

    def load_own_variables(self, store: Any) -> None:
        super().load_own_variables(store)
        for kernel in self.kernels:
            if self.saves_kernels_alone:
                kernel.mask.assign(store[kernel.mask.name])


def _mask_name(kernel_name):
    return kernel_name.replace("kernel", "mask")


def _masked_property(base, name):
    inherited = getattr(base, name, None)

    def get(self):
        if not inherited and name not in self.__dict__:
            raise AttributeError(f"{self.name} has no {name} before it is built.")
        kernel = inherited.fget(self) if inherited else self.__dict__[name]
        return _select(getattr(self, _mask_name(name)), kernel)

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
MASKED = {layer.__mro__[2]: layer for layer in Masked.__subclasses__()}


def _select(mask, kernel):
    """kernel * mask; selecting by bools costs LeNet's step nothing, multiplying floats 15%."""
    return keras.ops.where(mask, kernel, keras.ops.zeros((), kernel.dtype))


def check_masked(path: str, kernel: Array, mask: Array) -> None:
    """Raises RuntimeError if a pruned weight is not exactly zero."""
    alive = np.count_nonzero(kernel[np.logical_not(mask)])
    if alive:
        raise RuntimeError(f"{alive} pruned weights of {path} are not zero.")


@keras.saving.register_keras_serializable(package="lottery_tf")
class MaskedMultiHeadAttention(keras.layers.MultiHeadAttention):
    """keras.layers.MultiHeadAttention whose four projections are masked."""

    def build(self, query_shape: tuple, value_shape: tuple, key_shape: Any = None) -> None:
        super().build(query_shape, value_shape, key_shape)
        mask_inside(self)


@keras.saving.register_keras_serializable(package="lottery_tf")
class MaskedGroupQueryAttention(keras.layers.GroupQueryAttention):
    """keras.layers.GroupQueryAttention whose four projections are masked."""

    def build(self, query_shape: tuple, value_shape: tuple, key_shape: Any = None) -> None:
        super().build(query_shape, value_shape, key_shape)
        mask_inside(self)


# Keras layers that make layers of their own when they are built: the classes that mask those.
COMPOSITE = {
    keras.layers.MultiHeadAttention: MaskedMultiHeadAttention,
    keras.layers.GroupQueryAttention: MaskedGroupQueryAttention,
}


def mask_inside(layer: keras.Layer) -> None:
    """Masks, in place, the layers that a built layer or model holds."""
    for inner in keras_private.flatten_layers(layer, include_self=False):
        if type(inner) in MASKED:
            inner.__class__ = MASKED[type(inner)]
            keras_private.add_weights(inner, inner.add_masks)
        elif type(inner) in COMPOSITE:
            inner.__class__ = COMPOSITE[type(inner)]
