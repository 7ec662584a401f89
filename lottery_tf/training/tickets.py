"""Where the masks and the start of a round come from; the chief of a run alone decides."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from lottery_tf import pruning
from lottery_tf.config import Config
from lottery_tf.errors import InputError
from lottery_tf.pruning import Masks, Weights, collapse, streams
from lottery_tf.pruning.allocation import allocate
from lottery_tf.pruning.resets import RESETS, Sources
from lottery_tf.repulsion.optima import optima_of
from lottery_tf.runs import decided_masks, rewind_points
from lottery_tf.runs.rundir import RunDir
from lottery_tf.training.evidence import Evidence
from lottery_tf.training.gradual import Gradual
from lottery_tf.training.training import Training

Initialization = Callable[[int], Weights]  # of a round


class Tickets:
    """Resets and prunes the rounds of a run.

    Args:
        config: Config.
        run: an open RunDir.
        engine: Engine.
        initialization: of a round, its fresh weights.

    Raises:
        InputError: a flag names a layer that the network does not have, or a density cannot be
            reached.
    """

    def __init__(self, config: Config, run: RunDir, engine: Any, initialization: Initialization):
        self.config, self.run, self.engine = config, run, engine
        self.initialization = initialization
        self.evidence = Evidence(engine)
        for density in config.targets or (None,):
            # What is impossible is said now.
            allocate(config.amount(density), engine.dense_masks())
            if config.prunes_at == "train":
                self._check_gradual(density)

    def _check_gradual(self, density):
        """Raises InputError if a rewound round would start behind its last pruning."""
        steps = Gradual(self.config, density, self.engine.steps_per_epoch).densities
        if self.config.reset == "rewind" and self.engine.rewind_step > max(steps):
            raise InputError(
                f"--rewind_to={self.config.rewind_to}: expected at most the step of the last "
                f"gradual pruning, {max(steps)} (--prune_end), or nothing would be pruned. "
                f"Received: {self.engine.rewind_step}"
            )

    def reset(self, masks: Masks, noise: streams.Noise) -> Training:
        """The Training of a round: its start under its masks, its steps, and its optima.

        Round 0 starts from W_0, the initialization of round 0, whatever the reset.

        Args:
            masks: what `prune` left after the round before; of round 0, dense ones.
            noise: of the round.

        Raises:
            InputError: --masks_from has no such round or another network, or the rewind point is
                damaged.
        """
        config, round = self.config, noise.round
        if not round:
            start, first = RESETS["init"](self._sources(0), masks, 0)
            return Training(start, masks, noise, optima_of(config, self.run, 0, masks), first)
        if config.masks_from:
            masks = self._masks_from(round)
        elif config.prunes_at != "round":
            masks = self.engine.dense_masks()
        start, first = RESETS[config.reset](self._sources(round), masks, round)
        density = config.targets[round - 1] if config.prunes_at == "train" else None
        if config.prunes_at == "init":
            masks = self._before_training(masks, start, round)
            start = pruning.apply_masks(start, masks)
        optima = optima_of(config, self.run, round, masks)
        return Training(start, masks, noise, optima, first, self._last(round, first), density)

    def prune(self, training: Training, trained: Weights) -> tuple[Masks, pruning.Threshold]:
        """(masks after a round, Threshold); nothing is pruned where masks come from elsewhere."""
        return self.prune_after(
            training.noise.round, training.masks, lambda: training.weights, trained
        )

    def before(self, finished: int) -> tuple[Masks, bool]:
        """(masks that the next round begins with, whether nothing was left to prune).

        Args:
            finished: number of finished rounds.
        """
        if not finished:
            return self.engine.dense_masks(), False
        run, round = self.run, finished - 1
        masks = run.next_masks(round)
        if masks is None:  # nothing was pruned, or an older version did not save it
            start = functools.partial(run.initial, round)
            masks, _ = self.prune_after(round, run.masks(round), start, run.final(round))
        return masks, self.is_exhausted(run.masks(round), masks)

    def prune_after(self, round: int, masks: Masks, start: Callable[[], Weights],
                    trained: Weights) -> tuple[Masks, pruning.Threshold]:  # fmt: skip
        """As `prune`, of a finished round: its masks, its start and its end."""
        if not self.config.prunes_after(round):
            return masks, pruning.Threshold(np.nan, np.nan)
        return self._prune(masks, start, trained, round, self.config.density_after(round))

    def _before_training(self, masks, start, round):
        """The masks that --prune_at=init decides, once: a resumed round gets the same."""
        found = decided_masks.read(self.run.path, round, masks)
        if found is None:
            found, _ = self._prune(masks, lambda: start, start, round,
                                   self.config.targets[round - 1])  # fmt: skip
            decided_masks.save(self.run.path, round, found)
        return found

    def is_exhausted(self, masks: Masks, pruned: Masks) -> bool:
        """Whether --prune_fraction removed nothing of masks, as it would after further rounds."""
        config = self.config
        by_fraction = config.prunes_at == "round" and not config.targets
        return bool(by_fraction and collapse.of_pruning(masks, pruned))

    def _prune(self, masks, start, trained, round, density):
        evidence = self.evidence.of(start, trained, round)
        return pruning.prune(
            trained,
            masks,
            self.config.amount(density),
            criterion=self.config.criterion,
            iterations=self.config.prune_iterations,
            **evidence,
        )

    def _sources(self, round):
        config, engine, run = self.config, self.engine, self.run

        def rewind_point():
            stored = rewind_points.read(run.path, engine.rewind_step)
            return self.initialization(0) if not engine.rewind_step else stored

        return Sources(
            self.initialization,
            trained=lambda: run.final(round - 1),
            rewind_point=rewind_point,
            rewind_step=engine.rewind_step,
            last_step=engine.steps,
            generator=functools.partial(streams.shuffled_weights, config.init_seed, round),
        )

    def _last(self, round, first):
        """The step that a round ends at; None: that of the schedule.

        A short round that starts inside an epoch ends with one, too: there it is evaluated.
        """
        config, engine = self.config, self.engine
        if config.early_stop == "connected" and round > 1:
            barrier = self.run.metrics()[round - 1]["barrier"]
            epochs = -(-first // engine.steps_per_epoch) + config.short_epochs
            short = epochs * engine.steps_per_epoch
            if barrier < config.connected_error and short < engine.steps:
                self.run.log(f"round {round} is short: rounds {round - 2} and {round - 1} are "
                             f"connected, with a barrier of {barrier:.2%}")  # fmt: skip
                return short
        if first >= engine.steps:
            return first + (config.finetune_epochs or config.epochs) * engine.steps_per_epoch
        return None

    def _masks_from(self, round):
        """The masks of the same round of --masks_from, moved where --shuffle_masks says so."""
        other = RunDir(self.config.masks_from)
        if round >= other.finished_rounds():
            raise InputError(
                f"--masks_from={other.path}: round {round} is not finished there. Wait for it, and "
                "launch again; the rounds before are kept."
            )
        masks, dense = other.masks(round), self.engine.dense_masks()
        shapes, expected = ({p: a.shape for p, a in m.items()} for m in (masks, dense))
        if shapes != expected:
            raise InputError(
                f"--masks_from={other.path}: expected the kernels of this network, {expected}. "
                f"Received: {shapes}"
            )
        shuffled = shuffle_masks(masks, self.config.shuffle_masks, self.config.init_seed)
        return {path: shuffled[path] for path in dense}


def shuffle_masks(masks: Masks, where: str, init_seed: int) -> Masks:
    """Masks with as many weights, at random places.

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
