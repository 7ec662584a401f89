"""What the papers define, in NumPy alone: pruning, criteria, resets, schedules, random streams."""

from lottery_tf.pruning.arrays import Array, Masks, Weights
from lottery_tf.pruning.top_k import Threshold, apply_masks, density, keep_highest, prune, remaining

__all__ = [
    "Array",
    "Masks",
    "Threshold",
    "Weights",
    "apply_masks",
    "density",
    "keep_highest",
    "prune",
    "remaining",
]
