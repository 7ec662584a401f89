"""Error barriers between the networks of rounds (Figs. 8, 20, 23). NumPy and matplotlib only.

What is not known from before is evaluated, which imports TensorFlow.
"""

import functools

import numpy as np

from lottery_tf.analysis import loading, replicates
from lottery_tf.analysis.cache import Cache
from lottery_tf.analysis.paths import (
    MEASURES,
    about_options,
    evaluator,
    options_of,
    suffix_of,
    summarize,
)
from lottery_tf.analysis.reports import Findings, Output, report
from lottery_tf.analysis.runs import check_at_least, check_same_experiment
from lottery_tf.errors import InputError
from lottery_tf.output import figures
from lottery_tf.store.rounds import FinishedRound, check_files
from lottery_tf.store.rundir import RunDir
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
}


def along_paths(
    run: RunDir,
    other: RunDir | None = None,
    *,
    pairs=("successive",),
    points: int = 20,
    split: str = "test",
    bn_stats: str = "recompute",
    align: str = "none",
    evaluate=None,
    cache: Cache | None = None,
    **computing,
) -> list[dict]:
    """Rows of {from_round, to_round, …, alpha, loss, error}, one for each point of each path.

    Args:
        run: RunDir of the first end of each path.
        other: RunDir of the second end; None for `run` itself.
        pairs, points, split, bn_stats, align: as the flags of tools.barriers.
        evaluate: what `evaluator` gives, to be used for several runs.
        cache: Cache of what was evaluated before; by default all is evaluated.
        **computing: data_dir, strategy, jit_compile, as loading.config_of takes them.

    Raises:
        InputError: runs or rounds that are not there, do not go together, or are damaged.
    """
    check_at_least(2, points=points)
    other, cache = other or run, cache or Cache()
    check_same_experiment([run, other])
    options = options_of(run, points=points, split=split, bn_stats=bn_stats, align=align)
    evaluate = evaluate or evaluator(lambda: loading.engine_of(run, **computing), **options)
    densities = {row["round"]: row["density"] for row in other.metrics()}
    rows, numbers = [], dict.fromkeys(parse_pairs(pairs, run, other))
    with console.progress(len(numbers), "paths") as bar:
        for start, end in numbers:
            ends = [FinishedRound(run.path, start), FinishedRound(other.path, end)]
            path = cache.reuse(ends, options, functools.partial(_evaluate, evaluate, ends))
            about = {"from_round": start, "to_round": end, "density": densities[end]}
            about |= {name: options[name] for name in ("split", "bn_stats")}
            rows += [about | point for point in path]
            bar.update()
    return rows


def _evaluate(evaluate, ends):
    check_files(ends)
    return evaluate(*(end.final() for end in ends))


def of_paths(points) -> list[dict]:
    """The barriers of rows of `along_paths`, a row for each path.

    Each is above the mean of the ends, and above the larger end, of the error and of the loss.
    """
    rows = []
    for path in replicates.group(points, BY).values():
        about = {name: path[0][name] for name in (*BY[:2], "density", *BY[2:])}
        rows.append(about | summarize(path))
    return rows


def between_rounds(run: RunDir, other: RunDir | None = None, **options) -> list[dict]:
    """The barriers between rounds, a row for each path; arguments as `along_paths`."""
    return of_paths(along_paths(run, other, **options))


def parse_pairs(items, run: RunDir, other: RunDir) -> list[tuple[int, int]]:
    """[(round of run, round of other)] that --pairs names.

    Args:
        items: ["successive"], or ["i-j", …].
        run, other: RunDirs; successive rounds of two runs are the same round of both.

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
        if not (first.isdigit() and second.isdigit()):
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


def report_barriers(
    runs, other, output: Output, *, pairs, at_rounds=(), options, computing
) -> tuple[list[dict], dict]:
    """Writes, draws and logs the barriers of some runs, and of all as replicates.

    Args:
        runs: RunDirs.
        other: RunDir of the second ends of the paths; None for each run itself.
        output: Output.
        pairs: items of --pairs.
        at_rounds: rounds whose paths are drawn; () for some.
        options: {points, split, bn_stats, align} as `along_paths` takes them.
        computing: {data_dir, strategy, jit_compile}.

    Returns:
        (rows to print, options that they depend on).
    """
    check_at_least(2, points=options["points"])
    check_same_experiment([*runs, other] if other else runs)
    for run in runs:  # before the first is evaluated
        starts = {start for start, _ in parse_pairs(pairs, run, other or run)}
        if run is runs[0] and (missing := set(at_rounds) - starts):
            raise InputError(f"--at_rounds: no path of --pairs starts from {sorted(missing)}.")
    told = options_of(runs[0], **options)
    end = suffix_of(told) + (f"_to_{other.path.name}" if other else "")
    evaluate = evaluator(lambda: loading.engine_of(runs[0], **computing), **told)

    paths = f"_paths{end}"

    def measure(run, cache):
        points = along_paths(run, other, pairs=pairs, evaluate=evaluate, cache=cache, **options)
        return {end: of_paths(points), paths: points}

    def combine(values):
        rows = replicates.over_runs([tables[end] for tables in values], BY)
        points = replicates.over_runs([tables[paths] for tables in values], (*BY, "alpha"))
        return {end: rows, paths: points}

    def findings(run, tables, title):
        return [_findings(tables, end, told, at_rounds, title)]

    return report("barriers", runs, output, measure, findings, combine)[end], told


def _findings(tables, end, options, at_rounds, title):
    rows, points = tables[end], tables[f"_paths{end}"]
    about = about_options(options)
    if options["align"] != "none":
        about += f", aligned by {options['align']}"
    curves = {"above the mean of the ends": (rows, "error_barrier")}
    curves["above the larger end"] = (rows, "error_barrier_larger_end")
    drawn = [row for row in rows if row["from_round"] in at_rounds] if at_rounds else _spread(rows)
    paths = replicates.group(points, BY[:2])
    panels = {
        f"{row['from_round']} to {row['to_round']}, density {row['density']:.3g}": paths[
            row["from_round"], row["to_round"]
        ]
        for row in drawn
    }
    name, last = f"barriers{end}", rows[-1]["to_round"]
    barrier_figure = figures.against_density(
        curves, what="error barrier (points of %)", percent=True, title=f"{title}\n{about}"
    )
    ends = ("first round", "second round")
    paths_figure = figures.paths(panels, columns=MEASURES, title=f"{title}: {about}", ends=ends)
    return Findings(
        name,
        tables,
        {
            f"{name}/barrier": (last, end, barrier_figure),
            f"{name}/paths": (last, f"_paths{end}", paths_figure),
        },
        {
            f"{name}/{column}": [(row["to_round"], row[column]) for row in rows]
            for column in ("error_barrier", "loss_barrier")
        },
    )


def _spread(rows):
    """The first row, the last, and some between."""
    return [rows[i] for i in sorted({round(i) for i in np.linspace(0, len(rows) - 1, DRAWN)})]
