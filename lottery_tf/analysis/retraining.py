"""Further trainings of a run's networks, kept inside the run in copies/, and resumed.

What is there is read; TensorFlow is imported only where something has to be trained.
"""

import contextlib
import dataclasses
import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lottery_tf.analysis.measure import Needs, TableMeasure
from lottery_tf.analysis.runs import Computing, Rounds, engine_of, select_common_rounds
from lottery_tf.config.fields import flag
from lottery_tf.errors import InputError
from lottery_tf.plots import Row
from lottery_tf.pruning import Masks, Weights, streams
from lottery_tf.pruning.policy import IN_TRAINING
from lottery_tf.pruning.schedules import parse_step
from lottery_tf.pruning.streams import Noise
from lottery_tf.pruning.top_k import apply_masks
from lottery_tf.repulsion.optima import optima_of
from lottery_tf.runs import checkpoints, files, rewind_points
from lottery_tf.runs.rounds import FinishedRound
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import console
from lottery_tf.training.training import Training

if TYPE_CHECKING:  # it imports TensorFlow
    from lottery_tf.training.engine import Engine

INIT = "init"
RESETS = ("init", "rewind")  # by which all rounds start from the weights of round 0
USUAL_ROUNDS = (10,)  # whose masks are trained
NUDGE = 0.01  # of the standard deviation of a layer's surviving weights; of the only one, its size


class Retrainings:
    """Trains networks under a run's directory, copies/<name>, or reads what is there.

    They start from "init", or "rewind:STEP" ("rewind:4ep"): the state of round 0 after some steps.
    """

    def __init__(
        self,
        run: RunDir,
        start: str = INIT,
        stop_signal: Callable[[], int] = lambda: 0,
        computing: Computing | None = None,
    ):
        self.run, self.start, self.stop_signal = run, start, stop_signal
        self.computing = computing or {}
        self.path, self.label = run.path / "copies", start.replace(":", "_")

    @functools.cached_property
    def engine(self) -> "Engine":
        """The engine of the run, built when first needed; InputError if `start` does not fit it."""
        engine = engine_of(self.run, **self.computing)
        first = parse_start(self.start, engine.steps_per_epoch)
        if first and engine.config.reset not in RESETS:
            raise InputError(
                f"--start={self.start} expects a run that resets to round 0; {self.run.path} has "
                f"--reset={engine.config.reset}."
            )
        if engine.config.policy.prunes_at in IN_TRAINING:
            raise InputError(
                f"{self.run.path}: its masks changed while it trained, and each retraining would "
                "have masks of its own. Expected a run with --prune_at=round or init."
            )
        if first >= engine.steps:
            raise InputError(
                f"--start={self.start}: expected a step before the end of training, "
                f"{engine.steps}. Received: {first}"
            )
        return engine

    def of_round(self, round: int, data_seed: int) -> tuple[Weights, list[Row]]:
        """Return the network of a round, trained with a data seed; the run's own with its seed."""
        return self.under(self.run.masks(round), round, data_seed, f"round_{round:02d}")

    def nudged(self, round: int, number: int) -> tuple[Weights, list[Row]]:
        """Return the network of a round with the run's noise, one weight of its start changed.

        Number 0 is that without a change.
        """
        masks, seed = self.run.masks(round), self.engine.config.data_seed
        if not number:
            return self.of_round(round, seed)
        training = self.training(masks, round, seed)
        generator = streams.stream(streams.NUDGED, self.engine.config.init_seed, round, number)
        start = nudge(training.weights, masks, generator)
        name = f"round_{round:02d}_{self.label}_one_weight_{number}"
        return self.train(name, dataclasses.replace(training, start=start))

    def under(
        self, masks: Masks, round: int, data_seed: int, name: str
    ) -> tuple[Weights, list[Row]]:
        """Return (weights, history) of a training from the start under masks, which `name` names.

        The noise is that of a round and a data seed. What the run's own round trained is read.
        """
        if self._is_own(masks, round, data_seed):
            return FinishedRound(self.run.path, round).final(), self.run.history(round)
        return self.train(
            f"{name}_{self.label}_data_seed_{data_seed}", self.training(masks, round, data_seed)
        )

    def training(self, masks: Masks, round: int, data_seed: int) -> Training:
        """Return the Training of a round from the start, under masks and with a data seed."""
        state, first = self.start_of(round)
        start, noise = apply_masks(state, masks), Noise(data_seed, round)
        optima = optima_of(self.engine.config, self.run, round, masks)
        end = int(self.run.history(round)[-1]["step"])  # a round may be shorter, or go on
        last = None if end == self.engine.steps else end
        return Training(start, masks, noise, optima, first, last)

    def sources(self, round: int) -> dict[str, str]:
        """Return {name: digest of its Training} of a round's finished copies, current or not."""
        copies = sorted(self.path.glob(f"round_{round:02d}_{self.label}_data_seed_*"))
        return {
            path.name: (path / "source.txt").read_text()
            for path in copies
            if (path / "trained").exists() and (path / "source.txt").exists()
        }

    def finished(self, round: int) -> list[Weights]:
        """Return the weights of a round's finished copies, which came from the round as it is."""
        found, masks = [], self.run.masks(round)
        for name, digest in self.sources(round).items():
            training = self.training(masks, round, int(name.rpartition("_")[2]))
            if digest == training.digest() + "\n":
                found.append(self._read(self.path / name)[0])
        return found

    def _is_own(self, masks: Masks, round: int, data_seed: int) -> bool:
        """Return whether the run trained its round from the start, under masks and a data seed."""
        engine = self.engine
        # Round 0 does not start from the rewind point, but goes through it with its optimizer.
        rewinds = engine.config.reset == "rewind" and round > 0
        if self.start != INIT and not (
            rewinds and parse_start(self.start, engine.steps_per_epoch) == engine.rewind_step
        ):
            return False
        if data_seed != engine.config.data_seed:
            return False
        own = self.run.masks(round)
        return all(np.array_equal(mask, own[path]) for path, mask in masks.items())

    def start_of(self, round: int) -> tuple[Weights, int]:
        """Return (weights, step) that a round is trained from, without masks where possible."""
        engine, reset = self.engine, self.engine.config.reset
        steps = {"rewind": engine.rewind_step, "lr_rewind": engine.rewind_step}
        steps["finetune"] = engine.steps
        named = parse_start(self.start, engine.steps_per_epoch)
        first = named or (steps.get(reset, 0) if round else 0)
        if named or (round and reset == "rewind"):
            from lottery_tf.training import rewinding

            rewinding.make_sure(engine, self.run, first, self.stop_signal)
            return rewind_points.read(self.run.path, first) or self.run.initial(0), first
        # The pruned weights of W_0 only round 0 has.
        return self.run.initial(0 if reset == "init" else round), first

    def train(self, name: str, training: Training) -> tuple[Weights, list[Row]]:
        """Return (weights, history) of a Training: read if it is there, else trained or resumed.

        `name` is that of its directory; the Training starts from weights.

        Raises:
            Interrupted: a signal came; a checkpoint is saved.
        """
        path = self.path / name
        source, trained = path / "source.txt", path / "trained"
        digest = training.digest() + "\n"

        def is_of_this() -> bool:
            return source.exists() and source.read_bytes() == digest.encode()

        if not (is_of_this() and trained.exists()):
            try:
                self.path.mkdir(exist_ok=True)
                with RunDir(self.path).lock():  # against another tool, which may have trained it
                    if path.exists() and not is_of_this():
                        console.say(f"{path} came from other rounds: it is trained again.")
                        shutil.rmtree(path)
                    path.mkdir(exist_ok=True)
                    files.remove_leftovers(path)
                    files.remove_leftovers(path / "checkpoints")
                    files.write_text(source, digest)
                    if not trained.exists() and not self._link(digest, trained):
                        from lottery_tf.loop.observers import BarObserver
                        from lottery_tf.training.resumable import train_or_continue

                        weights, history = train_or_continue(
                            self.engine, training, path, BarObserver(path.name), self.stop_signal
                        )
                        arrays, table = files.format_npz(weights), files.format_csv(history)
                        files.write_directory(trained, {"final.npz": arrays, "history.csv": table})
                        checkpoints.forget(path)
            except OSError as error:
                raise InputError(f"Cannot train in {path}: {error.strerror}.") from None
        return self._read(path)

    def _read(self, path: Path) -> tuple[Weights, list[Row]]:
        """Return (weights, history) of the finished training at a path."""
        try:
            weights = files.parse_npz(files.read_checked(path / "trained" / "final.npz"))
            return weights, files.parse_csv(files.read_checked(path / "trained" / "history.csv"))
        except InputError as error:
            raise InputError(f"{error} Remove {path} to train it again.") from None

    def _link(self, digest: str, trained: Path) -> bool:
        """Make `trained` of the links to a finished copy that trained the same; or return False."""
        for source in sorted(self.path.glob("*/source.txt")):
            other = source.parent / trained.name
            if source.read_bytes() == digest.encode() and other.exists():
                names = ("final.npz", "history.csv")
                with contextlib.suppress(InputError):  # one that is damaged
                    files.write_directory(trained, {name: other / name for name in names})
                    return True
        return False


def parse_start(text: str, steps_per_epoch: int) -> int:
    """Return the step that --start names, 0 for init; InputError if it is of no such form."""
    if text == INIT:
        return 0
    kind, _, step = text.partition(":")
    if kind == "rewind" and step and (found := parse_step("--start=rewind", step, steps_per_epoch)):
        return found
    raise InputError(f"--start: expected init, rewind:500 or rewind:4ep. Received: {text}")


def start_suffix(start: str) -> str:
    """Return the part of a file's name that tells a --start that is not init."""
    return "" if start == INIT else f"_{start.replace(':', '_')}"


def check_resets(run: RunDir) -> None:
    """Raise InputError if not all rounds of a run start from the weights of round 0."""
    if run.config()["reset"] not in RESETS:
        raise InputError(
            f"{run.path}: expected a run that resets to round 0 (--reset=init). Of a reinit "
            "the initial weights that were pruned are not stored."
        )


def nudge(weights: Weights, masks: Masks, generator: np.random.Generator) -> Weights:
    """Return weights of which one survivor, drawn from all layers, is NUDGE larger."""
    paths = list(masks)
    counts = [np.count_nonzero(masks[path]) for path in paths]
    chosen = int(generator.integers(sum(counts)))
    ends = np.cumsum(counts)
    layer = int(np.searchsorted(ends, chosen, side="right"))
    path = paths[layer]
    survivors = np.flatnonzero(masks[path])
    changed = weights[path].copy()
    place = survivors[chosen - ends[layer] + counts[layer]]
    spread = float(changed.flat[survivors].std()) or abs(float(changed.flat[place]))
    changed.flat[place] += NUDGE * spread
    return {**weights, path: changed}


def random_masks(masks: Masks, generator: np.random.Generator) -> Masks:
    """Return random masks of the same density in each layer."""
    return {
        path: generator.permutation(mask.ravel()).reshape(mask.shape)
        for path, mask in masks.items()
    }


@dataclasses.dataclass
class MaskMeasure(TableMeasure):
    """A measure that trains under the masks of some rounds; rounds start from round 0."""

    at_rounds: Rounds = flag(
        (),
        "Rounds whose masks are trained, separated by commas. Default: 10, or the last round of "
        "a shorter run.",
    )

    needs = Needs.RETRAINING
    resets = RESETS

    def prepare(self) -> None:
        """Choose the rounds, and check all runs before the first is trained."""
        runs = [*self.runs, *([self.other] if self.other else [])]
        self.at_rounds = select_common_rounds(runs, self.at_rounds, usual=USUAL_ROUNDS)
        for run in self.runs:
            check_resets(run)
