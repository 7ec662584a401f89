"""When a network has collapsed: it tells no classes apart, or cannot be pruned. NumPy only.

A collapse is a phrase. The row of a round holds its collapses, joined by `SEPARATOR`.
"""

import math
from typing import Any

from lottery_tf.pruning import Masks
from lottery_tf.pruning.top_k import remaining

SEPARATOR = "; "
ONE_CLASS = "one class for all test examples"
AT_CHANCE = "test accuracy at chance"
NOT_PRUNABLE = "no weight left to prune"


def chance(classes: int, examples: int) -> float:
    """Return the accuracy up to which a network may guess: 1 / classes + 2 standard errors."""
    part = 1 / classes
    return part + 2 * math.sqrt(part * (1 - part) / examples)


def of_predictions(accuracy: float, largest_class: float, classes: int, examples: int) -> list[str]:
    """Return how the predictions of a network on a split have collapsed; [] if they have not.

    Args:
        accuracy: of the network.
        largest_class: the part of the examples that it gives its most frequent prediction; NaN
            if that is not known.
        classes, examples: how many there are.
    """
    if accuracy == 1:  # of a split of one class
        return []
    guessing = accuracy <= chance(classes, examples)
    return [ONE_CLASS] * bool(largest_class == 1) + [AT_CHANCE] * bool(guessing)


def of_masks(masks: Masks) -> list[str]:
    """Return the layers without a weight; [] without such."""
    return [f"no weights in {path}" for path, mask in masks.items() if not mask.any()]


def of_pruning(masks: Masks, pruned: Masks) -> list[str]:
    """Return [NOT_PRUNABLE] if a pruning of masks to `pruned` removed nothing, else []."""
    return [NOT_PRUNABLE] * (remaining(masks) == remaining(pruned))


def parse(cell: Any) -> list[str]:
    """Return the collapses that a cell of the column "collapse" names; none of "" or a NaN."""
    return cell.split(SEPARATOR) if isinstance(cell, str) and cell else []
