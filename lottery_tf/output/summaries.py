"""TensorBoard: curves by epoch, and accuracy, threshold, density and weights by round."""

import pathlib
import shutil
from math import nan
from typing import Any

import numpy as np
import tensorflow as tf

from lottery_tf.output import Row, units

Arrays = dict[str, np.ndarray]  # {variable path: array}

CURVES = (
    "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy",
    "repel_loss", "cosine_nearest", "cosine_mean",
)  # fmt: skip
BY_ROUND = ("density", "threshold", "smallest_kept", *CURVES[1:])


class Summaries:
    """Event files of a run: tensorboard/ by round, tensorboard/epochs/ by epoch.

    Each round has a file of its own in both; one that starts again begins them again, so that no
    point is seen twice. Epochs are in a directory of their own, as TensorBoard stops to read a
    file once it knows a later one beside it.
    """

    def __init__(self, run_path: pathlib.Path):
        self.path = run_path / "tensorboard"
        self.writer: Any = None

    def start_round(self, round: int, epochs: int) -> None:
        """Begins the curves of a round of some epochs."""
        # Earlier versions gave every round a directory, and so a line in TensorBoard's list.
        shutil.rmtree(self.path / f"round_{round:02d}", ignore_errors=True)
        self.writer, self.before = self._new_file(self.path / "epochs", round), round * epochs

    def _new_file(self, directory, round):
        suffix = f".round_{round:02d}"
        for leftover in directory.glob(f"events.*{suffix}"):
            leftover.unlink()
        return tf.summary.create_file_writer(str(directory), filename_suffix=suffix)

    def add_epoch(self, row: Row) -> None:
        """Adds a row of the history to the curves; the step counts epochs from round 0 on."""
        with self.writer.as_default(step=self.before + row["epoch"]):
            for name in row.keys() & set(CURVES):
                unit, factor = units.of(name)
                tf.summary.scalar(f"epoch/{name}{unit}", factor * row[name])
        self.writer.flush()

    def finish_round(self, metrics: Row, final: Arrays, masks: Arrays) -> None:
        """Writes a finished round's metrics, and histograms of the surviving weights.

        Call it before the round is saved: a saved round has its summary.
        """
        self.writer.close()
        writer = self._new_file(self.path, metrics["round"])
        with writer.as_default(step=metrics["round"]):
            for name in BY_ROUND:
                if metrics.get(name, nan) == metrics.get(name, nan):  # there, and not NaN
                    unit, factor = units.of(name)
                    tf.summary.scalar(f"round/{name}{unit}", factor * metrics[name])
            survivors = {path: final[path][mask] for path, mask in masks.items()}
            survivors["all"] = np.concatenate(list(survivors.values()))
            for path, weights in survivors.items():
                tf.summary.histogram(f"surviving weights/{path}", weights, buckets=60)
        writer.close()
