"""Stability to pruning and to data order (Frankle et al. 2019).

With A(W, u) as training from W with the SGD noise u, m a mask, and W_t where training starts:

    stability to pruning      distance between m * A(W_t, u) and A(m * W_t, u)
    stability to data order   distance between A(m * W_t, u) and A(m * W_t, u')

on the weights in m. A lower distance is more stable. The control is a random mask of the same
density in each layer. What the cache does not hold is trained, which imports TensorFlow.
"""

import dataclasses
from math import nan
from typing import Any, ClassVar

import numpy as np

from lottery_tf.analysis import retraining
from lottery_tf.analysis.cache import Cache, rows_of
from lottery_tf.analysis.distances import products_of_weights
from lottery_tf.analysis.measure import Column, Findings, Picture, Table, curve, usual
from lottery_tf.analysis.replicates import group, means
from lottery_tf.analysis.runs import Rounds, check_at_least, select_rounds
from lottery_tf.config.fields import flag
from lottery_tf.plots import Columns, Row
from lottery_tf.pruning import Masks, Weights, collapse, streams
from lottery_tf.pruning.top_k import density
from lottery_tf.runs.rounds import FinishedRound
from lottery_tf.runs.rundir import RunDir

MASKS = ("ticket", "random")
MEASURES = ("pruning", "data order")
BY = ("round", "mask", "measure")
DISTANCES = {"l2": ("L2 distance", 2), "degrees": ("angle (degrees)", 1)}
COLUMNS: Columns = {
    **usual("round"),
    "density": Column("density", "{:.1%}", "fraction of the prunable weights that is alive"),
    **usual("mask"),
    "measure": Column("stability to", "{}", "pruning, or data order"),
    "l2": Column("L2", "{:.2f}", "L2 distance between the two networks on the weights in the mask"),
    "l2_range": Column("min to max", "{}"),
    "l2_published": Column("published", "{:.1f}"),
    "degrees": Column("degrees", "{:.1f}", "angle between the two on these weights", "degrees"),
    "degrees_range": Column("min to max", "{}"),
    "degrees_published": Column("published", "{:.1f}"),
    **usual("test_accuracy"),
    "state": Column("state", "{}", "whether a network has collapsed"),
}
# Whether a value of a cache has the rows of a round's masks and measures.
_fits = rows_of(
    *("round", "density", "test_accuracy", "collapsed", *DISTANCES),
    mask=[mask for mask in MASKS for _ in MEASURES],
    measure=MEASURES * len(MASKS),
)
# Frankle et al. 2019, LeNet on MNIST at density 10.7%
PUBLISHED_DENSITY = 0.107
PUBLISHED = {
    ("ticket", "pruning"): {"l2": 48.1, "degrees": 53.1},
    ("random", "pruning"): {"l2": 75.7, "degrees": 83.6},
    ("ticket", "data order"): {"l2": 20.7, "degrees": 22.7},
    ("random", "data order"): {"l2": 58.6, "degrees": 49.2},
}


def compare(start: Weights, end: Weights, masks: Masks) -> dict[str, float]:
    """Return {l2, degrees} between two networks on the weights in masks."""
    products = products_of_weights(start, end, (masks, masks))
    return {
        "l2": float(products.euclidean()[0, 0]),
        "degrees": float(90 * products.angular()[0, 0]),
    }


def of_masks(
    run: RunDir,
    *,
    at_rounds: Rounds = (),
    replicates: int = 1,
    start: str = "init",
    cache: Cache | None = None,
    **how: Any,
) -> list[Row]:
    """Return a row for each round, replicate, mask (ticket, random) and measure.

    The measures are stability to pruning and to data order. "collapsed" is 1 where one of the two
    is at chance, gives one class, or lacks a layer. Options are as the flags, computing and
    stop_signal.
    """
    check_at_least(1, replicates=replicates)
    retraining.check_resets(run)
    retrainings, cache = retraining.Retrainings(run, start, **how), cache or Cache()
    rows: list[Row] = []
    for round in select_rounds(run, at_rounds, usual=retraining.USUAL_ROUNDS):
        of = FinishedRound(run.path, round)
        for replicate in range(replicates):
            options = [{"start": start}, replicate, "collapsed"]
            arguments = (retrainings, of, replicate)
            rows += cache.reuse([of], options, _train_and_compare, *arguments, fits=_fits)
    return rows


def _train_and_compare(
    retrainings: retraining.Retrainings, finished_round: FinishedRound, replicate: int
) -> list[Row]:
    run, round, ticket = retrainings.run, finished_round.round, finished_round.masks()
    generator = streams.random_masks(run.config()["init_seed"], round, replicate)
    first_seed = retrainings.engine.config.data_seed + 2 * replicate
    dense = {path: np.ones_like(mask) for path, mask in ticket.items()}
    whole = retrainings.under(dense, round, first_seed, f"round_{round:02d}_dense")
    directory = retrainings.engine.directory
    sizes = directory.classes, directory.splits["test"].examples

    def is_collapsed(row: Row) -> bool:  # at chance, or with one class for all inputs
        share = row.get("test_largest_class", nan)
        return bool(collapse.of_predictions(row["test_accuracy"], share, *sizes))

    rows = []
    both = ticket, retraining.random_masks(ticket, generator)
    for name, masks in zip(MASKS, both, strict=True):
        trained, reordered = (
            retrainings.of_round(round, seed)
            if name == "ticket"
            else retrainings.under(masks, round, seed, f"round_{round:02d}_random_{replicate}")
            for seed in (first_seed, first_seed + 1)
        )
        about = {"round": round, "density": density(masks), "replicate": replicate, "mask": name}
        accuracy = {"test_accuracy": trained[1][-1]["test_accuracy"]}
        for kind, against in zip(MEASURES, (whole, reordered), strict=True):
            measured: Row = compare(trained[0], against[0], masks) | accuracy
            collapsed = any(is_collapsed(history[-1]) for _, history in (trained, against))
            measured["collapsed"] = int(collapsed or bool(collapse.of_masks(masks)))
            rows.append(about | {"measure": kind} | measured)
    return rows


@dataclasses.dataclass
class Stability(retraining.MaskMeasure):
    """Measures the stability of tickets to pruning and data order (Frankle et al. 2019).

    python -m tools.stability --run_dir=runs/lenet --at_rounds=10 --replicates=3

    It trains within the run. Run it again to resume.
    """

    replicates: int = flag(
        1, "Number of repeats, each with other SGD noise and other random masks."
    )
    start: str = flag(
        "init",
        "Weights that training starts from. init takes the initialization; rewind:STEP (or "
        "rewind:4ep) takes round 0 after that many steps.",
    )

    name = "stability"
    columns = COLUMNS
    by = BY
    title = "Stability to pruning and to data order"
    csv_files: ClassVar = {
        "stability.csv": "one row for each round, replicate, mask and measure",
    }
    csv_columns: ClassVar = {
        "replicate": ("", "number of the repetition, from 0"),
        "collapsed": ("", "1 if a network has collapsed, else 0; a fraction in means"),
    }
    picture_tags: ClassVar = {
        "stability/l2": ("stability_l2.png", "L2 distances against density"),
        "stability/degrees": ("stability_degrees.png", "angles against density"),
    }

    def measure(self, run: RunDir, cache: Cache) -> list[Row]:
        return of_masks(run, cache=cache, **self.how, **self.asked)

    def combine(self, values: list[list[Row]]) -> list[Row]:
        return means([row for rows in values for row in rows], BY)

    def findings(self, run: RunDir, value: list[Row], title: str) -> list[Findings]:
        """Return the table, and each distance against density and as curves."""
        from lottery_tf.plots import figures

        end = retraining.start_suffix(self.start)
        averaged, name = _averaged(value), f"stability{end}"
        by_curve = group(averaged, ("measure", "mask"))
        pictures, logged = {}, {}
        for column, (what, _) in DISTANCES.items():
            curves = {
                f"{mask}, to {measure}": (by_curve[measure, mask], column)
                for measure in MEASURES
                for mask in MASKS
            }
            figure = figures.against_density(curves, what=what, title=title)
            pictures[f"{name}/{column}"] = Picture(figure, f"_{column}{end}", averaged[-1]["round"])
            for (measure, mask), rows in by_curve.items():
                logged[f"{name}/{measure} {column} {mask}"] = curve(rows, column)
        return [Findings(name, {end: value}, pictures, logged)]

    def shown(self, values: list[list[Row]], value: list[Row]) -> list[str | Table]:
        """Return the means, with least and most, and what was published for LeNet."""
        config = self.runs[0].config()
        published = (config["model"], config["dataset"], self.start) == ("lenet", "mnist", "init")
        rows = []
        for row in _averaged(value):
            row = row | {"state": "collapsed" if row["collapsed"] else ""}
            near = abs(row["density"] - PUBLISHED_DENSITY) < 0.01
            for column, (_, digits) in DISTANCES.items():
                low, high = row[f"{column}_min"], row[f"{column}_max"]
                row[f"{column}_range"] = f"{low:.{digits}f} to {high:.{digits}f}"
                if published:
                    there = PUBLISHED[row["mask"], row["measure"]][column]
                    row[f"{column}_published"] = there if near else nan
            rows.append(row)
        source = ["Published: Frankle et al. 2019, LeNet on MNIST at density 10.7%."] * published
        return [(rows, self.columns), *source]


def _averaged(rows: list[Row]) -> list[Row]:
    return rows if "l2_min" in rows[0] else means(rows, BY)


MEASURE = Stability
