"""Further trainings of a run's networks, kept inside the run, and resumed. Imports TensorFlow."""

import shutil
from collections.abc import Callable
from typing import Any

from lottery_tf.errors import InputError
from lottery_tf.method import Masks, Weights
from lottery_tf.method.pruning import apply_masks
from lottery_tf.method.streams import Noise
from lottery_tf.output import Row
from lottery_tf.repulsion.optima import optima_of
from lottery_tf.store import checkpoints, files
from lottery_tf.store.checkpoints import Progress
from lottery_tf.store.rounds import FinishedRound
from lottery_tf.store.rundir import RunDir
from lottery_tf.terminal import console
from lottery_tf.training.recorder import Silent
from lottery_tf.training.resumable import train_or_continue
from lottery_tf.training.training import Training

INIT = "init"


class Copies:
    """Trains networks under a run's directory, copies/<name>, or reads what is there.

    Args:
        run: whose networks they are.
        start: "init", or "rewind:STEP" ("rewind:4ep"): the state of round 0 after some steps.
        stop_signal: gives the number of the signal that has come, or 0.
        engine: Engine of the run.

    Raises:
        InputError: start is neither, or lies behind the end of training.
    """

    def __init__(self, run: RunDir, start: str, stop_signal: Callable[[], int], engine: Any):
        self.run, self.start, self.stop_signal = run, start, stop_signal
        self.engine, self.config = engine, engine.config
        self.path, self.label = run.path / "copies", start.replace(":", "_")
        self.first = parse_start(start, self.engine.steps_per_epoch)
        if self.first and self.config.reset == "reinit":
            raise InputError(
                f"--start={start} expects a run that resets to round 0; {run.path} is a reinit."
            )
        if self.first >= self.engine.steps:
            raise InputError(
                f"--start={start}: expected a step before the end of training, "
                f"{self.engine.steps}. Received: {self.first}"
            )

    def of_round(self, round: int, data_seed: int) -> tuple[Weights, list[Row]]:
        """The network of a round, trained with another data seed; the run's own with its seed."""
        if self.start == INIT and data_seed == self.config.data_seed:
            return FinishedRound(self.run.path, round).final(), self.run.history(round)
        return self.under(self.run.masks(round), round, data_seed, f"round_{round:02d}")

    def under(self, masks: Masks, round: int, data_seed: int,
              name: str) -> tuple[Weights, list[Row]]:  # fmt: skip
        """(weights, history) of a training from the start under some masks.

        The noise is that of a round and a data seed; `name` is what the directory's name calls the
        masks.
        """
        # A ticket starts from W_0, whose pruned weights only round 0 has; a reinit from its own.
        origin = round if self.config.reset == "reinit" else 0
        state = self._rewind_point() if self.first else self.run.initial(origin)
        start, noise = apply_masks(state, masks), Noise(data_seed, round)
        optima = optima_of(self.config, self.run, round, masks)
        training = Training(start, masks, noise, optima, self.first)
        return self._trained(f"{name}_{self.label}_data_seed_{data_seed}", training)

    def _rewind_point(self):
        """Round 0 after the steps that --start names, {variable path: array}."""
        masks, noise = self.engine.dense_masks(), Noise(self.config.data_seed, 0)
        optima = optima_of(self.config, self.run, 0, masks)
        training = Training(self.run.initial(0), masks, noise, optima, last=self.first)
        return self._trained(self.label, training)[0]

    def _trained(self, name, training):
        """(weights, history) of a Training: read if it is there, else trained, or trained on.

        Raises:
            Interrupted: a signal came; a checkpoint is saved.
        """
        path = self.path / name
        source, trained = path / "source.txt", path / "trained"
        digest = training.digest() + "\n"
        is_of_this = source.exists() and source.read_bytes() == digest.encode()
        if not (is_of_this and trained.exists()):
            try:
                self.path.mkdir(exist_ok=True)
                with RunDir(self.path).lock():  # against another tool
                    if path.exists() and not is_of_this:
                        console.say(f"{path} came from other rounds: it is trained again.")
                        shutil.rmtree(path)
                    path.mkdir(exist_ok=True)
                    shutil.rmtree(path / ".trained.tmp", ignore_errors=True)  # of a killed save
                    files.write_text(source, digest)
                    self._train(path, training)
            except OSError as error:
                raise InputError(f"Cannot train in {path}: {error.strerror}.") from None
        try:
            weights = files.parse_npz(files.read_checked(trained / "final.npz"))
            return weights, files.parse_csv(files.read_checked(trained / "history.csv"))
        except InputError as error:
            raise InputError(f"{error} Remove {path} to train it again.") from None

    def _train(self, path, training):
        steps = (training.last or self.engine.steps) - training.first
        with console.progress(steps, path.name) as bar:
            weights, history = train_or_continue(
                self.engine, training, path, Bar(bar, training.first), self.stop_signal
            )
        arrays, table = files.format_npz(weights), files.format_csv(history)
        files.write_directory(path / "trained", {"final.npz": arrays, "history.csv": table})
        checkpoints.forget(path)


class Bar(Silent):
    """Shows the training of a copy, which begins at step `first`, as a progress bar."""

    def __init__(self, bar: Any, first: int):
        self.bar, self.first = bar, first

    def begin(self, progress: Progress | None) -> None:
        """Begins, or goes on at a Progress."""
        if progress:
            self.show(progress)

    def show(self, progress: Progress) -> None:
        """Moves the bar."""
        self.bar.update(progress.step - self.first - self.bar.n)

    def report(self, line: str) -> None:
        """Tells the user."""
        console.say(line)


def parse_start(text: str, steps_per_epoch: int) -> int:
    """The step that --start names: 0 for init.

    Raises:
        InputError: neither init nor rewind:STEP nor rewind:EPOCHSep.
    """
    kind, _, step = text.partition(":")
    number = step.removesuffix("ep")
    if kind == "rewind" and number.isdigit() and int(number):
        return int(number) * (steps_per_epoch if step.endswith("ep") else 1)
    if text != INIT:
        raise InputError(f"--start: expected init, rewind:500 or rewind:4ep. Received: {text}")
    return 0
