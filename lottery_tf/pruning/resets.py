"""What a round starts from. NumPy only."""

import dataclasses
from collections.abc import Callable, Collection

import numpy as np

from lottery_tf.pruning import Masks, Weights
from lottery_tf.pruning.top_k import apply_masks


@dataclasses.dataclass(frozen=True)
class RewindContext:
    """What a reset can draw on; the functions are not called where it is not used.

    Args:
        initialization: of a round, its fresh weights {variable path: array}; of round 0, W_0.
        trained: the weights that the round before ended with; round 0 has none.
        rewind_point: all variables of round 0 after `rewind_step` steps.
        rewind_step: step of the schedule, from 0.
        schedule_steps: where the schedule ends.
        generator: returns the random numbers of the round.
        frozen: paths of kernels with a mask that do not train, and so are not shuffled.
    """

    initialization: Callable[[int], Weights]
    trained: Callable[[], Weights]
    rewind_point: Callable[[], Weights]
    rewind_step: int
    schedule_steps: int
    generator: Callable[[], "np.random.Generator"]  # which NumPy imports when it is used
    frozen: Collection[str] = ()


def init(context: RewindContext, masks: Masks, round: int) -> tuple[Weights, int]:
    """Return the initialization of round 0 under the round's masks: the lottery ticket."""
    return apply_masks(context.initialization(0), masks), 0


def rewind(context: RewindContext, masks: Masks, round: int) -> tuple[Weights, int]:
    """Round 0 after k steps, BatchNorm's statistics too; the schedule goes on at k.

    Frankle et al. 2019, Algorithm 1; Frankle et al. 2020a.
    """
    return apply_masks(context.rewind_point(), masks), context.rewind_step


def reinit(context: RewindContext, masks: Masks, round: int) -> tuple[Weights, int]:
    """Return a fresh initialization in every round, under the round's masks: the control."""
    return apply_masks(context.initialization(round), masks), 0


def lr_rewind(context: RewindContext, masks: Masks, round: int) -> tuple[Weights, int]:
    """Return the trained weights, and step k of the schedule (Renda et al. 2020)."""
    return apply_masks(context.trained(), masks), context.rewind_step


def finetune(context: RewindContext, masks: Masks, round: int) -> tuple[Weights, int]:
    """Return the trained weights, and the end of the schedule (Renda et al. 2020)."""
    return apply_masks(context.trained(), masks), context.schedule_steps


def signs(context: RewindContext, masks: Masks, round: int) -> tuple[Weights, int]:
    """Fresh magnitudes in every round with the signs of W_0 (Zhou et al. 2019)."""
    return _with_signs(context, masks, round, context.initialization(0)), 0


def trained_signs(context: RewindContext, masks: Masks, round: int) -> tuple[Weights, int]:
    """Fresh magnitudes with the signs of the trained weights (Gadhikar & Burkholz 2024)."""
    return _with_signs(context, masks, round, context.trained()), 0


def shuffle(context: RewindContext, masks: Masks, round: int) -> tuple[Weights, int]:
    """Return the surviving values of W_0, permuted inside each kernel (Frankle et al. 2020b)."""
    weights, generator = apply_masks(context.initialization(0), masks), context.generator()
    for path, mask in masks.items():
        values = generator.permutation(weights[path][mask])  # of frozen ones too: the same draws
        if path not in context.frozen:
            weights[path][mask] = values
    return weights, 0


def _with_signs(context: RewindContext, masks: Masks, round: int, signed: Weights) -> Weights:
    fresh = context.initialization(round)
    kernels = {path: np.copysign(fresh[path], signed[path]) for path in masks}
    return apply_masks(fresh | kernels, masks)


# A reset gives (weights, zero where masked; the step of the schedule that the round starts at).
RESETS: dict[str, Callable[[RewindContext, Masks, int], tuple[Weights, int]]] = {
    "init": init,
    "rewind": rewind,
    "reinit": reinit,
    "lr_rewind": lr_rewind,
    "finetune": finetune,
    "signs": signs,
    "trained_signs": trained_signs,
    "shuffle": shuffle,
}
# Those that start from the weights that the round before ended with.
ON_TRAINED = ("lr_rewind", "finetune", "trained_signs")
