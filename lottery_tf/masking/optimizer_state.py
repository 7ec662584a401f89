"""Find the optimizers of a model, reset them, and clear their slots of pruned weights."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras.optimizers import Optimizer

from lottery_tf import pruning
from lottery_tf.errors import InputError
from lottery_tf.masking import keras_private, network
from lottery_tf.pruning import Masks

ITERATION, RATE = "iteration", "learning_rate"  # as Keras names what every constructor makes


def find(holder: Any) -> dict[str, Optimizer]:
    """Return {attribute: optimizer} of what a model, or an optimizer, holds.

    Attributes are searched with the layers, models, lists and dictionaries in them. Optimizers that
    lie inside a found one are not listed: find them by a search of that one.
    """
    found: dict[str, Optimizer] = {}
    seen, queue = {id(holder)}, deque(_inside(holder, ""))
    while queue:
        name, value = queue.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Optimizer):
            found[name] = value
        else:
            queue.extend(_inside(value, name))
    return found


def _inside(holder: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of what a layer, an optimizer or a collection holds itself."""
    if isinstance(holder, keras.Layer | Optimizer):
        # Keras lists the layers of a model in private attributes as well.
        for attribute in sorted(vars(holder), key=lambda one: one.startswith("_")):
            yield f"{name}.{attribute}".lstrip("."), vars(holder)[attribute]
    elif isinstance(holder, Mapping):
        for key, value in list(holder.items()):
            yield f"{name}[{key!r}]", value
    elif isinstance(holder, list | tuple | set | frozenset):
        for index, value in enumerate(list(holder)):
            if not isinstance(value, _HOLDERS):
                continue  # a million numbers, as in a buffer of examples, cost no names
            yield value.name if isinstance(value, keras.Layer) else f"{name}[{index}]", value


_HOLDERS = (keras.Layer, Optimizer, Mapping, list, tuple, set, frozenset)


def with_inner(optimizer: Optimizer) -> list[Optimizer]:
    """Return an optimizer and all optimizers inside it, as LossScaleOptimizer has one."""
    inner = [one for held in find(optimizer).values() for one in with_inner(held)]
    return [optimizer, *inner]


def check(optimizers: Any) -> None:
    """Raise InputError if this is not a list of Keras optimizers."""
    several = isinstance(optimizers, list | tuple)
    wrong = [o for o in optimizers if not isinstance(o, Optimizer)] if several else [optimizers]
    if wrong:
        raise InputError(
            "optimizers: expected a list of Keras optimizers, as [d_optimizer, g_optimizer]. "
            f"Received: {wrong[0]!r:.80}"
        )


class Beginning:
    """How an optimizer began, so that it can begin again. It need not be serialized.

    The variables that its constructor made get the values that they have now, but no steps; a
    learning rate is among them. Those that its `build` made are built anew, as some begin as a
    function of the weights. What it keeps outside of Keras variables stays as it is.

    Raises:
        InputError: it has made steps, and a variable of its own constructor cannot be made anew.
    """

    def __init__(self, optimizer: Optimizer):
        self.optimizer = optimizer
        own = keras_private.own_variables(optimizer)
        made = len(self._built_anew()) if optimizer.built else 0
        constructed = own[: len(own) - made]
        values = [variable.numpy() for variable in constructed]
        trained = any(v.numpy() for v in constructed if v.name == ITERATION)
        others = [v.name for v in constructed if v.name not in (ITERATION, RATE)]
        if others and trained:
            values = [variable.numpy() for variable in self._constructed_anew(others)]
        # The variables too, so that no other gets the id of one.
        self._first = [
            (variable, _zeros(variable) if variable.name == ITERATION else value)
            for variable, value in zip(constructed, values, strict=True)
        ]

    def again(self) -> None:
        """Set every variable of the optimizer, without those inside it, to its first value."""
        for variable, value in self._first:
            variable.assign(value)
        constructed = {id(variable) for variable, _ in self._first}
        own = keras_private.own_variables(self.optimizer)
        others = [variable for variable in own if id(variable) not in constructed]
        made = self._built_anew() if others else []
        for variable, new in zip(others, made, strict=False):
            variable.assign(new.numpy())
        for variable in others[len(made) :]:  # made after the first step
            variable.assign(_zeros(variable))

    def _built_anew(self) -> list[keras.Variable]:
        return keras_private.built_anew(self.optimizer, with_inner(self.optimizer)[1:])

    def _constructed_anew(self, others: list[str]) -> list[keras.Variable]:
        kind = type(self.optimizer)
        try:
            return keras_private.own_variables(kind.from_config(self.optimizer.get_config()))
        except Exception as error:  # whatever a class of the user's raises
            raise InputError(
                f"The optimizer {self.optimizer.name} has trained already, and Keras cannot make a "
                f"new one like it, for the first values of {', '.join(others)}. Compile the model "
                f"with a new optimizer first. Keras says: {error}"
            ) from error


def _zeros(variable: keras.Variable) -> np.ndarray:
    return np.zeros(variable.shape, keras.backend.standardize_dtype(variable.dtype))


def first_values(optimizer: Optimizer) -> dict[int, np.ndarray]:
    """Return {index: value} of the variables of a new, built optimizer that do not begin at zero.

    These are the learning rate, the scale of a float16 loss, the accumulators of Adagrad.
    """
    values = enumerate(variable.numpy() for variable in optimizer.variables)
    return {index: value for index, value in values if np.any(value)}


def reset(optimizer: Optimizer, first: dict[int, np.ndarray]) -> None:
    """Set every variable of an optimizer to its first value, or to zero."""
    for index, variable in enumerate(optimizer.variables):
        value = first.get(index)
        variable.assign(_zeros(variable) if value is None else value)


def clear_pruned(optimizer: Optimizer, variables: Sequence[keras.Variable], masks: Masks) -> None:
    """Set the slots of pruned weights to zero: momenta, second moments, averages of weights.

    The optimizer was built with these variables.
    """
    # Keras names a slot after its variable: <path with _ for />_<slot>. Variables that had one
    # path have slots of one name, in their order.
    owners: dict[str, list[str]] = {}
    for variable in variables:
        for path in {variable.path, keras_private.first_path(variable)}:
            owners.setdefault(path.replace("/", "_") + "_", []).append(variable.path)
    seen: Counter[str] = Counter()
    for slot in optimizer.variables:
        prefixes = [prefix for prefix in owners if slot.name.startswith(prefix)]
        if not prefixes:
            continue
        paths = owners[max(prefixes, key=len)]
        mask = masks.get(paths[seen[slot.name] % len(paths)])
        seen[slot.name] += 1
        if mask is not None and slot.shape == mask.shape:
            slot.assign(np.where(mask, slot.numpy(), 0))


def set_masks(
    model: keras.Model, masks: Masks, optimizers: Iterable[Optimizer] | None = None
) -> None:
    """Set masks inside a training: pruned weights become zero, and so do their slots.

    Args:
        model: that trains.
        masks: {kernel path: bool array}; others stay.
        optimizers: whose slots are cleared. Default: those that the model holds.
    """
    weights = pruning.apply_masks(network.get_weights(model), masks)
    network.set_weights(model, weights, network.get_masks(model) | masks)
    forget_pruned(model, optimizers)


def forget_pruned(model: keras.Model, optimizers: Iterable[Optimizer] | None = None) -> None:
    """Clear the slots of pruned weights in all built optimizers of a model, or in those given.

    Otherwise averages of weights (`use_ema`) and momenta would still hold them.
    """
    for optimizer in find(model).values() if optimizers is None else optimizers:
        if optimizer.built:
            trained = keras_private.built_with(optimizer)
            variables = [one for one in trained if isinstance(one, keras.Variable)]
            clear_pruned(optimizer, variables, network.get_masks(model))
