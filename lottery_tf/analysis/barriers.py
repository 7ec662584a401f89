"""Error barriers between the networks of rounds (Figs. 8, 20, 23).

What the cache does not hold is evaluated, which imports TensorFlow.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from lottery_tf.analysis import paths, runs
from lottery_tf.analysis.cache import Cache
from lottery_tf.analysis.measure import Chart, Column, Needs, Table, usual
from lottery_tf.config.fields import flag
from lottery_tf.errors import InputError
from lottery_tf.plots import Columns, Row
from lottery_tf.runs.rounds import FinishedRound
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import console

BY = ("from_round", "to_round", "split", "bn_stats")
DRAWN = 3  # paths, where --at_rounds names none
COLUMNS: Columns = {
    "from_round": Column("from", "{:d}", "round of the first end"),
    "to_round": Column("to", "{:d}", "round of the second end"),
    **usual("density"),
    "error_barrier": Column(
        "error barrier", "{:.2%}", "largest error on the path, above the mean of its ends"
    ),
    "error_barrier_larger_end": Column(
        "above larger end", "{:.2%}", "largest error on the path, above its larger end"
    ),
    "loss_barrier": Column("loss barrier", "{:.4f}", *reversed(paths.CSV_COLUMNS["loss_barrier"])),
    "over_dense": Column(
        "acc over dense", "{:+.2%}", "test accuracy of the second end above that of round 0"
    ),
    "state": Column("state", "{}", "whether an end has collapsed"),
}


def along_paths(
    run: RunDir,
    other: RunDir | None = None,
    *,
    pairs: Sequence[str] = ("successive",),
    evaluate: paths.Evaluate | None = None,
    cache: Cache | None = None,
    computing: runs.Computing | None = None,
    points: int = 20,
    align: str = "none",
    **options: Any,
) -> tuple[list[Row], list[Row]]:
    """Return the barriers between rounds, and the paths: a row for each path and for each point.

    Args:
        run: of the first end of each path.
        other: of the second end; None for `run` itself.
        evaluate: what `paths.evaluator` gives, to be used for several runs.
        pairs, points, align, **options: as the flags of tools.barriers; split and bn_stats too.
    """
    other, cache, where = other or run, cache or Cache(), computing or {}
    runs.check_same_experiment([run, other])
    aligned = {} if align == "none" else {"align": align}
    options = paths.options_of(run, points=points, **options, **aligned)
    evaluate = evaluate or paths.evaluator(lambda: runs.engine_of(run, **where), **options)
    metrics = runs.metrics_with(other, "density", "test_accuracy")
    dense = metrics[0]["test_accuracy"]
    rows, all_points, numbers = [], [], parse_pairs(pairs, run, other)
    for start, end in console.progress(numbers, "paths"):
        ends = [FinishedRound(run.path, start), FinishedRound(other.path, end)]
        key, weights = [options, paths.POINT], (end.final() for end in ends)
        path = cache.reuse(ends, key, evaluate, weights, fits=paths.fits(points))
        about = {"from_round": start, "to_round": end, "density": metrics[end]["density"]}
        about |= {name: options[name] for name in BY[2:]}
        row = about | paths.summarize(path)
        row["collapsed"] |= paths.lacks_a_layer(*ends)
        row["over_dense"] = metrics[end]["test_accuracy"] - dense
        rows.append(row)
        all_points += [about | point for point in path]
    return rows, all_points


def between_rounds(run: RunDir, other: RunDir | None = None, **options: Any) -> list[Row]:
    """Return the barriers between rounds, a row for each path; arguments as `along_paths`.

    Each is above the mean of the ends, and above the larger end, of the error and of the loss.
    "collapsed" is 1 where an end is at chance, gives one class, or lacks a layer: no barrier
    between such networks connects anything. "over_dense" is the test accuracy of the second end
    above that of its run's round 0, which Paul et al. 2023 compare the barrier with.
    """
    return along_paths(run, other, **options)[0]


def parse_pairs(items: Sequence[str], run: RunDir, other: RunDir) -> list[tuple[int, int]]:
    """Return [(round of run, round of other)] that --pairs names, ["successive"] or ["i-j", …].

    Successive rounds of two runs are the same round of both.
    """
    counts = run.finished_rounds(), other.finished_rounds()
    if list(items) == ["successive"]:
        if other is not run:
            return [(round, round) for round in range(min(counts))]
        if counts[0] < 2:
            raise InputError(f"{run.path}: expected two finished rounds or more. Found one.")
        return [(round, round + 1) for round in range(counts[0] - 1)]
    pairs = []
    for item in items or [""]:
        first, _, second = item.partition("-")
        if not (first.isdecimal() and second.isdecimal()):
            raise InputError(
                "--pairs: expected successive, or pairs of rounds as 0-1,4-5. Received: "
                f"{item or 'none'}"
            )
        pairs.append((int(first), int(second)))
        for of, round, count in zip((run, other), pairs[-1], counts, strict=True):
            if round >= count:
                rounds = f"its rounds are 0 to {count - 1}"
                raise InputError(f"--pairs: {of.path} has no finished round {round}; {rounds}.")
    return pairs


@dataclasses.dataclass
class Barriers(paths.PathMeasure):
    """Measures error and loss along the lines between the networks of rounds (Figs. 8, 20, 23).

    python -m tools.barriers --run_dir=runs/lenet
    """

    pairs: Sequence[str] = flag(
        ("successive",),
        "Pairs of rounds to connect by lines, as in 0-1,4-5. successive takes each round and the "
        "one before.",
    )
    align: str = flag(
        "none",
        "Align the networks of a pair first. permutation permutes the units of the second "
        "network so that it lies nearest to the first.",
        choices=("none", "permutation"),
    )
    at_rounds: runs.Rounds = flag((), "Rounds whose paths are drawn. Default: three.")
    points: int = flag(20, paths.POINTS)

    name = "barriers"
    needs = Needs.ENGINE
    columns = COLUMNS
    by = BY
    other_help = "Run from which the second round of each pair comes. Default: the first run."
    title = "Error barriers"
    csv_files: ClassVar = {
        "barriers.csv": "one row for each pair of rounds",
        "barriers_paths.csv": "one row for each point of a path",
    }
    csv_columns: ClassVar = paths.CSV_COLUMNS
    picture_tags: ClassVar = {
        "barriers/barrier": ("barriers.png", "error barriers against density"),
        "barriers/paths": ("barriers_paths.png", "error and loss along some paths"),
    }
    step = "to_round"
    logged: ClassVar = {f"/{column}": column for column in ("error_barrier", "loss_barrier")}
    charted: ClassVar = {
        "above the mean of the ends": "error_barrier",
        "above the larger end": "error_barrier_larger_end",
    }
    chart = Chart("error_barrier", "error barrier (percentage points)", percent=True)
    ends = ("first round", "second round")

    def prepare(self) -> None:
        """Check all pairs before the first path is evaluated."""
        self.drawn = runs.select_rounds(self.runs[0], self.at_rounds) if self.at_rounds else []
        runs.check_same_experiment([*self.runs, self.other])
        for run in self.runs:
            starts = {start for start, _ in parse_pairs(self.pairs, run, self.other or run)}
            if run is self.runs[0] and (missing := set(self.drawn) - starts):
                raise InputError(f"--at_rounds: no path of --pairs starts from {sorted(missing)}.")
        super().prepare()
        self.end += f"_to_{self.other.path.name}" if self.other else ""
        self.evaluate = paths.evaluator(
            lambda: runs.engine_of(self.runs[0], **self.computing), **self.told
        )

    def measure(self, run: RunDir, cache: Cache) -> paths.Tables:
        asked = {name: value for name, value in self.asked.items() if name != "at_rounds"}
        tables = along_paths(run, self.other, evaluate=self.evaluate, cache=cache, **asked)
        return dict(zip((self.end, f"_paths{self.end}"), tables, strict=True))

    def draws(self, row: Row, rows: Sequence[Row]) -> bool:
        """Return whether a path is drawn: without --at_rounds the first, last, and one between."""
        if self.drawn:
            return row["from_round"] in self.drawn
        return any(row is rows[round(i)] for i in np.linspace(0, len(rows) - 1, DRAWN))

    def label(self, row: Row) -> str:
        """Return the rounds of a path, and its density."""
        return f"{row['from_round']} to {row['to_round']}, density {row['density']:.2%}"

    def shown(self, values: list[paths.Tables], value: paths.Tables) -> list[str | Table]:
        """Return the table of barriers, and what they depend on."""
        rows = [row | {"state": "collapsed" if row["collapsed"] else ""} for row in value[self.end]]
        return [(rows, self.columns), self.options_told()]


MEASURE = Barriers
