"""Which weights are pruned: exact top-k of scores. NumPy only."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.pruning import Array, Masks, Weights, criteria
from lottery_tf.pruning.allocation import (
    Group,
    SparsityTarget,
    allocate,
    competing,
    in_equal_parts,
)
from lottery_tf.pruning.structure import CHANNEL, N_OF_M, Structure


@dataclasses.dataclass(frozen=True)
class Threshold:
    """Where a pruning cut: the largest score removed and the smallest kept (NaN if there is none).

    Where scores compete in each layer, they are the extremes over all layers.
    """

    removed: float
    kept: float


def prune(
    trained: Weights,
    masks: Masks,
    target: SparsityTarget | float,
    *,
    criterion: criteria.Criterion = "magnitude",
    iterations: int | None = None,
    **inputs: Callable[[Masks], Weights],
) -> tuple[Masks, Threshold]:
    """Remove exactly as many weights as a SparsityTarget says, those with the lowest scores.

    Ties go by flat index in the order of `masks`; a pruned weight never comes back.

    Args:
        trained: {path: array}, the weights as they are; others than those of `masks` are ignored.
        masks: {path: bool array} of the same shapes.
        target: SparsityTarget; a number is the fraction to remove of all survivors together.
        criterion: a key of criteria.CRITERIA, or a function like them.
        iterations: prunings, each of which computes the scores anew under the masks so far; the
            survivors fall as a geometric series. Default: criteria.ITERATIONS, or 1.
        inputs: further scoring inputs that criteria name: functions of the masks that return
            {path: array of the kernel's shape}; what is not needed is not computed.

    Returns:
        New masks, and the Threshold of the last pruning.

    Raises:
        InputError: an unknown criterion, an input that is not there or finite; as `allocate`.
    """
    iterations = criteria.iterations(criterion) if iterations is None else iterations
    if iterations < 1:
        raise InputError(f"iterations: expected at least 1. Received: {iterations}")
    target = target if isinstance(target, SparsityTarget) else SparsityTarget(target)
    keep = _keeper(target, masks)
    known = {"trained": lambda _: trained, **inputs}
    for iteration in range(1, iterations + 1):
        scores = criteria.scores(criterion, known, masks)
        masks, threshold = keep(scores, masks, iteration / iterations)
    return masks, threshold


def _keeper(
    target: SparsityTarget, masks: Masks
) -> Callable[[Weights, Masks, float], tuple[Masks, Threshold]]:
    """Return the function of (scores, masks, part) that does a part, from 0 to 1, of a pruning."""
    structure, least = target.structure, target.min_layer_weights
    if structure is None:
        groups = allocate(target, masks)
        return lambda scores, masks, part: keep_highest(
            scores, masks, groups, [group.after(part) for group in groups], least
        )
    paths = competing(target, masks)
    if structure.pattern.kind == N_OF_M:
        allocate(target, masks)  # says what does not fit, before scores are computed
        of_group = Group([], structure.pattern.m, structure.kept_of(target.density))

        def keep_in_groups(scores: Weights, masks: Masks, part: float) -> tuple[Masks, Threshold]:
            masks, *cut = structure.keep_in_groups(scores, masks, paths, of_group.after(part))
            return masks, Threshold(*map(_finite, cut))

        return keep_in_groups
    return _keeper_of_units(structure, target, masks, paths)


def _keeper_of_units(
    structure: Structure, target: SparsityTarget, masks: Masks, paths: list[str]
) -> Callable[[Weights, Masks, float], tuple[Masks, Threshold]]:
    """Return what `_keeper` does, for blocks and channels: each counts as a weight does there."""
    units = structure.units(masks, paths)
    groups = allocate(target, masks, units)
    least = -(-target.min_layer_weights // structure.size)
    if structure.pattern.kind == CHANNEL and all(one.left >= len(one.paths) for one in groups):
        least = max(least, 1)  # a layer without a channel would cut the network

    def keep(scores: Weights, masks: Masks, part: float) -> tuple[Masks, Threshold]:
        pooled, alive = units.pooled(scores, masks, structure.pool), units.alive(masks)
        if structure.pattern.kind == CHANNEL and target.scope == "global":
            pooled = in_means(pooled, alive)
        left = [group.after(part) for group in groups]
        kept, threshold = keep_highest(pooled, alive, groups, left, least)
        return units.without(masks, kept), threshold

    return keep


def keep_highest(
    scores: Weights, masks: Masks, groups: list[Group], left: list[int], min_layer_weights: int = 0
) -> tuple[Masks, Threshold]:
    """Keep the weights with the highest scores of each group; return (new masks, Threshold).

    Args:
        scores: {path: array}.
        masks: {path: bool array}; those of no group stay as they are.
        groups: of the kernels that compete.
        left: survivors of each group.
        min_layer_weights: as of SparsityTarget.

    Raises:
        InputError: min_layer_weights leaves too few weights to prune.
    """
    pruned, removed, kept = {path: mask.copy() for path, mask in masks.items()}, [], []
    for group, count in zip(groups, left, strict=True):
        alive = {path: scores[path][masks[path]] for path in group.paths}
        safe = np.concatenate([highest(a, min_layer_weights) for a in alive.values()])
        values = np.concatenate(list(alive.values()))  # (survivors of the group,)
        if values.size - count > np.count_nonzero(~safe):
            raise InputError(
                f"min_layer_weights: with {min_layer_weights} in each layer there are "
                f"{np.count_nonzero(safe)} to keep, and {count} may stay. Lower it, or prune less."
            )
        keep = safe.copy()
        if group.output_axes is None:
            keep[~safe] = highest(values[~safe], count - int(np.count_nonzero(safe)))
        else:
            (path,) = group.paths
            units = output_units(masks[path].shape, group.output_axes)[masks[path]]
            keep = _highest_of_units(values, units, count)
        removed.append(values[~keep].max(initial=-math.inf))
        kept.append(values[keep].min(initial=math.inf))
        ends = np.cumsum([array.size for array in alive.values()])
        for path, part in zip(group.paths, np.split(keep, ends[:-1]), strict=True):
            pruned[path][masks[path]] = part
    return pruned, Threshold(_finite(max(removed)), _finite(min(kept)))


def in_means(scores: Weights, masks: Masks) -> Weights:
    """Return scores as multiples of the mean magnitude of the survivors in each set.

    Channels of two layers have unequal numbers of weights, of unequal sizes, so their pooled scores
    do not compare. These do (as by the normalizer "mean" of Torch-Pruning, Fang et al. 2023).
    """
    sums = {name: np.abs(array[masks[name]]).sum() for name, array in scores.items()}
    return {
        name: array * (np.count_nonzero(masks[name]) / sums[name]) if sums[name] else array
        for name, array in scores.items()
    }


def density(masks: Masks) -> float:
    """Remaining / prunable weights."""
    return remaining(masks) / sum(mask.size for mask in masks.values())


def remaining(masks: Masks) -> int:
    """Return the number of surviving weights."""
    return sum(int(np.count_nonzero(mask)) for mask in masks.values())


def apply_masks(weights: Weights, masks: Masks) -> Weights:
    """Return new weights, with 0 where a mask is False; variables without a mask are passed on."""
    return {
        path: np.where(masks[path], array, np.zeros((), array.dtype)) if path in masks else array
        for path, array in weights.items()
    }


def highest(scores: Array, count: int) -> Array:
    """Return a bool array, True at the `count` highest scores; among equal ones, at the last."""
    remove = max(scores.size - count, 0)
    keep = np.ones(scores.size, bool)
    if remove:
        cut = np.partition(scores, remove - 1)[remove - 1]
        keep[scores < cut] = False
        ties = np.flatnonzero(scores == cut)
        keep[ties[: remove - np.count_nonzero(~keep)]] = False
    return keep


def output_units(shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """Return the number of the output unit of every weight, an array of the kernel's shape."""
    axes = tuple(axis % len(shape) for axis in axes)
    sizes = [size if axis in axes else 1 for axis, size in enumerate(shape)]
    return np.broadcast_to(np.arange(math.prod(sizes)).reshape(sizes), shape)


def _highest_of_units(scores: Array, units: Array, count: int) -> Array:
    """Return a bool array, True at the highest scores of each unit, `count` of all units together.

    Among equal scores, at the last, as `highest`.
    """
    if not scores.size:
        return np.ones(0, bool)
    alive = np.bincount(units)
    gone = alive - in_equal_parts(alive, count)
    order = np.lexsort((scores, units))  # the lowest of each unit first; stable
    ranks = np.arange(scores.size) - (np.cumsum(alive) - alive)[units[order]]
    keep = np.empty(scores.size, bool)
    keep[order] = ranks >= gone[units[order]]
    return keep


def _finite(value: float) -> float:
    return float(value) if math.isfinite(value) else math.nan
