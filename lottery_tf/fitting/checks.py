"""What `prune` and `rounds` are given, checked before anything trains."""

import dataclasses
import math
import numbers
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.masking import choosing
from lottery_tf.method import Masks, criteria
from lottery_tf.method.allocation import Amount
from lottery_tf.method.dead_units import died, dying

GRADIENTS = {"trained_gradient", "initial_gradient", "initial_hessian_gradient"}
WHERE = ("scope", "layer_fractions", "keep_dense", "min_layer_weights")  # of an Amount


def check_built(model: Any, of: str) -> None:
    """Raises InputError if a model is none, or is not built."""
    if not isinstance(model, keras.Model):
        raise InputError(
            f"{of}: expected a Keras model, as lottery_tf.masked gives it. Received: {model!r:.80}"
        )
    if not model.built:
        raise InputError(
            f"{of}: {model.name} has no weights yet. Call it on a batch first, or begin it with a "
            "keras.Input."
        )


def check_model(model: Any, of: str) -> None:
    """Raises InputError if a model is none, is not built, or has nothing to prune."""
    check_built(model, of)
    prunable(model)


def prunable(model: keras.Model) -> Masks:
    """{kernel path: bool array} of the kernels that are pruned: those that are not frozen.

    Raises:
        InputError: there is none.
    """
    held = masking.kernels(model)
    found = {path: one.mask.numpy() for path, one in held.items() if one.variable.trainable}
    if not found:
        raise InputError(
            f"{model.name} has nothing to prune: all of its {len(held)} masked kernels are frozen. "
            "Set trainable = True on a layer first."
        )
    return found


def whole_number(least: int, **values: Any) -> None:
    """Raises InputError if a value is no whole number, or below the least."""
    for name, value in values.items():
        is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not is_whole or value < least:
            raise InputError(f"{name}: expected a whole number, at least {least}. "
                             f"Received: {value!r}")  # fmt: skip


def make_amount(model: keras.Model, fraction: float | None, density: float | None,
                where: Mapping[str, Any]) -> Amount:  # fmt: skip
    """The Amount of a pruning; InputError if a value, or the name of one, is wrong.

    Names may be those of nested models too, which Keras leaves out of the paths of their kernels.
    """
    if unknown := where.keys() - set(WHERE):
        raise InputError(
            f"Expected as further arguments {', '.join(WHERE)}. Received: "
            f"{', '.join(sorted(unknown))}"
        )
    amount = Amount(fraction, density, **where)
    fractions = {
        path: part
        for name, part in amount.layer_fractions.items()
        for path in _kernels_of(model, name, "layer_fractions")
    }
    dense = tuple(
        path for name in amount.keep_dense for path in _kernels_of(model, name, "keep_dense")
    )
    return dataclasses.replace(amount, layer_fractions=fractions, keep_dense=dense)


def _kernels_of(model, name, of):
    """The paths of the kernels in the layers of a name or pattern."""
    pruned = prunable(model)
    among = [one for one in choosing.candidates(model) if one.variable.path in pruned]
    return [one.variable.path for one in choosing.chosen(name, among, of=of)]


def check_evidence(model: keras.Model, criterion: Any, data: Any, iterations: Any) -> None:
    """Raises InputError if a criterion is unknown, or what it needs cannot be had."""
    if not isinstance(criterion, str) and not callable(criterion):
        raise InputError(
            f"criterion: expected one of {list(criteria.CRITERIA)}, or a function of their "
            f"evidence. Received: {criterion!r}"
        )
    wanted = criteria.needs(criterion)
    if iterations is not None:
        whole_number(1, iterations=iterations)
    if data is None and wanted & GRADIENTS:
        raise InputError("criterion: it needs gradients: pass data=(inputs, labels).")
    if data is not None:
        _check_data(data)
    if "initial_flow" in wanted:
        from lottery_tf.masking.gradients import Flow, in_float64

        Flow(in_float64(model))  # says so if it cannot be


def check_named(criterion: Any) -> None:
    """Raises InputError if a later call could not tell a criterion from another."""
    name = getattr(criterion, "__qualname__", "<lambda>")  # a functools.partial has none either
    if not isinstance(criterion, str) and name.endswith("<lambda>"):
        raise InputError(
            "criterion: with directory=, expected a name or a function made by def, by which a "
            f"later call knows that it goes on with the same one. Received: {criterion!r}"
        )


def _check_data(data):
    pair = data if isinstance(data, tuple | list) else ()
    sizes = [getattr(one, "shape", (None,))[0] for one in pair]
    if len(sizes) != 2 or None in sizes or sizes[0] != sizes[1] or not sizes[0]:
        raise InputError(
            "data: expected (inputs, labels), two arrays of as many examples. Received: "
            f"{type(data).__name__} of {', '.join(f'{size} examples' for size in sizes) or 'none'}"
        )


@dataclasses.dataclass(frozen=True)
class Coverage:
    """What part of all kernels the masks cover.

    Args:
        covered: weights of the kernels that are pruned.
        left_out: {path: weights} of those that are not: frozen, or without a mask.
    """

    covered: int
    left_out: dict[str, int]

    @classmethod
    def of(cls, model: keras.Model) -> "Coverage":
        """That of a model."""
        masks, sizes = prunable(model), cls.kernels_of(model)
        left_out = {path: size for path, size in sizes.items() if path not in masks}
        return cls(sum(mask.size for mask in masks.values()), left_out)

    @staticmethod
    def kernels_of(model: keras.Model) -> dict[str, int]:
        """{path: weights} of the variables of rank 2 or more, but biases, and of masked ones."""
        masked = masking.kernels(model)
        return {
            path: math.prod(variable.shape)
            for path, variable in masking.variables(model).items()
            if path in masked or (len(variable.shape) >= 2 and variable.name != "bias")
        }

    def density(self, masks: Iterable[Any]) -> float:
        """The part of the weights of all kernels that is alive under masks of the covered ones."""
        left_out = sum(self.left_out.values())
        return (sum(int(mask.sum()) for mask in masks) + left_out) / (self.covered + left_out)

    def warn_if_small(self, stacklevel: int) -> None:
        """Warns where densities are of less than half of the weights."""
        total = self.covered + sum(self.left_out.values())
        if 2 * self.covered < total:
            largest = sorted(self.left_out, key=lambda path: -self.left_out[path])[:3]
            warnings.warn(
                f"The masks cover {self.covered / total:.1%} of the weights of all kernels; "
                f"densities are of that part. Among what is not pruned: {', '.join(largest)}.",
                stacklevel=stacklevel + 1,
            )


def warn_of_death(before: Masks, after: Masks, *, another: bool, stacklevel: int) -> None:
    """Warns of the layers whose last weights a pruning took.

    Where `another` pruning follows, also of those of which it would leave nothing.
    """
    found = {path: "has no weight left" for path in died(before, after)}
    if another:
        found |= {
            path: f"has {int(after[path].sum())} weights left, and would lose them in the next one"
            for path in dying(before, after)
        }
    if found:
        words = "; ".join(f"{path} {state}" for path, state in found.items())
        warnings.warn(
            f"After this pruning {words}. Keep some by min_layer_weights=, or all by keep_dense=.",
            stacklevel=stacklevel + 1,
        )
