"""`rounds`: iterative magnitude pruning around the user's own training."""

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.fitting import starting
from lottery_tf.fitting.pruning import pruned
from lottery_tf.method import Weights, collapse, pruning
from lottery_tf.method.allocation import Amount
from lottery_tf.method.resets import RESETS


class RewindPoint(keras.callbacks.Callback):
    """Keeps the weights of a model after some steps of `fit`, to rewind to."""

    def __init__(self, step: int):
        super().__init__()
        self.step, self.steps = step, 0
        self.weights: Weights | None = None

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.steps += 1
        if self.steps == self.step:
            self.weights = masking.get_weights(self.model)

    def kept(self) -> Weights:
        """The weights of the step.

        Raises:
            InputError: the fit of round 0 had not this callback, or not so many steps.
        """
        if self.weights is None:
            raise InputError(
                f"rewind_to: round 0 kept no weights of step {self.step}. Pass round.callbacks to "
                "its fit, and train for more steps than that."
            )
        return self.weights


@dataclasses.dataclass(frozen=True)
class Round:
    """One turn of `rounds`.

    Args:
        index: its number, from 0.
        density: that it trains at.
        first_step: the step of the learning rate's schedule to start at; 0 but where it is rewound.
        callbacks: for `fit`: what keeps the rewind point in round 0.
    """

    index: int
    density: float
    first_step: int = 0
    callbacks: list[keras.callbacks.Callback] = dataclasses.field(default_factory=list)


def rounds(model: keras.Model, rounds: int, fraction: float | None = None, *,
           densities: Sequence[float] = (), reset: str = "init", rewind_to: int = 0,
           seed: int = 0, criterion: str = "magnitude", data: tuple[Any, Any] | None = None,
           iterations: int | None = None, **where: Any) -> Iterator[Round]:  # fmt: skip
    """Iterative magnitude pruning around the user's own training; yields a Round for each turn.

        for round in lottery_tf.rounds(model, rounds=10, fraction=0.2):
            model.fit(images, labels, epochs=3, callbacks=round.callbacks)

    Each turn starts from reset weights under the next masks with a fresh optimizer, the first from
    what the model has. The turns end before, with a warning, where nothing is left to prune.

    Args:
        model, rounds: as `masked` returns it, compiled if its optimizer is to start afresh; turns.
        fraction, densities: part of the survivors that is pruned after each turn but the last; or
            the densities of the turns after the first.
        reset: a key of lottery_tf.method.resets.RESETS. "rewind" needs `rewind_to`, and
            round.callbacks in the `fit` of round 0. Where a schedule of the rate goes on
            ("rewind", "lr_rewind", "finetune") is up to your `fit`: round.first_step says where.
        rewind_to: step, a batch of round 0.
        seed: of fresh initializations and of what is drawn by chance.
        criterion, data, iterations, **where: as in `prune`.

    Raises:
        InputError: a value out of bounds, or a rewind point that was not kept.
    """
    _check_reset(reset, rewind_to)
    amounts = _amounts(rounds, fraction, densities, where)
    start, masks = masking.get_weights(model), masking.get_masks(model)
    optimizer = starting.FreshOptimizer(model)
    point = [RewindPoint(rewind_to)] if reset == "rewind" else []
    sources = starting.sources(model, start, seed, lambda: point[0].kept(), rewind_to)
    by: Any = {"criterion": criterion, "iterations": iterations, "seed": seed}
    for index in range(rounds):
        weights, first = RESETS[reset if index else "init"](sources(index), masks, index)
        masking.set_weights(model, weights, masks)
        optimizer.renew()
        with optimizer.watch():
            yield Round(index, pruning.density(masks), first, [] if index else [*point])
        if index < rounds - 1:
            before, masks = masks, pruned(model, amounts[index], weights, data, index, **by)
            if not densities and collapse.of_pruning(before, masks):
                return _warn_of_end(index, fraction, masks)


def _amounts(rounds, fraction, densities, where):
    """The Amount of the pruning after each turn but the last."""
    if rounds < 1:
        raise InputError(f"rounds: expected at least 1. Received: {rounds}")
    if densities and len(densities) < rounds - 1:
        raise InputError(f"densities: expected {rounds - 1}. Received: {len(densities)}")
    targets = densities or [None] * rounds
    return [Amount(fraction, target, **where) for target in targets]


def _check_reset(reset, rewind_to):
    if reset not in RESETS:
        raise InputError(f"reset: expected one of {', '.join(RESETS)}. Received: {reset}")
    if reset == "rewind" and rewind_to < 1:
        raise InputError(f"rewind_to: expected a step, at least 1. Received: {rewind_to}")


def _warn_of_end(index, fraction, masks):
    warnings.warn(
        f"The rounds end after round {index}, as a fraction of {fraction} prunes nothing more of "
        f"{pruning.remaining(masks)} weights.",
        stacklevel=3,
    )
