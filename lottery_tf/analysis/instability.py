"""Linear-mode instability (Fig. 2; Frankle et al. 2020a). NumPy and matplotlib only.

What is not known from before is trained and evaluated, which imports TensorFlow.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

from lottery_tf.analysis import loading, paths, replicates
from lottery_tf.analysis.cache import Cache
from lottery_tf.analysis.reports import Output
from lottery_tf.analysis.runs import (
    Computing,
    Rounds,
    Runs,
    check_at_least,
    select_common_rounds,
    select_rounds,
)
from lottery_tf.plots import Row
from lottery_tf.runs.rounds import FinishedRound
from lottery_tf.runs.rundir import RunDir

BY = ("round", "start", "split", "bn_stats")
USUAL_ROUNDS = (0, 5, 10, 15)  # those of them that are finished
STABLE = 0.02  # Frankle et al. 2020a: below it a network counts as stable
COLUMNS = {
    "round": ("round", "{:d}"),
    "density": ("density", "{:.2%}"),
    "instability": ("instability", "{:.2%}"),
    "instability_min": ("min", "{:.2%}"),
    "instability_max": ("max", "{:.2%}"),
    "verdict": (f"stable: < {STABLE:.0%}", "{}"),
}


def between_copies(run: RunDir, *, at_rounds: Rounds = (), copies: int = 2,
                   start: str = "init", stop_signal: Callable[[], int] = lambda: 0,
                   cache: Cache | None = None, computing: Computing | None = None,
                   points: int = 30, **options: Any) -> tuple[list[Row], list[Row]]:  # fmt: skip
    """Instability and paths: a row for each round and pair of copies, one for each point.

    "collapsed" is 1 where one of a pair is at chance, gives one class, or lacks a layer.

    Trains the copies inside the run, or reads those there; a signal raises signals.Interrupted.

    Args:
        run: whose rounds are trained again.
        at_rounds, copies, start, points, **options: as the flags; split and bn_stats too.
        stop_signal: gives the number of the signal that has come, or 0.
        cache: holds what was evaluated before; by default all is evaluated.
        computing: where and how, as loading.engine_of takes it.
    """
    on_path, cache = paths.options_of(run, points=points, **options), cache or Cache()
    check_at_least(2, copies=copies)
    options, rows, all_points = {"start": start} | on_path, [], []
    first = loading.config_of(run).data_seed
    copies_of = copies_when_needed(run, start, stop_signal, computing or {})
    evaluate = paths.evaluator(lambda: copies_of().engine, **on_path)
    densities = {row["round"]: row["density"] for row in run.metrics()}
    pairs = itertools.combinations(range(first, first + copies), 2)
    rounds = select_rounds(run, at_rounds, usual=USUAL_ROUNDS)
    for round, pair in itertools.product(rounds, pairs):
        ends = (copies_of().of_round(round, seed)[0] for seed in pair)
        of, key = FinishedRound(run.path, round), [options, pair, paths.POINT]
        path = cache.reuse([of], key, evaluate, ends, fits=paths.fits(points))
        row = {"round": round, "density": densities[round], "pair": f"{pair[0]}-{pair[1]}"}
        row |= {name: options[name] for name in BY[1:]}
        barriers = paths.summarize(path)
        row["instability"] = barriers.pop("error_barrier")
        barriers["collapsed"] |= paths.lacks_a_layer(of)
        rows.append(row | barriers)
        all_points += [row | point for point in path]
    return rows, all_points


def of_rounds(run: RunDir, **options: Any) -> list[Row]:
    """The instability of rounds, means over the pairs; arguments as `between_copies`."""
    return replicates.means(between_copies(run, **options)[0], BY)


def copies_when_needed(run: RunDir, start: str, stop_signal: Callable[[], int],
                       computing: Computing) -> Callable[[], Any]:  # fmt: skip
    """A function that gives the run's Copies; they are made, once, when it is first called."""

    @functools.cache
    def copies():
        engine = loading.engine_of(run, **computing)  # it imports TensorFlow, without its messages
        from lottery_tf.analysis.copies import Copies

        return Copies(run, start, stop_signal, engine)

    return copies


def report_instability(runs: Runs, output: Output, *, at_rounds: Rounds, copies: int, start: str,
                       options: dict[str, Any],
                       **how: Any) -> tuple[list[Row], dict[str, Any]]:  # fmt: skip
    """Writes, draws and logs the instability of runs, and of all as replicates.

    The arguments are as those of `between_copies`.

    Returns:
        (rows to print, options that they depend on).
    """
    check_at_least(2, copies=copies)
    # Before the first is trained.
    at_rounds = select_common_rounds(runs, at_rounds, usual=USUAL_ROUNDS)
    told = {"start": start} | paths.options_of(runs[0], **options)
    end = start_suffix(start) + paths.suffix_of(told)

    def measure(run, cache):
        pairs, points = between_copies(
            run, at_rounds=at_rounds, copies=copies, start=start, cache=cache, **how, **options
        )
        along = paths.of_their_paths(pairs, points, (*BY, "pair"))
        averaged = replicates.means(pairs, BY), replicates.means(along, (*BY, "alpha"))
        return {f"_pairs{end}": pairs, end: averaged[0], f"_paths{end}": averaged[1]}

    figure = {
        "what": "linear-mode instability: error (points of %)",
        "line": (STABLE, f"stable below {STABLE:.0%}"),
    }
    rows = paths.report_paths(
        "instability", end, runs, output, measure, by=BY, step="round",
        about=f"{paths.about_options(told)}, trained from {start}",
        shown={"instability": "instability"},
        curves={"": "instability"}, figure=figure, label="round {round}, density {density:.2%}",
        ends=("one data seed", "another"),
    )  # fmt: skip
    return [row | {"verdict": verdict(row)} for row in rows], told


def verdict(row: Row) -> str:
    """What a row's instability tells; of networks that answer alike whatever they see, nothing."""
    if row["collapsed"] == 1:
        return "collapsed"
    value = row["instability"]
    low, high = row.get("instability_min") or value, row.get("instability_max") or value
    return "stable" if high < STABLE else "unstable" if low >= STABLE else "copies differ"


def start_suffix(start: str) -> str:
    """The part of a file's name that tells a --start that is not init."""
    return "" if start == "init" else f"_{start.replace(':', '_')}"
