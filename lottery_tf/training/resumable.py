"""Train, or go on where it stopped: rounds and the tools' copies alike."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.loop.observers import NullObserver
from lottery_tf.plots import Row
from lottery_tf.pruning import Weights
from lottery_tf.runs import checkpoints
from lottery_tf.runs.checkpoints import Checkpoint, Progress
from lottery_tf.terminal.signals import STOPS, Interrupted
from lottery_tf.training.training import Training

if TYPE_CHECKING:
    from lottery_tf.training.engine import Engine


def train_or_continue(
    engine: "Engine",
    training: Training,
    path: Path,
    observer: NullObserver,
    stop_signal: Callable[[], int],
    *,
    at: Mapping[int, Callable[[Weights], None] | None] | None = None,
) -> tuple[Weights, list[Row]]:
    """Train, or resume from the newest checkpoint; return (weights, history), as Engine.train.

    A checkpoint is saved every --checkpoint_minutes and when a signal comes; one that cannot be
    saved is reported, and the training goes on. The caller forgets them when it has saved the
    result. Every worker calls this; the chief alone reads and writes.

    Args:
        engine: Engine.
        training: Training.
        path: the directory of the run, or of the retraining; checkpoints/ is in it.
        observer: shows the training.
        stop_signal: a function that returns the number of the signal that has come, or 0.
        at: {step: a function that the chief calls with the weights after so many steps, or None
            on other workers, which must know the step too}.

    Raises:
        InputError: as Engine.train.
        Interrupted: a worker received a signal; a checkpoint is saved.
    """

    def newest() -> dict:
        checkpoint = checkpoints.newest(path, training.noise.round, observer.report)
        return checkpoint.pack() if checkpoint else {}

    checkpoint = Checkpoint.unpack(engine.cluster.broadcast(newest))
    last = engine.steps if training.last is None else training.last
    progress = checkpoint.progress if checkpoint else None
    observer.begin(training.noise.round, range(training.first, last), progress)
    watch = _Watch(engine, training, path, observer, stop_signal, at or {})
    if checkpoint:
        training = dataclasses.replace(training, start=checkpoint)
    try:
        return engine.train(
            training, on_piece=watch.on_piece, on_epoch=observer.add_epoch, halts=tuple(at or ())
        )
    finally:
        observer.end()


class _Watch:
    """What happens between two pieces of a training; arguments as in `train_or_continue`."""

    def __init__(
        self,
        engine: "Engine",
        training: Training,
        path: Path,
        observer: NullObserver,
        stop_signal: Callable[[], int],
        at: Mapping[int, Callable[[Weights], None] | None],
    ):
        self.engine, self.training, self.path = engine, training, path
        self.observer, self.stop_signal, self.at = observer, stop_signal, at
        self.saved = time.perf_counter()

    def on_piece(self, progress: Progress) -> None:
        """Show the progress; save and stop where one worker wants to."""
        if function := self.at.get(progress.step):
            function(masking.get_weights(self.engine.network))
        stop = self.stop_signal()
        wishes = [self._is_due(progress), *(stop == number for number in STOPS)]
        self.observer.show(progress)
        # All workers must save and stop at one step.
        votes = self.engine.cluster.sum(np.array(wishes, np.int32))
        if votes.any():
            self._save(Checkpoint(progress, self.engine.state()))
        if votes[1:].any():
            raise Interrupted(STOPS[votes[1:].argmax()])

    def _is_due(self, progress: Progress) -> bool:
        minutes = self.engine.config.checkpoint_minutes
        old = 0 < minutes <= (time.perf_counter() - self.saved) / 60
        # At the end of a training there is no need of one.
        last = self.engine.steps if self.training.last is None else self.training.last
        unfinished = progress.step < last
        return self.engine.cluster.is_chief and old and unfinished

    def _save(self, checkpoint: Checkpoint) -> None:
        self.saved = time.perf_counter()
        if not self.engine.cluster.is_chief:
            return
        try:
            checkpoints.save(self.path, self.training.noise.round, checkpoint)
        except InputError as error:
            self.observer.report(f"No checkpoint at step {checkpoint.progress.step}: {error}")
