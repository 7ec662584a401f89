"""Train, or go on where it stopped: rounds and the tools' copies alike."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.plots import Row
from lottery_tf.pruning import Weights
from lottery_tf.runs import checkpoints
from lottery_tf.runs.checkpoints import Checkpoint
from lottery_tf.terminal.signals import STOPS, Interrupted
from lottery_tf.training.recorder import Silent
from lottery_tf.training.training import Training


def train_or_continue(engine: Any, training: Training, path: Path, observer: Silent,
                      stop_signal: Callable[[], int]) -> tuple[Weights, list[Row]]:  # fmt: skip
    """(weights, history) of a Training, as Engine.train; from its newest checkpoint, if it has one.

    A checkpoint is saved every --checkpoint_minutes and when a signal comes; one that cannot be
    saved is reported, and the training goes on. The caller forgets them when it has saved the
    result. Every worker calls this; the chief alone reads and writes.

    Args:
        engine: Engine.
        training: Training.
        path: the directory of the run, or of the copy; checkpoints/ is in it.
        observer: what shows the training, as recorder.Silent.
        stop_signal: a function that gives the number of the signal that has come, or 0.

    Raises:
        InputError: as Engine.train.
        Interrupted: a worker received a signal; a checkpoint is saved.
    """

    def newest():
        checkpoint = checkpoints.newest(path, training.noise.round, observer.report)
        return checkpoint.pack() if checkpoint else {}

    checkpoint = Checkpoint.unpack(engine.cluster.broadcast(newest))
    last = engine.steps if training.last is None else training.last
    observer.begin(range(training.first, last), checkpoint.progress if checkpoint else None)
    watch = _Watch(engine, training, path, observer, stop_signal)
    if checkpoint:
        training = dataclasses.replace(training, start=checkpoint)
    try:
        return engine.train(training, on_piece=watch.on_piece, on_epoch=observer.add_epoch)
    finally:
        observer.end()


class _Watch:
    """What happens between two pieces of a training; arguments as in `train_or_continue`."""

    def __init__(self, engine, training, path, observer, stop_signal):
        self.engine, self.training, self.path = engine, training, path
        self.observer, self.stop_signal = observer, stop_signal
        self.saved = time.perf_counter()

    def on_piece(self, progress):
        """Shows the Progress; saves and stops where one worker wants to."""
        stop = self.stop_signal()
        wishes = [self._is_due(progress), *(stop == number for number in STOPS)]
        self.observer.show(progress)
        # All workers must save and stop at one step.
        votes = self.engine.cluster.sum(np.array(wishes, np.int32))
        if votes.any():
            self._save(Checkpoint(progress, self.engine.state()))
        if votes[1:].any():
            raise Interrupted(STOPS[votes[1:].argmax()])

    def _is_due(self, progress):
        minutes = self.engine.config.checkpoint_minutes
        old = 0 < minutes <= (time.perf_counter() - self.saved) / 60
        # At the end of a training there is no need of one.
        last = self.engine.steps if self.training.last is None else self.training.last
        unfinished = progress.step < last
        return self.engine.cluster.is_chief and old and unfinished

    def _save(self, checkpoint):
        self.saved = time.perf_counter()
        if not self.engine.cluster.is_chief:
            return
        try:
            checkpoints.save(self.path, self.training.noise.round, checkpoint)
        except InputError as error:
            self.observer.report(f"No checkpoint at step {checkpoint.progress.step}: {error}")
