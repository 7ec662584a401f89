"""Makes the sections of a report that compare networks, and those of measures of the registry.

Distances are measured; where a measure needs training or evaluation, its CSV files are read.
"""

import dataclasses
import shlex
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from lottery_tf.analysis import barriers as of_barriers
from lottery_tf.analysis import distances, find, instability, learning, replicates, stability
from lottery_tf.analysis.cache import rows_of
from lottery_tf.analysis.statistics import has_collapsed
from lottery_tf.plots import Row, figures, tables
from lottery_tf.pruning import Array
from lottery_tf.reports import verdicts
from lottery_tf.reports.pages import Command, Problem, Section, Text
from lottery_tf.reports.reading import Reading, name_among
from lottery_tf.runs import files
from lottery_tf.runs.rounds import finished

SIZE = (5.0, 3.4)  # inches: of a phone's width it leaves letters readable
Readings = Sequence[Reading]
OfRuns = Mapping[str, list[Row]]  # {name of a run: rows}
SIGNS = {
    "as at the start of the round": "kept_signs",
    "not as at the end of the round before": "flips",
}
DISTANCES = {
    "round": ("round", "{:d}"),
    "density": ("density", "{:.2%}"),
    "to_previous": ("to r - 1", "{:.3f}"),
    "to_second_previous": ("to r - 2", "{:.3f}"),
    "to_init": ("to init", "{:.3f}"),
}


def distance_matrix(reading: Reading) -> Array:
    """Return the angular distances of all rounds of a run, with the initialization last.

    Raises:
        InputError: it has one round alone, or a file is damaged.
    """
    return distances.matrices(reading.run, None, ["angular"], reading.cache("distances"))["angular"]


def of_distances(readings: Readings) -> Section:
    """Ask whether the rounds are the same solution; with the Verdict "Similar"."""
    section = Section("Distances between rounds")
    found: list[Array | None] = []
    if min(len(reading.rows) for reading in readings) < 2:
        section.blocks.append(Text("There is one round alone: nothing to compare yet."))
    else:
        found = [section.attempt(distance_matrix, reading) for reading in readings]
    pairs = zip(readings, found, strict=False)
    known = [(reading, matrix) for reading, matrix in pairs if matrix is not None]
    if known:
        first = known[0][0]
        sound = [
            replicates.without_collapsed(reading.rows, matrix) if len(known) > 1 else matrix
            for reading, matrix in known
        ]
        mean = replicates.over_matrices(sound, init=True)["mean"]
        rows = distances.successive_of(first.rows, mean)
        _draw_distances(section, first, mean, rows)
        section.add_table(rows, DISTANCES)
    of_runs = {
        name_among(reading, readings): _beside_collapsed(reading.rows, matrix)
        for reading, matrix in known
    }
    section.verdicts.append(verdicts.similar(_shared(of_runs, ("round",))))
    return section


def _beside_collapsed(of_metrics: list[Row], matrix: Array) -> list[Row]:
    """Return rows of distances, and whether the round's network or the one before has collapsed."""
    collapsed = {row["round"] for row in of_metrics if has_collapsed(row)}
    return [
        row | {"collapsed": int(bool(collapsed & {row["round"], row["round"] - 1}))}
        for row in distances.successive_of(of_metrics, matrix)
    ]


def _draw_distances(section: Section, reading: Reading, matrix: Array, rows: list[Row]) -> None:
    off_diagonal = matrix[~np.eye(len(matrix), dtype=bool)]
    known = off_diagonal[np.isfinite(off_diagonal)]
    if not len(known):
        return
    scale = float(known.min()), float(max(known.max(), 1))
    section.draw(
        "Angular distance between all rounds, by their density, and to the initialization: 1 is 90 "
        "degrees",
        lambda: figures.matrix(
            matrix, reading.run, None, what="angular distance", title="", scale=scale, init=True
        ),
        size=(4.8, 4.0),
    )
    curves = {
        label: (rows, column)
        for column, label in (("to_previous", "to the round before"), ("to_init", "to the start"))
    }
    line = (verdicts.SIMILAR, f"similar below {verdicts.SIMILAR:g}")
    section.draw(
        "Angular distance of each round to the one before it, and to where it started",
        lambda: figures.against_density(curves, what="angular distance", line=line),
        size=SIZE,
    )


def of_barrier(readings: Readings) -> Section:
    """Ask whether successive rounds lie in one valley; with the Verdict "Connected"."""
    section = Section("Error barriers")
    columns = {name: about for name, about in of_barriers.COLUMNS.items() if name != "state"}
    need = (*of_barriers.BY, "density", "error_barrier", "collapsed")
    found = _read_tables(section, readings, "barriers", need)
    of_runs = found.get("", next(iter(found.values()), {}))
    rows = _means(section, "barriers.csv", of_runs, of_barriers.BY)
    last = readings[0].rows[-1]["round"] if readings[0].rows else 0
    if rows and (unknown := range(max(row["to_round"] for row in rows) + 1, last + 1)):
        what = f"The barriers of {verdicts.in_words(unknown)} are not measured yet:"
        section.blocks.append(Command(what, tool_command("barriers", readings)))
    if rows:
        paths = [row for row in rows if row["to_round"] == row["from_round"] + 1]
        line = (verdicts.CONNECTED, f"connected below {verdicts.CONNECTED:.0%}")
        if paths:
            _draw(
                section,
                "Error barrier between successive rounds",
                "error barrier (points of %)",
                {"above the mean of the ends": (paths, "error_barrier")},
                line,
            )
        section.blocks.append(Text(f"On {_options(rows)}; above the mean of the ends."))
        section.add_table(rows, columns)
    verdict = verdicts.connected(_shared(of_runs, of_barriers.BY))
    section.verdicts.append(_with_command(verdict, "barriers", readings))
    return section


def of_instability(readings: Readings) -> Section:
    """Ask whether SGD noise decides where training ends; with a Verdict for each start."""
    section = Section("Instability to SGD noise")
    need = (*instability.BY, "density", "instability", "collapsed")
    found = _read_tables(section, readings, "instability", need)
    for end, of_runs in found.items():
        rows = _means(section, f"instability{end}.csv", of_runs, instability.BY)
        if not rows:
            continue
        start = rows[0]["start"]
        line = (instability.STABLE, f"stable below {instability.STABLE:.0%}")
        _draw(
            section,
            f"Instability of trainings from {start}",
            "instability (points of %)",
            {f"from {start}": (rows, "instability")},
            line,
        )
        section.blocks.append(Text(f"From {start}, on {_options(rows)}."))
        section.add_table(rows, instability.COLUMNS)
        section.verdicts.append(verdicts.stable(_shared(of_runs, instability.BY)))
    if not section.verdicts:
        section.verdicts.append(_with_command(verdicts.stable({}), "instability", readings))
    return section


def of_stability(readings: Readings) -> Section:
    """Ask whether tickets end nearer to the dense network than random masks; with its Verdict."""
    section = Section("Stability to pruning and to data order")
    if words := _why_undefined(readings, find("stability").resets):
        section.blocks.append(Text(words))
        section.verdicts.append(dataclasses.replace(verdicts.nearer_than_random({}), words=words))
        return section
    need = (*stability.BY, "density", *stability.DISTANCES, "test_accuracy")
    found = _read_tables(section, readings, "stability", need)
    for end, of_runs in found.items():
        if rows := _means(section, f"stability{end}.csv", of_runs, stability.BY):
            section.add_table(rows, stability.COLUMNS)
            of_all = _shared(of_runs, stability.BY)
            section.verdicts.append(verdicts.nearer_than_random(of_all))
    if not section.verdicts:
        verdict = verdicts.nearer_than_random({})
        section.verdicts.append(_with_command(verdict, "stability", readings))
    return section


def of_learning(readings: Readings) -> Section:
    """Show how far rounds carry the weights, and how many signs stay."""
    section = Section("Learning distance and signs")
    tables = [
        replicates.marked(reading.rows, rows)
        for reading in readings
        if (rows := section.attempt(learning_rows, reading))
    ]
    if not tables:
        return section
    rows = tables[0] if len(tables) == 1 else replicates.over_runs(tables, ("round",))
    signs = {label: (rows, column) for label, column in SIGNS.items()}
    _draw(section, "Signs at the end of each round", "part of the weights (%)", signs, None)
    moved = {"W_T - W_0": (rows, "per_weight")}
    section.draw(
        "Learning distance: root mean square of W_T - W_0 over the weights alive",
        lambda: figures.against_density(moved, what="distance per weight"),
        size=SIZE,
    )
    shown = {name: about for name, about in learning.COLUMNS.items() if name not in ("run", "lead")}
    section.add_table(rows, shown)
    return section


def learning_rows(reading: Reading) -> list[Row]:
    """Return the rows of `learning.of_rounds` of all layers together.

    Raises:
        InputError: a file is missing or damaged.
    """

    def measure() -> list[Row]:
        rows = learning.of_rounds(reading.run)
        return [row for row in rows if row["layer"] == learning.ALL_LAYERS]

    rounds = finished(reading.run)
    fits = rows_of("round", "density", "per_weight", "kept_signs", "flips", count=len(rounds))
    return reading.cache("learning").reuse(rounds, ["learning"], measure, fits=fits)


def of_measure(name: str, readings: Readings) -> Section:
    """Return the section of a measure of the registry: what its command has measured.

    Its pictures, table and verdict are those of its class, of the means over the runs.
    """
    measure = find(name)
    section = Section(measure.title)
    words = _why_undefined(readings, measure.resets)
    if words and not any(reading.own_fit for reading in readings):
        section.blocks.append(Text(words))
        return section
    need = [column for column in measure.columns if not column.endswith(("_min", "_max"))]
    for end, of_runs in _read_tables(section, readings, name, need).items():
        own = {run: measure.own_rows(rows) for run, rows in of_runs.items()}
        if not (rows := _means(section, f"{name}{end}.csv", own, measure.by)):
            continue
        for caption, draw in measure.report_pictures(rows).items():
            section.draw(caption, draw, size=SIZE)
        if words := measure.verdict(rows):
            section.blocks.append(Text(words))
        section.add_table(measure.report_rows(rows), measure.columns)
    return section


def _why_undefined(readings: Readings, resets: Sequence[str]) -> str:
    """Return why a measure is not defined for runs that reset otherwise; "" if it is."""
    other = [r.name for r in readings if resets and r.config.get("reset", "init") not in resets]
    return f"Not defined: not all rounds of {', '.join(other)} start from round 0." if other else ""


def _read_tables(
    section: Section, readings: Readings, name: str, need: Iterable[str]
) -> dict[str, dict[str, list[Row]]]:
    """Read the CSV files of a measure: {end of the file's name: {name of a run: rows}}.

    What a run lacks is told in the section.

    Args:
        section: where to tell it.
        readings: the runs.
        name: of the measure.
        need: columns that every row must have.
    """
    if any(reading.own_fit for reading in readings):
        section.blocks.append(
            Text("Not measured: the network and the data of this run are of your own code.")
        )
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
    means = replicates.over_runs(list(of_runs.values()), by)
    if left := found.keys() - replicates.group(means, by).keys():
        names = [dict(zip(by, key, strict=True)) for key in left]
        rounds = {of["to_round"] if "to_round" in of else of["round"] for of in names}
        words = f"{file}: not all of the runs have {verdicts.in_words(rounds)}, which are left out."
        section.blocks.append(Text(words))
    return means


def tell_age(section: Section, reading: Reading, name: str, rows: Sequence[Row]) -> None:
    """Name the rounds that are newer than the rows that a file in analysis/ has of them."""
    path = reading.run.path / "analysis" / name
    measured = {row[name] for row in rows for name in ("to_round", "round") if name in row}
    newer = [
        round
        for round in measured
        if (sums := reading.run.round_path(round) / files.SUMS).exists()
        and sums.stat().st_mtime > path.stat().st_mtime
    ]
    if newer:
        section.blocks.append(
            Text(
                f"{reading.name}: {name} is older than {verdicts.in_words(newer)}: measure again, "
                "unless files were only copied."
            )
        )


def tool_command(name: str, readings: Readings) -> str:
    """Return the command of a tool on some runs."""
    paths = ",".join(str(tables.below_here(reading.run.path)) for reading in readings)
    return " ".join([f"python -m tools.{name} --run_dir={shlex.quote(paths)}", *find(name).needed])


def _with_command(verdict: verdicts.Verdict, name: str, readings: Readings) -> verdicts.Verdict:
    """Return a Verdict, with the command that measures it where it is unknown."""
    if verdict.answer != verdicts.UNKNOWN or any(reading.own_fit for reading in readings):
        return verdict
    return dataclasses.replace(verdict, command=tool_command(name, readings))


def _options(rows: Sequence[Row]) -> str:
    """Say on which examples rows were measured, and with which statistics of BatchNorm."""
    row = rows[0]
    return f"the {row['split']} split, BatchNorm statistics: {row['bn_stats']}"


def _draw(
    section: Section,
    caption: str,
    what: str,
    curves: Mapping[str, tuple[list[Row], str]],
    line: tuple[float, str] | None,
) -> None:
    """Draw curves {label: (rows, column)} in percent against density."""
    section.draw(
        caption,
        lambda: figures.against_density(curves, what=what, percent=True, line=line),
        size=SIZE,
    )
