"""TensorBoard: curves of each round, and accuracy, threshold, density and weights by round."""

import pathlib
import shutil
from math import nan
from typing import Any

import numpy as np
import tensorflow as tf

from lottery_tf.output import Row

Arrays = dict[str, np.ndarray]  # {variable path: array}

CURVES = (
    "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy",
    "repel_loss", "cosine_nearest", "cosine_mean",
)  # fmt: skip
BY_ROUND = ("density", "threshold", "smallest_kept", *CURVES[1:])


class Summaries:
    """Event files of a run: tensorboard/ by round, tensorboard/round_NN/ by epoch.

    A round that starts again begins its files again, so that no point is seen twice.
    """

    def __init__(self, run_path: pathlib.Path):
        self.path = run_path / "tensorboard"
        self.writer: Any = None

    def start_round(self, round: int) -> None:
        """Begins the curves of a round."""
        directory = self.path / f"round_{round:02d}"
        shutil.rmtree(directory, ignore_errors=True)
        self.writer = tf.summary.create_file_writer(str(directory))

    def add_epoch(self, row: Row) -> None:
        """Adds a row of the history to the curves, with the epoch as step."""
        with self.writer.as_default(step=row["epoch"]):
            for name in row.keys() & set(CURVES):
                tf.summary.scalar(f"epoch/{name}", row[name])
        self.writer.flush()

    def finish_round(self, metrics: Row, final: Arrays, masks: Arrays) -> None:
        """Writes a finished round's metrics, and histograms of the surviving weights.

        Call it before the round is saved: a saved round has its summary.
        """
        self.writer.close()
        suffix = f".round_{metrics['round']:02d}"
        for leftover in self.path.glob(f"events.*{suffix}"):
            leftover.unlink()
        writer = tf.summary.create_file_writer(str(self.path), filename_suffix=suffix)
        with writer.as_default(step=metrics["round"]):
            for name in BY_ROUND:
                if metrics.get(name, nan) == metrics.get(name, nan):  # there, and not NaN
                    tf.summary.scalar(f"round/{name}", metrics[name])
            survivors = {path: final[path][mask] for path, mask in masks.items()}
            survivors["all"] = np.concatenate(list(survivors.values()))
            for path, weights in survivors.items():
                tf.summary.histogram(f"surviving weights/{path}", weights, buckets=60)
        writer.close()
