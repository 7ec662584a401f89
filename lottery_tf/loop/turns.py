"""The rounds of `rounds`: reset, let the user train, prune, keep."""

import contextlib
import dataclasses
import math
import time
import warnings
from collections.abc import Iterator
from typing import Any

import keras

from lottery_tf import masking, pruning
from lottery_tf.loop import checks, starting
from lottery_tf.loop.keeping import Keeper, metrics_of
from lottery_tf.loop.plan import Plan
from lottery_tf.loop.pruning import pruned
from lottery_tf.loop.showing import Table
from lottery_tf.loop.watching import Epochs, RewindPoint, rows_of
from lottery_tf.plots import Row
from lottery_tf.pruning import collapse
from lottery_tf.pruning.allocation import Amount
from lottery_tf.pruning.resets import RESETS
from lottery_tf.runs import draws


@dataclasses.dataclass(frozen=True, repr=False)
class Round:
    """One round of `rounds`.

    Args:
        index: its number, from 0.
        density: of the kernels that are pruned, which it trains at.
        first_step: of the learning rate's schedule; 0 but where it is rewound.
        callbacks: for `fit`: what keeps the rewind point in round 0, the rows of the epochs, and
            with a directory the state after each epoch.
        kernel_density: of all kernels, those without a mask and frozen ones too.
        history: {column: value} for each round that is finished; it grows, and so after the last
            round it holds that too.
        optimizers: those that begin again in this round, by the attribute that holds them.
    """

    index: int
    density: float
    first_step: int = 0
    callbacks: list[keras.callbacks.Callback] = dataclasses.field(default_factory=list)
    kernel_density: float = 1.0
    history: list[Row] = dataclasses.field(default_factory=list)
    optimizers: tuple[str, ...] = ()

    def __repr__(self) -> str:
        shown: dict[str, Any] = {"index": self.index, "density": float(f"{self.density:.4g}")}
        if self.first_step:
            shown["first_step"] = self.first_step
        shown["optimizers"] = list(self.optimizers)
        return f"Round({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class Turns:
    """The turns of a Plan.

    Args:
        plan: Plan, checked.
        amounts: as Plan.check gives them.
        optimizers: that begin again in each round.
        keeper: of the run directory, if there is one.
        table: prints what is done.
    """

    def __init__(self, plan: Plan, amounts: list[Amount], optimizers: starting.FreshOptimizers,
                 keeper: Keeper | None, table: Table):  # fmt: skip
        self.plan, self.amounts, self.keeper, self.table = plan, amounts, keeper, table
        self.optimizers, self._said = optimizers, None
        self.model, self.coverage = plan.model, checks.Coverage.of(plan.model)
        self.history: list[Row] = []

    def all(self) -> Iterator[Round]:
        """Yields a Round for each turn that is not finished."""
        plan, keeper, ended = self.plan, self.keeper, False
        with keeper.open() if keeper else contextlib.nullcontext(0) as finished:
            start = keeper.start() if keeper else masking.get_weights(self.model)
            masks = masking.get_masks(self.model)
            if keeper and finished:
                self.history += keeper.run.metrics()
                weights, masks = keeper.resume(finished - 1)
                decided = keeper.next_masks(finished - 1)
                masks, _, ended = self._prune(finished - 1, weights, masks, decided)
            starting.note(self.model, start)
            self._say_start(finished)
            self.point = self._rewind_point(finished)
            sources = starting.sources(self.model, start, plan.seed, self._rewound, plan.rewind_to)
            for index in range(finished, plan.rounds):
                if ended:
                    return
                checks.check_same_variables(self.model, start, index)
                reset = RESETS[plan.reset if index else "init"]
                weights, first = reset(sources(index), masks, index)
                if plan.reset == "shuffle":  # frozen kernels are no part of it
                    weights |= self._frozen(start, masks)
                masking.set_weights(self.model, weights, masks)
                yield from self._train(index, first, self._renew(index))
                after, threshold, ended = self._prune(index, weights, masks)
                self._finish(index, weights, masks, threshold, ended)
                masks = after

    def _say_start(self, finished):
        if not self.keeper:
            density = pruning.density(checks.prunable(self.model))
            of = f"the weights that {self.model.name} has"
            self.table.say(f"Round 0 starts from {of}, at density {density:.2%}.")
            return
        self.table.say(
            f"{self.keeper.run.path}: {finished} of {self.plan.rounds} rounds are finished."
        )
        for row in self.history:
            self.table.add(row)

    def _renew(self, index):
        """Reset the optimizers; return their names, which are said where they change."""
        names = self.optimizers.renew()
        if names != self._said and (names or index):  # round 0 may make the first
            line = f"Reset in each round: {', '.join(names)}."
            if not names:
                line = (
                    f"No optimizer is reset, as {self.model.name} holds none. If your training "
                    "loop has one, pass it to rounds(optimizers=[...])."
                )
            self.table.say(line)
            if self.keeper:
                self.keeper.run.log(line)
            self._said = names
        return tuple(names)

    def _frozen(self, weights, masks):
        """Those of the weights whose kernels have a mask, but are frozen."""
        frozen = {path: masks[path] for path in masks.keys() - checks.prunable(self.model).keys()}
        return pruning.apply_masks({path: weights[path] for path in frozen}, frozen)

    def _train(self, index, first, optimizers):
        """Yields the Round that the user trains; then knows its epochs and seconds."""
        keeper, masks = self.keeper, checks.prunable(self.model)
        epochs = Epochs(keeper.backups(index) if keeper else None)
        callbacks = [epochs] if index or not self.point else [epochs, self.point]
        densities = pruning.density(masks), self.coverage.density(masks.values())
        began, before = time.perf_counter(), getattr(self.model, "history", None)
        held = masking.holding(self.model, f"round {index}")
        with self.optimizers.watch(), held:
            yield Round(
                index, densities[0], first, callbacks, densities[1], self.history, optimizers
            )
        self.seconds, self.densities = time.perf_counter() - began, densities
        # Who does not pass the callbacks has what Keras keeps of the last fit.
        after = getattr(self.model, "history", None)
        fitted = after is not None and after is not before
        self.epochs = epochs.rows or (rows_of(after) if fitted else [])

    def _prune(self, index, weights, masks, decided=None):
        """(masks, Threshold, whether nothing more can be pruned) after a turn.

        The masks that are `decided` already stay as they are.
        """
        self.decided = decided
        plan, last = self.plan, index == self.plan.rounds - 1
        if index >= len(self.amounts) or (last and not self.keeper):
            return masks, pruning.Threshold(math.nan, math.nan), False
        by: Any = {"criterion": plan.criterion, "iterations": plan.iterations, "seed": plan.seed}
        by["old_draws"] = self.keeper is not None and draws.are_old(self.keeper.run.path)
        before = checks.prunable(self.model)
        if decided is None:
            amount = self.amounts[index]
            after, threshold = pruned(self.model, amount, weights, plan.data, index, **by)
            self.decided = masks | after
        else:
            after, threshold = (
                {p: decided[p] for p in before},
                pruning.Threshold(math.nan, math.nan),
            )
        if last:
            return masks, threshold, False
        another = index < plan.rounds - 2
        checks.warn_of_death(before, after, another=another, stacklevel=3)
        ended = plan.fraction is not None and bool(collapse.of_pruning(before, after))
        if ended:
            warnings.warn(
                f"The rounds end after round {index}, as a fraction of {plan.fraction} prunes "
                f"nothing more of {pruning.remaining(after)} weights.",
                stacklevel=3,
            )
        return masks | after, threshold, ended

    def _finish(self, index, weights, masks, threshold, ended):
        """Keeps the row of a turn, and with a directory the turn."""
        collapses = collapse.of_masks(masks) + [collapse.NOT_PRUNABLE] * ended
        row = metrics_of(
            index,
            self.epochs,
            density=self.densities[0],
            kernel_density=self.densities[1],
            threshold=threshold.removed,
            smallest_kept=threshold.kept,
            remaining=pruning.remaining(checks.prunable(self.model)),
            seconds=self.seconds,
            collapse=collapse.SEPARATOR.join(collapses) or math.nan,
        )
        self.history.append(row)
        if self.keeper:
            self.keeper.save(index, masks=masks, initial=weights, history=self.epochs, metrics=row,
                             next_masks=self.decided)  # fmt: skip
        self.table.add(row)

    def _rewind_point(self, finished):
        if self.plan.reset != "rewind":
            return None
        if not self.keeper:
            return RewindPoint(self.plan.rewind_to)
        continues = not finished and self.keeper.has_backup(0)
        return RewindPoint(self.plan.rewind_to, self.keeper.keep_rewind_point, continues=continues)

    def _rewound(self):
        stored = self.keeper.stored_step(self.plan.rewind_to) if self.keeper else None
        return self.point.kept() if stored is None else stored
