"""Shows a run in the terminal: a progress bar per round, and a row after it.

Functions import tqdm themselves: it takes as long as half of this package, and `--help` and tools
on files show no bar.
"""

import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tqdm import tqdm

Columns = dict[str, tuple[str, int, str]]  # {column of metrics.csv: (title, width, format)}
COLUMNS: Columns = {
    "round": ("round", 5, "{:d}"),
    "density": ("density", 9, "{:.2%}"),
    "train_accuracy": ("train acc", 10, "{:.2%}"),
    "test_accuracy": ("test acc", 9, "{:.2%}"),
    "threshold": ("threshold", 10, "{:.5f}"),
    "seconds": ("seconds", 8, "{:.1f}"),
}
OF_BARS: dict[str, Any] = {"leave": False, "dynamic_ncols": True, "disable": None}  # not in a log


def progress(items: int | Iterable[Any], what: str) -> "tqdm":
    """Return a progress bar over items, or over a number of steps; none in a log file."""
    from tqdm import tqdm

    steps: dict[str, Any] = {"total" if isinstance(items, int) else "iterable": items}
    return tqdm(**steps, desc=what, **OF_BARS)


def say(line: str) -> None:
    """Tell the user a line, beside the progress bar."""
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)


class Stages:
    """Tells the user what a command does, and how many seconds each stage took once it ends."""

    def __init__(self) -> None:
        self._began: float | None = None

    def begin(self, stage: str) -> None:
        """End the stage before, and say what begins."""
        self.end()
        print(f"{stage} ...", end=" ", file=sys.stderr, flush=True)
        self._began = time.perf_counter()

    def end(self) -> None:
        """Say how long the stage took, if one is under way."""
        if self._began is not None:
            print(f"{time.perf_counter() - self._began:.1f} s", file=sys.stderr, flush=True)
            self._began = None

    def __enter__(self) -> "Stages":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def print_header(columns: Columns = COLUMNS) -> None:
    """Print the titles of the rows."""
    print_line("  ".join(f"{title:>{width}}" for title, width, _ in columns.values()))


def print_row(metrics: dict[str, float], columns: Columns = COLUMNS) -> None:
    """Print a finished round. What is NaN is left empty."""
    values = [(metrics[name], width, form) for name, (_, width, form) in columns.items()]
    cells = [f"{form.format(value) if value == value else '':>{w}}" for value, w, form in values]
    print_line("  ".join(cells))


def print_line(line: str) -> None:
    """Print a line of results, above a progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(line)
    sys.stdout.flush()  # into a file too, where others may follow it


class Progress(Protocol):
    """How far a training is, with the means of its training loss and accuracy so far."""

    @property
    def step(self) -> int: ...
    @property
    def loss(self) -> float: ...
    @property
    def accuracy(self) -> float: ...


class ProgressBar:
    """The progress bar of a round of `steps` of the schedule, with the time left for the run."""

    def __init__(self, round: int, rounds: int, steps: range):
        from tqdm import tqdm

        self.name = f"round {round} of {rounds - 1}"
        self.run_end = steps.stop + (rounds - round - 1) * len(steps)
        # (step, time) of the first update: what came before it compiled
        self.first: tuple[int, float] | None = None
        self.done = steps.start
        self.bar = tqdm(
            total=len(steps),
            desc=self.name,
            bar_format="{desc}: {percentage:3.0f}%|{bar}|",
            **OF_BARS,
        )

    def update(self, progress: Progress, steps_per_epoch: int) -> None:
        """Show how far the round is."""
        step, now, left = progress.step, time.perf_counter(), "?"
        self.first = self.first or (step, now)
        if step > self.first[0]:
            pace = (now - self.first[1]) / (step - self.first[0])
            left = self.bar.format_interval((self.run_end - step) * pace)
        self.bar.set_description_str(
            f"{self.name}, epoch {-(-step // steps_per_epoch)}, loss {progress.loss:.4f}, "
            f"accuracy {progress.accuracy:.2%}, run ends in {left}",
            refresh=False,
        )
        self.bar.update(step - self.done)
        self.done = step

    def close(self) -> None:
        """Remove the bar."""
        self.bar.close()
