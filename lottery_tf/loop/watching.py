"""Callbacks that watch the `fit` of a turn."""

import pathlib
import time
from collections.abc import Callable

import keras

from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.loop.backups import Backup
from lottery_tf.masking import keras_private
from lottery_tf.plots import Row
from lottery_tf.pruning import Weights


class RewindPoint(keras.callbacks.Callback):
    """Keeps the weights of a model after some steps of `fit`, to rewind to.

    Args:
        step: batches, over all epochs.
        keep: called with the weights once they are there.
        continues: whether the fit may go on inside turn 0, where an earlier one was stopped.
    """

    def __init__(self, step: int, keep: Callable[[Weights], None] = lambda _: None,
                 *, continues: bool = False):  # fmt: skip
        super().__init__()
        self.step, self.keep, self.continues = step, keep, continues
        self.steps = self._before = 0
        self.weights: Weights | None = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if self.continues and epoch and not self.steps:
            if not self.params.get("steps") and self.weights is None:
                raise InputError(
                    f"rewind_to: fit goes on with epoch {epoch}, but how many steps an epoch has "
                    "is not known, so nor is when the step comes. Give fit its steps_per_epoch, or "
                    "begin in another directory."
                )
            self.steps = epoch * (self.params.get("steps") or 0)
        self._before = self.steps

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        # With steps_per_execution Keras calls this after several batches; `batch` is the last.
        earlier, self.steps = self.steps, self._before + batch + 1
        if self.steps == self.step:
            self.weights = masking.get_weights(self.model)
            self.keep(self.weights)
        elif earlier < self.step < self.steps:
            raise InputError(
                f"rewind_to: fit ran from step {earlier} to {self.steps} at once, past step "
                f"{self.step}. Compile with steps_per_execution=1, or name a step between two "
                "executions."
            )

    def kept(self) -> Weights:
        """The weights of the step.

        Raises:
            InputError: round 0 did not call this callback, or not for so many steps.
        """
        if self.weights is None and self.steps:
            raise InputError(
                f"rewind_to: round 0 kept no weights of step {self.step}, as it trained for "
                f"{self.steps} steps. Train it for longer, or rewind to an earlier step."
            )
        if self.weights is None:
            raise InputError(
                f"rewind_to: round 0 kept no weights of step {self.step}. Pass round.callbacks to "
                "its fit. In a loop of your own, as around train_on_batch, make callbacks = "
                "keras.callbacks.CallbackList(round.callbacks, model=model), and call "
                "callbacks.on_train_batch_end(step) after each step, counted from 0 over epochs."
            )
        return self.weights


class Epochs(keras.callbacks.Callback):
    """A row for each epoch of a turn; with a directory, a fit that was stopped goes on.

    Where a turn has several fits, each has a backup of its own in the directory.

    Args:
        backups: where each fit keeps its state at the end of each epoch.
    """

    def __init__(self, backups: pathlib.Path | None = None):
        super().__init__()
        self.backups, self._fits = backups, 0
        self.rows: list[Row] = []
        self._earlier: list[Row] = []  # of the fits before
        self._backup: Backup | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._earlier, self._of_fit = self.rows, []
        if self.backups:
            self._backup = Backup(self.backups / f"fit_{self._fits}", self.model)
            self._of_fit = self._backup.restore()
        self._fits += 1

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        keras_private.begin_at_epoch_0(self.model)
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        seconds = time.perf_counter() - self._began
        row = {"epoch": len(self._earlier) + len(self._of_fit) + 1}
        self._of_fit.append(row | renamed(logs or {}) | {"seconds": seconds})
        if self._backup:
            self._backup.keep(epoch, self._of_fit)

    def on_train_end(self, logs: dict | None = None) -> None:
        keras_private.begin_at_epoch_0(self.model)  # where a backup held all epochs
        self.rows = self._earlier + self._of_fit
        if self._backup:
            self._backup.forget()


def rows_of(history: keras.callbacks.History) -> list[Row]:
    """A row for each epoch of what Keras's own History holds."""
    names = list(history.history)
    columns = zip(*history.history.values(), strict=False)
    return [
        {"epoch": epoch} | renamed(dict(zip(names, values, strict=True)))
        for epoch, values in enumerate(columns, 1)
    ]


def renamed(logs: dict[str, float]) -> Row:
    """What Keras logs of an epoch, under the names of a run's columns.

    Its validation is a run's test; the first metric whose name ends in "accuracy" is its accuracy.
    """
    first = next((name for name in logs if name.endswith("accuracy") or name == "acc"), None)
    names = {"loss": "train_loss", "val_loss": "test_loss"}
    if first:
        plain = first.removeprefix("val_")
        names |= {plain: "train_accuracy", f"val_{plain}": "test_accuracy"}
    return {names.get(name, name): float(value) for name, value in logs.items()}
