"""Draw the ticket's lead over the reinit at two batch sizes: python docs/figures/leads.py NAME.

It reads NAME.csv as `tools.figures --figure=1` writes it, with a row for each seed. It writes
NAME_leads.csv, the lead of each seed and round, and NAME.png: above, the mean lead of each batch
size, and below, by how much the lead of the larger one is ahead, both paired by seed with 95%
intervals. Seeds of which a network has collapsed are counted in the legend, and left out.
"""

import csv
import pathlib
import sys
from typing import Any

import matplotlib
import numpy as np

from lottery_tf.analysis.statistics import Interval, interval

matplotlib.use("Agg")
from matplotlib import pyplot

HERE = pathlib.Path(__file__).parent
COLOURS, COLUMNS = ("tab:red", "tab:blue"), ("batch_size", "seed", "round", "density", "lead")


def leads(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Return rows of COLUMNS, of the seeds of which no network has collapsed."""
    collapsed = {(row["batch_size"], row["seed"]) for row in rows if float(row["collapsed"] or 0)}
    runs: dict[tuple, dict[str, dict[str, str]]] = {}
    for row in rows:
        if (row["batch_size"], row["seed"]) not in collapsed:
            key = int(row["batch_size"]), int(row["seed"]), int(row["round"])
            runs.setdefault(key, {})[row["reset"]] = row
    found = []
    for key, of in sorted(runs.items()):
        if key[2] and len(of) == 2:
            lead = float(of["init"]["test_accuracy"]) - float(of["reinit"]["test_accuracy"])
            values = (*key, float(of["init"]["density"]), round(lead, 6))
            found.append(dict(zip(COLUMNS, values, strict=True)))
    return found


def points(found: list[dict[str, Any]], batch: int) -> dict[float, dict[int, float]]:
    """Return {density in percent: {seed: lead in points}} of a batch size."""
    of_density: dict[float, dict[int, float]] = {}
    for row in found:
        if row["batch_size"] == batch:
            of_density.setdefault(100 * row["density"], {})[row["seed"]] = 100 * row["lead"]
    return of_density


def draw(axes: Any, densities: Any, found: list[Interval], **style: Any) -> None:
    """Draw intervals as points with bars."""
    means = np.array([one.mean for one in found])
    bars = [means - [one.low for one in found], [one.high for one in found] - means]
    axes.errorbar(densities, means, bars, marker="o", capsize=3, **style)


def main(name: str) -> None:
    with open(HERE / f"{name}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = leads(rows)
    with open(HERE / f"{name}_leads.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
    small, large = sorted({row["batch_size"] for row in found})
    options = {"sharex": True, "figsize": (6, 6), "layout": "constrained"}
    figure, (above, below) = pyplot.subplots(2, 1, **options)
    for batch, colour, shift in zip((small, large), COLOURS, (0.985, 1.015), strict=True):
        of_density = points(found, batch)
        seeds = len(set().union(*of_density.values()))
        out = len({row["seed"] for row in rows if int(row["batch_size"]) == batch}) - seeds
        label = f"batch {batch}, {seeds} seeds" + (f" ({out} collapsed)" if out else "")
        each = [interval(of.values()) for of in of_density.values()]
        draw(above, shift * np.array([*of_density]), each, color=colour, label=label)
    larger, densities, paired = points(found, large), [], []
    for density, of in points(found, small).items():
        both = [larger[density][seed] - of[seed] for seed in of if seed in larger[density]]
        densities.append(density)
        paired.append(interval(both))
    draw(below, densities, paired, color="black")
    above.set(ylabel="lead of the ticket, points", xscale="log")
    below.set(xlabel="density, %", ylabel=f"lead at batch {large}\nminus lead at batch {small}")
    below.invert_xaxis()
    below.set_xticks(densities, [f"{density:.3g}" for density in densities])
    below.minorticks_off()
    above.legend()
    for axes in (above, below):
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.grid(alpha=0.3)
    figure.savefig(HERE / f"{name}.png", dpi=80)


if __name__ == "__main__":
    main(sys.argv[1])
