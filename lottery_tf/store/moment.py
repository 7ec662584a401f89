"""Where a training stands between two steps; no framework."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Moment:
    """Where a training stands after a piece of an epoch.

    Args:
        step: steps done since the schedule's step 0.
        loss, accuracy: running means over the epoch.
        history: a row per finished epoch.
        seconds, train_seconds: what the epoch took so far, and its steps; 0 once its row is there.
    """

    step: int
    loss: float
    accuracy: float
    history: list
    seconds: float
    train_seconds: float
