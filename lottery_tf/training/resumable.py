"""Train, or go on where it stopped: rounds and the tools' copies alike."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.method import Weights
from lottery_tf.output import Row
from lottery_tf.store import checkpoints
from lottery_tf.store.checkpoints import Checkpoint
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
        observer: what shows the training: begin(Progress or None), show(Progress), add_epoch(row
            of the history), report(line), end().
        stop_signal: a function that gives the number of the signal that has come, or 0.

    Raises:
        InputError: as Engine.train.
        Interrupted: a worker received a signal; a checkpoint is saved.
    """
    cluster, round = engine.cluster, training.noise.round
    saved = time.perf_counter()

    def newest():
        checkpoint = checkpoints.newest(path, round, observer.report)
        return checkpoint.pack() if checkpoint else {}

    def is_due(progress):
        minutes = engine.config.checkpoint_minutes
        old = 0 < minutes <= (time.perf_counter() - saved) / 60
        # At the end of a training there is no need of one.
        return cluster.is_chief and old and progress.step < (training.last or engine.steps)

    def on_piece(progress):
        nonlocal saved
        stop = stop_signal()
        due = is_due(progress)
        observer.show(progress)
        # All workers must save and stop at one step.
        votes = cluster.sum(np.array([due, *(stop == number for number in STOPS)], np.int32))
        if votes.any():
            checkpoint = Checkpoint(progress, engine.state())
            if cluster.is_chief:
                save(path, round, checkpoint, observer.report)
            saved = time.perf_counter()
        if votes[1:].any():
            raise Interrupted(STOPS[votes[1:].argmax()])

    checkpoint = Checkpoint.unpack(cluster.broadcast(newest))
    observer.begin(checkpoint.progress if checkpoint else None)
    if checkpoint:
        training = dataclasses.replace(training, start=checkpoint)
    try:
        return engine.train(training, on_piece=on_piece, on_epoch=observer.add_epoch)
    finally:
        observer.end()


def save(path: Path, round: int, checkpoint: Checkpoint, report: Callable[[str], None]) -> None:
    """Saves a checkpoint, or reports why it cannot be."""
    try:
        checkpoints.save(path, round, checkpoint)
    except InputError as error:
        report(f"No checkpoint at step {checkpoint.progress.step}: {error}")
