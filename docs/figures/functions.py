"""Do tickets compute the same function? python docs/figures/functions.py runs/fig14.

It compares the tickets of flags/studies/functions.cfg, round by round and seed by seed, with the
same rounds of other runs, and with the round before, on test examples and in angle. It writes
functions.csv, a row for each seed, pair and round, and functions.png: means over the seeds with 95%
intervals. What it has compared is kept in the runs' directory, and is not computed again.
"""

import csv
import functools
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import matplotlib
import numpy as np

from lottery_tf.analysis import distances, predictions
from lottery_tf.analysis.cache import Cache
from lottery_tf.analysis.statistics import interval
from lottery_tf.runs.rundir import RunDir

matplotlib.use("Agg")
from matplotlib import pyplot

HERE, SEEDS, ROUNDS = pathlib.Path(__file__).parent, range(6), 16
TICKET, REPELLED, REINIT = (
    "reset=init_seed={}",
    "repel=2_reset=init_seed={}",
    "reset=reinit_seed={}",
)
NOISE = "seed={0}_data_seed=10{0}"
# {pair: (one run, the other; None: the round before)}
PAIRS = {
    "ticket, another data order": (TICKET, NOISE),
    "ticket, repelled": (TICKET, REPELLED),
    "ticket, reinit": (TICKET, REINIT),
    "ticket, another seed": (TICKET, "next"),
    "ticket, round before": (TICKET, None),
    "repelled, round before": (REPELLED, None),
    "reinit, round before": (REINIT, None),
}
COLOURS = ("tab:blue", "tab:red", "tab:green", "tab:purple")
FOUND = ("density", "test_accuracy", "other_accuracy", "disagreement", "independent", "ratio",
         "divergence", "collapsed")  # fmt: skip
ANGLES = ("distance", "permuted", "chance")


def rows(directory: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of the seeds whose runs are finished."""
    cache = Cache(directory / "functions.cache.json")

    def finished(name: str) -> RunDir | None:
        run = RunDir(directory / name)
        return run if run.path.exists() and run.finished_rounds() >= ROUNDS else None

    seeds = [seed for seed in SEEDS if finished(TICKET.format(seed))]
    for seed, following in zip(seeds, seeds[1:] + seeds[:1], strict=True):
        for pair, (one, two) in PAIRS.items():
            name = TICKET.format(following) if two == "next" else (two or one).format(seed)
            run, other = finished(one.format(seed)), finished(name)
            if run is None or other is None or (two == "next" and following == seed):
                continue
            of = functools.partial(predictions.between_rounds, run, cache=cache)
            found, _ = of(other) if two else of()
            wanted = other.path.name if two else "round before"
            angles = distances.aligned(run, other if two else None, cache=cache)
            of_round = {row["round"]: row for row in angles}
            for row in found:
                if row["other"] == wanted and row["round"] < ROUNDS:
                    values = {name: row[name] for name in FOUND}
                    values |= {name: of_round[row["round"]][name] for name in ANGLES}
                    yield {"seed": seed, "pair": pair, "round": row["round"]} | values


def draw(found: list[dict[str, Any]]) -> None:
    """Draw disagreement and angle of the tickets' pairs against density."""
    options = {"sharex": True, "figsize": (6, 6.5), "layout": "constrained"}
    figure, (above, below) = pyplot.subplots(2, 1, **options)
    for pair, colour in zip(PAIRS, COLOURS, strict=False):
        for axes, column, scale in ((above, "disagreement", 100), (below, "distance", 1)):
            of_density: dict[float, list[float]] = {}
            for row in found:
                if row["pair"] == pair:
                    of_density.setdefault(100 * row["density"], []).append(scale * row[column])
            each = [interval(values) for values in of_density.values()]
            means = np.array([one.mean for one in each])
            bars = [means - [one.low for one in each], [one.high for one in each] - means]
            label = f"the ticket and {pair.removeprefix('ticket, ')}".replace(
                "repelled", "the repelled one"
            )
            axes.errorbar(
                [*of_density], means, bars, marker="o", ms=3, capsize=2, color=colour, label=label
            )
    above.set(ylabel="test examples classed differently, %", xscale="log", ylim=(0, None))
    below.set(xlabel="density, %", ylabel="angular distance (1 is orthogonal)", ylim=(0, 1.05))
    below.invert_xaxis()
    ticks = [100, 41, 16.8, 6.9, 3.5]
    below.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    below.minorticks_off()
    above.legend(fontsize="small")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    figure.savefig(HERE / "functions.png", dpi=80)


def main(directory: str) -> None:
    found = list(rows(pathlib.Path(directory)))
    with open(HERE / "functions.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, found[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
    draw(found)


if __name__ == "__main__":
    main(sys.argv[1])
