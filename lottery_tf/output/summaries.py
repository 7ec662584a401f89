"""TensorBoard: curves of each round, and accuracy, threshold, density and weights by round."""

import functools
import pathlib
import shutil

import numpy as np

from lottery_tf.output import Row, counting, events

Arrays = dict[str, np.ndarray]  # {variable path: array}

CURVES = (
    "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy",
    "test_largest_class", "repel_loss", "cosine_nearest", "cosine_mean",
)  # fmt: skip
BY_ROUND = ("density", "threshold", "smallest_kept", *CURVES[1:])
BINS = 60


class Summaries:
    """Event files of a run: tensorboard/ by round, tensorboard/round_NN/ by epoch.

    A round that starts again begins its files again, so that no point is seen twice.
    """

    def __init__(self, run_path: pathlib.Path):
        self.path = run_path / "tensorboard"

    def start_round(self, round: int) -> None:
        """Begins the curves of a round."""
        directory = self.path / f"round_{round:02d}"
        shutil.rmtree(directory, ignore_errors=True)
        self.curves = events.new_file(directory)
        events.append(self.curves, [])

    def add_epoch(self, row: Row) -> None:
        """Adds a row of the history to the curves, with the epoch as step."""
        scalars = [events.scalar(f"epoch/{name}", row[name]) for name in CURVES if name in row]
        events.append(self.curves, [(row["epoch"], scalar) for scalar in scalars])

    def missing(self, rounds: int) -> list[int]:
        """Those of the first rounds whose summary a kill or a full disk prevented."""
        return [r for r in range(rounds) if not any(self.path.glob(f"events.*{_suffix(r)}"))]

    def finish_round(self, metrics: Row, final: Arrays, masks: Arrays) -> None:
        """Writes a finished round's metrics, and histograms of the surviving weights."""
        values = [
            events.scalar(f"round/{name}", metrics[name])
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


def _survivors(final, masks, paths):
    """Yields the surviving weights of some layers in blocks."""
    for path in paths:
        yield from counting.masked_blocks(final[path], masks[path])


def _suffix(round):
    return f".round_{round:02d}"
