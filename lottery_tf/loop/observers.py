"""What shows a training while it runs: nothing, a progress bar, or the rounds of a run."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator

from lottery_tf.plots import Row
from lottery_tf.plots.summaries import Summaries
from lottery_tf.pruning import Masks, Weights, collapse
from lottery_tf.runs.checkpoints import Progress
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import console

TENSORBOARD, TERMINAL = "TensorBoard's files", "the terminal"


class NullObserver:
    """Shows nothing, as on the workers that are not the chief."""

    def begin(self, round: int, steps: range, progress: Progress | None) -> None:
        """Start to show a training over some steps, which resumes where there is a Progress."""

    def show(self, progress: Progress) -> None:
        """Show how far the training is."""

    def add_epoch(self, row: Row) -> None:
        """Show a finished epoch."""

    def end(self) -> None:
        """Stop showing the training, which is finished or was stopped."""

    def report(self, line: str) -> None:
        """Show a line of text."""


class BarObserver(NullObserver):
    """Shows a training that is not a round, as a progress bar.

    Args:
        what: its name.
    """

    def __init__(self, what: str):
        self.what = what

    def begin(self, round: int, steps: range, progress: Progress | None) -> None:
        self.bar, self.first = console.progress(len(steps), self.what), steps.start
        if progress:
            self.show(progress)

    def show(self, progress: Progress) -> None:
        self.bar.update(progress.step - self.first - self.bar.n)

    def end(self) -> None:
        self.bar.close()

    def report(self, line: str) -> None:
        console.say(line)


class RoundObserver(NullObserver):
    """Shows the rounds of a run: in the terminal, in log.txt and on TensorBoard.

    Display failures never stop a run: a line says so, once.

    Args:
        run: an open RunDir; None to show the rounds in the terminal alone.
        rounds: number of rounds.
        epochs, steps_per_epoch: of a round, where the caller knows them.
        columns: of the rows in the terminal. The first row decides which of them are shown.
        say: prints a line that is not a row.
        quiet: whether to print no row.
    """

    def __init__(
        self,
        run: RunDir | None,
        rounds: int,
        *,
        epochs: int = 0,
        steps_per_epoch: int = 1,
        columns: console.Columns = console.COLUMNS,
        say: Callable[[str], None] = console.say,
        quiet: bool = False,
    ):
        self.run, self.rounds, self.epochs = run, rounds, epochs
        self.steps_per_epoch, self.columns, self.say = steps_per_epoch, columns, say
        self.quiet, self._has_header = quiet, False
        self.failed: set[str] = set()  # what could not be shown
        self.bar: console.ProgressBar | None = None
        rows = run.metrics() if run else []
        self.told = {name for row in rows for name in collapse.parse(row.get("collapse"))}
        self.summaries = Summaries(run.path) if run else None
        if run and self.summaries:
            with self._never_failing(TENSORBOARD):
                for round in self.summaries.missing(len(rows)):
                    self.summaries.finish_round(rows[round], run.final(round), run.masks(round))

    @contextlib.contextmanager
    def _never_failing(self, what: str) -> Iterator[None]:
        """Turn whatever is raised inside into a line, the first time."""
        try:
            yield
        except Exception as error:  # MemoryError too
            if what in self.failed:
                return
            self.failed.add(what)
            reason = " ".join(str(error).split()) or type(error).__name__
            self.report(f"Cannot write to {what}: {reason}. The training goes on without it.")

    def report(self, line: str) -> None:
        if self.run:
            self.run.log(line)
        with contextlib.suppress(Exception):  # the log has it
            self.say(line)

    def begin(self, round: int, steps: range, progress: Progress | None) -> None:
        self.began = time.perf_counter()
        with self._never_failing(TERMINAL):
            self.bar = console.ProgressBar(round, self.rounds, steps)
        self.start_curves(round, round * self.epochs)
        if progress:
            self.began -= sum(row["seconds"] for row in progress.history) + progress.seconds
            if self.run:
                self.run.log(f"round {round} continues at step {progress.step}")
            for row in progress.history:
                self.add_epoch(row)

    def start_curves(self, round: int, epochs_before: int) -> None:
        """Begin the curves of a round on TensorBoard, behind those of earlier epochs."""
        if self.summaries:
            with self._never_failing(TENSORBOARD):
                self.summaries.start_round(round, epochs_before)

    def show(self, progress: Progress) -> None:
        with self._never_failing(TERMINAL):
            if self.bar:
                self.bar.update(progress, self.steps_per_epoch)

    def add_epoch(self, row: Row) -> None:
        if self.summaries:
            with self._never_failing(TENSORBOARD):
                self.summaries.add_epoch(row)

    def end(self) -> None:
        with self._never_failing(TERMINAL):
            if self.bar:
                self.bar.close()

    def print_row(self, row: Row) -> None:
        """Print the row of a round, below the titles of the columns that the first one has."""
        if self.quiet:
            return
        with self._never_failing(TERMINAL):
            if not self._has_header:
                known = {n: c for n, c in self.columns.items() if not math.isnan(row[n])}
                self.columns, self._has_header = known, True
                console.print_header(known)
            console.print_row(row, self.columns)

    def print_header(self) -> None:
        """Print the titles of all columns before the first row is there."""
        self._has_header = True
        console.print_header(self.columns)

    def finish_round(self, row: Row, final: Weights, masks: Masks) -> None:
        """Show a round that was saved, and a line where a collapse begins."""
        self.print_row(row)
        collapses = collapse.parse(row["collapse"])
        if begun := [name for name in collapses if name not in self.told]:
            self.report(f"Round {row['round']} collapsed: {collapse.SEPARATOR.join(begun)}.")
        self.told |= set(begun)
        if self.summaries:
            with self._never_failing(TENSORBOARD):
                self.summaries.finish_round(row, final, masks)
