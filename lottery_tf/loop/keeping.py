"""The turns of `rounds` as a run directory, which every tool on weights reads."""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import shutil
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from lottery_tf import masking, pruning
from lottery_tf.config.record import MADE_BY_ROUNDS, differences
from lottery_tf.errors import InputError
from lottery_tf.loop import checks
from lottery_tf.loop.backups import epochs_in
from lottery_tf.loop.plan import Plan
from lottery_tf.plots import Row
from lottery_tf.pruning import Array, Masks, Weights, criteria
from lottery_tf.runs import rewind_points
from lottery_tf.runs.rundir import RunDir

BACKUPS = "backups"


def _field(default: Any, *, how: bool = False) -> Any:
    return dataclasses.field(default=default, metadata={"how": how})


@dataclasses.dataclass(frozen=True)
class Record:
    """What config.json says of the turns, under the names of the command's flags.

    What it does not name was up to the user's own `fit`.
    """

    made_by: str = _field(MADE_BY_ROUNDS)
    model: str = _field("")
    dataset: str = _field("own data")
    seed: int = _field(0)
    rounds: int = _field(1, how=True)
    epochs: int = _field(0, how=True)  # the user's fit says how many
    prune_fraction: float = _field(0.2)
    densities: tuple[float, ...] = _field(())
    criterion: str = _field("magnitude")
    prune_iterations: int | None = _field(None)
    reset: str = _field("init")
    rewind_to: str = _field("")
    scope: str = _field("global")
    layer_fractions: tuple[str, ...] = _field(())
    keep_dense: tuple[str, ...] = _field(())
    min_layer_weights: int = _field(0)

    @classmethod
    def of(cls, plan: Plan) -> "Record":
        """That of a Plan that is checked."""
        where = dict(plan.where)
        fractions = sorted(where.pop("layer_fractions", {}).items())
        sizes = [mask.size for mask in masking.get_masks(plan.model).values()]
        return cls(
            model=f"own: {len(sizes)} kernels of {sum(sizes)} weights",
            seed=int(plan.seed),
            rounds=int(plan.rounds),
            prune_fraction=cls.prune_fraction if plan.fraction is None else float(plan.fraction),
            densities=tuple(map(float, plan.densities_of_turns())),
            criterion=criteria.name_of(plan.criterion),
            prune_iterations=plan.iterations,
            reset=plan.reset,
            rewind_to=str(plan.rewind_to or ""),
            layer_fractions=tuple(f"{layer}:{fraction}" for layer, fraction in fractions),
            keep_dense=tuple(where.pop("keep_dense", ())),
            **where,
        )

    def to_json(self) -> str:
        """The lines of config.json."""
        return json.dumps(dataclasses.asdict(self), indent=0) + "\n"

    def to_flags(self) -> str:
        """No flag file repeats it."""
        return ""


class Keeper:
    """The run directory of a Plan: what is kept of its turns.

    Args:
        directory: path.
        plan: Plan, checked.

    Raises:
        InputError: the directory cannot be one, or is of other turns or of another model.
    """

    def __init__(self, directory: str | os.PathLike, plan: Plan):
        if not isinstance(directory, str | os.PathLike) or not os.fspath(directory):
            raise InputError(f"directory: expected a path. Received: {directory!r}")
        checks.check_named(plan.criterion)
        self.plan, self.record = plan, Record.of(plan)
        self.run = RunDir(os.path.expanduser(directory))
        self._check()
        # {path in the model: path in the files}
        self._names: dict[str, str] = names_in(self.run, plan.model) if self._finished() else {}

    def _finished(self):
        return self.run.finished_rounds() if self.run.path.is_dir() else 0

    def _check(self):
        path = self.run.path
        if not (path / "config.json").exists():
            return self.run.check(self.record)  # a file in its place, or rounds without a record
        before = self.run.config()
        other = differences(before, self.record, how=False)
        if before["rounds"] > self.plan.rounds:
            other["rounds"] = (before["rounds"], self.plan.rounds)
        if other:
            lines = [f"{name} {old!r} there, {new!r} now" for name, (old, new) in other.items()]
            raise InputError(
                f"directory: {path} holds other rounds: {'; '.join(lines)}. Use another directory, "
                "or pass the same arguments."
            )

    def continues(self) -> bool:
        """Whether the first weights are those of the directory, not those of the model."""
        return bool(self._finished()) or self.has_backup(0)

    @contextlib.contextmanager
    def open(self) -> Iterator[int]:
        """Makes the directory or continues it, locked; yields the number of finished turns."""
        with self.run.open(self.record) as finished:
            self._names = self._names or {path: path for path in masking.variables(self.plan.model)}
            self.run.log(f"rounds around fit: {finished} of {self.plan.rounds} are finished")
            yield finished

    # Reading -------------------------------------------------------------------------------

    def start(self) -> Weights:
        """W_0: that of the directory, once turn 0 is finished or has a backup; else the model's."""
        own = masking.get_weights(self.plan.model)
        if self._finished():
            return own | self._own(self.run.initial(0))
        if not self.has_backup(0):
            rewind_points.forget(self.run.path)  # of a turn 0 that begins again
            rewind_points.save(self.run.path, 0, self._stored(own))
        return self.stored_step(0) or own

    def resume(self, turn: int) -> tuple[Weights, Masks]:
        """Sets the model to the end of a finished turn; (the weights it started from, masks)."""
        own = masking.get_weights(self.plan.model)
        masks = place(self.run, turn, self.plan.model, self._names)
        return own | self._own(self.run.initial(turn)), masks

    def next_masks(self, turn: int) -> Masks | None:
        """The masks that the pruning after a finished turn left; None if they were not saved."""
        found = self.run.next_masks(turn)
        return None if found is None else self._own(found)

    def stored_step(self, step: int) -> Weights | None:
        """The weights of turn 0 after some steps, if they are there."""
        found = rewind_points.read(self.run.path, step)
        if found is None:
            return None
        own = masking.get_weights(self.plan.model)
        held = masking.variables(self.plan.model)
        # By their order: turn 0 may have begun with a model whose layers were numbered otherwise.
        return own | dict(zip((p for p in own if _is_kept(held[p])), found.values(), strict=True))

    def _own(self, arrays: dict[str, Array]) -> dict[str, Array]:
        return _renamed(arrays, self._names)

    # Writing -------------------------------------------------------------------------------

    def backups(self, turn: int) -> pathlib.Path:
        """Where a turn's fit keeps its state while it trains."""
        return self.run.path / BACKUPS / f"round_{turn:02d}"

    def has_backup(self, turn: int) -> bool:
        """Whether a fit of a turn was stopped, and can go on."""
        return any(epochs_in(fit) for fit in self.backups(turn).glob("*"))

    def keep_rewind_point(self, weights: Weights) -> None:
        """Stores the weights of the rewind point, in place of those of an epoch that was lost."""
        rewind_points.forget(self.run.path, self.plan.rewind_to)
        rewind_points.save(self.run.path, self.plan.rewind_to, self._stored(weights))

    def save(self, turn: int, *, masks: Masks, initial: Weights, history: list[Row],
             metrics: Row, next_masks: Masks | None) -> None:  # fmt: skip
        """Keeps a finished turn: the model as it is, what it started from, what it pruned."""
        # A loop of the user's own may have moved pruned weights; the network does without them.
        final = self._stored(pruning.apply_masks(masking.get_weights(self.plan.model), masks))
        masks = {self._names[path]: mask for path, mask in masks.items()}
        if next_masks:
            next_masks = {self._names[path]: mask for path, mask in next_masks.items()}
        self.run.save_round(turn, masks=masks, initial=self._stored(initial), final=final,
                            history=history, metrics=metrics, next_masks=next_masks)  # fmt: skip
        shutil.rmtree(self.run.path / BACKUPS, ignore_errors=True)
        try:
            self._show(turn, history, metrics, final, masks)
        except Exception as error:  # what only shows stops nothing
            warnings.warn(f"Cannot write TensorBoard's files: {error}", stacklevel=2)

    def _show(self, turn, history, metrics, final, masks):
        from lottery_tf.plots.summaries import Summaries

        summaries = Summaries(self.run.path)
        before = sum(len(self.run.history(earlier)) for earlier in range(turn))
        summaries.start_round(turn, before)
        for row in history:
            summaries.add_epoch(row)
        summaries.finish_round(metrics, final, masks)

    def _stored(self, weights: Weights) -> Weights:
        """Floating-point numbers as files hold them, under the names of the directory."""
        held = masking.variables(self.plan.model)
        return {
            self._names[path]: array if array.dtype.kind == "f" else array.astype(np.float32)
            for path, array in weights.items()
            if _is_kept(held[path])
        }


def names_in(run: RunDir, model: keras.Model) -> dict[str, str]:
    """Return {path in a model: path in the files}; Keras may number layers otherwise each time.

    Raises:
        InputError: the rounds are those of another model.
    """
    held, kernels = run.initial(0), run.masks(0)
    own = {p: v for p, v in masking.variables(model).items() if _is_kept(v)}
    names = dict(zip(own, own if set(own) == set(held) else held, strict=False))
    same = len(own) == len(held) and set(kernels) == {
        names[path] for path in masking.kernels(model)
    }
    if same and all(tuple(v.shape) == held[names[path]].shape for path, v in own.items()):
        return names
    raise InputError(
        f"directory: {run.path} holds rounds of another model than {model.name}. Use another "
        "directory, or the same model."
    )


def place(run: RunDir, round: int, model: keras.Model, names: dict[str, str]) -> Masks:
    """Set a model to the end of a finished round; return the round's masks.

    Args:
        run: the run directory.
        round: number of the round.
        model: a masked model like the one that was trained.
        names: as `names_in` gives them.
    """
    masks = _renamed(run.masks(round), names)
    trained = _renamed(run.final(round), names)
    masking.set_weights(model, masking.get_weights(model) | trained, masks)
    return masks


def _renamed(arrays, names):
    """Arrays of a file under the names that the model has for them."""
    own = {stored: path for path, stored in names.items()}
    return {own[path]: array for path, array in arrays.items()}


def first_density_in(directory: Any) -> float | None:
    """Return the density of round 0 in a run directory, or None if that has not finished.

    A model that went through these rounds already has the masks of a later one.
    """
    if not isinstance(directory, str | os.PathLike):
        return None  # said when the rest of it is checked
    run = RunDir(os.path.expanduser(directory))
    if not (run.path / "config.json").exists() or not run.finished_rounds():
        return None
    return run.metrics_of(0)["density"]


def _is_kept(variable):
    """Whether a variable is a number that a round's files hold; not a counter or a table."""
    return "float" in str(variable.dtype)


def metrics_of(turn: int, history: list[Row], **values: Any) -> Row:
    """The row of a turn: that of its last epoch, and what is known of its pruning."""
    last = history[-1] if history else {}
    usual = {name: last.get(name, math.nan) for name in
             ("train_loss", "train_accuracy", "test_loss", "test_accuracy")}  # fmt: skip
    others = {name: value for name, value in last.items() if name not in ("epoch", "seconds")}
    own = {"round": turn} | values  # a metric of the user's may have such a name
    later = {name: value for name, value in (usual | others).items() if name not in own}
    return own | later | {"epochs": len(history)}
