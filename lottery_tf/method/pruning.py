"""Which weights are pruned: exact top-k of scores. NumPy only."""

import dataclasses
import fractions
import math
from collections.abc import Callable

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.method import Array, Masks, Weights, criteria


@dataclasses.dataclass(frozen=True)
class Threshold:
    """Where a pruning cut: the largest score removed and the smallest kept (NaN if there is none).

    Under scope "layer" they are the extremes over all layers.
    """

    removed: float
    kept: float


SCOPES = ("global", "layer")


def prune(
    trained: Weights,
    masks: Masks,
    fraction: float,
    *,
    criterion: str = "magnitude",
    scope: str = "global",
    **evidence: Callable[[], Weights],
) -> tuple[Masks, Threshold]:
    """Removes the exact fraction of the surviving weights with the lowest scores.

    Of n survivors (of all layers together, or of each under scope "layer"), round-half-even(
    fraction * n) are removed; ties go by flat index in the order of `masks`; a pruned weight never
    comes back.

    Args:
        trained: {path: array}; paths that `masks` does not name are ignored.
        masks: {path: bool array} of the same shapes.
        fraction: part of the survivors to remove, in (0, 1).
        criterion: a key of criteria.CRITERIA.
        scope: "global" or "layer".
        evidence: further evidence that a criterion may name, as functions that give {path: array}.

    Returns:
        New masks, and the Threshold.

    Raises:
        InputError: a fraction, criterion or scope out of bounds, or a weight that is not finite.
    """
    if not 0 < fraction < 1:
        raise InputError(f"fraction: expected a number in (0, 1). Received: {fraction}")
    if scope not in SCOPES:
        raise InputError(f"scope: expected one of {SCOPES}. Received: {scope}")
    scores = criteria.scores(criterion, {"trained": lambda: trained, **evidence}, masks)
    return _remove_lowest(scores, masks, fraction, scope)


def _remove_lowest(
    scores: dict[str, Array], masks: Masks, fraction: float, scope: str
) -> tuple[Masks, Threshold]:
    alive = {path: scores[path][mask] for path, mask in masks.items()}
    groups = [list(masks)] if scope == "global" else [[path] for path in masks]
    pruned, removed, kept = {}, [], []
    for paths in groups:
        group = np.concatenate([alive[path] for path in paths])  # (survivors of the group,)
        keep = _keep_highest(group, _count(fraction, group.size))
        removed.append(group[~keep].max(initial=-math.inf))
        kept.append(group[keep].min(initial=math.inf))
        ends = np.cumsum([alive[path].size for path in paths])
        for path, part in zip(paths, np.split(keep, ends[:-1]), strict=True):
            pruned[path] = masks[path].copy()
            pruned[path][masks[path]] = part
    return pruned, Threshold(_finite(max(removed)), _finite(min(kept)))


def density(masks: Masks) -> float:
    """Remaining / prunable weights."""
    return remaining(masks) / sum(mask.size for mask in masks.values())


def remaining(masks: Masks) -> int:
    """The number of surviving weights."""
    return sum(int(np.count_nonzero(mask)) for mask in masks.values())


def apply_masks(weights: Weights, masks: Masks) -> Weights:
    """New weights, with 0 where a mask is False; variables without a mask are passed on."""
    return {
        path: np.where(masks[path], array, np.zeros((), array.dtype)) if path in masks else array
        for path, array in weights.items()
    }


def _count(fraction: float, survivors: int) -> int:
    # The decimal that the user wrote, not its binary neighbour: 0.145 of 100 is 14.5, which
    # rounds to the even 14; Python rounds a Fraction half to even.
    return round(fractions.Fraction(repr(float(fraction))) * survivors)


def _keep_highest(scores: Array, count: int) -> Array:
    """A bool array, False at the `count` lowest scores; among equal ones, at the first."""
    keep = np.ones(scores.size, bool)
    if count:
        cut = np.partition(scores, count - 1)[count - 1]
        keep[scores < cut] = False
        ties = np.flatnonzero(scores == cut)
        keep[ties[: count - np.count_nonzero(~keep)]] = False
    return keep


def _finite(value: float) -> float:
    return float(value) if math.isfinite(value) else math.nan
