"""Error barriers between the networks of rounds (Figs. 8, 20, 23). NumPy and matplotlib only.

What is not known from before is evaluated, which imports TensorFlow.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lottery_tf.analysis import loading, paths
from lottery_tf.analysis.cache import Cache
from lottery_tf.analysis.reports import Output
from lottery_tf.analysis.runs import Computing, Runs, check_same_experiment, metrics_with
from lottery_tf.errors import InputError
from lottery_tf.plots import Row
from lottery_tf.runs.rounds import FinishedRound
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import console

BY = ("from_round", "to_round", "split", "bn_stats")
DRAWN = 3  # paths, where --at_rounds names none
COLUMNS = {
    "from_round": ("from", "{:d}"),
    "to_round": ("to", "{:d}"),
    "density": ("density", "{:.2%}"),
    "error_barrier": ("error barrier", "{:.2%}"),
    "error_barrier_larger_end": ("above larger end", "{:.2%}"),
    "loss_barrier": ("loss barrier", "{:.4f}"),
    "over_dense": ("acc over dense", "{:+.2%}"),
    "state": ("state", "{}"),
}


def along_paths(run: RunDir, other: RunDir | None = None, *, pairs: Sequence[str] = ("successive",),
                evaluate: paths.Evaluate | None = None, cache: Cache | None = None,
                computing: Computing | None = None, points: int = 20, align: str = "none",
                **options: Any) -> tuple[list[Row], list[Row]]:  # fmt: skip
    """The barriers between rounds, and the paths: a row for each path, one for each point of it.

    Args:
        run: of the first end of each path.
        other: of the second end; None for `run` itself.
        pairs, points, align: as the flags of tools.barriers.
        evaluate: what `paths.evaluator` gives, to be used for several runs.
        cache: holds what was evaluated before; by default all is evaluated.
        computing: where and how, as loading.engine_of takes it.
        **options: split, bn_stats, as the flags.

    Raises:
        InputError: runs or rounds that are not there, do not go together, or are damaged.
    """
    other, cache, where = other or run, cache or Cache(), computing or {}
    check_same_experiment([run, other])
    aligned = {} if align == "none" else {"align": align}
    options = paths.options_of(run, points=points, **options, **aligned)
    evaluate = evaluate or paths.evaluator(lambda: loading.engine_of(run, **where), **options)
    metrics = metrics_with(other, "density", "test_accuracy")
    dense = metrics[0]["test_accuracy"]
    rows, all_points, numbers = [], [], parse_pairs(pairs, run, other)
    for start, end in console.progress(numbers, "paths"):
        ends = [FinishedRound(run.path, start), FinishedRound(other.path, end)]
        key, weights = [options, paths.POINT], (end.final() for end in ends)
        path = cache.reuse(ends, key, evaluate, weights, fits=paths.fits(points))
        about = {"from_round": start, "to_round": end, "density": metrics[end]["density"]}
        about |= {name: options[name] for name in BY[2:]}
        row = about | paths.summarize(path)
        row["collapsed"] |= paths.lacks_a_layer(*ends)
        row["over_dense"] = metrics[end]["test_accuracy"] - dense
        rows.append(row)
        all_points += [about | point for point in path]
    return rows, all_points


def between_rounds(run: RunDir, other: RunDir | None = None, **options: Any) -> list[Row]:
    """The barriers between rounds, a row for each path; arguments as `along_paths`.

    Each is above the mean of the ends, and above the larger end, of the error and of the loss.
    "collapsed" is 1 where an end is at chance, gives one class, or lacks a layer: no barrier
    between such networks connects anything. "over_dense" is the test accuracy of the second end
    above that of its run's round 0, which Paul et al. 2023 compare the barrier with.
    """
    return along_paths(run, other, **options)[0]


def parse_pairs(items: Sequence[str], run: RunDir, other: RunDir) -> list[tuple[int, int]]:
    """[(round of run, round of other)] that --pairs names.

    Args:
        items: ["successive"], or ["i-j", …].
        run, other: successive rounds of two runs are the same round of both.

    Raises:
        InputError: a pair that is none, or a round that is not there.
    """
    counts = run.finished_rounds(), other.finished_rounds()
    if list(items) == ["successive"]:
        if other is not run:
            return [(round, round) for round in range(min(counts))]
        if counts[0] < 2:
            raise InputError(f"{run.path}: expected two finished rounds or more. Found one.")
        return [(round, round + 1) for round in range(counts[0] - 1)]
    pairs = []
    for item in items or [""]:
        first, _, second = item.partition("-")
        if not (first.isdecimal() and second.isdecimal()):
            raise InputError(
                "--pairs: expected successive, or pairs of rounds as 0-1,4-5. Received: "
                f"{item or 'none'}"
            )
        pairs.append((int(first), int(second)))
        for of, round, count in zip((run, other), pairs[-1], counts, strict=True):
            if round >= count:
                raise InputError(
                    f"--pairs: {of.path} has no finished round {round}; its rounds are 0 to "
                    f"{count - 1}."
                )
    return pairs


def report_barriers(runs: Runs, other: RunDir | None, output: Output, *, pairs: Sequence[str],
                    at_rounds: Sequence[int] = (), options: dict[str, Any],
                    computing: Computing) -> tuple[list[Row], dict[str, Any]]:  # fmt: skip
    """Writes, draws and logs the barriers of runs, and of all as replicates.

    Paths from `at_rounds` are drawn, or some. The other arguments are as those of `along_paths`.

    Returns:
        (rows to print, options that they depend on).
    """
    check_same_experiment([*runs, other])
    for run in runs:  # before the first is evaluated
        starts = {start for start, _ in parse_pairs(pairs, run, other or run)}
        if run is runs[0] and (missing := set(at_rounds) - starts):
            raise InputError(f"--at_rounds: no path of --pairs starts from {sorted(missing)}.")
    told = paths.options_of(runs[0], **options)
    end = paths.suffix_of(told) + (f"_to_{other.path.name}" if other else "")
    evaluate = paths.evaluator(lambda: loading.engine_of(runs[0], **computing), **told)

    def measure(run, cache):
        tables = along_paths(run, other, pairs=pairs, evaluate=evaluate, cache=cache, **options)
        return dict(zip((end, f"_paths{end}"), tables, strict=True))

    def choose(rows):  # without --at_rounds the first, the last, and one between
        spread = sorted({round(i) for i in np.linspace(0, len(rows) - 1, DRAWN)})
        named = [row for row in rows if row["from_round"] in at_rounds]
        return named if at_rounds else [rows[index] for index in spread]

    shown = {
        "above the mean of the ends": "error_barrier",
        "above the larger end": "error_barrier_larger_end",
    }
    rows = paths.report_paths(
        "barriers", end, runs, output, measure, by=BY, step="to_round", shown=shown,
        curves={f"/{column}": column for column in ("error_barrier", "loss_barrier")},
        about=paths.about_options(told), figure={"what": "error barrier (points of %)"},
        label="{from_round} to {to_round}, density {density:.2%}", choose=choose,
        ends=("first round", "second round"),
    )  # fmt: skip
    return [row | {"state": "collapsed" if row["collapsed"] else ""} for row in rows], told
