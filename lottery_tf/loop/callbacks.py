"""The callbacks of a round's `fit`: its rewind point, its history, and its state to resume from."""

import contextlib
import json
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator

import keras

from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.masking import keras_private, optimizer_state
from lottery_tf.plots import Row
from lottery_tf.pruning import Weights
from lottery_tf.runs import files

HISTORY = "history.csv"
OPTIMIZERS = "optimizers.json"
EPOCH = "epoch_{:06d}"


class RewindPoint(keras.callbacks.Callback):
    """Keeps the weights of a model after some steps of `fit`, to rewind to.

    Args:
        step: batches, over all epochs.
        keep: called with the weights once they are there.
        continues: whether the fit may go on inside round 0, where an earlier one was stopped.
    """

    def __init__(
        self,
        step: int,
        keep: Callable[[Weights], None] = lambda _: None,
        *,
        continues: bool = False,
    ):
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
        """Return the weights of the step.

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
    """A row for each epoch of a round; with a directory, a fit that was stopped goes on.

    Where a round has several fits, each has a backup of its own in the directory.

    Args:
        backups: where each fit keeps its state at the end of each epoch.
        before_training: called when a fit begins, before its state is restored.
        after_epoch: called at the end of each epoch, before its state is kept.
    """

    def __init__(
        self,
        backups: pathlib.Path | None = None,
        *,
        before_training: Callable[[], None] = lambda: None,
        after_epoch: Callable[[], None] = lambda: None,
    ):
        super().__init__()
        self.backups, self.before_training, self._fits = backups, before_training, 0
        self.after_epoch = after_epoch
        self.rows: list[Row] = []
        self._earlier: list[Row] = []  # of the fits before
        self._backup: Backup | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.before_training()
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
        self.after_epoch()
        if self._backup:
            self._backup.keep(epoch, self._of_fit)

    def on_train_end(self, logs: dict | None = None) -> None:
        keras_private.begin_at_epoch_0(self.model)  # where a backup held all epochs
        self.rows = self._earlier + self._of_fit
        if self._backup:
            self._backup.forget()


def rows_of(history: keras.callbacks.History) -> list[Row]:
    """Return a row for each epoch of what Keras's own History holds."""
    names = list(history.history)
    columns = zip(*history.history.values(), strict=False)
    return [
        {"epoch": epoch} | renamed(dict(zip(names, values, strict=True)))
        for epoch, values in enumerate(columns, 1)
    ]


def renamed(logs: dict[str, float]) -> Row:
    """Return what Keras logs of an epoch, under the names of a run's columns.

    Its validation is a run's test; the first metric whose name ends in "accuracy" is its accuracy.
    """
    first = next((name for name in logs if name.endswith("accuracy") or name == "acc"), None)
    names = {"loss": "train_loss", "val_loss": "test_loss"}
    if first:
        plain = first.removeprefix("val_")
        names |= {plain: "train_accuracy", f"val_{plain}": "test_accuracy"}
    return {names.get(name, name): float(value) for name, value in logs.items()}


class Backup:
    """What Keras's BackupAndRestore keeps, with the rows of the epochs, in a directory per epoch.

    Keras writes weights and the number of the epoch one after the other, in place. Here an epoch's
    directory gets its name when all is in it, and only then the one before goes.

    Args:
        directory: of this fit alone.
        model: that is fitted, compiled.
    """

    def __init__(self, directory: pathlib.Path, model: keras.Model):
        self.directory, self.model = directory, model

    def restore(self) -> list[Row]:
        """Set the model to the last epoch that was kept, if any; the rows of the epochs so far."""
        epochs = sorted(self.directory.glob("epoch_*"))
        if not epochs:
            return []
        if (epochs[-1] / OPTIMIZERS).exists():  # earlier versions wrote none
            self._build_optimizers(json.loads((epochs[-1] / OPTIMIZERS).read_text()))
        with self._as_built():
            self._of_keras(epochs[-1]).on_train_begin()
        return files.parse_csv((epochs[-1] / HISTORY).read_bytes())

    def keep(self, epoch: int, rows: list[Row]) -> None:
        """Keep the end of an epoch, as Keras counts it, and forget the ones before."""
        earlier = sorted(self.directory.glob("epoch_*"))
        aside = self.directory / "unfinished"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        with self._as_built():
            self._of_keras(aside).on_epoch_end(epoch)
        files.write_text(aside / OPTIMIZERS, json.dumps(self._built_optimizers()))
        files.write_text(aside / HISTORY, files.format_csv(rows).decode())
        for path in (*aside.iterdir(), aside):
            files.sync(path)
        number = int(earlier[-1].name.split("_")[1]) + 1 if earlier else 0
        aside.rename(self.directory / EPOCH.format(number))
        files.sync(self.directory)
        for path in earlier:
            shutil.rmtree(path)

    def forget(self) -> None:
        """Remove all of it: the fit has ended."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _built_optimizers(self) -> dict[str, list[int]]:
        """Return {name: places of the optimizer's variables among the model's}."""
        places = {id(weight): place for place, weight in enumerate(self.model.weights)}
        built = {n: one for n, one in optimizer_state.find(self.model).items() if one.built}
        found = {
            name: [places.get(id(variable)) for variable in keras_private.built_with(one)]
            for name, one in built.items()
        }
        return {
            name: [place for place in at if place is not None]
            for name, at in found.items()
            if None not in at
        }

    def _build_optimizers(self, built: dict[str, list[int]]) -> None:
        """Build optimizers: Keras loads the state of none that is not built."""
        weights, held = self.model.weights, optimizer_state.find(self.model)
        for name, places in built.items():
            if name in held and not held[name].built:
                held[name].build([weights[place] for place in places])

    @contextlib.contextmanager
    def _as_built(self) -> Iterator[None]:
        """Mark the model as built, as Keras saves no other; one without call() never is."""
        built, self.model.built = self.model.built, True
        try:
            yield
        finally:
            self.model.built = built

    def _of_keras(self, directory: pathlib.Path) -> keras.callbacks.BackupAndRestore:
        callback = keras.callbacks.BackupAndRestore(str(directory))
        callback.set_model(self.model)
        return callback
