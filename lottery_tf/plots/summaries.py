"""TensorBoard: curves by epoch, and accuracy, threshold, density and weights by round."""

import functools
import pathlib
import shutil

import numpy as np

from lottery_tf.plots import Row, counting, events, units

Arrays = dict[str, np.ndarray]  # {variable path: array}

CURVES = (
    "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy",
    "test_largest_class", "repel_loss", "cosine_nearest", "cosine_mean",
)  # fmt: skip
BY_ROUND = ("density", "threshold", "smallest_kept", *CURVES[1:])
BINS = 60


class Summaries:
    """Event files of a run: tensorboard/ by round, tensorboard/epochs/ by epoch.

    Each round has a file of its own in both; one that starts again begins them again, so that no
    point is seen twice. Epochs are in a directory of their own, as TensorBoard stops to read a
    file once it knows a later one beside it.
    """

    def __init__(self, run_path: pathlib.Path):
        self.path = run_path / "tensorboard"

    def start_round(self, round: int, before: int) -> None:
        """Begins the curves of a round that so many epochs came before."""
        # Earlier versions gave every round a directory, and so a line in TensorBoard's list.
        shutil.rmtree(self.path / f"round_{round:02d}", ignore_errors=True)
        directory, self.before = self.path / "epochs", before
        for leftover in directory.glob(f"events.*{_suffix(round)}"):
            leftover.unlink()
        self.curves = events.new_file(directory, _suffix(round))
        events.append(self.curves, [])

    def add_epoch(self, row: Row) -> None:
        """Adds a row of the history to the curves; the step counts epochs from round 0 on."""
        step = self.before + row["epoch"]
        values = [(step, _scalar("epoch", name, row[name])) for name in CURVES if name in row]
        events.append(self.curves, values)

    def missing(self, rounds: int) -> list[int]:
        """Those of the first rounds whose summary a kill or a full disk prevented."""
        return [r for r in range(rounds) if not any(self.path.glob(f"events.*{_suffix(r)}"))]

    def finish_round(self, metrics: Row, final: Arrays, masks: Arrays) -> None:
        """Writes a finished round's metrics, and histograms of the surviving weights."""
        values = [
            _scalar("round", name, metrics[name])
            for name in BY_ROUND
            if np.isfinite(metrics.get(name, np.nan))
        ]
        collapse = metrics.get("collapse", np.nan)  # words; a NaN without
        collapsed = isinstance(collapse, str)
        values.append(events.scalar("round/collapsed", float(collapsed)))
        if collapsed:
            values.append(events.text("round/collapse", collapse))
        for name, paths in {**{path: [path] for path in masks}, "all": list(masks)}.items():
            survivors = functools.partial(_survivors, final, masks, paths)
            counts, edges = counting.histogram(survivors, BINS)
            values.append(events.histogram(f"surviving weights/{name}", counts, edges))
        step = metrics["round"]
        events.replace(self.path, _suffix(step), [(step, value) for value in values])


def _scalar(of, name, value):
    """The value of a column as people see it: parts of one in percent."""
    unit, factor = units.of(name)
    return events.scalar(f"{of}/{name}{unit}", factor * value)


def _survivors(final, masks, paths):
    """Yields the surviving weights of some layers in blocks."""
    for path in paths:
        yield from counting.masked_blocks(final[path], masks[path])


def _suffix(round):
    return f".round_{round:02d}"
