"""The state of a fit at the end of its last epoch: whole, or that of the epoch before."""

import contextlib
import json
import pathlib
import shutil

import keras

from lottery_tf.masking import keras_private, optimizer_state
from lottery_tf.plots import Row
from lottery_tf.runs import files

HISTORY = "history.csv"
OPTIMIZERS = "optimizers.json"
EPOCH = "epoch_{:06d}"


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
        """Sets the model to the last epoch that was kept, if any; the rows of the epochs so far."""
        epochs = self._epochs()
        if not epochs:
            return []
        if (epochs[-1] / OPTIMIZERS).exists():  # earlier versions wrote none
            self._build_optimizers(json.loads((epochs[-1] / OPTIMIZERS).read_text()))
        with self._as_built():
            self._of_keras(epochs[-1]).on_train_begin()
        return files.parse_csv((epochs[-1] / HISTORY).read_bytes())

    def keep(self, epoch: int, rows: list[Row]) -> None:
        """Keeps the end of an epoch, as Keras counts it, and forgets the ones before."""
        earlier = self._epochs()
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
        """Removes all of it: the fit has ended."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _epochs(self):
        return epochs_in(self.directory)

    def _built_optimizers(self):
        """{name: the places of its variables among the model's}, as a GAN has two of its own."""
        places = {id(weight): place for place, weight in enumerate(self.model.weights)}
        built = {n: one for n, one in optimizer_state.find(self.model).items() if one.built}
        found = {
            name: [places.get(id(variable)) for variable in keras_private.built_with(one)]
            for name, one in built.items()
        }
        return {name: at for name, at in found.items() if None not in at}

    def _build_optimizers(self, built):
        """Keras loads the state of an optimizer only if it is built."""
        weights, held = self.model.weights, optimizer_state.find(self.model)
        for name, places in built.items():
            if name in held and not held[name].built:
                held[name].build([weights[place] for place in places])

    @contextlib.contextmanager
    def _as_built(self):
        """Keras saves no model that is not built, as one without call() never is."""
        built, self.model.built = self.model.built, True
        try:
            yield
        finally:
            self.model.built = built

    def _of_keras(self, directory):
        callback = keras.callbacks.BackupAndRestore(str(directory))
        callback.set_model(self.model)
        return callback


def epochs_in(directory: pathlib.Path) -> list[pathlib.Path]:
    """The directories of the epochs that are kept in a fit's directory, in order."""
    return sorted(directory.glob("epoch_*"))
