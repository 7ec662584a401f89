"""A fixed mask, trained for as many cycles of the schedule as IMP had rounds.

The control (Gadhikar et al. 2024) asks whether IMP's mask does it, or the many trainings: on the
mask of a round, from W_0 or what the run rewinds to, the schedule that the round had is run again
and again, each cycle from the weights that the last one ended with. The same for a random mask of
the same density in each layer, and for a denser random mask that is pruned once, before the last
cycle (Gadhikar et al. 2024).
What the cache does not hold is trained, which imports TensorFlow.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lottery_tf.analysis import retraining
from lottery_tf.analysis.cache import Cache, rows_of
from lottery_tf.analysis.measure import Column, Findings, Picture, curve, usual
from lottery_tf.analysis.replicates import group
from lottery_tf.analysis.runs import Rounds, check_at_least, select_rounds
from lottery_tf.config.fields import flag
from lottery_tf.errors import InputError
from lottery_tf.plots import Columns, Row
from lottery_tf.pruning import Masks, streams
from lottery_tf.pruning.allocation import in_proportion, share
from lottery_tf.pruning.top_k import apply_masks, density, prune
from lottery_tf.runs.rounds import FinishedRound
from lottery_tf.runs.rundir import RunDir
from lottery_tf.training.training import Training

if TYPE_CHECKING:  # it takes half a second to import
    from matplotlib.figure import Figure

MASKS = ("ticket", "random")
PRUNED_ONCE = "once pruned random"
COLUMNS: Columns = {
    **usual("round", "density", "mask"),
    "cycle": Column("cycle", "{:d}", "number of the training, from 1"),
    **usual("test_accuracy", "test_accuracy_min", "test_accuracy_max"),
    "imp_accuracy": Column("IMP's", "{:.2%}", "test accuracy of IMP's ticket at this density"),
}


def of_masks(
    run: RunDir,
    *,
    at_rounds: Rounds = (),
    cycles: int | None = None,
    once_from: float | None = None,
    cache: Cache | None = None,
    **how: Any,
) -> list[Row]:
    """Return rows of {round, density, mask, cycle, test_accuracy, imp_accuracy}.

    Args:
        run: that resets to round 0.
        at_rounds: whose masks are trained; by default round 10, or the last of a shorter run.
        cycles: of each mask; by default as many as IMP trained up to the round, round + 1.
        once_from: density of a random mask that is pruned to that of the round before its last
            cycle; None: without.
        **how: computing and stop_signal.
    """
    retraining.check_resets(run)
    check_at_least(1, cycles=1 if cycles is None else cycles)
    retrainings, cache = retraining.Retrainings(run, **how), cache or Cache()
    rows: list[Row] = []
    for round in select_rounds(run, at_rounds, usual=retraining.USUAL_ROUNDS):
        count = cycles or round + 1
        check_once_from(once_from, density(run.masks(round)), count)
        of, options = [FinishedRound(run.path, r) for r in (0, round)], ["cyclic", count]
        fits = rows_of("round", "density", "cycle", "test_accuracy", count=count * len(MASKS))
        rows += cache.reuse(of, options, _train, retrainings, round, count, fits=fits)
        if once_from is not None:
            fits = rows_of("round", "density", "cycle", "test_accuracy", count=count)
            arguments = retrainings, round, count, once_from
            rows += cache.reuse(of, [*options, once_from], _train, *arguments, fits=fits)
    return rows


def check_once_from(once_from: float | None, least: float, cycles: int) -> None:
    """Raise InputError if a mask of that density cannot be pruned once, before the last cycle."""
    if once_from is not None and not least < once_from < 1:
        raise InputError(
            f"--once_from: expected a density above that of the round, {least:.4g}, and below 1. "
            f"Received: {once_from}"
        )
    if once_from is not None and cycles < 2:
        raise InputError(f"--once_from: expected at least 2 --cycles. Received: {cycles}")


def _train(
    retrainings: retraining.Retrainings, round: int, cycles: int, once_from: float | None = None
) -> list[Row]:
    run, config = retrainings.run, retrainings.engine.config
    ticket, accuracy = run.masks(round), run.metrics()[round]["test_accuracy"]
    generator = streams.random_masks(config.init_seed, round, 0)
    if once_from is None:
        trained = dict(
            zip(MASKS, (ticket, retraining.random_masks(ticket, generator)), strict=True)
        )
    else:
        trained = {PRUNED_ONCE: retraining.random_masks(denser(ticket, once_from), generator)}
    rows: list[Row] = []
    for name, masks in trained.items():
        start, first = retrainings.start_of(round)
        weights = apply_masks(start, masks)
        for cycle in range(cycles):
            if name == PRUNED_ONCE and cycle == cycles - 1:
                masks, _ = prune(weights, masks, config.policy.to_density(density(ticket)))
                weights = apply_masks(weights, masks)
            noise = streams.Noise(config.data_seed, cycle)  # as IMP draws it for each round
            file_name = name if once_from is None else f"once_from_{once_from:g}"
            label = f"round_{round:02d}_{file_name}_cycle_{cycle + 1:02d}"
            training = Training(weights, masks, noise, first=first)
            weights, history = retrainings.train(label, training)
            row = {"round": round, "density": density(masks), "mask": name, "cycle": cycle + 1}
            row |= {"test_accuracy": history[-1]["test_accuracy"], "imp_accuracy": accuracy}
            rows.append(row)
    return rows


def denser(masks: Masks, density: float) -> Masks:
    """Return masks of a density that have each layer's weights in proportion to these, at most all.

    Which weights they are means nothing.
    """
    sizes = {path: mask.size for path, mask in masks.items()}
    counts = {path: float(np.count_nonzero(mask)) for path, mask in masks.items()}
    of_layers = in_proportion(counts, sizes, share(density, sum(sizes.values())))
    return {
        path: (np.arange(mask.size) < of_layers[path]).reshape(mask.shape)
        for path, mask in masks.items()
    }


def draw(rows: list[Row], title: str = "") -> "Figure":
    """Draw the accuracy of the masks of one round against the cycle, beside that of IMP."""
    from lottery_tf.plots import figures

    by_mask = {f"{mask} mask": of for (mask,), of in group(rows, ("mask",)).items()}
    line = rows[0]["imp_accuracy"], f"IMP after {rows[0]['round'] + 1} trainings"
    return figures.against_cycles(by_mask, line=line, title=title)


@dataclasses.dataclass
class Cyclic(retraining.MaskMeasure):
    """Trains a fixed mask for as many cycles as IMP had rounds (Gadhikar et al. 2024).

    python -m tools.cyclic --run_dir=runs/lenet --at_rounds=10

    It trains within the run. Run it again to resume.
    """

    cycles: int | None = flag(
        None,
        "Number of times that each mask is trained in a row. Default: as often as IMP trained, "
        "round + 1.",
    )

    once_from: float | None = flag(
        None,
        "Density of a further random mask, in proportion to the layers of the round's. Before its "
        "last cycle it is pruned once, by magnitude, to the density of the round. Default: none.",
    )

    name = "cyclic"
    columns = COLUMNS
    by = ("round", "mask", "cycle")
    title = "A fixed mask trained in cycles"
    csv_files: ClassVar = {"cyclic.csv": "one row for each round, mask and cycle"}
    picture_tags: ClassVar = {
        "cyclic/round_{NN}": ("cyclic_round_{NN}.png", "test accuracy against the cycle"),
    }

    def measure(self, run: RunDir, cache: Cache) -> list[Row]:
        return of_masks(run, cache=cache, **self.how, **self.asked)

    def findings(self, run: RunDir, value: list[Row], title: str) -> list[Findings]:
        """Return the table, and the accuracy of each round's masks against the cycle."""
        pictures, logged = {}, {}
        for (round,), rows in group(value, ("round",)).items():
            tag = f"cyclic/round_{round:02d}"
            figure = draw(rows, f"{title}, density {rows[0]['density']:.2%}")
            pictures[tag] = Picture(figure, f"_round_{round:02d}", round)
            for (mask,), of in group(rows, ("mask",)).items():
                logged[f"{tag} {mask} mask"] = curve(of, "test_accuracy", "cycle")
        return [Findings(self.name, {"": value}, pictures, logged)]

    @classmethod
    def report_rows(cls, rows: list[Row]) -> list[Row]:
        """Return the rows of the last cycles."""
        return [of[-1] for of in group(rows, ("round", "mask")).values()]

    @classmethod
    def report_pictures(cls, rows: list[Row]) -> "dict[str, Callable[[], Figure]]":
        """Return a picture of each round."""
        return {
            f"Test accuracy of the masks of round {round} after each cycle": functools.partial(
                draw, of_round
            )
            for (round,), of_round in group(rows, ("round",)).items()
        }


MEASURE = Cyclic
