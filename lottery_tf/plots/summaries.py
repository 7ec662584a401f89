"""Writes TensorBoard's files of a run: curves by epoch; accuracy, density and weights by round."""

import functools
import pathlib
import shutil
from collections.abc import Iterable, Iterator

import numpy as np

from lottery_tf.plots import Row, columns, counting, events

Arrays = dict[str, np.ndarray]  # {variable path: array}

CURVES = (
    *("learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy"),
    *("test_largest_class", "repel_loss", "cosine_nearest", "cosine_mean"),
)
BY_ROUND = ("density", "threshold", "smallest_kept", *CURVES[1:])
PARTS = ("density", "train_accuracy", "test_accuracy", "test_largest_class")  # of one
BINS = 60
CHARTS = {  # of TensorBoard's page Custom Scalars: {title: columns of one chart}
    "accuracy": ("train_accuracy", "test_accuracy"),
    "loss": ("train_loss", "test_loss"),
    "largest class": ("test_largest_class",),
}
OF_ROUNDS = {"density": ("density",), "pruning threshold": ("threshold", "smallest_kept")}


class Summaries:
    """Event files of a run: tensorboard/ by round, tensorboard/epochs/ by epoch.

    Each round has a file of its own in both; one that starts again begins them again, so that no
    point is seen twice. Epochs are in a directory of their own, as TensorBoard stops reading a
    file once it knows a later one beside it.
    """

    def __init__(self, run_path: pathlib.Path):
        self.path = run_path / "tensorboard"

    def start_round(self, round: int, before: int) -> None:
        """Begin the curves of a round that so many epochs came before."""
        # Earlier versions gave every round a directory, and so a line in TensorBoard's list.
        shutil.rmtree(self.path / f"round_{round:02d}", ignore_errors=True)
        directory, self.before = self.path / "epochs", before
        for leftover in directory.glob(f"events.*{_suffix(round)}"):
            leftover.unlink()
        self.curves = events.new_file(directory, _suffix(round))
        events.append(self.curves, [])

    def add_epoch(self, row: Row) -> None:
        """Add a row of the history to the curves; the step counts epochs from round 0 on."""
        step = self.before + row["epoch"]
        summaries = [(step, _scalar("epoch", name, row[name])) for name in CURVES if name in row]
        events.append(self.curves, summaries)

    def missing(self, rounds: int) -> list[int]:
        """Return those of the first rounds whose summary a kill or a full disk prevented."""
        return [r for r in range(rounds) if not any(self.path.glob(f"events.*{_suffix(r)}"))]

    def finish_round(self, metrics: Row, final: Arrays, masks: Arrays) -> None:
        """Write a finished round's metrics, and histograms of the surviving weights."""
        summaries = [
            _scalar("round", name, metrics[name])
            for name in BY_ROUND
            if np.isfinite(metrics.get(name, np.nan))
        ]
        collapse = metrics.get("collapse")  # words; a NaN without
        collapsed = float(isinstance(collapse, str))
        tag = "round/collapsed"
        summaries.append(events.scalar(tag, collapsed, columns.TAGS[tag]))
        if isinstance(collapse, str):
            summaries.append(events.text("round/collapse", collapse))

        def survivors(paths: Iterable[str]) -> Iterator[np.ndarray]:
            for path in paths:
                yield from counting.masked_blocks(final[path], masks[path])

        for name, paths in {**{path: [path] for path in masks}, "all": list(masks)}.items():
            counts, edges = counting.histogram(functools.partial(survivors, paths), BINS)
            summaries.append(events.histogram(f"surviving weights/{name}", counts, edges))
        step = metrics["round"]
        if step == 0:
            summaries.append(_layout())
        events.replace(self.path, _suffix(step), [(step, summary) for summary in summaries])


def _scalar(group: str, column: str, value: float) -> events.Summary:
    """Return the value of a column as people see it: parts of one in percent."""
    factor = 100.0 if column in PARTS else 1.0
    return events.scalar(_tag(group, column), factor * value, columns.about(group, column))


def _tag(group: str, column: str) -> str:
    return f"{group}/{column}{' (%)' * (column in PARTS)}"


def _layout() -> events.Summary:
    """Return the page on which training and test are in one chart, by round and by epoch."""
    charts = {"round": CHARTS | OF_ROUNDS, "epoch": CHARTS}
    return events.layout(
        {
            f"by {group}": {
                title: [_tag(group, column) for column in names] for title, names in of.items()
            }
            for group, of in charts.items()
        }
    )


def _suffix(round: int) -> str:
    return f".round_{round:02d}"
