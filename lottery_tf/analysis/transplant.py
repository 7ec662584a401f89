"""The mask of one run on the initialization of another, its units permuted or not.

Four masks of one density are trained from the initialization of `run`, or what it rewinds to:

    own          its own: the ticket
    permuted     that of `other`, its units permuted as those of other's dense solution to lie
                 nearest to run's (Adnan et al. 2025)
    unpermuted   that of `other` as it is
    random       a random one of run's density in each layer

What is not known from before is trained, which imports TensorFlow.
"""

from collections.abc import Callable, Mapping

import numpy as np

from lottery_tf.analysis.alignment import Symmetries, match, permute
from lottery_tf.analysis.cache import Cache, rows_of
from lottery_tf.analysis.instability import copies_when_needed
from lottery_tf.analysis.masks import jaccard
from lottery_tf.analysis.replicates import group, means
from lottery_tf.analysis.reports import Findings, Output, report
from lottery_tf.analysis.runs import (
    Computing,
    Rounds,
    Runs,
    check_at_least,
    check_same_experiment,
    select_common_rounds,
)
from lottery_tf.analysis.stability import check_resets, random_masks
from lottery_tf.errors import InputError
from lottery_tf.plots import Row, figures
from lottery_tf.pruning import Masks, Weights, streams
from lottery_tf.pruning.top_k import density
from lottery_tf.runs.rounds import FinishedRound
from lottery_tf.runs.rundir import RunDir

USUAL_ROUNDS = (10,)
MASKS = ("own", "permuted", "unpermuted", "random")
BY = ("round", "mask")
COLUMNS = {
    "round": ("round", "{:d}"),
    "density": ("density", "{:.2%}"),
    "mask": ("mask", "{}"),
    "overlap": ("overlap with own", "{:.3f}"),
    "test_accuracy": ("test acc", "{:.2%}"),
    "test_accuracy_min": ("min", "{:.2%}"),
    "test_accuracy_max": ("max", "{:.2%}"),
}


def masks_of(symmetries: Symmetries, dense: tuple[Weights, Weights], own: Masks, others: Masks,
             generator: np.random.Generator) -> Mapping[str, Masks]:  # fmt: skip
    """{name of MASKS: {kernel path: bool array}}.

    Args:
        symmetries: what symmetries.find gives of the network.
        dense: the dense solutions of the run and of the other.
        own, others: the masks of the run and of the other.
        generator: of the random masks.
    """
    start, end = dense
    permuted = permute(symmetries, others, match(symmetries, start, end))
    masks = (own, permuted, others, random_masks(own, generator))
    return dict(zip(MASKS, masks, strict=True))


def of_masks(run: RunDir, other: RunDir, *, at_rounds: Rounds = (), replicates: int = 1,
             stop_signal: Callable[[], int] = lambda: 0, cache: Cache | None = None,
             computing: Computing | None = None) -> list[Row]:  # fmt: skip
    """Rows of {round, density, replicate, mask, overlap, test_accuracy}, for each mask of MASKS.

    Trains what it needs inside `run`, or reads what is there; a signal raises Interrupted.

    Args:
        run: whose initialization is trained.
        other: a run from another initialization, whose masks are put onto it.
        at_rounds: of both; by default round 10, or the last of a shorter run.
        replicates: how often, with another data seed and random mask each.
        stop_signal: gives the number of the signal that has come, or 0.
        cache: holds what was measured before; by default all is read again.
        computing: where and how, as loading.engine_of takes it.

    Raises:
        InputError: runs that do not go together, or rounds that are not there.
    """
    check(run, other, replicates)
    copies, cache = copies_when_needed(run, "init", stop_signal, computing or {}), cache or Cache()
    rows = []
    for round in select_common_rounds([run, other], at_rounds, usual=USUAL_ROUNDS):
        of = [FinishedRound(which.path, r) for which in (run, other) for r in (0, round)]
        for replicate in range(replicates):
            options, arguments = ["transplant", replicate], (copies, of, replicate)
            rows += cache.reuse(of, options, _train, *arguments, fits=_fits)
    return rows


def _fits(rows):
    numbers = rows_of("round", "density", "overlap", "test_accuracy", count=len(MASKS))
    return numbers(rows) and [row.get("mask") for row in rows] == list(MASKS)


def check(run: RunDir, other: RunDir, replicates: int) -> None:
    """Raises InputError if a run's initialization cannot be trained under another's masks."""
    check_at_least(1, replicates=replicates)
    check_same_experiment([run, other])
    check_resets(run)
    seeds = [which.config()["init_seed"] for which in (run, other)]
    if seeds[0] == seeds[1]:
        raise InputError(
            f"--other_run: expected a run from another initialization than {run.path}. Received: "
            f"{other.path}, also of --init_seed={seeds[0]}"
        )


def _train(copies, rounds, replicate):
    """The rows of a round and replicate; rounds are the dense and the sparse one of both runs."""
    dense, sparse, other_dense, other_sparse = rounds
    round, config = sparse.round, copies().config  # it imports TensorFlow, without its messages
    from lottery_tf.analysis import symmetries

    generator = streams.random_masks(config.init_seed, round, replicate)
    solutions = dense.final(), other_dense.final()
    found = symmetries.find(copies().engine.network)
    masks = masks_of(found, solutions, sparse.masks(), other_sparse.masks(), generator)
    rows, seed = [], config.data_seed + replicate
    for name, of in masks.items():
        label = f"random_{replicate}" if name == "random" else f"{other_sparse.run.name}_{name}"
        _, history = (
            copies().of_round(round, seed)
            if name == "own"
            else copies().under(of, round, seed, f"round_{round:02d}_{label}")
        )
        row = {"round": round, "density": density(of), "replicate": replicate, "mask": name}
        overlap = float(jaccard([of], [masks["own"]])[0, 0])
        row |= {"overlap": overlap, "test_accuracy": history[-1]["test_accuracy"]}
        rows.append(row)
    return rows


def report_transplant(runs: Runs, other: RunDir | None, output: Output, *, at_rounds: Rounds,
                      replicates: int, **how: object) -> list[Row]:  # fmt: skip
    """Writes, draws and logs the accuracies of the masks in runs, and of all as replicates.

    The arguments are as those of `of_masks`.

    Returns:
        Rows to print: the means, with least and most.
    """
    if not other:
        raise InputError("--other_run: expected the run whose masks are used. Received none.")
    for run in runs:  # before the first is trained
        check(run, other, replicates)
    at_rounds = select_common_rounds([*runs, other], at_rounds, usual=USUAL_ROUNDS)

    def measure(run, cache):
        options = {"at_rounds": at_rounds, "replicates": replicates} | how
        return of_masks(run, other, cache=cache, **options)

    def findings(run, rows, title):
        averaged = means(rows, BY)
        curves = {mask: (of, "test_accuracy") for (mask,), of in group(averaged, ("mask",)).items()}
        what = "test accuracy (%)"
        figure = figures.against_density(curves, what=what, percent=True, title=title)
        picture = {"transplant/test_accuracy": (averaged[-1]["round"], "", figure)}
        logged = {
            f"transplant/test_accuracy {mask}": (
                column,
                [(row["round"], row[column]) for row in of],
            )
            for mask, (of, column) in curves.items()
        }
        return [Findings("transplant", {"": rows}, picture, logged)]

    def combine(values):
        return [row for rows in values for row in rows]

    return means(report("transplant", runs, output, measure, findings, combine), BY)
