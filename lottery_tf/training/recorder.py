"""What the chief of a run shows and saves of it."""

import time
from typing import Any

from lottery_tf.config import Config
from lottery_tf.method import Weights, pruning
from lottery_tf.output import Row
from lottery_tf.output.summaries import Summaries
from lottery_tf.repulsion.optima import compare_with_optima
from lottery_tf.store import checkpoints
from lottery_tf.store.checkpoints import Progress
from lottery_tf.store.rundir import RunDir
from lottery_tf.terminal import console
from lottery_tf.training.training import Training

REPULSION = ("repel_loss", "cosine_nearest", "cosine_mean")
LAST_EPOCH = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", *REPULSION)


class Silent:
    """What the other workers show and save: nothing."""

    def begin(self, progress: Progress | None) -> None:
        """A round begins, or goes on at a Progress."""

    def show(self, progress: Progress) -> None:
        """A piece of the round is done."""

    def add_epoch(self, row: Row) -> None:
        """An epoch of the round is done."""

    def end(self) -> None:
        """The round is trained, or was stopped."""

    def report(self, line: str) -> None:
        """Something is worth a line."""


class Recorder(Silent):
    """The console, TensorBoard, and the rounds of an open run directory.

    Args:
        run: an open RunDir.
        config: Config.
        engine: Engine.
    """

    def __init__(self, run: RunDir, config: Config, engine: Any):
        self.run, self.config, self.engine = run, config, engine
        self.summaries = Summaries(run.path)
        self.round = run.finished_rounds()

    def report(self, line: str) -> None:
        """Tells the user, and log.txt."""
        self.run.log(line)
        console.say(line)

    def begin(self, progress: Progress | None) -> None:
        """Shows a round from its begin, or from a Progress."""
        self.began = time.perf_counter()
        self.bar = console.ProgressBar(self.round, self.config.rounds, self.engine.steps)
        self.summaries.start_round(self.round, self.config.epochs)
        if progress:
            self.began -= sum(row["seconds"] for row in progress.history) + progress.seconds
            self.run.log(f"round {self.round} continues at step {progress.step}")
            for row in progress.history:
                self.add_epoch(row)

    def show(self, progress: Progress) -> None:
        """Moves the progress bar."""
        self.bar.update(progress, self.engine.steps_per_epoch)

    def add_epoch(self, row: Row) -> None:
        """Adds a row of the history to TensorBoard's curves."""
        self.summaries.add_epoch(row)

    def end(self) -> None:
        """Removes the progress bar."""
        self.bar.close()

    def save(self, training: Training, final: Weights, history: list[Row],
             threshold: pruning.Threshold, squared_gradients: Weights | None) -> None:  # fmt: skip
        """Saves a round and prints its row.

        Args:
            training: Training.
            final, history: as Engine.train gives them.
            threshold: pruning.Threshold of the pruning after the round.
            squared_gradients: {kernel path: array}, or None.
        """
        masks, optima = training.masks, training.optima
        metrics = {
            "round": self.round,
            "density": pruning.density(masks),
            "threshold": threshold.removed,
            **{name: history[-1][name] for name in LAST_EPOCH if name in history[-1]},
            "seconds": time.perf_counter() - self.began,
            "train_seconds": sum(row["train_seconds"] for row in history),
            "compile_seconds": self.engine.compile_seconds,
            "smallest_kept": threshold.kept,
            "remaining": pruning.remaining(masks),
        }
        self.summaries.finish_round(metrics, final, masks)
        self.run.save_round(
            self.round,
            masks=masks,
            initial=training.weights,
            final=final,
            history=history,
            metrics=metrics,
            squared_gradients=squared_gradients,
            tables={"repulsion.csv": compare_with_optima(final, optima)} if optima else {},
        )
        checkpoints.forget(self.run.path)
        self.round += 1
        console.print_row(metrics)
