"""Iterative magnitude pruning, the one loop: reset, let the caller train, prune, save.

    for round in PruningRounds(plan, network, store):
        round.finish(train(round))

The command trains each round with its engine (imp.py), `lottery_tf.rounds` with the user's `fit`.
NumPy only: nothing here knows what trains.
"""

import dataclasses
import functools
import math
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from lottery_tf import pruning
from lottery_tf.errors import InputError
from lottery_tf.loop.store import RoundStore
from lottery_tf.plots import Row
from lottery_tf.pruning import Masks, Weights, collapse, streams
from lottery_tf.pruning.allocation import SparsityTarget
from lottery_tf.pruning.criteria import Criterion
from lottery_tf.pruning.policy import IN_TRAINING
from lottery_tf.pruning.resets import RESETS, RewindContext
from lottery_tf.runs.rundir import RunDir

NOT_PRUNED = pruning.Threshold(math.nan, math.nan)
ScoringInputs = dict[str, Callable[[Masks], Weights]]  # {what a criterion names: of the masks}


@dataclasses.dataclass(frozen=True)
class Plan:
    """The rounds, and how each of them starts and is pruned.

    Args:
        rounds: number of rounds, the dense round 0 included.
        reset: key of RESETS: what a round after round 0 starts from.
        target: function of a round: the SparsityTarget of the pruning between it and the next one;
            None where nothing is pruned there.
        criterion, iterations: as `pruning.prune` takes them.
        seed: of random scores and shuffled weights.
        prune_at: "round", after a round has trained; "init", before the next one trains, from the
            dense weights that it would start from; "train", gradually while the next one trains;
            "dynamic", as "init", and its masks change while it trains; "never", with the masks of
            another run.
        masks_from: a run whose masks are used in place of pruning.
        shuffle_masks: how the masks of `masks_from` are moved, as `shuffle_masks`.
        may_grow: whether further rounds may follow the last one, so that its row says when nothing
            is left to prune.
        rewind_step, schedule_steps: of the learning rate's schedule, from 0: where a rewound round
            starts, and where the schedule ends.
    """

    rounds: int
    reset: str
    target: Callable[[int], SparsityTarget | None]
    criterion: Criterion = "magnitude"
    iterations: int | None = None
    seed: int = 0
    prune_at: str = "round"
    masks_from: str = ""
    shuffle_masks: str = "none"
    rewind_step: int = 0
    schedule_steps: int = 0
    may_grow: bool = True


class Network(Protocol):
    """What the loop asks of the network that is trained."""

    def initialization(self, round: int) -> Weights:
        """Return the fresh weights of a round; of round 0, W_0."""

    def masks(self) -> Masks:
        """Return the masks that round 0 trains under."""

    def prunable(self, masks: Masks) -> Masks:
        """Return the masks of the kernels that compete in a pruning, without frozen ones."""

    def rewind_point(self) -> Weights:
        """Return all variables of round 0 after `Plan.rewind_step` steps."""

    def scoring_inputs(self, start: Callable[[], Weights], trained: Weights) -> ScoringInputs:
        """Return {scoring input: function of the masks}, which criteria name; not "uniform"."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """What the training of a round came to.

    Args:
        weights: {variable path: array} at its end.
        history: a row per epoch.
        metrics: the row of the round. The loop fills in what pruning says; a column that is here
            keeps its place.
        masks: {kernel path: bool array} at its end, where it was pruned while it trained.
        collapses: how the network's predictions have collapsed, as pruning.collapse says it.
        squared_gradients: {kernel path: array}, if later rounds need them.
        tables: {file name: rows} of further CSV files of the round.
        began: when the round began, by time.perf_counter, for the column "seconds"; by default
            the caller has measured that.
    """

    weights: Weights
    history: list[Row]
    metrics: Row
    masks: Masks | None = None
    collapses: list[str] = dataclasses.field(default_factory=list)
    squared_gradients: Weights | None = None
    tables: dict[str, list[Row]] = dataclasses.field(default_factory=dict)
    began: float | None = None


@dataclasses.dataclass
class PruningRound:
    """One round: what its caller trains, and after `finish` what came of it.

    Args:
        number: from 0.
        start: {variable path: array}, zero where masked.
        masks: {kernel path: bool array} that it trains under.
        first_step: of the schedule.
        gradual: the density that it is pruned to, or keeps, while its masks change; None without.
        loop: that it is a round of.

    Attributes:
        trained: a function that returns the {variable path: array} it ended with, after `finish`.
        next_masks: that the next round begins with, after `finish`.
        exhausted: whether the pruning after it removed nothing, so that no round can follow.
    """

    number: int
    start: Weights
    masks: Masks
    first_step: int
    gradual: float | None
    loop: "PruningRounds" = dataclasses.field(repr=False)
    trained: Callable[[], Weights] = dict
    next_masks: Masks = dataclasses.field(default_factory=dict)
    exhausted: bool = False

    def finish(self, trained: Trained) -> Row:
        """Prune what the round trained, save the round, and return its row of metrics."""
        masks = trained.masks or self.masks
        self.masks, self.trained = masks, lambda: trained.weights
        next_masks, threshold = self.loop.prune(
            self.number, masks, lambda: self.start, trained.weights
        )
        self.next_masks = masks if next_masks is None else next_masks
        self.exhausted = self.loop.is_exhausted(self.number, masks, next_masks)
        collapses = collapse.of_masks(masks) + trained.collapses
        is_last = self.number == self.loop.plan.rounds - 1
        if self.exhausted and (self.loop.plan.may_grow or not is_last):
            collapses.append(collapse.NOT_PRUNABLE)
        competing = self.loop.network.prunable(masks)
        row = trained.metrics | {
            "threshold": threshold.removed,
            "smallest_kept": threshold.kept,
            "density": pruning.density(competing),
            "remaining": pruning.remaining(competing),
            "collapse": collapse.SEPARATOR.join(collapses) or math.nan,
        }
        if trained.began is not None:
            row["seconds"] = time.perf_counter() - trained.began
        if self.loop.store:
            self.loop.store.save_round(
                self.number,
                masks=masks,
                initial=self.start,
                final=trained.weights,
                history=trained.history,
                metrics=row,
                next_masks=next_masks,
                squared_gradients=trained.squared_gradients,
                tables=trained.tables,
            )
        return row


class PruningRounds:
    """The rounds of a Plan that are not finished, one after the other.

    Args:
        plan: Plan.
        network: Network.
        store: RoundStore, open; None to keep the rounds nowhere.
        report: called with a line where the rounds end early.

    Attributes:
        before: the last finished PruningRound, with the masks that it left; None before round 0,
            and while a round trains.

    Raises:
        InputError: while it runs, masks_from has no such round or other kernels, a finished round
            is damaged, or a score is not finite.
    """

    def __init__(
        self, plan: Plan, network: Network, store: RoundStore | None, report: Callable[[str], None]
    ):
        self.plan, self.network, self.store, self.report = plan, network, store, report
        self.finished = store.finished_rounds() if store else 0
        self.before = self._last_finished()

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left to prune, so that no round can follow."""
        return self.before is not None and self.before.exhausted

    def __iter__(self) -> Iterator[PruningRound]:
        """Reset, train, prune, save: from the first round that is not finished to the last.

        Frankle & Carbin 2019, section 1; Frankle et al. 2019, Algorithm 1.
        """
        for number in range(self.finished, self.plan.rounds):
            if self.before and self.exhausted:
                return self.report(self._ending(self.before))
            round, self.before = self._reset(number, self.before), None
            yield round
            self.before = round

    def _reset(self, number: int, before: PruningRound | None) -> PruningRound:
        """Return a round with its masks and the weights that it starts from."""
        plan, network, gradual = self.plan, self.network, None
        masks = before.next_masks if before else network.masks()
        if number and plan.masks_from:
            masks = self._masks_of_other_run(number)
        elif number and plan.prune_at != "round":
            masks = network.masks()
        context = RewindContext(
            network.initialization,
            trained=before.trained if before else dict,
            rewind_point=network.rewind_point,
            rewind_step=plan.rewind_step,
            schedule_steps=plan.schedule_steps,
            generator=functools.partial(streams.shuffled_weights, plan.seed, number),
            frozen=masks.keys() - network.prunable(masks).keys(),
        )
        start, first_step = RESETS[plan.reset if number else "init"](context, masks, number)
        if number and plan.prune_at in ("init", "dynamic"):
            masks = self._masks_before_training(number, masks, start)
            start = pruning.apply_masks(start, masks)
        if number and plan.prune_at in IN_TRAINING:
            target = plan.target(number - 1)
            gradual = target.density if target else None
        return PruningRound(number, start, masks, first_step, gradual, self)

    def prune(
        self, number: int, masks: Masks, start: Callable[[], Weights], trained: Weights
    ) -> tuple[Masks | None, pruning.Threshold]:
        """Return the masks that the pruning after a round leaves, and its threshold.

        Args:
            number: of the round.
            masks: {kernel path: bool array} that it ended with.
            start: a function that returns the weights it started from.
            trained: {variable path: array} that it ended with.

        Returns:
            (masks, Threshold); (None, NaN) where nothing is pruned after this round.
        """
        target = self.plan.target(number)
        if target is None or self.plan.prune_at != "round":
            return None, NOT_PRUNED
        return self._prune(target, number, masks, start, trained)

    def _prune(
        self,
        target: SparsityTarget,
        number: int,
        masks: Masks,
        start: Callable[[], Weights],
        trained: Weights,
    ) -> tuple[Masks, pruning.Threshold]:
        old = self.store is not None and self.store.old_draws
        draw = streams.old_uniform if old else streams.uniform
        pruned, threshold = pruning.prune(
            trained,
            self.network.prunable(masks),
            target,
            criterion=self.plan.criterion,
            iterations=self.plan.iterations,
            uniform=functools.partial(draw, self.plan.seed, number),
            **self.network.scoring_inputs(start, trained),
        )
        return masks | pruned, threshold

    def _last_finished(self) -> PruningRound | None:
        """Return the last finished round with the masks that it left; None before round 0.

        Those masks were saved when they were decided. Only for a round of an older version, which
        did not save them, are they decided again.
        """
        store, number = self.store, self.finished - 1
        if store is None or number < 0:
            return None
        masks, trained = store.masks(number), functools.partial(store.final, number)
        next_masks = store.next_masks(number)
        if next_masks is None:
            start = functools.partial(store.initial, number)
            next_masks, _ = self.prune(number, masks, start, trained())
        round = PruningRound(number, {}, masks, 0, None, self, trained)
        round.next_masks = masks if next_masks is None else next_masks
        round.exhausted = self.is_exhausted(number, masks, next_masks)
        return round

    def is_exhausted(self, number: int, masks: Masks, pruned: Masks | None) -> bool:
        """Return whether a pruning by a fraction removed nothing, as it would after all rounds."""
        target = self.plan.target(number)
        if pruned is None or target is None or target.fraction is None:
            return False
        return bool(
            collapse.of_pruning(self.network.prunable(masks), self.network.prunable(pruned))
        )

    def _ending(self, last: PruningRound) -> str:
        target = self.plan.target(last.number)
        fraction = target.fraction if target else None
        left = pruning.remaining(self.network.prunable(last.next_masks))
        return (
            f"The rounds end after round {last.number}: a prune fraction of {fraction} removes "
            f"nothing more of {left} weights."
        )

    def _masks_before_training(self, number: int, masks: Masks, start: Weights) -> Masks:
        """Decide the masks of a round before it trains, once: a resumed round gets the same."""
        decided = self.store.decided_masks(number, masks) if self.store else None
        if decided is None:
            target = self.plan.target(number - 1)
            assert target, "prune_at=init and dynamic have a target for each round"
            decided, _ = self._prune(target, number, masks, lambda: start, start)
            if self.store:
                self.store.save_decided_masks(number, decided)
        return decided

    def _masks_of_other_run(self, number: int) -> Masks:
        """Return the masks of the same round of Plan.masks_from, moved as shuffle_masks says."""
        other = RunDir(pathlib.Path(self.plan.masks_from))
        if number >= other.finished_rounds():
            raise InputError(
                f"--masks_from={other.path}: round {number} is not finished there. Wait for it, "
                "and launch again; the rounds before are kept."
            )
        masks, dense = other.masks(number), self.network.masks()
        shapes, expected = ({p: a.shape for p, a in m.items()} for m in (masks, dense))
        if shapes != expected:
            raise InputError(
                f"--masks_from={other.path}: expected the kernels of this network, {expected}. "
                f"Received: {shapes}"
            )
        shuffled = shuffle_masks(masks, self.plan.shuffle_masks, self.plan.seed)
        return {path: shuffled[path] for path in dense}


def shuffle_masks(masks: Masks, where: str, init_seed: int) -> Masks:
    """Return masks with as many weights, at random places.

    The places are permuted alike in every round, so that masks that lie in one another still do.

    Args:
        masks: {kernel path: bool array}.
        where: "layer", inside each; "global", over all; "none".
        init_seed: names the permutation.
    """
    generator = streams.shuffled_masks(init_seed)
    if where == "none":
        return masks
    if where == "layer":
        return {
            path: generator.permutation(mask.ravel()).reshape(mask.shape)
            for path, mask in masks.items()
        }
    flat = generator.permutation(np.concatenate([mask.ravel() for mask in masks.values()]))
    ends = np.cumsum([mask.size for mask in masks.values()])
    parts = np.split(flat, ends[:-1])
    return {p: part.reshape(masks[p].shape) for p, part in zip(masks, parts, strict=True)}
