"""Linear-mode instability (Fig. 2; Frankle et al. 2020a).

What the cache does not hold is trained and evaluated, which imports TensorFlow.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, ClassVar

from lottery_tf.analysis import paths, runs
from lottery_tf.analysis.cache import Cache
from lottery_tf.analysis.measure import Chart, Column, Needs, Table, usual
from lottery_tf.analysis.replicates import means
from lottery_tf.analysis.retraining import Retrainings, start_suffix
from lottery_tf.config.fields import flag
from lottery_tf.plots import Columns, Row
from lottery_tf.runs.rounds import FinishedRound
from lottery_tf.runs.rundir import RunDir

BY = ("round", "start", "split", "bn_stats")
USUAL_ROUNDS = (0, 5, 10, 15)  # those of them that are finished
DATA_ORDER, ONE_WEIGHT = "data_order", "one_weight"
STABLE = 0.02  # Frankle et al. 2020a: below it a network counts as stable
COLUMNS: Columns = {
    **usual("round", "density"),
    "instability": Column(
        "instability", "{:.2%}", "error barrier between trainings that differ in their noise"
    ),
    "instability_min": Column("min", "{:.2%}", "least of the pairs"),
    "instability_max": Column("max", "{:.2%}", "largest of the pairs"),
    "verdict": Column(f"stable: < {STABLE:.0%}", "{}", "what the instability tells"),
}


def between_copies(
    run: RunDir,
    *,
    at_rounds: runs.Rounds = (),
    copies: int = 2,
    start: str = "init",
    noise: str = DATA_ORDER,
    stop_signal: Callable[[], int] = lambda: 0,
    cache: Cache | None = None,
    computing: runs.Computing | None = None,
    points: int = 30,
    **options: Any,
) -> tuple[list[Row], list[Row]]:
    """Return instability and paths: a row for each round and pair of copies, one for each point.

    "collapsed" is 1 where one of a pair is at chance, gives one class, or lacks a layer. Options
    are as the flags; split and bn_stats too.
    """
    on_path, cache = paths.options_of(run, points=points, **options), cache or Cache()
    runs.check_at_least(2, copies=copies)
    options = {"start": start} | on_path
    differ = {} if noise == DATA_ORDER else {"noise": noise}  # old caches know no other
    rows: list[Row] = []
    all_points: list[Row] = []
    first = runs.config_of(run).data_seed if noise == DATA_ORDER else 0
    retrainings = Retrainings(run, start, stop_signal, computing)
    copy = retrainings.of_round if noise == DATA_ORDER else retrainings.nudged
    evaluate = paths.evaluator(lambda: retrainings.engine, **on_path)
    metrics = runs.metrics_with(run, "density")
    pairs = itertools.combinations(range(first, first + copies), 2)
    rounds = runs.select_rounds(run, at_rounds, usual=USUAL_ROUNDS)
    for round, pair in itertools.product(rounds, pairs):
        ends = (copy(round, number)[0] for number in pair)
        of, key = FinishedRound(run.path, round), [options | differ, pair, paths.POINT]
        path = cache.reuse([of], key, evaluate, ends, fits=paths.fits(points))
        row = metrics[round] | {"pair": f"{pair[0]}-{pair[1]}"}
        row |= {name: options[name] for name in BY[1:]}
        barriers = paths.summarize(path)
        row["instability"] = barriers.pop("error_barrier")
        barriers["collapsed"] |= paths.lacks_a_layer(of)
        rows.append(row | barriers)
        all_points += [row | point for point in path]
    return rows, all_points


def of_rounds(run: RunDir, **options: Any) -> list[Row]:
    """Return the instability of rounds, means over the pairs; arguments as `between_copies`."""
    return means(between_copies(run, **options)[0], BY)


def verdict(row: Row) -> str:
    """Return what a row's instability tells; collapsed networks predict a constant: nothing."""
    if row["collapsed"] == 1:
        return "collapsed"
    value = row["instability"]
    low, high = row.get("instability_min") or value, row.get("instability_max") or value
    return "stable" if high < STABLE else "unstable" if low >= STABLE else "copies differ"


@dataclasses.dataclass
class Instability(paths.PathMeasure):
    """Measures the instability of rounds to SGD noise (Fig. 2; Frankle et al. 2020a).

    python -m tools.instability --run_dir=runs/lenet --at_rounds=0,5,10,15

    It trains each round again with other data seeds, or from a start of which one weight differs,
    within the run, and measures the error barrier between the results. Run it again to resume.
    """

    copies: int = flag(
        2,
        "Number of trainings of each round. With --start=init, the run's own training is one of "
        "them.",
    )
    at_rounds: runs.Rounds = flag(
        (),
        "Rounds to train again, separated by commas. Default: those of 0, 5, 10 and 15 that are "
        "finished.",
    )
    start: str = flag(
        "init",
        "Weights that training starts from. init takes the start of the round; rewind:STEP (or "
        "rewind:4ep) takes round 0 after that many steps.",
    )
    noise: str = flag(
        DATA_ORDER,
        "What differs between the trainings. data_order: the order of the examples and their "
        "augmentation, from another data seed. one_weight: one surviving weight of the start, by "
        "1% of the standard deviation of its layer; the order stays.",
        choices=(DATA_ORDER, ONE_WEIGHT),
    )
    points: int = flag(30, paths.POINTS)

    name = "instability"
    needs = Needs.RETRAINING
    columns = COLUMNS
    by = BY
    title = "Instability to SGD noise"
    csv_files: ClassVar = {
        "instability.csv": "one row for each round, the mean over the pairs of trainings",
        "instability_pairs.csv": "one row for each pair of trainings",
        "instability_paths.csv": "one row for each point of a path, the mean over the pairs",
    }
    csv_columns: ClassVar = {
        **paths.CSV_COLUMNS,
        "start": ("", "where the trainings start: init, or rewind:STEP"),
        "pair": ("", "data seeds of the two trainings, or numbers of their changed weights"),
    }
    picture_tags: ClassVar = {
        "instability/instability": ("instability.png", "instability against density"),
        "instability/paths": ("instability_paths.png", "error and loss along the paths"),
    }
    logged: ClassVar = {"": "instability"}
    charted: ClassVar = {"instability": "instability"}
    chart = Chart(
        "instability",
        "linear-mode instability: error (percentage points)",
        percent=True,
        line=(STABLE, f"stable below {STABLE:.0%}"),
    )
    ends = ("one training", "another")

    def prepare(self) -> None:
        """Check the rounds before the first is trained."""
        self.at_rounds = runs.select_common_rounds(self.runs, self.at_rounds, usual=USUAL_ROUNDS)
        super().prepare()
        self.told = {"start": self.start} | self.told
        self.end = start_suffix(self.start) + self.end
        if self.noise != DATA_ORDER:
            self.told["noise"] = self.noise
            self.end = f"_{self.noise}{self.end}"
            self.about += ", one weight changed"
        self.about += f", trained from {self.start}"

    def measure(self, run: RunDir, cache: Cache) -> paths.Tables:
        """Return the means over the pairs of copies, those of their paths, and the pairs."""
        pairs, points = between_copies(run, cache=cache, **self.how, **self.asked)
        along = paths.of_their_paths(pairs, points, (*BY, "pair"))
        averaged = means(pairs, BY), means(along, (*BY, "alpha"))
        return {f"_pairs{self.end}": pairs, self.end: averaged[0], f"_paths{self.end}": averaged[1]}

    def label(self, row: Row) -> str:
        """Return the round of a path, and its density."""
        return f"round {row['round']}, density {row['density']:.2%}"

    def shown(self, values: list[paths.Tables], value: paths.Tables) -> list[str | Table]:
        """Return the table with what each row tells, and what it depends on."""
        rows = [row | {"verdict": verdict(row)} for row in value[self.end]]
        return [(rows, self.columns), self.options_told()]


MEASURE = Instability
