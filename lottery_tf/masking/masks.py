"""What masked layers have in common: a mask beside each kernel, in training and in files."""

import contextlib
import dataclasses
import functools
import hashlib
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.masking import keras_private
from lottery_tf.pruning import Array

LEFT_DENSE = "left_dense"  # in configurations
BACKENDS = ("tensorflow", "torch")
_Mixin: Any = object  # what `Masked` lacks is in the Keras layer that stands beside it


class Mask(keras.Variable):
    """A mask: a bool variable that outside writers cannot change while a round trains under it.

    `kernel` is the Keras variable that it masks; `hold` is the Hold of the round, if there is one.
    """

    kernel: keras.Variable
    hold: "Hold | None" = None

    def assign(self, value: Any) -> Any:
        """Set the mask, as Keras does in `set_weights` and when it loads a file.

        While a Hold lasts, the mask keeps its value, and the Hold notes that another one came.

        Raises:
            InputError: the values are not those of a mask, as the average of two masks.
        """
        if keras_private.in_stateless_scope():
            return super().assign(value)
        try:
            array = keras.ops.convert_to_numpy(value)
        except (NotImplementedError, TypeError):  # a tensor inside a compiled function
            if keras.backend.standardize_dtype(value.dtype) != "bool":
                raise InputError(_NO_MASK.format(self.path, f"a {value.dtype} tensor")) from None
            return super().assign(value)
        if array.dtype != bool:
            rounded = np.round(array.astype(np.float64), 5)
            if found := sorted(set(np.unique(rounded)) - {0.0, 1.0}):
                raise InputError(_NO_MASK.format(self.path, f"{found[0]:g}"))
            array = rounded.astype(bool)
        if self.hold is None or np.array_equal(array, self.numpy()):
            return super().assign(array)
        self.hold.overrule(self)
        return self.value

    def decide(self, value: Any) -> None:
        """Set the mask because a pruning or a reset decides it; another value ends its Hold."""
        if not np.array_equal(value, self.numpy()):
            self.hold = None
        self.assign(value)


_NO_MASK = (
    "{}: a mask holds zeros and ones (or bools). Received: {}. To average or mix the weights of "
    "masked models, leave the masks out: lottery_tf.masking.get_weights(model) gives the weights "
    "alone, and lottery_tf.masking.set_weights(model, weights, masks) sets both."
)


class Hold:
    """The masks of a round while it is trained; it compares them when the round ends.

    Args:
        kernels: {path: Kernel} of the model that is trained.
        name: the round, for messages.
    """

    def __init__(self, kernels: "dict[str, Kernel]", name: str):
        self.kernels, self.name = kernels, name
        self._masks = {path: kernel.mask.numpy() for path, kernel in kernels.items()}
        # {id(mask): what its kernel was when another mask came}
        self._overruled: dict[int, bytes] = {}

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """While it is open, the masks keep their values; at the end they are checked."""
        for kernel in self.kernels.values():
            kernel.mask.hold = self
        try:
            yield
        finally:
            for kernel in self.kernels.values():
                if kernel.mask.hold is self:  # not of rounds that began since
                    kernel.mask.hold = None
        self._check()
        if self._overruled:
            zero_pruned(self.kernels.values())

    def overrule(self, mask: Mask) -> None:
        """Note that another value came for a mask, which keeps its own."""
        if not self._overruled:
            warnings.warn(
                f"set_weights or load_weights tried to change the masks of {self.name}. The masks "
                "of the round stay: only the weights were set.",
                stacklevel=_level_of_the_caller(),
            )
        self._overruled[id(mask)] = _digest(mask)

    def _check(self):
        """Raise InputError if the round cannot have been trained under its masks."""
        changed = [
            path
            for path, kernel in self.kernels.items()
            if not np.array_equal(kernel.mask.numpy(), self._masks[path])
        ]
        if changed:
            raise InputError(
                f"{self.name}: its masks were changed while it was trained, so the density that it "
                f"trained at is not known: {', '.join(changed[:5])}. Inside the loop, do not prune "
                "the model, set its masks, or restore a tf.train.Checkpoint. The loop itself "
                "prunes after each round."
            )
        written = [
            kernel.mask
            for kernel in self.kernels.values()
            if id(kernel.mask) in self._overruled and kernel.variable.trainable
        ]
        if written and all(_digest(mask) == self._overruled[id(mask)] for mask in written):
            raise InputError(
                f"{self.name}: it ended with weights of another round: set_weights or load_weights "
                "brought them with other masks, and nothing was trained after that. One "
                "ModelCheckpoint for all rounds keeps the best of all rounds. Make one for each "
                'round, as ModelCheckpoint(f"best_{round.index}.weights.h5", save_best_only=True, '
                "save_weights_only=True), and load that file after fit."
            )


def _level_of_the_caller():
    """The stacklevel, for the function that asks, of the line that called Keras or this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals["__name__"].split(".")[0] in ("keras", "lottery_tf"):
        frame, level = frame.f_back, level + 1
    return level


def _digest(mask):
    """A checksum of the surviving weights of a mask's kernel."""
    alive = mask.kernel.numpy()[mask.numpy()]
    return hashlib.sha256(np.ascontiguousarray(alive).tobytes()).digest()


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
    mask: Mask
    layer: keras.layers.Layer


class SaysWhatLoadsIt(_Mixin):
    """Mixin: Keras's error, where it does not know the class in a file, ends with what to do.

    Keras asks for the configuration that is meant when it saves a model as a whole.
    """

    saving_problem = ""  # why a file could not be loaded as a whole

    def get_build_config(self) -> dict | None:
        if self.saving_problem:
            raise InputError(self.saving_problem)
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
            mask = keras_private.add_variable(
                self,
                Mask,
                name=mask_name(name),
                shape=variable.shape,
                dtype="bool",
                initializer="ones",
                trainable=False,
            )
            mask.kernel = variable
            setattr(self, mask_name(name), mask)
            variable.constraint = KeepMasked(mask, variable.constraint)
        self.saved_masks = SavedMasks(self.kernels)
        self.__dict__.pop("quantize", None)  # Keras put that of the plain class there

    def remove_masks(self) -> None:
        """Take the masks off; pruned weights stay as zeros, which nothing holds any more."""
        kernels = {name: getattr(self, mask_name(name)) for name in self._names()}
        zero_pruned(self.kernels)
        for name, mask in kernels.items():
            mask.kernel.constraint = mask.kernel.constraint.user_constraint
            delattr(self, mask_name(name))  # Keras forgets the variable
        self.__dict__.pop("saved_masks", None)

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
        # Masks that are held stay; what the file says of them, SavedMasks reads.
        dense = {
            kernel.mask.name: kernel.mask.numpy()
            if kernel.mask.hold
            else np.ones(kernel.mask.shape, bool)
            for kernel in self.kernels
        }
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

    def quantize(self, *_: Any, **__: Any) -> None:
        """Raise InputError: quantized kernels have no masks, and Keras would only warn."""
        raise InputError(
            f"quantize: the layer {self.name} has masks, which quantized kernels do not know. "
            "Quantize the plain copy: lottery_tf.unmasked(model).quantize(...). It keeps the zeros."
        )

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
