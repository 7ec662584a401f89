"""Stability to pruning and to data order (Frankle et al. 2019). NumPy and matplotlib only.

With A(W, u) as training from W with the SGD noise u, m a mask, and W_t where training starts:

    stability to pruning      distance between m * A(W_t, u) and A(m * W_t, u)
    stability to data order   distance between A(m * W_t, u) and A(m * W_t, u')

on the weights in m. A lower distance is more stable. The control is a random mask of the same
density in each layer. What is not known from before is trained, which imports TensorFlow.
"""

from collections.abc import Callable
from math import nan
from typing import Any

import numpy as np

from lottery_tf.analysis.cache import Cache, rows_of
from lottery_tf.analysis.instability import copies_when_needed, start_suffix
from lottery_tf.analysis.products import products_of_weights
from lottery_tf.analysis.replicates import group, means
from lottery_tf.analysis.reports import Findings, Output, report
from lottery_tf.analysis.runs import (
    Computing,
    Rounds,
    Runs,
    check_at_least,
    select_common_rounds,
    select_rounds,
)
from lottery_tf.errors import InputError
from lottery_tf.plots import Row, figures
from lottery_tf.pruning import Masks, Weights, collapse, streams
from lottery_tf.pruning.top_k import density
from lottery_tf.runs.rounds import FinishedRound
from lottery_tf.runs.rundir import RunDir

USUAL_ROUNDS = (10,)
RESETS = ("init", "rewind")  # by which all rounds start from the weights of round 0
MASKS = ("ticket", "random")
MEASURES = ("pruning", "data order")
BY = ("round", "mask", "measure")
DISTANCES = {"l2": ("L2 distance", 2), "degrees": ("angle (degrees)", 1)}
COLUMNS = {
    "round": ("round", "{:d}"),
    "density": ("density", "{:.1%}"),
    "mask": ("mask", "{}"),
    "measure": ("stability to", "{}"),
    "l2": ("L2", "{:.2f}"),
    "l2_range": ("min to max", "{}"),
    "l2_published": ("published", "{:.1f}"),
    "degrees": ("degrees", "{:.1f}"),
    "degrees_range": ("min to max", "{}"),
    "degrees_published": ("published", "{:.1f}"),
    "test_accuracy": ("test acc", "{:.2%}"),
    "state": ("state", "{}"),
}
# Frankle et al. 2019, LeNet on MNIST at density 10.7%
PUBLISHED_DENSITY = 0.107
PUBLISHED = {
    ("ticket", "pruning"): {"l2": 48.1, "degrees": 53.1},
    ("random", "pruning"): {"l2": 75.7, "degrees": 83.6},
    ("ticket", "data order"): {"l2": 20.7, "degrees": 22.7},
    ("random", "data order"): {"l2": 58.6, "degrees": 49.2},
}


def random_masks(masks: Masks, generator: np.random.Generator) -> Masks:
    """Random masks of the same density in each layer."""
    return {
        path: generator.permutation(mask.ravel()).reshape(mask.shape)
        for path, mask in masks.items()
    }


def compare(start: Weights, end: Weights, masks: Masks) -> dict[str, float]:
    """{l2, degrees} between two networks on the weights in masks."""
    products = products_of_weights(start, end, (masks, masks))
    return {
        "l2": float(products.euclidean()[0, 0]),
        "degrees": float(90 * products.angular()[0, 0]),
    }


def of_masks(run: RunDir, *, at_rounds: Rounds = (), replicates: int = 1, start: str = "init",
             stop_signal: Callable[[], int] = lambda: 0, cache: Cache | None = None,
             computing: Computing | None = None) -> list[Row]:  # fmt: skip
    """A row for each round, replicate, mask (ticket, random) and measure (pruning, data order).

    "collapsed" is 1 where one of the two is at chance, gives one class, or lacks a layer.
    Trains what it needs inside the run, or reads what is there; arguments and errors as
    `instability.between_copies`, and `replicates` as the flag.
    """
    check_at_least(1, replicates=replicates)
    check_resets(run)
    copies, cache = copies_when_needed(run, start, stop_signal, computing or {}), cache or Cache()
    rows = []
    for round in select_rounds(run, at_rounds, usual=USUAL_ROUNDS):
        of = FinishedRound(run.path, round)
        for replicate in range(replicates):
            options = [{"start": start}, replicate, "collapsed"]
            arguments = (copies, of, replicate)
            rows += cache.reuse([of], options, _train_and_compare, *arguments, fits=_fits)
    return rows


def _fits(rows):
    """Whether what a cache held are the rows of a round's masks and measures."""
    numbers = rows_of("round", "density", "test_accuracy", "collapsed", *DISTANCES, count=4)
    return numbers(rows) and [(row.get("mask"), row.get("measure")) for row in rows] == [
        (mask, measure) for mask in MASKS for measure in MEASURES
    ]


def check_resets(run: RunDir) -> None:
    """Raises InputError if not all rounds of a run start from the weights of round 0."""
    if run.config()["reset"] not in RESETS:
        raise InputError(
            f"{run.path}: expected a run that resets to round 0 (--reset=init). Of a reinit "
            "the initial weights that were pruned are not stored."
        )


def _train_and_compare(copies, finished_round, replicate):
    run, round, ticket = copies().run, finished_round.round, finished_round.masks()
    generator = streams.random_masks(run.config()["init_seed"], round, replicate)
    first_seed = copies().config.data_seed + 2 * replicate
    dense = {path: np.ones_like(mask) for path, mask in ticket.items()}
    whole = copies().under(dense, round, first_seed, f"round_{round:02d}_dense")
    rows = []
    for name, masks in zip(MASKS, (ticket, random_masks(ticket, generator)), strict=True):
        trained, reordered = (
            copies().of_round(round, seed)
            if name == "ticket"
            else copies().under(masks, round, seed, f"round_{round:02d}_random_{replicate}")
            for seed in (first_seed, first_seed + 1)
        )
        about = {"round": round, "density": density(masks), "replicate": replicate, "mask": name}
        accuracy = {"test_accuracy": trained[1][-1]["test_accuracy"]}
        for kind, against in zip(MEASURES, (whole, reordered), strict=True):
            measured = compare(trained[0], against[0], masks) | accuracy
            collapsed = any(_is_collapsed(copies(), history) for _, history in (trained, against))
            measured["collapsed"] = int(collapsed or bool(collapse.of_masks(masks)))
            rows.append(about | {"measure": kind} | measured)
    return rows


def _is_collapsed(copies, history):
    """Whether a training ended at chance, or with one class for all: older ones hide that."""
    directory, row = copies.engine.directory, history[-1]
    share, examples = row.get("test_largest_class", nan), directory.splits["test"].examples
    return bool(collapse.of_predictions(row["test_accuracy"], share, directory.classes, examples))


def report_stability(runs: Runs, output: Output, *, at_rounds: Rounds, replicates: int, start: str,
                     **how: Any) -> list[Row]:  # fmt: skip
    """Writes, draws and logs the stability of runs, and of all as replicates.

    The arguments are as those of `of_masks`.

    Returns:
        Rows to print: the means, with least and most, and what was published for LeNet.
    """
    check_at_least(1, replicates=replicates)
    # Before the first is trained.
    at_rounds = select_common_rounds(runs, at_rounds, usual=USUAL_ROUNDS)
    for run in runs:
        check_resets(run)
    end = start_suffix(start)

    def measure(run, cache):
        asked = {"at_rounds": at_rounds, "replicates": replicates, "start": start}
        return of_masks(run, cache=cache, **asked, **how)

    def combine(values):
        return means([row for rows in values for row in rows], BY)

    def findings(_, rows, title):
        return [_findings(rows, end, title)]

    rows = report("stability", runs, output, measure, findings, combine)
    config = runs[0].config()
    published = (config["model"], config["dataset"], end) == ("lenet", "mnist", "")
    return [_to_print(row, published) for row in _averaged(rows)]


def _averaged(rows):
    return rows if "l2_min" in rows[0] else means(rows, BY)


def _findings(rows, end, title):
    averaged = _averaged(rows)
    by_curve = group(averaged, ("measure", "mask"))
    last, name = averaged[-1]["round"], f"stability{end}"
    pictures = {}
    for column, (what, _) in DISTANCES.items():
        curves = {
            f"{mask}, to {measure}": (by_curve[measure, mask], column)
            for measure in MEASURES
            for mask in MASKS
        }
        figure = figures.against_density(curves, what=what, title=title)
        pictures[f"{name}/{column}"] = (last, f"_{column}{end}", figure)
    curves = {
        f"{name}/{measure} {column} {mask}": (
            column,
            [(row["round"], row[column]) for row in of_curve],
        )
        for (measure, mask), of_curve in by_curve.items()
        for column in DISTANCES
    }
    return Findings(name, {end: rows}, pictures, curves)


def _to_print(row, published):
    cells = row | {"state": "collapsed" if row["collapsed"] else ""}
    near = abs(row["density"] - PUBLISHED_DENSITY) < 0.01
    for column, (_, digits) in DISTANCES.items():
        low, high = row[f"{column}_min"], row[f"{column}_max"]
        cells[f"{column}_range"] = f"{low:.{digits}f} to {high:.{digits}f}"
        if published:
            value = PUBLISHED[row["mask"], row["measure"]][column]
            cells[f"{column}_published"] = value if near else nan
    return cells
