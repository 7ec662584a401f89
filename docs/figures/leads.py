"""Draw the lead of the ticket over the reinit, by density: python docs/figures/leads.py headline.

It reads headline.csv, which has a row for each run and round with batch_size, reset, seed, round,
density, test_accuracy and run_collapsed. It writes headline.png: above, the mean lead of each batch
size, and below, by how much the lead of the larger batch is ahead, both paired by seed with 95%
intervals. Seeds of which a network has collapsed are counted in the legend, and left out.
"""

import csv
import pathlib
import sys

import matplotlib
import numpy as np

from lottery_tf.analysis.statistics import Interval, interval

matplotlib.use("Agg")
from matplotlib import pyplot

HERE = pathlib.Path(__file__).parent
COLOURS = ("tab:red", "tab:blue")


def leads(rows: list[dict[str, str]]) -> dict[int, dict[int, dict[int, float]]]:
    """Return {batch size: {round: {seed: lead in points}}} of seeds without a collapsed network."""
    accuracy = {}
    for row in rows:
        key = int(row["batch_size"]), int(row["round"]), int(row["seed"]), row["reset"]
        accuracy[key] = 100 * float(row["test_accuracy"])
    collapsed = {(int(r["batch_size"]), int(r["seed"])) for r in rows if int(r["run_collapsed"])}
    found: dict[int, dict[int, dict[int, float]]] = {}
    for batch, round, seed, reset in accuracy:
        other = accuracy.get((batch, round, seed, "reinit"))
        if reset == "init" and round and other is not None and (batch, seed) not in collapsed:
            lead = accuracy[batch, round, seed, "init"] - other
            found.setdefault(batch, {}).setdefault(round, {})[seed] = lead
    return found


def draw(
    axes: "pyplot.Axes", densities: np.ndarray, found: list[Interval], **style: object
) -> None:
    """Draw intervals as points with bars."""
    means = np.array([one.mean for one in found])
    bars = [means - [one.low for one in found], [one.high for one in found] - means]
    axes.errorbar(densities, means, bars, marker="o", capsize=3, **style)


def main(name: str) -> None:
    with open(HERE / f"{name}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    density = {int(row["round"]): 100 * float(row["density"]) for row in rows}
    of_batch = leads(rows)
    small, large = sorted(of_batch)
    figure, (above, below) = pyplot.subplots(
        2, 1, sharex=True, figsize=(6, 6), layout="constrained"
    )
    for batch, colour, shift in zip((small, large), COLOURS, (0.985, 1.015), strict=True):
        of_round = of_batch[batch]
        seeds = len(set().union(*of_round.values()))
        out = len({row["seed"] for row in rows if int(row["batch_size"]) == batch}) - seeds
        label = f"batch {batch}, {seeds} seeds" + (f" ({out} collapsed)" if out else "")
        found = [interval(of.values()) for of in of_round.values()]
        draw(
            above,
            shift * np.array([density[r] for r in of_round]),
            found,
            color=colour,
            label=label,
        )
    differences: dict[int, list[float]] = {}
    for round, of in of_batch[small].items():
        others = of_batch[large][round]
        differences[round] = [others[seed] - of[seed] for seed in of if seed in others]
    paired = [interval(of) for of in differences.values()]
    draw(below, np.array([density[round] for round in differences]), paired, color="black")
    above.set(ylabel="lead of the ticket, points", xscale="log")
    below.set(xlabel="density, %", ylabel=f"lead at batch {large}\nminus lead at batch {small}")
    below.invert_xaxis()
    below.set_xticks(
        list(density.values())[1:], [f"{d:.3g}" for d in list(density.values())[1:]], minor=False
    )
    below.minorticks_off()
    above.legend()
    for axes in (above, below):
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.grid(alpha=0.3)
    figure.savefig(HERE / f"{name}.png", dpi=80)


if __name__ == "__main__":
    main(sys.argv[1])
