"""The runs and rounds that an analysis is of, checked. NumPy only."""

import dataclasses
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lottery_tf.analysis.statistics import SEEDS
from lottery_tf.config import Config
from lottery_tf.errors import InputError
from lottery_tf.plots import Row
from lottery_tf.runs import provenance
from lottery_tf.runs.rounds import finished
from lottery_tf.runs.rundir import RunDir

Runs = Sequence[RunDir]
Groups = Mapping[str, Runs]  # {label: replicates}
Rounds = Sequence[str | int]  # as --at_rounds names them
Computing = Mapping[str, Any]  # where and how, as loading.engine_of takes it
# Flags that runs must have in common to be compared, or evaluated with one engine.
SAME = ("model", "dataset", "shortcut", "bn_affine", "image_size", "train_examples",
        "train_split", "test_split", "test_fraction", "validation_fraction", "image_key",
        "label_key", "mixed_precision")  # fmt: skip
# Flags in which two runs of one experiment may differ: how they ran, and how far they are.
NOT_OF_EXPERIMENT = {
    "rounds",
    *(field.name for field in dataclasses.fields(Config) if field.metadata["how"]),
}


def open_runs(paths: Iterable[str | os.PathLike]) -> list[RunDir]:
    """Return the RunDirs of replicates at some paths, each with a finished round at least.

    Raises:
        InputError: there is no run, it has no finished round, they are of different models or
            datasets, or two of them are one.
    """
    runs = open_any_runs(paths)
    check_same_experiment(runs)
    check_replicates(runs)
    return runs


def open_any_runs(paths: Iterable[str | os.PathLike]) -> list[RunDir]:
    """The RunDirs at some paths as `open_runs`, of whatever models and datasets."""
    runs = [RunDir(os.path.normpath(os.path.abspath(path))) for path in paths]
    if not runs:
        raise InputError("--run_dir: expected one run or several, with commas. Received none.")
    for run in runs:
        run.config()  # says so if this is no run
        if not run.finished_rounds():
            raise InputError(f"{run.path} has no finished round.")
    return runs


def check_same_experiment(runs: Iterable[RunDir | None]) -> None:
    """Raises InputError if runs are of different models or datasets; None is no run."""
    there = [run for run in runs if run]
    first, *others = (run.config() for run in there)
    for run, flags in zip(there[1:], others, strict=True):
        for name in SAME:
            if flags[name] != first[name]:
                raise InputError(
                    f"Expected runs of one model and dataset. --{name} is {first[name]} in "
                    f"{there[0].path}, {flags[name]} in {run.path}."
                )
        provenance.check_same(there[0].path, run.path)


def check_replicates(runs: Sequence[RunDir]) -> None:
    """Raise InputError if two of some runs are one: the same directory, a copy, or the same seeds.

    Training the same seeds twice, on another machine as well, repeats one run: it tells nothing of
    the spread between seeds.
    """
    for one, other in itertools.combinations(runs, 2):
        if why := same_run(one, other):
            raise InputError(
                f"Expected replicates, which differ in their seeds. {other.path} is no replicate "
                f"of {one.path}: {why}. Name one of them."
            )


def same_run(one: RunDir, other: RunDir) -> str:
    """Return why two runs count as one, in words; "" if they do not."""
    if one.path.resolve() == other.path.resolve():
        return "both paths lead to the same directory"
    configs = [run.config() for run in (one, other)]
    if experiment(configs[0]) != experiment(configs[1]):
        return ""
    sums = [_sums(run) for run in (one, other)]
    if all(sums) and all(a == b for a, b in zip(*sums, strict=False)):
        return "its rounds are copies"
    if configs[0].get("made_by"):  # its network was of the user's own seeds, which nobody recorded
        return ""
    seeds = " ".join(f"--{name}={configs[0][name]}" for name in SEEDS)
    return f"both have the same flags and the same seeds, {seeds}"


def repeats(runs: Iterable[RunDir]) -> dict[RunDir, tuple[RunDir, str]]:
    """Return {a run that is an earlier one again: (that one, why in words)}, as `same_run` tells.

    Raises:
        InputError: a config.json is damaged.
    """
    found: dict[RunDir, tuple[RunDir, str]] = {}
    alike: dict[str, list[RunDir]] = {}
    for run in runs:
        before = alike.setdefault(experiment(run.config()), [])
        for other in before:
            if why := same_run(other, run):
                found[run] = other, why
                break
        else:
            before.append(run)
    return found


def experiment(config: Mapping[str, Any]) -> str:
    """Return what tells the experiment of a run, seeds included, from others."""
    return repr(sorted((n, v) for n, v in config.items() if n not in NOT_OF_EXPERIMENT))


def _sums(run):
    """What the rounds of a run hold, in digests; none of a damaged run."""
    try:
        return [of.fingerprint() for of in finished(run)]
    except InputError:
        return []


def select_rounds(run: RunDir, at_rounds: Rounds, *, usual: Sequence[int] = ()) -> list[int]:
    """The rounds that --at_rounds names, checked.

    If it names none, those of the usual ones that are finished, or else the last; without usual
    ones, all.
    """
    finished = run.finished_rounds()
    try:
        rounds = [int(text) for text in at_rounds]
    except ValueError:
        raise InputError(
            f"--at_rounds: expected numbers with commas, as 0,5,10. Received: "
            f"{','.join(map(str, at_rounds))}"
        ) from None
    for round in rounds:
        if not 0 <= round < finished:
            raise InputError(
                f"--at_rounds: {run.path} has no finished round {round}. Its finished rounds are 0 "
                f"to {finished - 1}."
            )
    if usual and not rounds:
        return [round for round in usual if round < finished] or [finished - 1]
    return rounds or list(range(finished))


def select_common_rounds(runs: Iterable[RunDir], at_rounds: Rounds, *,
                         usual: Sequence[int]) -> list[int]:  # fmt: skip
    """`select_rounds` of several runs: rounds that all of them have."""
    runs = list(runs)
    for run in runs:
        select_rounds(run, at_rounds)
    return select_rounds(min(runs, key=RunDir.finished_rounds), at_rounds, usual=usual)


def metrics_with(run: RunDir, *columns: str) -> list[Row]:
    """RunDir.metrics(), whose rows all have some columns.

    Raises:
        InputError: one lacks a column.
    """
    rows = run.metrics()
    for row in rows:
        if missing := [name for name in columns if name not in row]:
            raise InputError(
                f"{run.round_path(row['round'])}/metrics.csv lacks {', '.join(missing)}."
            )
    return rows


def as_groups(runs: RunDir | Groups) -> Groups:
    """{label: RunDirs}: what is such already, or a run alone under the name of its directory."""
    return {runs.path.name: [runs]} if isinstance(runs, RunDir) else runs


def check_at_least(least: int, **values: int) -> None:
    """Raises InputError if the value of an option is below `least`."""
    for name, value in values.items():
        if value < least:
            raise InputError(f"--{name}: expected at least {least}. Received: {value}")
