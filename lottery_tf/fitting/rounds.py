"""`rounds`: iterative magnitude pruning around the user's own training."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from lottery_tf.fitting import checks, starting
from lottery_tf.fitting.keeping import Keeper
from lottery_tf.fitting.plan import Plan
from lottery_tf.fitting.pruning import Data
from lottery_tf.fitting.turns import Round, Turns
from lottery_tf.method.criteria import Criterion


def rounds(model: keras.Model, rounds: int, fraction: float | None = None, *,
           densities: Sequence[float] = (), target_density: float | None = None,
           reset: str = "init", rewind_to: int = 0, seed: int = 0,
           criterion: Criterion = "magnitude", data: Data = None,
           iterations: int | None = None, directory: str | os.PathLike | None = None,
           **where: Any) -> Iterator[Round]:  # fmt: skip
    """Iterative magnitude pruning around the user's own training; yields a Round for each turn.

        for round in lottery_tf.rounds(model, rounds=10, fraction=0.2):
            model.fit(images, labels, epochs=3, callbacks=round.callbacks)

    Each turn starts from reset weights under the next masks with a fresh optimizer, the first from
    what the model has. The turns end before, with a warning, where nothing is left to prune.

    Args:
        model, rounds: as `masked` returns it, compiled or not; turns.
        fraction, densities, target_density: one of them. Part of the survivors that is pruned after
            each turn but the last; the densities of the turns after the first; or that of the last
            turn, to which the density falls by the same part in each.
        reset: a key of lottery_tf.method.resets.RESETS. "rewind" needs `rewind_to`, and
            round.callbacks in the `fit` of round 0. Where a schedule of the rate goes on
            ("rewind", "lr_rewind", "finetune") is up to your `fit`: round.first_step says where.
        rewind_to: step, a batch of round 0.
        seed: of fresh initializations and of what is drawn by chance.
        criterion, data, iterations, **where: as in `prune`.
        directory: a run directory that keeps each finished turn, and continues after it when the
            same is called again; with round.callbacks in `fit`, inside a turn at its last epoch.

    Raises:
        InputError: at the call, a value out of bounds, or something that a later turn needs and
            that cannot be had; in turn 1, a rewind point that was not kept.
    """
    plan = Plan(model, rounds, fraction, densities, target_density, reset, rewind_to, seed,
                criterion, data, iterations, where)  # fmt: skip
    amounts = plan.check()
    keeper = None if directory is None else Keeper(directory, plan)
    checks.Coverage.of(model).warn_if_small(stacklevel=2)
    return Turns(plan, amounts, starting.FreshOptimizer(model), keeper).all()
