"""Reads a run as far as it can be read, and names what is damaged or missing."""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from lottery_tf.analysis import replicates
from lottery_tf.analysis.cache import Cache
from lottery_tf.analysis.statistics import (
    SEEDS,
    Seeds,
    has_collapsed,
    seeds_of,
    test_examples,
    tolerance,
)
from lottery_tf.config import Config
from lottery_tf.config.record import MADE_BY_ROUNDS
from lottery_tf.errors import InputError
from lottery_tf.plots import Row
from lottery_tf.runs import files, provenance
from lottery_tf.runs.rounds import FinishedRound, damaged
from lottery_tf.runs.rundir import RunDir
from lottery_tf.sweeps.groups import HOW

FINISHED, UNFINISHED, DAMAGED = "finished", "unfinished", "damaged"
# What the bars of a single run's test accuracy show.
SAMPLING = "bars: one standard deviation on the test examples"
CONFIG = {field.name: field for field in dataclasses.fields(Config)}


@dataclasses.dataclass(frozen=True)
class Reading:
    """What was read of a run."""

    run: RunDir
    config: dict[str, Any]  # {flag: value}; empty where config.json is damaged
    rows: list[Row]  # of metrics.csv, for the rounds that can be read
    problems: list[str]  # sentences about what could not be read
    keep: bool  # whether measurements may be kept in the run's analysis/
    # Whether all files of the rounds match their checksums; else earlier measurements are not used.
    sound: bool = True
    repeats: str = ""  # says which run of the study this one repeats

    @property
    def name(self) -> str:
        """The name of the run: that of its directory."""
        return self.run.path.name

    @property
    def own_fit(self) -> bool:
        """Whether it was made around the user's own fit: its network and data are not known."""
        return self.config.get("made_by") == MADE_BY_ROUNDS

    @property
    def state(self) -> str:
        """FINISHED, UNFINISHED, or DAMAGED where something could not be read."""
        if self.problems:
            return DAMAGED
        ended = len(self.rows) >= self.config["rounds"] or any(
            line.endswith(" finished") for line in self.log[-1:]
        )
        return FINISHED if ended else UNFINISHED

    @property
    def log(self) -> list[str]:
        """The lines of log.txt; none where there is no such file."""
        try:
            return (self.run.path / "log.txt").read_text("utf-8", "replace").splitlines()
        except OSError:
            return []

    @property
    def progress(self) -> str:
        """How many of its rounds can be read, as "3 of 25"."""
        return f"{len(self.rows)} of {self.config.get('rounds', '?')}"

    @property
    def seconds(self) -> float:
        """The time that all rounds took, in seconds."""
        return sum(row["seconds"] for row in self.rows if row.get("seconds", 0) > 0)

    @property
    def seeds(self) -> Seeds:
        """The seeds of the run, which tell replicates apart."""
        return seeds_of(self.config)

    @property
    def examples(self) -> int | None:
        """The number of test examples; None where it is not recorded, or the record is damaged."""
        try:
            return test_examples(self.run)
        except InputError:
            return None

    def changed_flags(self) -> dict[str, tuple[Any, Any]]:
        """Return {experiment flag: (value, default)} of the flags that are not the defaults.

        For a run around a user's own fit, all that it recorded counts.
        """
        changed = {}
        for name, value in self.config.items():
            default = CONFIG[name].default if name in CONFIG else None
            default = list(default) if isinstance(default, tuple) else default
            if value != default and name not in HOW:
                changed[name] = (value, default)
        for name in SEEDS[1:]:  # by default they are --seed
            if changed.get(name, ("", ""))[0] == self.config.get("seed"):
                del changed[name]
        return changed

    def cache(self, name: str) -> Cache:
        """Return the cache of a measure: what was measured before, and what is from now on."""
        if not self.sound:
            return Cache()
        cache = Cache(self.run.path / "analysis" / f"{name}.cache.json")
        if not self.keep:
            cache.path = None
        elif cache.path:
            cache.path.parent.mkdir(exist_ok=True)
        return cache

    def tables(self, name: str) -> dict[str, list[Row]]:
        """Return {end of the name: rows} of a measure's CSV files, without paths and matrices.

        Raises:
            InputError: a file, or the rounds it was made from, are damaged.
        """
        found = {}
        paths = sorted((self.run.path / "analysis").glob(f"{name}*.csv"))
        if paths and not self.sound:
            raise InputError(f"{self.run.path} is damaged, so {paths[0]} is ignored.")
        for path in paths:
            end = path.stem.removeprefix(name)
            if re.search("_(pairs|paths|matrix|to|of)(_|$)", end):
                continue
            try:
                found[end] = files.parse_csv(path.read_bytes())
            except InputError as error:
                raise InputError(f"{path}: {error} Remove it, and measure again.") from None
        return found

    def environment(self) -> dict[str, str]:
        """Return {name: version or value} of environment.json; {} if it is missing or damaged."""
        try:
            found = json.loads((self.run.path / "environment.json").read_text())
        except (OSError, ValueError, RecursionError):
            return {}
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}

    def data(self) -> list[tuple[str, str]]:
        """Return [(split, what data.json says about it)].

        Raises:
            InputError: it is damaged.
        """
        found = provenance.recorded(self.run.path) or {}
        return [(name, provenance.in_words(value)) for name, value in found.items()]


def read(path: str | os.PathLike, *, keep: bool = True) -> Reading:
    """Read the run at a path, and check the files of its rounds.

    Raises:
        InputError: there is neither a config.json nor a round.
    """
    run, problems = RunDir(os.path.normpath(os.path.abspath(path))), []
    config: dict[str, Any] = {}
    try:
        config = run.config()
    except InputError as error:
        if not is_run(run.path):
            raise
        problems.append(str(error))
    rows, rounds = [], _rounds(run, problems)
    for round in rounds:
        try:
            rows.append(run.metrics_of(round))
        except InputError as error:
            problems.append(str(error))
    damage = damaged(FinishedRound(run.path, round) for round in rounds)
    problems = list(dict.fromkeys(problems + damage))
    return Reading(run, config, rows, problems, keep, sound=not damage)


def configs(readings: Sequence[Reading]) -> list[dict[str, Any]]:
    """Return the flags of the runs that have a readable config.json."""
    return [reading.config for reading in readings if reading.config]


def is_run(path: pathlib.Path) -> bool:
    """Return whether a directory holds a config.json, or rounds."""
    return (path / "config.json").exists() or any(path.glob("round_[0-9]*"))


def _rounds(run: RunDir, problems: list[str]) -> Sequence[int]:
    """Return the finished rounds that exist, though one before them may be missing."""
    try:
        return range(run.finished_rounds())
    except InputError as error:
        problems.append(str(error))
    found = (re.fullmatch(r"round_([0-9]+)", path.name) for path in run.path.iterdir())
    numbers = sorted({int(match[1]) for match in found if match})
    return [number for number in numbers if run.round_path(number).is_dir()]


def mean_rows(readings: Sequence[Reading]) -> list[Row]:
    """Return the rows of a run's rounds; of several runs the means, with min and max.

    They have the columns of metrics.csv, and "collapsed": the part of the runs whose round has.
    """
    of_runs = [
        [row | {"collapsed": int(has_collapsed(row))} for row in reading.rows]
        for reading in readings
    ]
    return of_runs[0] if len(of_runs) == 1 else replicates.over_runs(of_runs, ("round",))


def uncollapsed(rows: list[Row]) -> list[Row]:
    """Return the rows of `mean_rows` but those that have collapsed in all runs, unless all have.

    An accuracy of chance would press those that are to be compared together.
    """
    return [row for row in rows if row["collapsed"] < 1] or rows


def with_sampling_error(rows: list[Row], examples: int | None) -> list[Row]:
    """Return rows whose test accuracy has as min and max SAMPLING, where it has none of seeds."""
    if any("test_accuracy_min" in row for row in rows):
        return rows
    return [
        row | {"test_accuracy_min": accuracy - error, "test_accuracy_max": accuracy + error}
        for row in rows
        for accuracy in [row["test_accuracy"]]
        for error in [tolerance(accuracy, examples)]
    ]


def name_among(reading: Reading, readings: Sequence[Reading]) -> str:
    """Return the name of a run among others: its path, where another one has the same name."""
    alike = [other.name for other in readings].count(reading.name) > 1
    return str(reading.run.path) if alike else reading.name
