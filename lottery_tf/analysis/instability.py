"""Linear-mode instability (Fig. 2; Frankle et al. 2020a). NumPy and matplotlib only."""

import functools
import itertools

from lottery_tf.analysis import tool
from lottery_tf.analysis.barriers import MEASURES, suffix_of, summarize
from lottery_tf.analysis.results import means, replicates
from lottery_tf.analysis.rounds import Network, check_files
from lottery_tf.output import figures

BY = ("round", "start", "split", "bn_stats")
STABLE = 0.02  # Frankle et al. 2020a: below it a network counts as stable


def report(runs, at_rounds, *, data_seeds, weights_of, evaluate, options):
    """Writes, draws, logs and prints the instability of some rounds of runs.

    Args:
        runs: RunDirs.
        at_rounds: of each run, the rounds.
        data_seeds: of each run, those of the trainings.
        weights_of: a function of (run, round, data seed) -> weights of such a training.
        evaluate: a function of (run, weights, weights) -> rows of {alpha, loss, error}.
        options: {name: value} that results depend on: start, points, split, bn_stats.
    """
    suffix = "" if options["start"] == "init" else f"_{options['start'].replace(':', '_')}"
    suffix += suffix_of(options)
    tables, all_points = [], []
    for run, chosen, seeds in zip(runs, at_rounds, data_seeds, strict=True):
        results = tool.results(run, "instability", runs)
        pairs, points = measure(run, chosen, seeds, weights_of, evaluate, options, results)
        results.write_table(pairs, f"_pairs{suffix}")
        rows, points = means(pairs, BY), means(points, (*BY, "alpha"))
        pictures = write(results, suffix, rows, points, options, run.path.name)
        scalars = {f"instability{suffix}": [(row["round"], row["instability"]) for row in rows]}
        images = {f"instability{suffix}/{n}": (rows[-1]["round"], p) for n, p in pictures.items()}
        tool.log(run, f"instability{suffix}", scalars=scalars, images=images)
        tables.append(rows)
        all_points.append(points)
    if len(runs) > 1:
        rows = replicates(tables, BY)
        points = replicates(all_points, (*BY, "alpha"))
        title = f"mean of {len(runs)} runs, min and max"
        write(tool.combined("instability", runs), suffix, rows, points, options, title)
    for row in rows:
        row["verdict"] = "stable" if row["instability"] < STABLE else "unstable"
    columns = {
        "round": ("round", "{:d}"),
        "density": ("density", "{:.2%}"),
        "instability": ("instability", "{:.2%}"),
        "instability_min": ("min", "{:.2%}"),
        "instability_max": ("max", "{:.2%}"),
        "verdict": (f"stable: < {STABLE:.0%}", "{}"),
    }
    tool.print_table(rows, columns)
    tool.print_options(options)


def measure(run, at_rounds, seeds, weights_of, evaluate, options, results):
    """(A row per round and pair of data seeds, a row per point of each of these)."""
    densities = {row["round"]: row["density"] for row in run.metrics()}
    rows, points = [], []
    for round in at_rounds:
        network = Network(str(run.path), round)
        for pair in itertools.combinations(seeds, 2):
            compute = functools.partial(_train_and_evaluate, run, round, pair, weights_of, evaluate)
            path = results.reuse([network], [options, pair], compute)
            key = {"round": round, "density": densities[round], "pair": f"{pair[0]}-{pair[1]}"}
            key |= {name: options[name] for name in BY[1:]}
            found = summarize(path)
            key["instability"] = found.pop("error_barrier")
            rows.append(key | found)
            points += [key | point for point in path]
    return rows, points


def _train_and_evaluate(run, round, pair, weights_of, evaluate):
    check_files([Network(str(run.path), round)])
    return evaluate(run, *(weights_of(run, round, seed) for seed in pair))


def write(results, suffix, rows, points, options, title):
    """Writes and draws the instability and the paths; returns {name: picture}."""
    results.write_table(rows, suffix)
    results.write_table(points, f"_paths{suffix}")
    about = f"{options['split']} split, BatchNorm statistics: {options['bn_stats']}"
    about += f", trained from {options['start']}"
    panels = {
        f"round {row['round']}, density {row['density']:.3g}": [
            point for point in points if point["round"] == row["round"]
        ]
        for row in rows
    }
    pdf = tool.PDF.value
    return {
        "instability": results.draw(
            figures.against_density,
            {"instability": (rows, "instability")},
            suffix=suffix,
            what="linear-mode instability: error (points of %)",
            percent=True,
            line=(STABLE, f"stable below {STABLE:.0%}"),
            title=f"{title}\n{about}",
            pdf=pdf,
        ),
        "paths": results.draw(
            figures.paths,
            panels,
            suffix=f"_paths{suffix}",
            columns=MEASURES,
            title=f"{title}: {about}",
            ends=("one data seed", "another"),
            pdf=pdf,
        ),
    }
