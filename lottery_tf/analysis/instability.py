"""Linear-mode instability (Fig. 2; Frankle et al. 2020a). NumPy and matplotlib only.

What is not known from before is trained and evaluated, which imports TensorFlow.
"""

import functools
import itertools

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
from lottery_tf.analysis.runs import check_at_least, select_rounds
from lottery_tf.output import figures
from lottery_tf.store.rounds import FinishedRound, check_files
from lottery_tf.store.rundir import RunDir

BY = ("round", "start", "split", "bn_stats")
STABLE = 0.02  # Frankle et al. 2020a: below it a network counts as stable
COLUMNS = {
    "round": ("round", "{:d}"),
    "density": ("density", "{:.2%}"),
    "instability": ("instability", "{:.2%}"),
    "instability_min": ("min", "{:.2%}"),
    "instability_max": ("max", "{:.2%}"),
    "verdict": (f"stable: < {STABLE:.0%}", "{}"),
}


def between_copies(
    run: RunDir,
    *,
    at_rounds=(0, 5, 10, 15),
    copies: int = 2,
    start: str = "init",
    points: int = 30,
    split: str = "test",
    bn_stats: str = "recompute",
    received=lambda: 0,
    cache: Cache | None = None,
    **computing,
) -> tuple[list[dict], list[dict]]:
    """Instability and paths of each pair of trainings that differ in their data seed alone.

    Trains the copies inside the run, or reads those that are there.

    Args:
        run: RunDir.
        at_rounds, copies, start, points, split, bn_stats: as the flags of tools.instability.
        received: a function that gives the number of the signal that has come, or 0.
        cache: Cache of what was evaluated before; by default all is evaluated.
        **computing: data_dir, strategy, jit_compile, as loading.config_of takes them.

    Returns:
        (a row for each round and pair of data seeds, a row for each point of their paths).

    Raises:
        InputError: a round or start that is not there, or a damaged file.
        console.Interrupted: a signal came; a checkpoint is saved.
    """
    check_at_least(2, points=points, copies=copies)
    cache, on_path = cache or Cache(), {"points": points, "split": split, "bn_stats": bn_stats}
    options = {"start": start} | options_of(run, **on_path)
    first_seed = loading.config_of(run, **computing).data_seed
    copies_of = copies_when_needed(run, start, received, computing)
    evaluate = evaluator(lambda: copies_of().engine, **on_path)
    densities = {row["round"]: row["density"] for row in run.metrics()}
    rows, points_of_all = [], []
    for round in select_rounds(run, at_rounds):
        for pair in itertools.combinations(range(first_seed, first_seed + copies), 2):
            compute = functools.partial(_train_and_evaluate, copies_of, evaluate, round, pair)
            path = cache.reuse([FinishedRound(run.path, round)], [options, pair], compute)
            row = {"round": round, "density": densities[round], "pair": f"{pair[0]}-{pair[1]}"}
            row |= {name: options[name] for name in BY[1:]}
            barriers = summarize(path)
            row["instability"] = barriers.pop("error_barrier")
            rows.append(row | barriers)
            points_of_all += [row | point for point in path]
    return rows, points_of_all


def of_rounds(run: RunDir, **options) -> list[dict]:
    """The instability of rounds, means over the pairs; arguments as `between_copies`."""
    return replicates.means(between_copies(run, **options)[0], BY)


def copies_when_needed(run, start, received, computing):
    """A function that gives the run's Copies; they are made, once, when it is first called."""

    @functools.cache
    def copies():
        engine = loading.engine_of(run, **computing)
        from lottery_tf.analysis.copies import Copies

        return Copies(run, start, received, engine)

    return copies


def _train_and_evaluate(copies_of, evaluate, round, pair):
    check_files([FinishedRound(copies_of().run.path, round)])
    return evaluate(*(copies_of().of_round(round, seed)[0] for seed in pair))


def report_instability(
    runs, output: Output, *, at_rounds, options, computing, received=lambda: 0
) -> tuple[list[dict], dict]:
    """Writes, draws and logs the instability of some rounds of runs, and of all as replicates.

    Args:
        runs: RunDirs.
        output: Output.
        at_rounds: the rounds, as --at_rounds names them.
        options: {copies, start, points, split, bn_stats} as `between_copies` takes them.
        computing: {data_dir, strategy, jit_compile}.
        received: as in `between_copies`.

    Returns:
        (rows to print, options that they depend on).
    """
    for run in runs:  # before the first is trained
        select_rounds(run, at_rounds)
    told = options_of(runs[0], **{name: v for name, v in options.items() if name != "copies"})
    end = start_suffix(told["start"]) + suffix_of(told)

    paths = f"_paths{end}"

    def measure(run, cache):
        pairs, points = between_copies(
            run, at_rounds=at_rounds, received=received, cache=cache, **options, **computing
        )
        averaged = replicates.means(pairs, BY), replicates.means(points, (*BY, "alpha"))
        return {f"_pairs{end}": pairs, end: averaged[0], paths: averaged[1]}

    def combine(values):
        rows = replicates.over_runs([tables[end] for tables in values], BY)
        points = replicates.over_runs([tables[paths] for tables in values], (*BY, "alpha"))
        return {end: rows, paths: points}

    def findings(run, tables, title):
        return [_findings(tables, end, told, title)]

    rows = report("instability", runs, output, measure, findings, combine)[end]
    verdicts = ("stable" if row["instability"] < STABLE else "unstable" for row in rows)
    return [r | {"verdict": verdict} for r, verdict in zip(rows, verdicts, strict=True)], told


def _findings(tables, end, options, title):
    rows, points = tables[end], tables[f"_paths{end}"]
    about = f"{about_options(options)}, trained from {options['start']}"
    paths = replicates.group(points, ("round",))
    panels = {
        f"round {row['round']}, density {row['density']:.3g}": paths[row["round"],] for row in rows
    }
    ends = ("one data seed", "another")
    paths_figure = figures.paths(panels, columns=MEASURES, title=f"{title}: {about}", ends=ends)
    figure = figures.against_density(
        {"instability": (rows, "instability")},
        what="linear-mode instability: error (points of %)",
        percent=True,
        line=(STABLE, f"stable below {STABLE:.0%}"),
        title=f"{title}\n{about}",
    )
    name, last = f"instability{end}", rows[-1]["round"]
    return Findings(
        name,
        tables,
        {
            f"{name}/instability": (last, end, figure),
            f"{name}/paths": (last, f"_paths{end}", paths_figure),
        },
        {name: [(row["round"], row["instability"]) for row in rows]},
    )


def start_suffix(start: str) -> str:
    """The part of a file's name that tells a --start that is not init."""
    return "" if start == "init" else f"_{start.replace(':', '_')}"
