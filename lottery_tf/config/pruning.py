"""What is pruned, and what a round starts from."""

import dataclasses

from lottery_tf.config.fields import flag
from lottery_tf.method.criteria import CRITERIA
from lottery_tf.method.pruning import SCOPES
from lottery_tf.method.resets import RESETS


@dataclasses.dataclass(frozen=True)
class PruningFlags:
    """Flags of the rounds."""

    rounds: int = flag(
        25, "Rounds of training, the dense round 0 included; may grow.", at_least=1, how=True
    )
    prune_fraction: float = flag(
        0.2, "Part of the surviving weights that is pruned after each round.", above=0, below=1
    )
    criterion: str = flag(
        "magnitude", "Score by which the lowest weights are pruned.", choices=tuple(CRITERIA)
    )
    scope: str = flag(
        "global", "Whether scores compete over all layers, or in each.", choices=SCOPES
    )
    reset: str = flag(
        "init",
        "What a round starts from: init = the initialization of round 0 (the ticket); reinit = a "
        "fresh one, a function of (init_seed, round), on its own chain of masks.",
        choices=tuple(RESETS),
    )
