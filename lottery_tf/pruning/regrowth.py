"""Dynamic sparse training: weights are dropped, and as many others grow. NumPy only."""

import math

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.pruning import Masks, Weights
from lottery_tf.pruning.allocation import Group
from lottery_tf.pruning.top_k import keep_highest

REGROW = ("gradient", "random")  # RigL (Evci et al. 2020), SET (Mocanu et al. 2018)


def drop_fraction(initial: float, step: int, end: int) -> float:
    """Return the part of a layer that is dropped at a step: half a cosine, from `initial` to 0.

    Evci et al. 2020, section 3, f_decay.
    """
    return initial / 2 * (1 + math.cos(math.pi * step / end))


def update_steps(every: int, end: int) -> range:
    """Return the steps at which weights are dropped and grow: each `every`-th before the end.

    Raises:
        InputError: there is none.
    """
    if every >= end:
        raise InputError(
            f"update_every: expected fewer than {end}, the steps to the last update. Received: "
            f"{every}"
        )
    return range(every, end, every)


def regrow(trained: Weights, scores: Weights, masks: Masks, fraction: float) -> Masks:
    """Drop the smallest weights of each layer, and grow as many; return the new masks.

    Of n weights round-half-even((1 - fraction) n) stay, at least one: the largest by magnitude. Of
    all others, those that were just dropped among them, the highest scores grow, so that each layer
    keeps its count (Evci et al. 2020, Algorithm 1; as jaxpruner's SET and RigL).

    Args:
        trained: {path: array}, the weights as they are.
        scores: {path: array} of each kernel's shape, by which weights grow.
        masks: {path: bool array}.
        fraction: part to drop, in [0, 1].

    Raises:
        InputError: a weight or a score is not finite.
    """
    for arrays, of in ((trained, "weights"), (scores, "scores of growth")):
        for path in masks:
            if not np.isfinite(arrays[path]).all():
                raise InputError(f"Cannot regrow {path}: its {of} are not all finite.")
    alive = {path: int(mask.sum()) for path, mask in masks.items()}
    stay = {
        path: min(count, max(1, round((1 - fraction) * count))) for path, count in alive.items()
    }
    groups = [Group([path], alive[path], stay[path]) for path in masks]
    sizes = {path: np.abs(trained[path].astype(np.float32, copy=False)) for path in masks}
    kept, _ = keep_highest(sizes, masks, groups, list(stay.values()))
    others = {path: ~mask for path, mask in kept.items()}
    grow = [alive[path] - stay[path] for path in masks]
    grown, _ = keep_highest(scores, others, groups, grow)
    return {path: kept[path] | grown[path] for path in masks}
