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
# TensorBoard's page Custom Scalars draws no tag with brackets: these columns have one without, too.
OVERLAID = ("density", "train_accuracy", "test_accuracy")
CHARTS = {  # of that page: {category: {title: tags of one chart}}
    f"by {group}": {
        "accuracy (%)": [f"{group} percent/{name}_accuracy" for name in ("train", "test")],
        "loss": [f"{group}/{name}_loss" for name in ("train", "test")],
    }
    for group in ("round", "epoch")
}
CHARTS["by round"] |= {
    "density (%)": ["round percent/density"],
    "pruning threshold": ["round/threshold", "round/smallest_kept"],
}


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
        values = {name: row[name] for name in CURVES if name in row}
        events.append(self.curves, [(step, of) for of in _scalars("epoch", values)])

    def missing(self, rounds: int) -> list[int]:
        """Return those of the first rounds whose summary a kill or a full disk prevented."""
        return [r for r in range(rounds) if not any(self.path.glob(f"events.*{_suffix(r)}"))]

    def finish_round(self, metrics: Row, final: Arrays, masks: Arrays) -> None:
        """Write a finished round's metrics, and histograms of the surviving weights."""
        names = [name for name in BY_ROUND if np.isfinite(metrics.get(name, np.nan))]
        summaries = list(_scalars("round", {name: metrics[name] for name in names}))
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
            summaries.append(events.layout(CHARTS))
        events.replace(self.path, _suffix(step), [(step, summary) for summary in summaries])


def _scalars(group: str, values: Row) -> Iterator[events.Summary]:
    """Yield the values of columns as people see them: parts of one in percent."""
    for column, value in values.items():
        unit, factor = (" (%)", 100.0) if column in PARTS else ("", 1.0)
        about = columns.about(group, column)
        yield events.scalar(f"{group}/{column}{unit}", factor * value, about)
        if column in OVERLAID:
            yield events.scalar(f"{group} percent/{column}", factor * value, about)


def _suffix(round: int) -> str:
    return f".round_{round:02d}"
