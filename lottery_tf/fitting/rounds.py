"""`rounds`: iterative magnitude pruning around the user's own training."""

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from lottery_tf import masking
from lottery_tf.fitting import checks, starting
from lottery_tf.fitting.plan import Plan
from lottery_tf.fitting.pruning import Data, pruned
from lottery_tf.fitting.watching import RewindPoint
from lottery_tf.method import collapse, pruning
from lottery_tf.method.criteria import Criterion
from lottery_tf.method.resets import RESETS


@dataclasses.dataclass(frozen=True)
class Round:
    """One turn of `rounds`.

    Args:
        index: its number, from 0.
        density: of the kernels that are pruned, which it trains at.
        first_step: the step of the learning rate's schedule to start at; 0 but where it is rewound.
        callbacks: for `fit`: what keeps the rewind point in round 0.
        kernel_density: of all kernels, those without a mask and frozen ones too.
    """

    index: int
    density: float
    first_step: int = 0
    callbacks: list[keras.callbacks.Callback] = dataclasses.field(default_factory=list)
    kernel_density: float = 1.0


def rounds(model: keras.Model, rounds: int, fraction: float | None = None, *,
           densities: Sequence[float] = (), target_density: float | None = None,
           reset: str = "init", rewind_to: int = 0, seed: int = 0,
           criterion: Criterion = "magnitude", data: Data = None,
           iterations: int | None = None, **where: Any) -> Iterator[Round]:  # fmt: skip
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

    Raises:
        InputError: at the call, a value out of bounds, or something that a later turn needs and
            that cannot be had; in turn 1, a rewind point that was not kept.
    """
    plan = Plan(model, rounds, fraction, densities, target_density, reset, rewind_to, seed,
                criterion, data, iterations, where)  # fmt: skip
    amounts = plan.check()
    checks.Coverage.of(model).warn_if_small(stacklevel=2)
    return _turns(plan, amounts, starting.FreshOptimizer(model))


def _turns(plan, amounts, optimizer):
    model, coverage = plan.model, checks.Coverage.of(plan.model)
    start, masks = masking.get_weights(model), masking.get_masks(model)
    point = [RewindPoint(plan.rewind_to)] if plan.reset == "rewind" else []
    sources = starting.sources(model, start, plan.seed, lambda: point[0].kept(), plan.rewind_to)
    by: Any = {"criterion": plan.criterion, "iterations": plan.iterations, "seed": plan.seed}
    for index in range(plan.rounds):
        weights, first = RESETS[plan.reset if index else "init"](sources(index), masks, index)
        masking.set_weights(model, weights, masks)
        optimizer.renew()
        covered = checks.prunable(model)
        density = pruning.density(covered), coverage.density(covered.values())
        with optimizer.watch():
            yield Round(index, density[0], first, [] if index else [*point], density[1])
        if index == plan.rounds - 1:
            return
        before = checks.prunable(model)
        after, _ = pruned(model, amounts[index], weights, plan.data, index, **by)
        another = index < plan.rounds - 2
        checks.warn_of_death(before, after, another=another, stacklevel=2)
        masks = masks | after
        if plan.fraction is not None and collapse.of_pruning(before, after):
            return _warn_of_end(index, plan.fraction, after)


def _warn_of_end(index, fraction, masks):
    warnings.warn(
        f"The rounds end after round {index}, as a fraction of {fraction} prunes nothing more of "
        f"{pruning.remaining(masks)} weights.",
        stacklevel=3,
    )
