"""A fixed mask, trained for as many cycles of the schedule as IMP had rounds.

The control (Gadhikar et al. 2024) asks whether IMP's mask does it, or the many trainings: on the
mask of a round, from W_0 or what the run rewinds to, the schedule that the round had is run again
and again, each cycle from the weights that the last one ended with. The same for a random mask of
the same density in each layer.
What is not known from before is trained, which imports TensorFlow.
"""

from collections.abc import Callable

from lottery_tf.analysis.cache import Cache, rows_of
from lottery_tf.analysis.instability import copies_when_needed
from lottery_tf.analysis.replicates import group, of_runs
from lottery_tf.analysis.reports import Findings, Output, report
from lottery_tf.analysis.runs import (
    Computing,
    Rounds,
    Runs,
    check_at_least,
    select_common_rounds,
    select_rounds,
)
from lottery_tf.analysis.stability import check_resets, random_masks
from lottery_tf.plots import Row, figures
from lottery_tf.pruning import streams
from lottery_tf.pruning.top_k import apply_masks, density
from lottery_tf.runs.rounds import FinishedRound
from lottery_tf.runs.rundir import RunDir

USUAL_ROUNDS = (10,)
MASKS = ("ticket", "random")
BY = ("round", "mask", "cycle")
COLUMNS = {
    "round": ("round", "{:d}"),
    "density": ("density", "{:.2%}"),
    "mask": ("mask", "{}"),
    "cycle": ("cycle", "{:d}"),
    "test_accuracy": ("test acc", "{:.2%}"),
    "test_accuracy_min": ("min", "{:.2%}"),
    "test_accuracy_max": ("max", "{:.2%}"),
    "imp_accuracy": ("IMP's", "{:.2%}"),
}


def of_masks(run: RunDir, *, at_rounds: Rounds = (), cycles: int | None = None,
             stop_signal: Callable[[], int] = lambda: 0, cache: Cache | None = None,
             computing: Computing | None = None) -> list[Row]:  # fmt: skip
    """Rows of {round, density, mask, cycle, test_accuracy, imp_accuracy}; cycles count from 1.

    Trains what it needs inside the run, or reads what is there; a signal raises Interrupted.

    Args:
        run: that resets to round 0.
        at_rounds: whose masks are trained; by default round 10, or the last of a shorter run.
        cycles: of each mask; by default as many as IMP trained up to the round, round + 1.
        stop_signal: gives the number of the signal that has come, or 0.
        cache: holds what was measured before; by default all is read again.
        computing: where and how, as loading.engine_of takes it.

    Raises:
        InputError: the run resets otherwise, or a round is not there.
    """
    check_resets(run)
    check_at_least(1, cycles=1 if cycles is None else cycles)
    copies, cache = copies_when_needed(run, "init", stop_signal, computing or {}), cache or Cache()
    rows = []
    for round in select_rounds(run, at_rounds, usual=USUAL_ROUNDS):
        count = cycles or round + 1
        of, options = [FinishedRound(run.path, r) for r in (0, round)], ["cyclic", count]
        fits = rows_of("round", "density", "cycle", "test_accuracy", count=count * len(MASKS))
        rows += cache.reuse(of, options, _train, copies, run, round, count, fits=fits)
    return rows


def _train(copies, run, round, cycles):
    config, ticket = copies().config, run.masks(round)  # it imports TensorFlow quietly
    from lottery_tf.training.training import Training

    random = random_masks(ticket, streams.random_masks(config.init_seed, round, 0))
    accuracy, rows = run.metrics()[round]["test_accuracy"], []
    for name, masks in zip(MASKS, (ticket, random), strict=True):
        start, first = copies().start_of(round)
        weights = apply_masks(start, masks)
        for cycle in range(cycles):
            noise = streams.Noise(config.data_seed, cycle)  # as IMP draws it for each round
            label = f"round_{round:02d}_{name}_cycle_{cycle + 1:02d}"
            weights, history = copies().train(label, Training(weights, masks, noise, first=first))
            row = {"round": round, "density": density(masks), "mask": name, "cycle": cycle + 1}
            row |= {"test_accuracy": history[-1]["test_accuracy"], "imp_accuracy": accuracy}
            rows.append(row)
    return rows


def report_cyclic(runs: Runs, output: Output, *, at_rounds: Rounds, cycles: int | None,
                  **how: object) -> list[Row]:  # fmt: skip
    """Writes, draws and logs the accuracies of the cycles of runs, and of all as replicates.

    The arguments are as those of `of_masks`.

    Returns:
        Rows to print.
    """
    at_rounds = select_common_rounds(runs, at_rounds, usual=USUAL_ROUNDS)  # before it trains
    for run in runs:
        check_resets(run)

    def measure(run, cache):
        return of_masks(run, cache=cache, at_rounds=at_rounds, cycles=cycles, **how)

    def findings(_, rows, title):
        pictures, logged = {}, {}
        for (round,), of_round in group(rows, ("round",)).items():
            by_mask = {f"{mask} mask": of for (mask,), of in group(of_round, ("mask",)).items()}
            line = of_round[0]["imp_accuracy"], f"IMP after {round + 1} trainings"
            about = f"{title}, density {of_round[0]['density']:.2%}"
            figure = figures.against_cycles(by_mask, line=line, title=about)
            pictures[f"cyclic/round_{round:02d}"] = (round, f"_round_{round:02d}", figure)
            logged |= {
                f"cyclic/round_{round:02d} {mask}": (
                    "test_accuracy",
                    [(r["cycle"], r["test_accuracy"]) for r in of],
                )
                for mask, of in by_mask.items()
            }
        return [Findings("cyclic", {"": rows}, pictures, logged)]

    def combine(values):
        return of_runs(runs, values, BY)

    return report("cyclic", runs, output, measure, findings, combine)
