"""The run directory of a Keras model, whose layers may have other names in each process."""

import dataclasses
import json
import os
import shutil
from typing import Any

import keras
import numpy as np

from lottery_tf import masking, pruning
from lottery_tf.config.record import MADE_BY_ROUNDS, differences
from lottery_tf.errors import InputError
from lottery_tf.loop import checks
from lottery_tf.loop.arguments import Arguments
from lottery_tf.loop.store import BACKUPS, RoundStore
from lottery_tf.pruning import Array, Masks, Weights, criteria
from lottery_tf.runs import rewind_points
from lottery_tf.runs.rundir import RunDir


def _field(default: Any, *, how: bool = False) -> Any:
    return dataclasses.field(default=default, metadata={"how": how})


@dataclasses.dataclass(frozen=True)
class Record:
    """What config.json says of the rounds, under the names of the command's flags.

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
    structure: str = _field("none")
    structure_pool: str = _field("sum")

    @classmethod
    def of(cls, arguments: Arguments) -> "Record":
        """Return the record of checked arguments."""
        where = dict(arguments.where)
        fractions = sorted(where.pop("layer_fractions", {}).items())
        structure = where.pop("structure", None)
        sizes = [mask.size for mask in masking.get_masks(arguments.model).values()]
        return cls(
            model=f"own: {len(sizes)} kernels of {sum(sizes)} weights",
            seed=int(arguments.seed),
            rounds=int(arguments.rounds),
            prune_fraction=float(
                cls.prune_fraction if arguments.fraction is None else arguments.fraction
            ),
            densities=tuple(map(float, arguments.densities_of_rounds())),
            criterion=criteria.name_of(arguments.criterion),
            prune_iterations=arguments.iterations,
            reset=arguments.reset,
            rewind_to=str(arguments.rewind_to or ""),
            layer_fractions=tuple(f"{layer}:{fraction}" for layer, fraction in fractions),
            keep_dense=tuple(where.pop("keep_dense", ())),
            structure=str(structure.pattern) if structure else cls.structure,
            structure_pool=structure.pool if structure else cls.structure_pool,
            **where,
        )

    def to_json(self) -> str:
        """Return the lines of config.json."""
        return json.dumps(dataclasses.asdict(self), indent=0) + "\n"

    def to_flags(self) -> str:
        """No flag file repeats it."""
        return ""


class ModelStore(RoundStore):
    """The rounds of a Keras model.

    Files hold its floating-point variables under the names of the process that began the
    directory; here they have the names of the model.

    Args:
        directory: path.
        arguments: Arguments, checked.

    Raises:
        InputError: the directory cannot be one, or is of other rounds or of another model.
    """

    def __init__(self, directory: str | os.PathLike, arguments: Arguments):
        if not isinstance(directory, str | os.PathLike) or not os.fspath(directory):
            raise InputError(f"directory: expected a path. Received: {directory!r}")
        checks.check_named(arguments.criterion)
        run, model = RunDir(os.path.expanduser(directory)), arguments.model
        super().__init__(run)
        self.model, self.record = model, Record.of(arguments)
        self._check()
        # (weights, masks) of the last saved round, under the names of the files
        self.saved: tuple[Weights, Masks] = {}, {}
        # {path in the model: path in the files}
        self.names = names_in(run, model) if self.finished_rounds() else {}

    def _check(self) -> None:
        """Raise InputError if the directory holds other rounds than the arguments make."""
        path = self.run.path
        if not (path / "config.json").exists():
            return self.run.check(self.record)  # a file in its place, or rounds without a record
        before = self.run.config()
        other = differences(before, self.record, how=False)
        if before["rounds"] > self.record.rounds:
            other["rounds"] = (before["rounds"], self.record.rounds)
        if other:
            lines = [f"{name} {old!r} there, {new!r} now" for name, (old, new) in other.items()]
            raise InputError(
                f"directory: {path} holds other rounds: {'; '.join(lines)}. Use another directory, "
                "or pass the same arguments."
            )

    def continues(self) -> bool:
        """Return whether the first weights are those of the directory, not those of the model."""
        return bool(self.finished_rounds()) or self.has_backup(0)

    def begin(self) -> None:
        super().begin()
        self.names = self.names or {path: path for path in masking.variables(self.model)}
        if not self.finished_rounds() and not self.has_backup(0):
            rewind_points.save(self.run.path, 0, self._to_files(masking.get_weights(self.model)))

    def first_weights(self) -> Weights:
        """Return W_0: that of the directory, once round 0 has a backup; else the model's."""
        if self.finished_rounds():
            return self.initial(0)
        return self.rewind_point(0) or masking.get_weights(self.model)

    def masks(self, round: int) -> Masks:
        return self._to_model(super().masks(round))

    def initial(self, round: int) -> Weights:
        return masking.get_weights(self.model) | self._to_model(super().initial(round))

    def final(self, round: int) -> Weights:
        return masking.get_weights(self.model) | self._to_model(super().final(round))

    def next_masks(self, round: int) -> Masks | None:
        masks = super().next_masks(round)
        return None if masks is None else self._to_model(masks)

    def rewind_point(self, step: int) -> Weights | None:
        found = super().rewind_point(step)
        if found is None:
            return None
        own, variables = masking.get_weights(self.model), masking.variables(self.model)
        # By their order: round 0 may have begun with a model whose layers were numbered otherwise.
        kept = [path for path in own if _is_kept(variables[path])]
        return own | dict(zip(kept, found.values(), strict=True))

    def save_rewind_point(self, step: int, weights: Weights) -> None:
        super().save_rewind_point(step, self._to_files(weights))

    def save_round(
        self, round: int, *, masks: Masks, initial: Weights, final: Weights, **contents: Any
    ) -> None:
        # A loop of the user's own may have moved pruned weights; the network does without them.
        final = pruning.apply_masks(final, masks)
        if contents.get("next_masks"):
            contents["next_masks"] = self._renamed(contents["next_masks"])
        self.saved = self._to_files(final), self._renamed(masks)
        final, masks = self.saved
        self.run.save_round(
            round, masks=masks, initial=self._to_files(initial), final=final, **contents
        )
        shutil.rmtree(self.run.path / BACKUPS, ignore_errors=True)

    def _renamed(self, arrays: dict[str, Array]) -> dict[str, Array]:
        return {self.names[path]: array for path, array in arrays.items()}

    def _to_files(self, weights: Weights) -> Weights:
        """Return the floating-point variables as files hold them."""
        variables = masking.variables(self.model)
        return {
            self.names[path]: array if array.dtype.kind == "f" else array.astype(np.float32)
            for path, array in weights.items()
            if _is_kept(variables[path])
        }

    def _to_model(self, arrays: dict[str, Array]) -> dict[str, Array]:
        return to_model(arrays, self.names)


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


def to_model(arrays: dict[str, Array], names: dict[str, str]) -> dict[str, Array]:
    """Return arrays of a file under the names of a model, which `names_in` returns."""
    own = {stored: path for path, stored in names.items()}
    return {own[path]: array for path, array in arrays.items()}


def place(run: RunDir, round: int, model: keras.Model) -> Masks:
    """Set a masked model to the end of a finished round; return the round's masks."""
    names = names_in(run, model)
    masks = to_model(run.masks(round), names)
    trained = to_model(run.final(round), names)
    masking.set_weights(model, masking.get_weights(model) | trained, masks)
    return masks


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


def _is_kept(variable: Any) -> bool:
    """Return whether a round's files hold a variable: a number, not a counter or a table."""
    return "float" in str(variable.dtype)
