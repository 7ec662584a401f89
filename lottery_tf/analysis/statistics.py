"""The statistics behind every verdict: paired by seed, with 95% t intervals. NumPy and SciPy only.

A value per seed is the unit. Runs in which a network has collapsed are left out and named, and
two runs of the same seed never count as two.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lottery_tf.plots import Row
from lottery_tf.pruning import collapse
from lottery_tf.runs import provenance
from lottery_tf.runs.rundir import RunDir

CONFIDENCE = 0.95
SEEDS = ("seed", "init_seed", "data_seed")  # what tells replicates apart
MOST_SEEDS = 1000
# Where the number of test examples is not known: one standard deviation at 96% of 10,000.
USUAL_TOLERANCE = 0.002
Seeds = tuple[Any, ...]  # the values of SEEDS


def names_of(seeds: Iterable[Seeds]) -> dict[Seeds, str]:
    """Return {seeds: their name of what differs}, as "seed 3", or "data_seed 1"."""
    found = list(dict.fromkeys(seeds))
    parts = [0]
    if len({of[0] for of in found}) < len(found):
        parts = [part for part in range(len(SEEDS)) if len({of[part] for of in found}) > 1]
    return {of: ", ".join(f"{SEEDS[part]} {of[part]}" for part in parts) for of in found}


def seed_columns(config: Mapping[str, Any]) -> Row:
    """Return {"seed": …} of a run, the column that tells its rows from those of its replicates.

    --init_seed and --data_seed stand beside it where they are not the same.
    """
    seeds = {name: config.get(name) for name in SEEDS}
    return seeds if len({*seeds.values()} - {None}) > 1 else {"seed": seeds["seed"]}


def rows_of_seeds(rows: Iterable[Row]) -> list[list[Row]]:
    """Return the rows of each seed, of rows with `seed_columns`."""
    found: dict[Seeds, list[Row]] = {}
    for row in rows:
        found.setdefault(seeds_of(row), []).append(row)
    return list(found.values())


def seeds_of(config: Mapping[str, Any]) -> Seeds:
    """Return the seeds of a run, from what config.json or `seed_columns` say."""
    return tuple(config.get(name) for name in SEEDS)


@dataclasses.dataclass(frozen=True)
class Interval:
    """The mean of `count` values, one per seed, and its 95% t interval.

    The ends of the interval and the standard deviation between seeds are NaN for a single value.
    """

    mean: float
    low: float
    high: float
    deviation: float
    count: int


def interval(values: Iterable[float], *, step: float = 0.0) -> Interval:
    """Return the Interval of one or more values, one per seed.

    `step` is what they are multiples of, as 1 / examples for accuracies. Two seeds may agree to the
    last digit by chance, so the deviation is at least that of rounding to a step.
    """
    found = np.array(list(values), np.float64)
    mean, count = float(found.mean()), len(found)
    if count < 2:
        return Interval(mean, math.nan, math.nan, math.nan, count)
    deviation = max(float(found.std(ddof=1)), step / math.sqrt(12))
    half = _half_width(deviation, count)
    return Interval(mean, mean - half, mean + half, deviation, count)


def _half_width(deviation: float, count: int) -> float:
    """Return half the width of the 95% t interval of a mean."""
    from scipy import special  # of an extra, which most of this file does without

    quantile = float(special.stdtrit(count - 1, 0.5 + CONFIDENCE / 2))
    return quantile * deviation / math.sqrt(count)


def of_leads(rows: Iterable[Row], examples: int | None) -> Interval:
    """Return the Interval of the leads of one round, as `leads` gives them, a row per seed.

    The accuracies were measured on some examples; None if that is not known.
    """
    return interval((row["lead"] for row in rows), step=1 / examples if examples else 0)


def seeds_to_decide(found: Interval, gap: float) -> int | None:
    """Return how many seeds narrow an Interval to less than `gap` on each side of its mean.

    The mean and the deviation are taken to stay as they are. None: more than MOST_SEEDS.
    """
    counts = range(found.count + 1, MOST_SEEDS + 1)
    return next((n for n in counts if _half_width(found.deviation, n) < gap), None)


def tolerance(accuracy: float, examples: int | None) -> float:
    """Return the standard deviation of an accuracy on some examples, √(p(1-p)/n).

    A smaller difference between two accuracies decides nothing. It is at least one example, and
    USUAL_TOLERANCE where the number of examples is not known.
    """
    if not examples:
        return USUAL_TOLERANCE
    return max(math.sqrt(max(accuracy * (1 - accuracy), 0) / examples), 1 / examples)


def test_examples(run: RunDir) -> int | None:
    """Return the number of examples that a run was evaluated on; None where it is not recorded."""
    of_test = (provenance.recorded(run.path) or {}).get("test")
    examples = of_test.get("examples") if isinstance(of_test, dict) else None
    if not isinstance(examples, int):
        return None
    # data.json counts the files of a split; --test_fraction takes a part of them.
    return round(examples * (run.config().get("test_fraction") or 1))


def has_collapsed(row: Row) -> bool:
    """Return whether a row of metrics.csv, or of a measure, is of a network that has collapsed."""
    return bool(row.get("collapsed") or collapse.parse(row.get("collapse")))


def dense_row(rows: Iterable[Row]) -> Row | None:
    """Return the row of the dense network of a run; None without one, or if it has collapsed."""
    dense = next((row for row in rows if row["density"] == 1), None)
    return None if dense is None or has_collapsed(dense) else dense


def matching_rows(rows: Sequence[Row], allowed: float) -> list[Row]:
    """Return the rows, of metrics.csv, of pruned networks as accurate as the dense one of the run.

    This is the one rule of the verdict "Matching", of "matches to" and of `--round=best`. They may
    be less accurate by what is allowed, a part of one.
    """
    if (dense := dense_row(rows)) is None:
        return []
    bar = dense["test_accuracy"] - allowed - 1e-12  # 0.9 - 0.1 is not 0.8
    return [
        row
        for row in rows
        if row["density"] < 1 and row["test_accuracy"] >= bar and not has_collapsed(row)
    ]


def leads(
    tickets: Mapping[Seeds, Sequence[Row]], reinits: Mapping[Seeds, Sequence[Row]]
) -> list[Row]:
    """Return by how much each ticket is more accurate than the reinit of the same seed and round.

    This is the one definition of the lead, which every page and tool uses.

    Both are {seeds: rows of metrics.csv}. The rows {seeds, round, density, lead, collapsed} are of
    each seeds and round of which both have an accuracy; `lead` is a part of one, `collapsed` is 1
    where either network has.
    """
    found = []
    for seeds, rows in tickets.items():
        others = {row["round"]: row for row in reinits.get(seeds, ())}
        for row, other in ((row, others[row["round"]]) for row in rows if row["round"] in others):
            lead = row["test_accuracy"] - other["test_accuracy"]
            if not math.isnan(lead):
                about = {"seeds": seeds, "round": row["round"], "density": row["density"]}
                collapsed = int(has_collapsed(row) or has_collapsed(other))
                found.append(about | {"lead": lead, "collapsed": collapsed})
    return found
