"""The mask of one kernel: a Keras variable beside it, which holds in training and in files."""

import contextlib
import dataclasses
import hashlib
import math
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.masking import keras_private
from lottery_tf.pruning import Array


class Mask(keras.Variable):
    """A bool variable, True where a weight lives. Outside writers cannot change it in a round.

    `kernel` is the Keras variable that it masks. `lock` is the MaskLock of the round that trains
    under it, or None.
    """

    kernel: keras.Variable
    lock: "MaskLock | None" = None

    def assign(self, value: Any) -> Any:
        """Set the mask, as Keras does in `set_weights` and when it loads a file.

        While the mask is locked, it keeps its value, and the lock notes the attempt.

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
            if others := sorted(set(np.unique(rounded)) - {0.0, 1.0}):
                raise InputError(_NO_MASK.format(self.path, f"{others[0]:g}"))
            array = rounded.astype(bool)
        # The lock's own copy: in `fit` on JAX the variable is empty until its value comes back.
        if self.lock is None or np.array_equal(array, self.lock.masks[id(self)]):
            return super().assign(array)
        self.lock.note_attempt(self)
        return self.value

    def decide(self, value: Any) -> None:
        """Set the mask on behalf of a pruning or a reset: a new value ends the lock."""
        if not np.array_equal(value, self.numpy()):
            self.lock = None
        self.assign(value)


_NO_MASK = (
    "{}: a mask holds zeros and ones (or bools). Received: {}. To average or mix the weights of "
    "masked models, leave the masks out: lottery_tf.masking.get_weights(model) gives the weights "
    "alone, and lottery_tf.masking.set_weights(model, weights, masks) sets both."
)


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A prunable weight: its Keras variable, its mask, and the layer that holds both."""

    variable: keras.Variable
    mask: Mask
    layer: keras.Layer


def zero_pruned(kernels: Iterable[Kernel]) -> None:
    """Set the pruned weights of kernels to zero."""
    for kernel in kernels:
        weights, mask = kernel.variable.numpy(), kernel.mask.numpy()
        if weights[~mask].any():
            kernel.variable.assign(np.where(mask, weights, 0))


def check_masked(path: str, kernel: Array, mask: Array) -> None:
    """Raise RuntimeError if a pruned weight is not exactly zero."""
    alive = np.count_nonzero(kernel[np.logical_not(mask)])
    if alive:
        raise RuntimeError(f"{alive} pruned weights of {path} are not zero.")


def select(mask: Any, kernel: Any) -> Any:
    """Return kernel * mask.

    Selecting by bools costs LeNet's training step nothing; multiplying by floats costs it 15%.
    """
    # JAX's own functions take no Keras variable.
    mask, kernel = map(keras.ops.convert_to_tensor, (mask, kernel))
    return keras.ops.where(mask, kernel, keras.ops.zeros((), kernel.dtype))


class KeepMasked(keras.constraints.Constraint):
    """Sets pruned weights to zero. Keras applies it after every update by an optimizer.

    So neither momentum nor weight decay nor the slots of Adam can revive a pruned weight. The
    layer makes it with its mask: it is not part of the layer's configuration.

    It is used on TensorFlow alone. The compiled step of JAX would apply the mask that was there
    when it was compiled. Without it a pruned weight acts in no product, as `select` is part of
    the forward pass, and so has a gradient of zero: it stays zero where its slots are zero, unless
    an optimizer mixes elements, as Muon does. `zero_pruned` clears what is stored then.
    """

    def __init__(self, mask: Mask, user_constraint: keras.constraints.Constraint | None):
        self.mask = mask
        self.user_constraint = user_constraint

    def __call__(self, kernel: Any) -> Any:
        if self.user_constraint is not None:
            kernel = self.user_constraint(kernel)
        return select(self.mask, kernel)


class RegularizeMasked(keras.regularizers.Regularizer):
    """Regularizes a kernel under its mask: pruned weights add no loss and get no gradient.

    It is used on JAX and PyTorch, where what is stored for pruned weights may differ from zero, and
    where the derivative of L1 at zero may be one. Keras computes regularizers inside the step, with
    the current mask.
    """

    def __init__(self, mask: Mask, user_regularizer: Any):
        self.mask = mask
        self.user_regularizer = user_regularizer

    def __call__(self, kernel: Any) -> Any:
        return self.user_regularizer(select(self.mask, kernel))


def keep_masked(variable: keras.Variable, mask: Mask) -> None:
    """Put the constraint or the regularizer of a variable under its mask, as the backend needs."""
    if keras.backend.backend() == "tensorflow":
        variable.constraint = KeepMasked(mask, variable.constraint)
    elif variable.regularizer is not None:
        variable.regularizer = RegularizeMasked(mask, variable.regularizer)


def user_terms(variable: keras.Variable) -> tuple[Any, Any]:
    """Return (regularizer, constraint) of a variable as the user set them."""
    regularizer, constraint = variable.regularizer, variable.constraint
    if isinstance(regularizer, RegularizeMasked):
        regularizer = regularizer.user_regularizer
    if isinstance(constraint, KeepMasked):
        constraint = constraint.user_constraint
    return regularizer, constraint


class SavedMasks(keras_private.Saveable):
    """The masks of a layer in saved files: one bit for each weight.

    Keras saves it as a part of the layer that plain layers do not have. So plain layers read the
    file of a masked layer, and where a file has no such part, the masks keep everything.
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


class MaskLock:
    """Keeps the masks of a round while it trains, and checks them when the round ends."""

    def __init__(self, kernels: Mapping[str, Kernel], name: str):
        self.kernels, self.name = kernels, name
        self.masks = {id(kernel.mask): kernel.mask.numpy() for kernel in kernels.values()}
        # {id(mask): the digest of its surviving weights when another mask came}
        self._attempts: dict[int, bytes] = {}

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Lock the masks until the context closes, and then check the round.

        Raises:
            InputError: the round cannot have been trained under its masks.
        """
        for kernel in self.kernels.values():
            kernel.mask.lock = self
        try:
            yield
        finally:
            for kernel in self.kernels.values():
                if kernel.mask.lock is self:  # not of rounds that began since
                    kernel.mask.lock = None
        self._check()
        if self._attempts:
            zero_pruned(self.kernels.values())

    def note_attempt(self, mask: Mask) -> None:
        """Note that something tried to set a locked mask to another value; warn at the first."""
        if not self._attempts:
            warnings.warn(
                f"set_weights or load_weights tried to change the masks of {self.name}. The masks "
                "of the round stay: only the weights were set.",
                stacklevel=_level_of_the_caller(),
            )
        self._attempts[id(mask)] = _digest(mask)

    def _check(self) -> None:
        kernels = self.kernels.items()
        if changed := [
            path
            for path, one in kernels
            if not np.array_equal(one.mask.numpy(), self.masks[id(one.mask)])
        ]:
            raise InputError(
                f"{self.name}: its masks were changed while it was trained, so the density that it "
                f"trained at is not known: {', '.join(changed[:5])}. Inside the loop, do not prune "
                "the model, set its masks, or restore a tf.train.Checkpoint. The loop itself "
                "prunes after each round."
            )
        written = [
            kernel.mask
            for kernel in self.kernels.values()
            if id(kernel.mask) in self._attempts and kernel.variable.trainable
        ]
        if written and all(_digest(mask) == self._attempts[id(mask)] for mask in written):
            raise InputError(
                f"{self.name}: it ended with weights of another round: set_weights or load_weights "
                "brought them with other masks, and nothing was trained after that. One "
                "ModelCheckpoint for all rounds keeps the best of all rounds. Make one for each "
                'round, as ModelCheckpoint(f"best_{round.index}.weights.h5", save_best_only=True, '
                "save_weights_only=True), and load that file after fit."
            )


def _level_of_the_caller() -> int:
    """Return the stacklevel of the user's line, which called Keras or this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals["__name__"].split(".")[0] in ("keras", "lottery_tf"):
        frame, level = frame.f_back, level + 1
    return level


def _digest(mask: Mask) -> bytes:
    """Return a checksum of the surviving weights of a mask's kernel."""
    alive = mask.kernel.numpy()[mask.numpy()]
    return hashlib.sha256(np.ascontiguousarray(alive).tobytes()).digest()
