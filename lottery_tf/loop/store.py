"""The run directory that keeps the rounds of `PruningRounds`. NumPy only."""

import pathlib
from typing import Any

from lottery_tf.pruning import Masks, Weights
from lottery_tf.runs import checkpoints, decided_masks, draws, rewind_points
from lottery_tf.runs.rundir import RunDir

BACKUPS = "backups"


class RoundStore:
    """The rounds of a run directory, which every tool reads.

    Args:
        run: RunDir. What writes needs it open.
    """

    def __init__(self, run: RunDir):
        self.run = run

    @property
    def old_draws(self) -> bool:
        """Return whether random scores come from the stream of older versions."""
        return draws.are_old(self.run.path)

    def finished_rounds(self) -> int:
        """Return the number of finished rounds; 0 where there is no directory."""
        return self.run.finished_rounds() if self.run.path.is_dir() else 0

    def masks(self, round: int) -> Masks:
        """Return {kernel path: bool array} that a finished round trained under."""
        return self.run.masks(round)

    def initial(self, round: int) -> Weights:
        """Return {variable path: array} that a finished round started from."""
        return self.run.initial(round)

    def final(self, round: int) -> Weights:
        """Return {variable path: array} that a finished round ended with."""
        return self.run.final(round)

    def next_masks(self, round: int) -> Masks | None:
        """Return the masks that the pruning after a finished round left, if they were saved."""
        return self.run.next_masks(round)

    def decided_masks(self, round: int, masks: Masks) -> Masks | None:
        """Return the masks that were decided for a round before it trained, if they were saved."""
        return decided_masks.read(self.run.path, round, masks)

    def save_decided_masks(self, round: int, masks: Masks) -> None:
        """Save the masks of a round that has not trained yet."""
        decided_masks.save(self.run.path, round, masks)

    def rewind_point(self, step: int) -> Weights | None:
        """Return the variables of round 0 after some steps; None if they were not kept."""
        return rewind_points.read(self.run.path, step)

    def save_rewind_point(self, step: int, weights: Weights) -> None:
        """Keep the variables of round 0 after some steps, in place of those of a lost attempt."""
        rewind_points.forget(self.run.path, step)
        rewind_points.save(self.run.path, step, weights)

    def begin(self) -> None:
        """Forget the rewind points of an attempt at round 0 that left no checkpoint."""
        resumes = any((self.run.path / "checkpoints").glob("round_00_*")) or self.has_backup(0)
        if not self.finished_rounds() and not resumes:
            rewind_points.forget(self.run.path)

    def save_round(
        self, round: int, *, masks: Masks, initial: Weights, final: Weights, **contents: Any
    ) -> None:
        """Save a finished round, as RunDir.save_round; forget what its training had kept."""
        self.run.save_round(round, masks=masks, initial=initial, final=final, **contents)
        checkpoints.forget(self.run.path)
        decided_masks.forget(self.run.path)

    def backups(self, round: int) -> pathlib.Path:
        """Return where the fits of a round keep their state while they train."""
        return self.run.path / BACKUPS / f"round_{round:02d}"

    def has_backup(self, round: int) -> bool:
        """Return whether a fit of a round was stopped, and can be resumed."""
        return any(self.backups(round).glob("*/epoch_*"))
