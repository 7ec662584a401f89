"""What the chief of a run shows and saves of it."""

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

from lottery_tf import masking, pruning
from lottery_tf.config import Config
from lottery_tf.errors import InputError
from lottery_tf.plots import Row
from lottery_tf.plots.summaries import Summaries
from lottery_tf.pruning import Masks, Weights, collapse
from lottery_tf.repulsion.optima import compare_with_optima
from lottery_tf.runs import checkpoints, decided_masks, rewind_points
from lottery_tf.runs.checkpoints import Progress
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import console
from lottery_tf.training.training import Training

REPULSION = ("repel_loss", "cosine_nearest", "cosine_mean")
LAST_EPOCH = (
    "train_loss", "train_accuracy", "test_loss", "test_accuracy", "test_largest_class", *REPULSION
)  # fmt: skip
TENSORBOARD, TERMINAL = "TensorBoard's files", "the terminal"  # what a round is shown in


class Silent:
    """What the other workers show and save: nothing."""

    def begin(self, steps: range, progress: Progress | None) -> None:
        """A training of some steps begins, or goes on at a Progress."""

    def show(self, progress: Progress) -> None:
        """A piece of the round is done."""

    def add_epoch(self, row: Row) -> None:
        """An epoch of the round is done."""

    def end(self) -> None:
        """The round is trained, or was stopped."""

    def report(self, line: str) -> None:
        """Something is worth a line."""


class Bar(Silent):
    """Shows a training that is no round as a progress bar.

    Args:
        what: its name.
    """

    def __init__(self, what: str):
        self.what = what

    def begin(self, steps: range, progress: Progress | None) -> None:
        """Opens the bar, at a Progress where there is one."""
        self.bar, self.first = console.progress(len(steps), self.what), steps.start
        if progress:
            self.show(progress)

    def show(self, progress: Progress) -> None:
        """Moves the bar."""
        self.bar.update(progress.step - self.first - self.bar.n)

    def end(self) -> None:
        """Removes the bar."""
        self.bar.close()

    def report(self, line: str) -> None:
        """Tells the user."""
        console.say(line)


class Recorder(Silent):
    """The rounds of an open run directory, and what shows them: console and TensorBoard.

    What only shows stops nothing and loses nothing: where it fails, a line says so, once.

    Args:
        run: an open RunDir.
        config: Config.
        engine: Engine.
    """

    def __init__(self, run: RunDir, config: Config, engine: Any):
        self.run, self.config, self.engine = run, config, engine
        self.summaries, self.bar = Summaries(run.path), None
        self.failed: set[str] = set()  # what could not be shown
        rows = run.metrics()
        self.round = len(rows)
        self.told = {name for row in rows for name in collapse.parse(row.get("collapse"))}
        with self._only_shows(TENSORBOARD):
            for round in self.summaries.missing(self.round):
                self.summaries.finish_round(rows[round], run.final(round), run.masks(round))

    @contextlib.contextmanager
    def _only_shows(self, what: str) -> Iterator[None]:
        """Whatever is raised inside becomes a line, the first time."""
        try:
            yield
        except Exception as error:  # MemoryError too
            if what in self.failed:
                return
            self.failed.add(what)
            reason = " ".join(str(error).split()) or type(error).__name__
            self.report(f"Cannot write to {what}: {reason}. The training goes on without it.")

    def report(self, line: str) -> None:
        """Tells the user, and log.txt."""
        self.run.log(line)
        with contextlib.suppress(Exception):  # the log has it
            console.say(line)

    def begin(self, steps: range, progress: Progress | None) -> None:
        """Shows a round from its begin, or from a Progress."""
        self.began = time.perf_counter()
        with self._only_shows(TERMINAL):
            self.bar = console.ProgressBar(self.round, self.config.rounds, steps)
        if not self.round and not progress:
            rewind_points.forget(self.run.path)  # of a round 0 that is trained again
        with self._only_shows(TENSORBOARD):
            self.summaries.start_round(self.round, self.round * self.config.epochs)
        if progress:
            self.began -= sum(row["seconds"] for row in progress.history) + progress.seconds
            self.run.log(f"round {self.round} continues at step {progress.step}")
            for row in progress.history:
                self.add_epoch(row)

    def show(self, progress: Progress) -> None:
        """Moves the progress bar; stores the rewind point when round 0 comes by."""
        with self._only_shows(TERMINAL):
            if self.bar:
                self.bar.update(progress, self.engine.steps_per_epoch)
        if not self.round and 0 < progress.step == self.engine.rewind_step:
            self._save_rewind_point(progress.step)

    def _save_rewind_point(self, step):
        try:
            weights = masking.get_weights(self.engine.network)
            rewind_points.save(self.run.path, step, weights)
        except InputError as error:  # it can be made again
            self.report(f"No rewind point at step {step}: {error}")

    def add_epoch(self, row: Row) -> None:
        """Adds a row of the history to TensorBoard's curves."""
        with self._only_shows(TENSORBOARD):
            self.summaries.add_epoch(row)

    def end(self) -> None:
        """Removes the progress bar."""
        with self._only_shows(TERMINAL):
            if self.bar:
                self.bar.close()

    def save(self, training: Training, final: Weights, history: list[Row],
             threshold: pruning.Threshold, squared_gradients: Weights | None,
             measures: Row, *, next_masks: Masks | None, exhausted: bool) -> None:  # fmt: skip
        """Saves a round, then shows it: its row, TensorBoard, and a line where a collapse begins.

        Args:
            training: Training.
            final, history: as Engine.train gives them.
            threshold: pruning.Threshold of the pruning after the round.
            squared_gradients: {kernel path: array}, or None.
            measures: further columns of the metrics.
            next_masks: {kernel path: bool array} that this pruning left; None if there was none.
            exhausted: whether that pruning removed nothing.
        """
        masks, optima = training.masks, training.optima
        collapses = self._collapses(masks, history[-1]) + [collapse.NOT_PRUNABLE] * exhausted
        metrics = self._metrics(masks, history, threshold) | measures
        metrics["collapse"] = collapse.SEPARATOR.join(collapses) or math.nan
        self.run.save_round(
            self.round,
            masks=masks,
            initial=training.weights,
            final=final,
            history=history,
            metrics=metrics,
            squared_gradients=squared_gradients,
            next_masks=next_masks,
            tables={"repulsion.csv": compare_with_optima(final, optima)} if optima else {},
        )
        checkpoints.forget(self.run.path)
        decided_masks.forget(self.run.path)
        self.round += 1
        self._show(metrics, final, masks, collapses)

    def _show(self, metrics, final, masks, collapses):
        """Shows a saved round."""
        with self._only_shows(TERMINAL):
            console.print_row(metrics)
        if begun := [name for name in collapses if name not in self.told]:
            self.report(f"Round {metrics['round']} collapsed: {collapse.SEPARATOR.join(begun)}.")
        self.told |= set(begun)
        with self._only_shows(TENSORBOARD):
            self.summaries.finish_round(metrics, final, masks)

    def _metrics(self, masks, history, threshold):
        return {
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

    def _collapses(self, masks, row):
        directory, largest_class = self.engine.directory, row.get("test_largest_class", math.nan)
        classes, examples = directory.classes, directory.splits["test"].examples
        of_answers = collapse.of_answers(row["test_accuracy"], largest_class, classes, examples)
        return collapse.of_masks(masks) + of_answers
