"""Further trainings of a run's networks, kept inside the run, and resumed. Imports TensorFlow."""

import dataclasses
import hashlib
import shutil
import time

from lottery_tf.errors import InputError
from lottery_tf.method.pruning import apply_masks
from lottery_tf.method.streams import Noise
from lottery_tf.repulsion.optima import Optima, collect
from lottery_tf.store import checkpoints, files
from lottery_tf.store.rounds import FinishedRound
from lottery_tf.store.rundir import RunDir
from lottery_tf.terminal import console

INIT = "init"


@dataclasses.dataclass(frozen=True)
class Training:
    """What `Copies.train` trains, and its name.

    Args:
        name: of the directory, as "round_05_init_data_seed_1".
        start: {variable path: array}, zero where masked.
        masks: {kernel path: bool array}.
        noise: datasets.order.Noise.
        optima: optima.Optima to be repelled from, or None.
        first, last: steps of the schedule; last=None for the whole of it.
    """

    name: str
    start: dict
    masks: dict
    noise: Noise
    optima: Optima | None = None
    first: int = 0
    last: int | None = None

    def digest(self):
        """A hexadecimal number of all of it but the name."""
        sums = hashlib.sha256(repr((self.noise, self.first, self.last)).encode())
        for arrays in (self.start, self.masks, self.optima.pack() if self.optima else {}):
            for path, array in arrays.items():
                sums.update(path.encode())
                sums.update(array.tobytes())
        return sums.hexdigest()


class Copies:
    """Trains networks under a run's directory, copies/<name>, or reads what is there.

    Args:
        run: RunDir.
        start: "init", or "rewind:STEP" ("rewind:4ep"): the state of round 0 after some steps.
        received: a function that gives the number of the signal that has come, or 0.
        engine: Engine of the run.

    Raises:
        InputError: start is neither, or lies behind the end of training.
    """

    def __init__(self, run, start, received, engine):
        self.run, self.start, self.received = run, start, received
        self.engine, self.config = engine, engine.config
        self.path = run.path / "copies"
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

    def of_round(self, round, data_seed):
        """The network of a round, trained with another data seed; the run's own with its seed."""
        if self.start == INIT and data_seed == self.config.data_seed:
            return FinishedRound(self.run.path, round).final(), self.run.history(round)
        return self.under(self.run.masks(round), round, data_seed, f"round_{round:02d}")

    def under(self, masks, round, data_seed, name):
        """(weights, history) of a training from the start under some masks, with a round's noise.

        Args:
            masks: {kernel path: bool array}.
            round: what the noise is drawn for, and of which the start is.
            data_seed: of the noise.
            name: what the masks are called in the directory's name.
        """
        state = self.rewind_point() if self.first else self.run.initial(self._origin(round))
        label = f"{name}_{self.start.replace(':', '_')}_data_seed_{data_seed}"
        noise, start = Noise(data_seed, round), apply_masks(state, masks)
        optima = collect(self.config, self.run, round, masks)
        return self.train(Training(label, start, masks, noise, optima, self.first))

    def _origin(self, round):
        # A ticket starts from W_0, whose pruned weights only round 0 has; a reinit from its own.
        return round if self.config.reset == "reinit" else 0

    def rewind_point(self):
        """Round 0 after the steps that --start names, {variable path: array}."""
        masks = self.engine.dense_masks()
        noise = Noise(self.config.data_seed, 0)
        name = self.start.replace(":", "_")
        optima = collect(self.config, self.run, 0, masks)
        training = Training(name, self.run.initial(0), masks, noise, optima, last=self.first)
        return self.train(training)[0]

    def train(self, training):
        """(weights, history) of a Training: read if it is there, else trained, or trained on.

        Raises:
            console.Interrupted: a signal came; a checkpoint is saved.
        """
        path = self.path / training.name
        source, trained = path / "source.txt", path / "trained"
        digest = training.digest() + "\n"
        is_of_this = source.exists() and source.read_text() == digest
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
        weights = files.parse_npz(files.read_checked(trained / "final.npz"))
        return weights, files.parse_csv(files.read_checked(trained / "history.csv"))

    def _train(self, path, training):
        saved, round = time.perf_counter(), training.noise.round
        checkpoint = checkpoints.newest(path, round, console.say)
        steps = (training.last or self.engine.steps) - training.first
        done = checkpoint[0].step - training.first if checkpoint else 0
        with console.progress(steps, training.name) as bar:
            bar.update(done)

            def on_piece(moment):
                nonlocal saved
                bar.update(moment.step - training.first - bar.n)
                stop = self.received()
                minutes = self.config.checkpoint_minutes
                due = 0 < minutes <= (time.perf_counter() - saved) / 60
                if stop or due:
                    checkpoints.save(path, round, moment, self.engine.state())
                    saved = time.perf_counter()
                if stop:
                    raise console.Interrupted(stop)

            weights, history = self.engine.train(
                training.start,
                training.masks,
                training.noise,
                first=training.first,
                last=training.last,
                optima=training.optima,
                checkpoint=checkpoint,
                on_piece=on_piece,
            )
        contents = {
            "final.npz": files.format_npz(weights),
            "history.csv": files.format_csv(history),
        }
        files.write_directory(path / "trained", contents)
        checkpoints.forget(path)


def parse_start(text, steps_per_epoch):
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
