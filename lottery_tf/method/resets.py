"""What a round starts from. NumPy only."""

import dataclasses
from collections.abc import Callable

from lottery_tf.method import Masks, Weights
from lottery_tf.method.pruning import apply_masks


@dataclasses.dataclass(frozen=True)
class Sources:
    """What a reset can draw on; each is a function, so that what is not used is not read.

    Args:
        initialization: of a round, its fresh weights {variable path: array}; of round 0, W_0.
        trained: the weights that the round before ended with; round 0 has none.
    """

    initialization: Callable[[int], Weights]
    trained: Callable[[], Weights]


def init(sources: Sources, masks: Masks, round: int) -> tuple[Weights, int]:
    """The initialization of round 0 under the round's masks: the lottery ticket."""
    return apply_masks(sources.initialization(0), masks), 0


def reinit(sources: Sources, masks: Masks, round: int) -> tuple[Weights, int]:
    """A fresh initialization in every round, under the round's masks: the control."""
    return apply_masks(sources.initialization(round), masks), 0


# A reset gives (weights, zero where masked; the step of the schedule that the round starts at).
RESETS: dict[str, Callable[[Sources, Masks, int], tuple[Weights, int]]] = {
    "init": init,
    "reinit": reinit,
}
