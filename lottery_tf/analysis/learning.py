"""How far a round carries its weights, and whose signs stay. NumPy and matplotlib only.

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

from collections.abc import Sequence
from math import nan, sqrt

import numpy as np

from lottery_tf.analysis import replicates
from lottery_tf.analysis.products import products_of_weights
from lottery_tf.analysis.reports import Findings, Output, report
from lottery_tf.analysis.runs import Groups, as_groups, metrics_with
from lottery_tf.analysis.statistics import leads, seeds_of
from lottery_tf.plots import Row, figures
from lottery_tf.pruning import Masks, Weights
from lottery_tf.runs.rounds import FinishedRound, check_files, finished
from lottery_tf.runs.rundir import RunDir

ALL_LAYERS = "all layers"
BY = ("round", "layer")
COLUMNS = {
    "run": ("run", "{}"),
    "round": ("round", "{:d}"),
    "density": ("density", "{:.2%}"),
    "distance": ("distance", "{:.2f}"),
    "per_weight": ("per weight", "{:.4f}"),
    "kept_signs": ("signs kept", "{:.2%}"),
    "flips": ("flips", "{:.2%}"),
    "turn": ("turn", "{:.3f}"),
    "test_accuracy": ("test acc", "{:.2%}"),
    "lead": ("lead", "{:+.2%}"),
}
SIGNS = {
    "kept_signs": ("signs kept from start to end of a round (%)", False),
    "flips": ("signs other than at the end of the round before (%)", False),
}


def of_networks(start: Weights, end: Weights, masks: Masks,
                before: tuple[Weights, Weights] | None) -> list[Row]:  # fmt: skip
    """A row for each kernel, and for all: {layer, weights, distance, per_weight, …}.

    Args:
        start, end: {path: array} of a round.
        masks: {kernel path: bool array}, what is alive in it.
        before: start and end of the round before; None of round 0, which has no flips and no turn.
    """
    sums, moves, moves_before = [], {}, {}
    for path, mask in masks.items():
        one, two = (weights[path][mask].astype(np.float64) for weights in (start, end))
        kept, moved = (np.sign(one) == np.sign(two)).sum(), two - one
        numbers = [one.size, moved @ moved, kept]
        if before:
            other, old = (weights[path][mask].astype(np.float64) for weights in before)
            moves[path], moves_before[path] = moved, old - other
            numbers += [(np.sign(old) != np.sign(two)).sum()]
        sums.append((path, *numbers))
    sums.append((ALL_LAYERS, *np.sum([numbers for _, *numbers in sums], 0)))
    return [
        {
            "layer": layer,
            "weights": int(count),
            "distance": sqrt(squares),
            "per_weight": sqrt(squares / count) if count else nan,
            "kept_signs": float(kept / count) if count else nan,
            "flips": float(old[0] / count) if count and old else nan,
            "turn": _turn(moves, moves_before, moves if layer == ALL_LAYERS else [layer]),
        }
        for layer, count, squares, kept, *old in sums
    ]


def _turn(moves, moves_before, paths):
    """The angle between two moves {path: survivors} on some paths, divided by 90 degrees."""
    if not moves:
        return nan
    alive = {path: np.ones(moves[path].shape, bool) for path in paths}
    return float(products_of_weights(moves, moves_before, (alive, alive)).angular()[0, 0])


def of_rounds(runs: RunDir | Groups) -> list[Row]:
    """Rows of {run, round, layer, density, test_accuracy} and what `of_networks` gives.

    Of several runs of a label, as replicates, the means with min and max. Of two labels, those of
    the first have `lead`: by how much each run is more accurate than the other's run of its seed.

    Raises:
        InputError: a file is missing or damaged.
    """
    groups = as_groups(runs)
    tables = {label: [list(_of_run(run)) for run in of] for label, of in groups.items()}
    if len(groups) == 2:
        first, reinits = groups
        tables[first] = [
            with_lead(run, table, groups[reinits])
            for run, table in zip(groups[first], tables[first], strict=True)
        ]
    return [
        {"run": label} | row
        for label, of in groups.items()
        for row in replicates.of_runs(of, tables[label], BY)
    ]


def _of_run(run):
    check_files(finished(run))
    before = None
    for metrics in metrics_with(run, "test_accuracy"):
        about = {name: metrics[name] for name in ("round", "density", "test_accuracy")}
        of = FinishedRound(run.path, metrics["round"])
        ends = run.initial(of.round), of.final()
        for row in of_networks(*ends, of.masks(), before):
            yield {"round": about["round"], "layer": row["layer"]} | about | row
        before = ends


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


def report_learning(groups: Groups, output: Output) -> list[Row]:
    """Writes, draws and logs the rows of `of_rounds` with the first run.

    Returns:
        The rows of all layers together, to print.
    """

    def findings(first, rows, _):
        pictures, curves = {}, {}
        last = first.finished_rounds() - 1
        whole = _whole(rows)
        moved = {label: (of, "per_weight") for (label,), of in _by(whole, "run").items()}
        what = "learning distance per weight (root mean square)"
        pictures["learning/per_weight"] = (last, "_distance", figures.against_density(
            moved, what=what, title=""))  # fmt: skip
        for index, ((label,), of) in enumerate(_by(rows, "run").items()):
            points = [row | {"network_density": row["density"]} for row in of]
            by_layer = {layer: some for (layer,), some in _by(points, "layer").items()}
            end = f"_signs_{label}" if index else "_signs"
            figure = figures.layers(by_layer, columns=SIGNS, title=label)
            pictures[f"learning/{end[1:]}"] = (last, end, figure)
        of_first = next(iter(_by(whole, "run").values()))
        for column in ("per_weight", "kept_signs", "flips", "turn"):
            points = [(row["round"], row[column]) for row in of_first]
            curves[f"learning/{column}"] = column, points
        return [Findings("learning", {"": rows}, pictures, curves)]

    first = next(iter(groups.values()))[0]
    return _whole(report("learning", [first], output, lambda *_: of_rounds(groups), findings))


def _whole(rows):
    return [row for row in rows if row["layer"] == ALL_LAYERS]


def _by(rows, column):
    return replicates.group(rows, (column,))
