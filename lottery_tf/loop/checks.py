"""What `prune` and `rounds` are given, checked before anything trains."""

import dataclasses
import math
import numbers
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

from lottery_tf import masking
from lottery_tf import structure as structures
from lottery_tf.errors import InputError
from lottery_tf.masking import choosing, keras_generators, keras_private, kernel_inputs, refusals
from lottery_tf.pruning import Masks, Weights, criteria
from lottery_tf.pruning.allocation import SparsityTarget
from lottery_tf.pruning.criteria import Criterion
from lottery_tf.pruning.dead_units import died, dying
from lottery_tf.pruning.structure import N_OF_M, Structure, parse

if TYPE_CHECKING:
    from lottery_tf.loop.scoring import Sample


def check_built(model: Any, of: str) -> None:
    """Raise InputError if it is no Keras 3 model, or the masked layers in it are not built."""
    refusals.check(model, of)
    # Only what is masked needs its weights: a VAE or a GAN may have no call() that would build it.
    layers = [one for one in keras_private.flatten_layers(model) if isinstance(one, masking.Masked)]
    not_built = [layer.name for layer in layers if not layer.built]
    if not_built or (not layers and not model.built):
        raise InputError(
            f"{of}: {', '.join(not_built) or model.name} has no weights yet. Call the model, or "
            "the part of it that is masked, on a batch first, or begin it with a keras.Input."
        )


def check_model(model: Any, of: str) -> None:
    """Raise InputError if a model is none, has nothing to prune, or is not built there."""
    check_built(model, of)
    prunable(model)


def check_all_built(model: keras.Model) -> None:
    """Raise InputError if a layer of a model will get weights only when it is called.

    The rounds could not begin again from the first values of those.
    """
    kinds = (*masking.MASKED, keras.layers.BatchNormalization, keras.layers.LayerNormalization)
    layers = keras_private.flatten_layers(model)
    if names := [one.name for one in layers if isinstance(one, kinds) and not one.built]:
        raise InputError(f"rounds: {', '.join(names)} has no weights yet. {_TO_BUILD}")


def check_same_variables(model: keras.Model, start: Weights, round: int) -> None:
    """Raise InputError if a model has got further variables since round 0 began."""
    if names := sorted(masking.variables(model).keys() - start.keys()):
        raise InputError(
            f"rounds: {model.name} had no {', '.join(names)} when round 0 began, so round {round} "
            f"cannot begin from its first values. {_TO_BUILD}"
        )


_TO_BUILD = "Call the model, or the parts of it that have a call(), on a batch before the rounds."


def prunable(model: keras.Model) -> Masks:
    """Return {kernel path: bool array} of the kernels that are pruned: those that are not frozen.

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


def whole_number(least: int, *, below: float = math.inf, **values: Any) -> None:
    """Raise InputError if a value is no whole number, or out of bounds."""
    for name, value in values.items():
        is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not is_whole or not least <= value < below:
            bounds = f"at least {least}" + (f" and below {below}" if below < math.inf else "")
            raise InputError(f"{name}: expected a whole number, {bounds}. Received: {value!r}")


def where(
    scope: str | None,
    criterion: Criterion,
    layer_fractions: Mapping[str, float] | None,
    keep_dense: Sequence[str],
    min_layer_weights: int,
    structure: Structure | None = None,
) -> dict[str, Any]:
    """Return the arguments of a SparsityTarget that say where to prune.

    Without a scope it is that of the criterion; a structure of layers has none of outputs.
    """
    if scope is None:
        scope = criteria.scope(criterion)
        if structure is not None and scope != "global":
            scope = "global" if structure.pattern.kind == N_OF_M else "layer"
    return {
        "scope": scope,
        "layer_fractions": {} if layer_fractions is None else layer_fractions,
        "keep_dense": keep_dense,
        "min_layer_weights": min_layer_weights,
        "structure": structure,
    }


def structure_of(model: keras.Model, structure: Any, pool: str, of: str) -> Structure | None:
    """Return what `structure=` and `pool=` mean for a model; InputError if one is wrong."""
    if parse(structure) is None:
        if pool != "sum":
            raise InputError(f"pool: it pools blocks and channels. Received: {structure=}")
        return None
    check_model(model, of)
    found = structures.structure_of(model, structure, pool)
    if found and (left := structures.in_words(found)):
        warnings.warn(f"{of}: {left}", stacklevel=3)
    return found


def make_target(
    model: keras.Model, fraction: float | None, density: float | None, where: Mapping[str, Any]
) -> SparsityTarget:
    """Return the SparsityTarget of a pruning; InputError if a value is wrong.

    Names may be those of nested models too, which Keras leaves out of the paths of their kernels.

    Args:
        model, fraction, density: as in `prune`.
        where: what else a SparsityTarget takes.
    """
    amount = SparsityTarget(fraction, density, **where)
    structure = amount.structure
    if density is not None and structure and structure.pattern.kind == N_OF_M:
        structure.kept_of(density)
        if not any(math.isclose(density, one) for one in structure.pattern.densities):
            raise InputError(
                f"density: structure={structure.pattern} leaves whole weights of each group, so "
                f"expected one of {structure.pattern.densities}. Received: {density}"
            )
    fractions = {
        path: part
        for name, part in amount.layer_fractions.items()
        for path in _kernels_of(model, name, "layer_fractions")
    }
    dense = tuple(
        path for name in amount.keep_dense for path in _kernels_of(model, name, "keep_dense")
    )
    axes = kernel_inputs.output_axes(model)
    return dataclasses.replace(
        amount, layer_fractions=fractions, keep_dense=dense, output_axes=axes
    )


def _kernels_of(model: keras.Model, name: str, of: str) -> list[str]:
    """Return the paths of the kernels in the layers of a name or pattern."""
    pruned = prunable(model)
    among = [one for one in choosing.candidates(model) if one.variable.path in pruned]
    return [one.variable.path for one in choosing.chosen(name, among, of=of)]


NEEDS_INPUTS = "needs a sample of inputs: pass data=inputs."


def check_scoring(
    model: keras.Model, criterion: Criterion, sample: "Sample | None", iterations: int | None
) -> None:
    """Raise InputError if a criterion is unknown, or what it needs cannot be gathered."""
    if not isinstance(criterion, str) and not callable(criterion):
        raise InputError(
            f"criterion: expected one of {list(criteria.CRITERIA)}, or a function of the scoring "
            f"inputs {', '.join(criteria.INPUTS)}. Received: {criterion!r}"
        )
    if criterion == "sparsegpt":
        raise InputError(
            "criterion: sparsegpt sets the surviving weights, too, so only `prune` takes it, in "
            "one pruning: leave iterations= out."
        )
    wanted = criteria.needs(criterion)
    if iterations is not None:
        whole_number(1, iterations=iterations)
    if sample is None and "input_norm" in wanted:
        raise InputError(f"criterion: {criteria.name_of(criterion)} {NEEDS_INPUTS}")
    if sample is None and wanted & criteria.FROM_DATA:
        raise InputError("criterion: it needs gradients: pass data=(inputs, labels).")
    if "initial_flow" in wanted:
        from lottery_tf.masking.gradients import Flow, in_float64

        with keras_generators.kept():
            Flow(in_float64(model))  # says so if it cannot be


def check_named(criterion: Any) -> None:
    """Raise InputError if a later call could not tell a criterion from another."""
    name = getattr(criterion, "__qualname__", "<lambda>")  # a functools.partial has none either
    if not isinstance(criterion, str) and name.endswith("<lambda>"):
        raise InputError(
            "criterion: with directory=, expected a name or a function made by def, by which a "
            f"later call knows that it goes on with the same one. Received: {criterion!r}"
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
        """Return that of a model."""
        masks, sizes = prunable(model), cls.kernels_of(model)
        left_out = {path: size for path, size in sizes.items() if path not in masks}
        return cls(sum(mask.size for mask in masks.values()), left_out)

    @staticmethod
    def kernels_of(model: keras.Model) -> dict[str, int]:
        """Return {path: weights} of masked variables, and of others of rank 2 or more."""
        masked = masking.kernels(model)
        return {
            path: math.prod(variable.shape)
            for path, variable in masking.variables(model).items()
            if path in masked or (len(variable.shape) >= 2 and variable.name != "bias")
        }

    def density(self, masks: Iterable[Any]) -> float:
        """Return the density of all kernels under masks of the covered ones."""
        left_out = sum(self.left_out.values())
        return (sum(int(mask.sum()) for mask in masks) + left_out) / (self.covered + left_out)

    def warn_if_small(self, stacklevel: int) -> None:
        """Warn where densities are of less than half of the weights."""
        total = self.covered + sum(self.left_out.values())
        if 2 * self.covered < total:
            largest = sorted(self.left_out, key=lambda path: -self.left_out[path])[:3]
            warnings.warn(
                f"The masks cover {self.covered / total:.1%} of the weights of all kernels; "
                f"densities are of that part. Among what is not pruned: {', '.join(largest)}.",
                stacklevel=stacklevel + 1,
            )


def warn_of_death(before: Masks, after: Masks, *, another: bool, stacklevel: int) -> None:
    """Warn of the layers whose last weights a pruning took.

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
