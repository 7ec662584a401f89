"""How far a round carries its weights, and whose signs stay.

On the weights alive in a round, W_0 where it started and W_T where it ended:

    distance         ||W_T - W_0||, the learning distance ("Pruning Close to Home", 2026)
    per_weight       its root mean square over the weights: distance / sqrt(weights)
    kept_signs       part of the weights whose sign in W_T is that in W_0 (Gadhikar & Burkholz 2024)
    flips            part of them whose sign in W_T is not that at the end of the round before
    turn             angle between W_T - W_0 and that of the round before, divided by 90 degrees

A sign is that of np.sign: a weight of exactly zero agrees with zeros alone. Rounds of a very stable
training may end near one another only because all end near W_0; `turn` leaves W_0 out. It is ours,
and asks whether their nearness is a side effect, as Maene et al. 2021 put it (section 1).
"""

import dataclasses
from collections.abc import Sequence
from math import nan, sqrt
from typing import ClassVar

import numpy as np

from lottery_tf.analysis.distances import products_of_weights
from lottery_tf.analysis.measure import Column, Findings, Picture, Table, TableBeside, curve, usual
from lottery_tf.analysis.replicates import group, means_beside, side_by_side
from lottery_tf.analysis.runs import Groups, as_groups, metrics_with
from lottery_tf.analysis.statistics import leads, seeds_of
from lottery_tf.plots import Columns, Row
from lottery_tf.pruning import Masks, Weights
from lottery_tf.runs.rounds import FinishedRound, check_files, finished
from lottery_tf.runs.rundir import RunDir

ALL_LAYERS = "all layers"
BY = ("round", "layer")
COLUMNS: Columns = {
    **usual("run", "round", "density"),
    "distance": Column("distance", "{:.2f}", "L2 distance from start to end of a round"),
    "per_weight": Column(
        "per weight", "{:.4f}", "root mean square over the weights alive of end - start of a round"
    ),
    "kept_signs": Column(
        "signs kept",
        "{:.2%}",
        "fraction of the weights alive whose sign is that at the round's start",
    ),
    "flips": Column(
        "flips",
        "{:.2%}",
        "fraction of the weights alive whose sign is not that at the end of the round before",
    ),
    "turn": Column(
        "turn",
        "{:.3f}",
        "angle between end - start of a round and of the round before, divided by 90 degrees",
    ),
    **usual("test_accuracy"),
    "lead": Column("lead", "{:+.2%}", "test accuracy less that of the reinit of the same seed"),
}
SIGNS = {
    "kept_signs": ("signs kept from start to end of a round (%)", False),
    "flips": ("signs other than at the end of the round before (%)", False),
}


def of_networks(
    start: Weights, end: Weights, masks: Masks, before: tuple[Weights, Weights] | None
) -> list[Row]:
    """Return a row for each kernel, and for all: {layer, weights, distance, per_weight, …}.

    `before` are start and end of the round before; None of round 0, which has no flips and no turn.
    """
    sums: list[tuple] = []
    moves: tuple[Weights, Weights] = {}, {}  # of this round, and of the one before
    for path, mask in masks.items():
        one, two = (weights[path][mask].astype(np.float64) for weights in (start, end))
        kept, moved = (np.sign(one) == np.sign(two)).sum(), two - one
        numbers = [one.size, moved @ moved, kept]
        if before:
            other, old = (weights[path][mask].astype(np.float64) for weights in before)
            moves[0][path], moves[1][path] = moved, old - other
            numbers += [(np.sign(old) != np.sign(two)).sum()]
        sums.append((path, *numbers))
    sums.append((ALL_LAYERS, *np.sum([numbers for _, *numbers in sums], 0)))

    def turn(paths: Sequence[str]) -> float:
        alive = {path: np.ones(moves[0][path].shape, bool) for path in paths}
        return float(products_of_weights(*moves, (alive, alive)).angular()[0, 0])

    return [
        {
            "layer": layer,
            "weights": int(count),
            "distance": sqrt(squares),
            "per_weight": sqrt(squares / count) if count else nan,
            "kept_signs": float(kept / count) if count else nan,
            "flips": float(old[0] / count) if count and old else nan,
            "turn": turn([*masks] if layer == ALL_LAYERS else [layer]) if before else nan,
        }
        for layer, count, squares, kept, *old in sums
    ]


def of_rounds(runs: RunDir | Groups) -> list[Row]:
    """Return rows of {run, round, layer, density, test_accuracy} and what `of_networks` gives.

    Of two labels, the rows of the first have `lead`: by how much each run is more accurate than the
    other's run of its seed.
    """
    groups = as_groups(runs)
    first, *others = groups.values()

    def rows_of(run: RunDir) -> list[Row]:
        ahead = len(others) == 1 and any(run is of_first for of_first in first)
        return with_lead(run, _of_run(run), others[0]) if ahead else _of_run(run)

    return side_by_side(groups, rows_of)


def _of_run(run: RunDir) -> list[Row]:
    check_files(finished(run))
    rows: list[Row] = []
    before: tuple[Weights, Weights] | None = None
    for about in metrics_with(run, "density", "test_accuracy"):
        of = FinishedRound(run.path, about["round"])
        ends = run.initial(of.round), of.final()
        for row in of_networks(*ends, of.masks(), before):
            rows.append({"round": about["round"], "layer": row["layer"]} | about | row)
        before = ends
    return rows


def with_lead(run: RunDir, rows: list[Row], reinits: Sequence[RunDir]) -> list[Row]:
    """Return rows of a run with `lead`, as statistics.leads defines it.

    Rounds that no reinit of the same seed has, or in which one of the two has collapsed, have none.
    """
    of_reinits = {seeds_of(reinit.config()): reinit.metrics() for reinit in reinits}
    found = {
        row["round"]: row["lead"]
        for row in leads({seeds_of(run.config()): run.metrics()}, of_reinits)
        if not row["collapsed"]
    }
    return [row | {"lead": found[row["round"]]} if row["round"] in found else row for row in rows]


@dataclasses.dataclass
class Learning(TableBeside):
    """Measures how far a round moves its weights, which signs it keeps, and its lead over a reinit.

    python -m tools.learning --run_dir=runs/lenet --other_run=runs/lenet_reset=reinit
    """

    name = "learning"
    columns = COLUMNS
    by = BY
    title = "Learning distance and signs"
    csv_files: ClassVar = {"learning.csv": "one row for each run, round and layer"}
    csv_columns: ClassVar = {
        "layer": ("", "path of the kernel, or all layers together"),
        "weights": ("weights", "number of weights alive"),
    }
    picture_tags: ClassVar = {
        "learning/per_weight": ("learning_distance.png", "learning distance against density"),
        "learning/signs": ("learning_signs.png", "signs kept and flipped in each layer"),
        "learning/signs_{label}": ("learning_signs_{label}.png", "the same of --other_run"),
    }

    def measure(self, *_: object) -> list[Row]:
        return of_rounds(self.groups)

    def findings(self, run: RunDir, value: list[Row], title: str) -> list[Findings]:
        """Return the table, the distance of all layers, and the signs of each layer."""
        from lottery_tf.plots import figures

        means = means_beside(value, self.by)
        whole = group(of_all_layers(means), ("run",))
        moved = {label: (of, "per_weight") for (label,), of in whole.items()}
        what = "learning distance per weight (root mean square)"
        figure = figures.against_density(moved, what=what, title="")
        pictures = {"learning/per_weight": Picture(figure, "_distance")}
        for index, ((label,), of) in enumerate(group(means, ("run",)).items()):
            points = [row | {"network_density": row["density"]} for row in of]
            by_layer = {layer: some for (layer,), some in group(points, ("layer",)).items()}
            end = f"_signs_{label}" if index else "_signs"
            figure = figures.layers(by_layer, columns=SIGNS, title=label)
            pictures[f"learning/{end[1:]}"] = Picture(figure, end)
        of_first = next(iter(whole.values()))
        columns = ("per_weight", "kept_signs", "flips", "turn")
        curves = {f"learning/{column}": curve(of_first, column) for column in columns}
        return [Findings(self.name, {"": value}, pictures, curves)]

    def shown(self, values: list[list[Row]], value: list[Row]) -> list[str | Table]:
        """Return the rows of all layers together, and whether no run has a reinit of its seed."""
        rows, lines = of_all_layers(means_beside(value, self.by)), []
        if len(self.groups) == 2 and not any("lead" in row for row in rows):
            lines = ["No lead: no run of --other_run has the seeds of one of --run_dir."]
        return [*lines, ([{"lead": nan} | row for row in rows], self.columns)]


def of_all_layers(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of all layers together."""
    return [row for row in rows if row["layer"] == ALL_LAYERS]


MEASURE = Learning
