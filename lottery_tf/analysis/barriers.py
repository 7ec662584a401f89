"""Error barriers between the networks of rounds (Figs. 8, 20, 23). NumPy and matplotlib only."""

import functools

import numpy as np

from lottery_tf.analysis import tool
from lottery_tf.analysis.results import replicates
from lottery_tf.analysis.rounds import Network, check_files
from lottery_tf.errors import InputError
from lottery_tf.output import figures

MEASURES = {"error": ("error (%)", True), "loss": ("cross-entropy", False)}
# Options that a file's name need not tell.
USUAL = {"split": ("test",), "bn_stats": ("recompute", "none"), "align": ("none",)}
DRAWN = 3  # paths, where --at_rounds names none


def barrier(values):
    """The barriers of values on a path: (above the mean of the ends, above the larger end)."""
    values = np.asarray(values, np.float64)
    highest = values.max()
    return float(highest - (values[0] + values[-1]) / 2), float(
        highest - max(values[0], values[-1])
    )


def summarize(points):
    """{error_barrier, error_barrier_larger_end, and those of the loss} of the rows of a path."""
    row = {}
    for measure in MEASURES:
        mean, larger = barrier([point[measure] for point in points])
        row |= {f"{measure}_barrier": mean, f"{measure}_barrier_larger_end": larger}
    return row


def parse_pairs(items, run, other):
    """[(round of run, round of other)] that --pairs names.

    Args:
        items: ["successive"], or ["i-j", …].
        run, other: RunDirs; successive rounds of two runs are the same round of both.

    Raises:
        InputError: a pair that is none, or a round that is not there.
    """
    counts = run.finished_rounds(), other.finished_rounds()
    if items == ["successive"]:
        if other is not run:
            return [(round, round) for round in range(min(counts))]
        if counts[0] < 2:
            raise InputError(f"{run.path}: expected two finished rounds or more. Found one.")
        return [(round, round + 1) for round in range(counts[0] - 1)]
    if not items:
        raise InputError(
            "--pairs: expected successive, or pairs of rounds as 0-1,4-5. Received none."
        )
    pairs = []
    for item in items:
        first, _, second = item.partition("-")
        if not (first.isdigit() and second.isdigit()):
            raise InputError(
                f"--pairs: expected successive, or pairs of rounds as 0-1,4-5. Received: {item}"
            )
        pairs.append((int(first), int(second)))
        for one, round, count in zip((run, other), pairs[-1], counts, strict=True):
            if round >= count:
                raise InputError(
                    f"--pairs: {one.path} has no finished round {round}; its rounds are 0 to "
                    f"{count - 1}."
                )
    return pairs


def report(runs, other, *, pairs, evaluate, options, at_rounds):
    """Writes, draws, logs and prints the barriers of some runs, and of all as replicates.

    Args:
        runs: RunDirs.
        other: RunDir of the ends of the paths; None for each run itself.
        pairs: items of --pairs.
        evaluate: a function of two rounds.Network -> rows of {alpha, loss, error}.
        options: {name: value} that results depend on: points, split, bn_stats, align.
        at_rounds: rounds whose paths are drawn; [] for some.
    """
    by = ("from_round", "to_round", "split", "bn_stats")
    suffix = suffix_of(options)
    suffix += f"_to_{other.path.name}" if other else ""
    starts = {one for one, _ in parse_pairs(pairs, runs[0], other or runs[0])}
    if missing := set(at_rounds) - starts:
        raise InputError(f"--at_rounds: no path of --pairs starts from {sorted(missing)}.")
    all_pairs = [
        parse_pairs(pairs, run, other or run) for run in runs
    ]  # before the first is evaluated
    tables, paths = [], []
    for run, pairs_of_run in zip(runs, all_pairs, strict=True):
        results = tool.results(run, "barriers", runs)
        rows, points = measure(run, other or run, pairs_of_run, evaluate, options, results)
        pictures = write(results, suffix, rows, points, options, at_rounds, run.path.name)
        log(run, f"barriers{suffix}", rows, pictures)
        tables.append(rows)
        paths.append(points)
    if len(runs) > 1:
        tables[0] = replicates(tables, by)
        points = replicates(paths, (*by, "alpha"))
        title = f"mean of {len(runs)} runs, min and max"
        write(tool.combined("barriers", runs), suffix, tables[0], points, options, at_rounds, title)
    columns = {
        "from_round": ("from", "{:d}"),
        "to_round": ("to", "{:d}"),
        "density": ("density", "{:.2%}"),
        "error_barrier": ("error barrier", "{:.2%}"),
        "error_barrier_larger_end": ("above larger end", "{:.2%}"),
        "loss_barrier": ("loss barrier", "{:.4f}"),
    }
    tool.print_table(tables[0], columns)
    tool.print_options(options)


def suffix_of(options):
    """The part of a file's name that tells the options that are not the usual ones."""
    told = {name: options[name] for name in USUAL if name in options}
    return "".join(f"_{value}" for name, value in told.items() if value not in USUAL[name])


def measure(run, other, pairs, evaluate, options, results):
    """(A row per pair, a row per pair and point), evaluated or known from before."""
    densities = {row["round"]: row["density"] for row in other.metrics()}
    rows, points = [], []
    with tool.progress(len(pairs), "paths") as bar:
        for one, two in pairs:
            networks = [Network(str(run.path), one), Network(str(other.path), two)]
            compute = functools.partial(_evaluate, evaluate, networks)
            path = results.reuse(networks, options, compute)
            key = {"from_round": one, "to_round": two, "density": densities[two]}
            key |= {name: options[name] for name in ("split", "bn_stats")}
            rows.append(key | summarize(path))
            points += [key | point for point in path]
            bar.update()
    return rows, points


def _evaluate(evaluate, networks):
    check_files(networks)
    return evaluate(*networks)


def write(results, suffix, rows, points, options, at_rounds, title):
    """Writes and draws barriers and paths; returns {name: picture}."""
    results.write_table(rows, suffix)
    results.write_table(points, f"_paths{suffix}")
    about = f"{options['split']} split, BatchNorm statistics: {options['bn_stats']}"
    if options["align"] != "none":
        about += f", aligned by {options['align']}"
    curves = {"above the mean of the ends": (rows, "error_barrier")}
    curves["above the larger end"] = (rows, "error_barrier_larger_end")
    chosen = [row for row in rows if row["from_round"] in at_rounds] if at_rounds else _spread(rows)
    panels = {
        f"{row['from_round']} to {row['to_round']}, density {row['density']:.3g}": [
            point
            for point in points
            if (point["from_round"], point["to_round"]) == (row["from_round"], row["to_round"])
        ]
        for row in chosen
    }
    pdf = tool.PDF.value
    return {
        "barrier": results.draw(
            figures.against_density,
            curves,
            suffix=suffix,
            what="error barrier (points of %)",
            percent=True,
            title=f"{title}\n{about}",
            pdf=pdf,
        ),
        "paths": results.draw(
            figures.paths,
            panels,
            suffix=f"_paths{suffix}",
            columns=MEASURES,
            title=f"{title}: {about}",
            ends=("first round", "second round"),
            pdf=pdf,
        ),
    }


def _spread(rows):
    """The first row, the last, and some between."""
    return [rows[i] for i in sorted({round(i) for i in np.linspace(0, len(rows) - 1, DRAWN)})]


def log(run, name, rows, pictures):
    """Adds the barriers and the pictures to the run's TensorBoard."""
    columns = ("error_barrier", "loss_barrier")
    scalars = {
        f"{name}/{column}": [(row["to_round"], row[column]) for row in rows] for column in columns
    }
    last = rows[-1]["to_round"]
    images = {f"{name}/{what}": (last, path) for what, path in pictures.items()}
    tool.log(run, name, scalars=scalars, images=images)
