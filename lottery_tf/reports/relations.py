"""Makes the sections of a report that compare networks, and those of measures of the registry.

Distances are measured; where a measure needs training or evaluation, its CSV files are read.
"""

import dataclasses
import shlex
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lottery_tf.analysis import barriers as of_barriers
from lottery_tf.analysis import distances, find, learning, replicates, stability
from lottery_tf.analysis.cache import rows_of
from lottery_tf.analysis.statistics import has_collapsed
from lottery_tf.plots import Columns, Row, figures, tables
from lottery_tf.pruning import Array
from lottery_tf.reports import verdicts
from lottery_tf.reports.pages import SIZE, Command, Problem, Section, tell_curves
from lottery_tf.reports.reading import Reading, name_among
from lottery_tf.runs import files
from lottery_tf.runs.rounds import finished

Readings = Sequence[Reading]
OfRuns = Mapping[str, list[Row]]  # {name of a run: rows}
SIGNS = {  # {column: (label, caption)}, each on a scale of its own
    "kept_signs": ("kept", "Weights whose sign is that at the start of the round"),
    "flips": ("flipped", "Weights whose sign is not that at the end of the round before"),
}
DISTANCES: Columns = {
    name: about for name, about in distances.SUCCESSIVE.items() if name != "test_accuracy"
}
# {measure: (its Verdict, the columns that this needs beside those that tell its rows apart)}
JUDGED: dict[str, tuple[Callable[[OfRuns], verdicts.Verdict], tuple[str, ...]]] = {
    "barriers": (verdicts.connected, ("error_barrier", "collapsed")),
    "instability": (verdicts.stable, ("instability", "collapsed")),
    "stability": (verdicts.nearer_than_random, (*stability.DISTANCES, "test_accuracy")),
}


def matrices(
    section: Section, readings: Readings, matrix_of: Callable[[Reading], Array]
) -> list[tuple[Reading, Array]]:
    """Return [(run, its matrix between rounds)]; what is missing is told in the section."""
    if min(len(reading.rows) for reading in readings) < 2:
        section.blocks.append("There is one round alone: nothing to compare yet.")
        return []
    found = [(reading, section.attempt(matrix_of, reading)) for reading in readings]
    return [(reading, matrix) for reading, matrix in found if matrix is not None]


def means(
    section: Section,
    readings: Readings,
    rows_of: Callable[[Reading], list[Row]],
    by: Sequence[str],
) -> list[Row]:
    """Return the means over the rows of the runs; what is damaged is told in the section."""
    found = [
        replicates.marked(reading.rows, rows)
        for reading in readings
        if (rows := section.attempt(rows_of, reading))
    ]
    return found[0] if len(found) == 1 else replicates.over_runs(found, by)


def distance_matrix(reading: Reading) -> Array:
    """Return the angular distances of all rounds of a run, with the initialization last.

    Raises:
        InputError: it has one round alone, or a file is damaged.
    """
    return distances.matrices(reading.run, None, ["angular"], reading.cache("distances"))["angular"]


def of_distances(readings: Readings) -> Section:
    """Ask whether the rounds are the same solution; with the Verdict "Similar"."""
    section = Section("Distances between rounds")
    of_runs: dict[str, list[Row]] = {}
    if known := matrices(section, readings, distance_matrix):
        first = known[0][0]
        sound = [
            replicates.without_collapsed(reading.rows, matrix) if len(known) > 1 else matrix
            for reading, matrix in known
        ]
        mean = replicates.over_matrices(sound, init=True)["mean"]
        rows = distances.successive_of(first.rows, mean)
        _draw_distances(section, first, mean, rows)
        section.add_table(rows, DISTANCES)
    for reading, matrix in known:
        collapsed = {row["round"] for row in reading.rows if has_collapsed(row)}
        of_runs[name_among(reading, readings)] = [
            row | {"collapsed": int(bool(collapsed & {row["round"], row["round"] - 1}))}
            for row in distances.successive_of(reading.rows, matrix)
        ]
    section.verdicts.append(verdicts.similar(_shared(of_runs, ("round",))))
    return section


def _draw_distances(section: Section, reading: Reading, matrix: Array, rows: list[Row]) -> None:
    off_diagonal = matrix[~np.eye(len(matrix), dtype=bool)]
    known = off_diagonal[np.isfinite(off_diagonal)]
    if not len(known):
        return
    scale = float(known.min()), float(known.max())
    section.draw(
        "Angular distance between all rounds, by their density, and to the initialization: 1 is 90 "
        f"degrees. The colours go from {scale[0]:.2f} to {scale[1]:.2f}, least and most",
        lambda: figures.matrix(
            matrix, reading.run, None, what="angular distance", title="", scale=scale, init=True
        ),
        size=(4.8, 4.0),
    )
    section.draw_curves(
        "Angular distance of each round to the one before it, and to where it started",
        {"to the round before": (rows, "to_previous"), "to the start": (rows, "to_init")},
        "angular distance",
        line=(verdicts.SIMILAR, f"similar below {verdicts.SIMILAR:g}"),
    )


def of_barrier(readings: Readings) -> Section:
    """Ask whether successive rounds lie in one valley; with the Verdict "Connected"."""
    section = Section("Error barriers")
    found = _read_tables(section, readings, "barriers")
    of_runs = found.get("", next(iter(found.values()), {}))
    rows = _means(section, "barriers.csv", of_runs, of_barriers.BY)
    last = readings[0].rows[-1]["round"] if readings[0].rows else 0
    if rows:
        if unknown := range(max(row["to_round"] for row in rows) + 1, last + 1):
            what = f"The barriers of {verdicts.in_words(unknown)} are not measured yet:"
            section.blocks.append(Command(what, tool_command("barriers", readings)))
        if paths := [row for row in rows if row["to_round"] == row["from_round"] + 1]:
            section.draw_curves(
                "Error barrier between successive rounds",
                {"above the mean of the ends": (paths, "error_barrier")},
                "error barrier (percentage points)",
                percent=True,
                line=(verdicts.CONNECTED, f"connected below {verdicts.CONNECTED:.0%}"),
            )
        section.blocks.append(f"On {_options(rows[0])}; above the mean of the ends.")
        columns = {name: about for name, about in of_barriers.COLUMNS.items() if name != "state"}
        section.add_table(rows, columns)
    verdict = verdicts.connected(_shared(of_runs, of_barriers.BY))
    section.verdicts.append(_with_command(verdict, "barriers", readings))
    return section


def of_learning(readings: Readings) -> Section:
    """Show how far rounds carry the weights, and how many signs stay."""
    section = Section("Learning distance and signs")
    if rows := means(section, readings, learning_rows, ("round",)):
        for column, (label, caption) in SIGNS.items():
            section.draw_curves(
                caption, {label: (rows, column)}, "part of the weights (%)", percent=True
            )
        section.draw_curves(
            "Learning distance: root mean square of W_T - W_0 over the weights alive",
            {"W_T - W_0": (rows, "per_weight")},
            "distance per weight",
        )
        hidden = ("run", "lead")
        columns = {n: about for n, about in learning.COLUMNS.items() if n not in hidden}
        section.add_table(rows, columns)
    return section


def learning_rows(reading: Reading) -> list[Row]:
    """Return the rows of `learning.of_rounds` of all layers together.

    Raises:
        InputError: a file is missing or damaged.
    """

    def measure() -> list[Row]:
        return learning.of_all_layers(learning.of_rounds(reading.run))

    rounds = finished(reading.run)
    fits = rows_of("round", "density", "per_weight", "kept_signs", "flips", count=len(rounds))
    return reading.cache("learning").reuse(rounds, ["learning"], measure, fits=fits)


def of_measure(name: str, readings: Readings) -> Section:
    """Return the section of a measure of the registry: what its command has measured.

    Its pictures, table and sentence are those of its class, of the means over the runs; its Verdict
    is that of JUDGED, one for each of its CSV files.
    """
    measure, own_fit = find(name), any(reading.own_fit for reading in readings)
    judge, _ = JUDGED.get(name, (None, ()))
    section = Section(measure.title)
    others = [r.name for r in readings if r.config.get("reset", "init") not in measure.resets]
    if measure.resets and others and not own_fit:
        words = f"Not defined: not all rounds of {', '.join(others)} start from round 0."
        section.blocks.append(words)
        if judge:
            section.verdicts.append(dataclasses.replace(judge({}), words=words))
        return section
    for end, of_runs in _read_tables(section, readings, name).items():
        own = {run: measure.own_rows(rows) for run, rows in of_runs.items()}
        if not (rows := _means(section, f"{name}{end}.csv", own, measure.by)):
            continue
        words, chart = measure.verdict(rows), measure.chart
        told = (
            {label: (of, chart.column) for label, of in chart.curves(rows).items()} if chart else {}
        )
        finding = words or tell_curves(told, percent=bool(chart and chart.percent))
        for caption, draw in measure.report_pictures(rows).items():
            section.draw(caption, draw, finding=finding, size=SIZE)
        if "start" in rows[0]:
            section.blocks.append(f"From {rows[0]['start']}, on {_options(rows[0])}.")
        if words:
            section.blocks.append(words)
        section.add_table(measure.report_rows(rows), measure.columns)
        if judge:
            section.verdicts.append(judge(_shared(of_runs, measure.by)))
    if judge and not section.verdicts:
        section.verdicts.append(_with_command(judge({}), name, readings))
    return section


def _read_tables(
    section: Section, readings: Readings, name: str
) -> dict[str, dict[str, list[Row]]]:
    """Read the CSV files of a measure: {end of the file's name: {name of a run: rows}}.

    What a run lacks is told in the section.
    """
    measure = find(name)
    if name in JUDGED:
        need = [*measure.by, "density", *JUDGED[name][1]]
    else:
        need = [column for column in measure.columns if not column.endswith(("_min", "_max"))]
    if any(reading.own_fit for reading in readings):
        words = "Not measured: the network and the data of this run are of your own code."
        section.blocks.append(words)
        return {}
    found: dict[str, dict[str, list[Row]]] = {}
    for reading in readings:
        for end, rows in (section.attempt(reading.tables, name) or {}).items():
            file = reading.run.path / "analysis" / f"{name}{end}.csv"
            if not rows or any(column not in row for row in rows for column in need):
                section.blocks.append(Problem(f"{file} lacks rows or columns. Measure again."))
                continue
            tell_age(section, reading, file.name, rows)
            found.setdefault(end, {})[name_among(reading, readings)] = rows
    if (measured := max(map(len, found.values()), default=0)) < len(readings):
        of = f"Measured of {measured} of {len(readings)} runs:" if measured else "Not measured:"
        section.blocks.append(Command(of, tool_command(name, readings)))
    return found


def _shared(of_runs: OfRuns, by: Sequence[str]) -> dict[str, list[Row]]:
    """Return {run: rows} of the rows that all runs have."""
    keys = [replicates.group(rows, by).keys() for rows in of_runs.values()]
    return {
        run: [row for row in rows if all(tuple(row[n] for n in by) in of for of in keys)]
        for run, rows in of_runs.items()
    }


def _means(section: Section, file: str, of_runs: OfRuns, by: Sequence[str]) -> list[Row]:
    """Return the means over the runs' tables, of the rows that all have; name the other rounds.

    The rows of a single run are returned as they are, unless several agree in the columns `by`.
    """
    rows = [row for of_run in of_runs.values() for row in of_run]
    found = replicates.group(rows, by)
    if len(of_runs) < 2 and len(found) == len(rows):
        return rows
    averaged = replicates.over_runs(list(of_runs.values()), by)
    if left := found.keys() - replicates.group(averaged, by).keys():
        names = [dict(zip(by, key, strict=True)) for key in left]
        rounds = {of["to_round"] if "to_round" in of else of["round"] for of in names}
        words = f"{file}: not all of the runs have {verdicts.in_words(rounds)}, which are left out."
        section.blocks.append(words)
    return averaged


def tell_age(section: Section, reading: Reading, name: str, rows: Sequence[Row]) -> None:
    """Name the rounds that are newer than the rows that a file in analysis/ has of them."""
    path = reading.run.path / "analysis" / name
    measured = {row[column] for row in rows for column in ("to_round", "round") if column in row}
    newer = [
        round
        for round in measured
        if (sums := reading.run.round_path(round) / files.SUMS).exists()
        and sums.stat().st_mtime > path.stat().st_mtime
    ]
    if newer:
        words = f"{reading.name}: {name} is older than {verdicts.in_words(newer)}: measure again, "
        section.blocks.append(f"{words}unless files were only copied.")


def tool_command(name: str, readings: Readings) -> str:
    """Return the command of a tool on some runs."""
    paths = ",".join(str(tables.below_here(reading.run.path)) for reading in readings)
    return " ".join([f"python -m tools.{name} --run_dir={shlex.quote(paths)}", *find(name).needed])


def _with_command(verdict: verdicts.Verdict, name: str, readings: Readings) -> verdicts.Verdict:
    """Return a Verdict, with the command that measures it where it is unknown."""
    if verdict.answer != verdicts.UNKNOWN or any(reading.own_fit for reading in readings):
        return verdict
    return dataclasses.replace(verdict, command=tool_command(name, readings))


def _options(row: Row) -> str:
    """Say on which examples a row was measured, and with which statistics of BatchNorm."""
    return f"the {row['split']} split, BatchNorm statistics: {row['bn_stats']}"
