"""The runs of a study: what varies between them, which are replicates, and what each came to."""

import dataclasses
import math
import os
import pathlib
import re
from collections.abc import Iterable, Sequence

from lottery_tf.analysis.replicates import without_collapsed
from lottery_tf.analysis.runs import repeats
from lottery_tf.analysis.statistics import has_collapsed
from lottery_tf.errors import InputError
from lottery_tf.plots import Row
from lottery_tf.reports import relations, verdicts
from lottery_tf.reports.blocks import Section
from lottery_tf.reports.reading import Reading, is_run, mean_rows, read, text_of, varying_flags
from lottery_tf.reports.weights import DENSITIES, nearest


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in seeds alone.

    Args:
        flags: {flag that varies in the study: value}.
        readings: the runs that have a finished round.
        rows: their means over rounds, as metrics.csv has them.
    """

    flags: dict[str, str]
    readings: list[Reading]
    rows: list[Row]

    @property
    def label(self) -> str:
        """The flags that vary, in words."""
        return label(self.flags)


def find(directory: str | os.PathLike, *, keep: bool) -> list[Reading]:
    """The runs in a directory, in the order of their names; numbers in these count as such.

    A run that is another one again is left out of `groups`, and is told as a problem of its own.

    Raises:
        InputError: there is none.
    """
    path = pathlib.Path(directory)
    if not path.is_dir():
        raise InputError(f"--runs={directory}: expected a directory of runs.")

    def by_numbers(path):
        return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part)
                for part in re.split(r"(\d+)", path.name)]  # fmt: skip

    there = sorted((p for p in path.iterdir() if p.is_dir() and is_run(p)), key=by_numbers)
    if not there:
        raise InputError(
            f"--runs={directory} has no run in it: expected directories with a config.json. Of "
            "one run alone ask by --run_dir."
        )
    found = [read(run, keep=keep) for run in there]
    again = repeats(reading.run for reading in found if reading.config)
    words = {
        run: f"{run.path.name} repeats {first.path.name}, and is left out: {why}."
        for run, (first, why) in again.items()
    }
    return [dataclasses.replace(of, repeats=words.get(of.run, "")) for of in found]


def groups(readings: Sequence[Reading]) -> list[Group]:
    """The runs with finished rounds, those together that differ in seeds alone."""
    names = varying_flags(readings)
    found: dict[tuple[str, ...], list[Reading]] = {}
    for reading in readings:
        if reading.config and reading.rows and not reading.repeats:
            key = tuple(text_of(reading, name) for name in names)
            found.setdefault(key, []).append(reading)
    return [
        Group(dict(zip(names, key, strict=True)), of_key, mean_rows(of_key))
        for key, of_key in found.items()
    ]


def panels(found: Sequence[Group]) -> dict[str, list[Group]]:
    """{what is common: groups} to be drawn together: those that differ in one flag alone.

    That flag is --reset if it varies, as ticket and reinit are to be compared, or else the last.
    """
    outer: dict[str, list[Group]] = {}
    for group in found:
        inner = inner_flag(list(group.flags))
        others = {name: value for name, value in group.flags.items() if name != inner}
        outer.setdefault(label(others), []).append(group)
    return outer


def inner_flag(names: Sequence[str]) -> str:
    """The flag, of those that vary, whose values are drawn together; "" if none varies."""
    return "reset" if "reset" in names else next(reversed(names), "")


def label(flags: dict[str, str]) -> str:
    """Flags and values in words."""
    return ", ".join(f"{name}={value}" for name, value in flags.items())


def titles(readings: Iterable[Reading]) -> dict[str, str]:
    """{target density: title} of columns of accuracies, with the density if all have the same."""
    found: dict[str, str] = {}
    for target in DENSITIES:
        near = [row["density"] for r in readings if (row := nearest(r.rows, target))]
        if near and max(near) - min(near) < 1e-4:
            found[str(target)] = f"acc at {near[0]:.2%}"
        elif near:
            found[str(target)] = f"acc near {100 * target:g}%"
    return found


def results(reading: Reading, section: Section) -> Row:
    """What a run came to: numbers, NaN where something is not measured; Problems go to a section.

    Returns:
        {target density: test accuracy, …, matching, mean_distance, largest_barrier}: `matching` is
        the sparsest density that matches; networks that have collapsed are in neither.
    """
    found: dict[str, float] = {}
    for target in DENSITIES:
        row = nearest(reading.rows, target)
        known = row is not None and not has_collapsed(row)
        found[str(target)] = row["test_accuracy"] if row and known else math.nan
    matrix = None
    if len(reading.rows) > 1:
        matrix = section.attempt(relations.distance_matrix, reading)
    if matrix is not None:
        matrix = without_collapsed(reading.rows, matrix)
    steps = (
        []
        if matrix is None
        else [step for r in range(1, len(matrix) - 1) if (step := matrix[r, r - 1]) == step]
    )
    tables = section.attempt(reading.tables, "barriers") or {}
    of_paths = tables.get("", [])
    relations.tell_age(section, reading, "barriers.csv", of_paths)
    barriers = [
        row.get("error_barrier", math.nan)
        for row in of_paths
        if row.get("to_round") == row.get("from_round", math.nan) + 1 and not row.get("collapsed")
    ]
    return found | {
        "matching": verdicts.sparsest_match(reading.rows, reading.examples),
        "mean_distance": float(sum(steps) / len(steps)) if steps else math.nan,
        "largest_barrier": max(barriers, default=math.nan),
    }
