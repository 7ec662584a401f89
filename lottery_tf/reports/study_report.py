"""Writes the report of a study: a directory of runs, compared."""

import dataclasses
import math
import os
import pathlib
import re
import shlex
from collections.abc import Iterable, Sequence

from lottery_tf.analysis.replicates import without_collapsed
from lottery_tf.analysis.runs import repeats
from lottery_tf.analysis.statistics import dense_row, has_collapsed, leads
from lottery_tf.config.fields import format_value
from lottery_tf.errors import InputError
from lottery_tf.plots import Columns, Row, hparams, tables
from lottery_tf.reports import pages, relations, verdicts
from lottery_tf.reports.pages import Command, Facts, Link, Links, Problem, Section, Table
from lottery_tf.reports.reading import (
    FINISHED,
    SAMPLING,
    Reading,
    configs,
    is_run,
    mean_rows,
    read,
    uncollapsed,
    with_sampling_error,
)
from lottery_tf.reports.relations import Readings
from lottery_tf.reports.run_report import changed_flags_table, to_go_on
from lottery_tf.reports.weights import DENSITIES, nearest
from lottery_tf.sweeps import results as results_of_study
from lottery_tf.sweeps.groups import Group, differing, group, varying

MEASURES: Columns = {
    "matching": ("matches to", "{:.2%}"),
    "mean_distance": ("mean distance", "{:.3f}"),
    "largest_barrier": ("largest barrier", "{:.2%}"),
}
LEAD: Columns = {
    "setting": ("setting", "{}"),
    "round": ("round", "{:d}"),
    "density": ("density", "{:.2%}"),
    "lead": ("lead (points)", "{:+.2f}"),
    "lead_min": ("from", "{:+.2f}"),
    "lead_max": ("to", "{:+.2f}"),
    "seeds": ("seeds", "{:d}"),
}
ENDS_OF_LEAD = {"lead": "lead", "lead_min": "low", "lead_max": "high"}
PAGE = "tensorboard"


def report(
    directory: str | os.PathLike, out: str | None = None
) -> tuple[list[Row], Columns, list[pathlib.Path], list[str], list[verdicts.Verdict]]:
    """Write the page of a study, and the runs' flags and results for TensorBoard's page HParams.

    Args:
        directory: holds the runs.
        out: the file; by default report.html in the directory. If it is given, the runs stay as
            they are, and nothing is written for TensorBoard.

    Returns:
        (rows to print, their columns, paths of what was written, what is damaged, the verdicts).

    Raises:
        InputError: there is no run, or the file exists and is not a report.
    """
    directory = pathlib.Path(directory)
    readings = find(directory, keep=not out)
    page = pathlib.Path(out) if out else directory / "report.html"
    pages.check(page)
    state = Section("What ran")
    results = {reading.name: results_of(reading, state) for reading in readings}
    rows, columns = rows_of_groups(readings, results)
    what_ran(state, readings)
    sections = [
        state,
        of_groups(rows, columns),
        of_curves(readings),
        *of_lead(readings),
        of_points(readings, results, page.parent),
        of_failures(directory, readings),
    ]
    pages.write(page, directory.absolute().name, sections)
    written = [page]
    if not out:
        write_hparams(directory, readings, results)
        written.append(directory / PAGE)
    damage = [text for reading in readings for text in reading.problems]
    return rows, columns, written, damage, [v for section in sections for v in section.verdicts]


# The runs and their groups --------------------------------------------------------------------


def find(directory: pathlib.Path, *, keep: bool) -> list[Reading]:
    """Read the runs in a directory, sorted by name; numbers in names are compared as numbers.

    A run that repeats another one says so in `Reading.repeats`, and `replicates` leaves it out.

    Raises:
        InputError: there is no run.
    """
    if not directory.is_dir():
        raise InputError(f"--runs={directory}: expected a directory of runs.")

    def by_numbers(path: pathlib.Path) -> list[tuple[bool, int, str]]:
        return [
            (not part.isdecimal(), int(part) if part.isdecimal() else 0, part)
            for part in re.split(r"(\d+)", path.name)
        ]

    paths = sorted((p for p in directory.iterdir() if p.is_dir() and is_run(p)), key=by_numbers)
    if not paths:
        raise InputError(
            f"--runs={directory} holds no run: expected directories with a config.json. For a "
            "single run use --run_dir."
        )
    readings = [read(path, keep=keep) for path in paths]
    again = repeats(reading.run for reading in readings if reading.config)
    words = {
        run: f"{run.path.name} repeats {first.path.name}, and is left out: {why}."
        for run, (first, why) in again.items()
    }
    return [dataclasses.replace(of, repeats=words.get(of.run, "")) for of in readings]


def replicates(readings: Readings) -> list[Group[Reading]]:
    """Return the runs with finished rounds in Groups.

    A panel has the groups that differ in one flag alone: --reset if it varies, as ticket and reinit
    are to be compared, or else the last flag that varies.
    """
    names = varying(configs(readings))
    inner = "reset" if "reset" in names else next(reversed(names), "")
    return group(
        [(of.config, of) for of in readings if of.config and of.rows and not of.repeats],
        panel=[name for name in names if name != inner],
        curve=[inner] * bool(inner),
        name=lambda flags: ", ".join(f"{name}={format_value(v)}" for name, v in flags.items()),
    )


def by_panel(groups: Iterable[Group[Reading]]) -> dict[str, list[Group[Reading]]]:
    """Return {name of a panel: its groups}."""
    panels: dict[str, list[Group[Reading]]] = {}
    for of in groups:
        panels.setdefault(of.panel, []).append(of)
    return panels


def titles(readings: Readings) -> dict[str, str]:
    """Return {target density: title} of columns of accuracies.

    A title has the density itself where it is the same in all runs.
    """
    found: dict[str, str] = {}
    for target in DENSITIES:
        near = [row["density"] for of in readings if (row := nearest(of.rows, target))]
        if near and max(near) - min(near) < 1e-4:
            found[str(target)] = f"acc at {near[0]:.2%}"
        elif near:
            found[str(target)] = f"acc near {100 * target:g}%"
    return found


def shown_results(readings: Readings) -> Columns:
    """Return {result: (title, format)} of the columns of results."""
    accuracies = {target: (title, "{:.2%}") for target, title in titles(readings).items()}
    return accuracies | MEASURES


def results_of(reading: Reading, section: Section) -> Row:
    """Return the results of a run, NaN where one is not measured; Problems go to a section.

    Returns:
        {target density: test accuracy, …, matching, mean_distance, largest_barrier}; `matching` is
        the sparsest density that matches. Networks that have collapsed count nowhere.
    """
    found: Row = {}
    for target in DENSITIES:
        row = nearest(reading.rows, target)
        found[str(target)] = math.nan if not row or has_collapsed(row) else row["test_accuracy"]
    steps: list[float] = []
    if len(reading.rows) > 1:
        matrix = section.attempt(relations.distance_matrix, reading)
        if matrix is not None:
            matrix = without_collapsed(reading.rows, matrix)
            steps = _known(float(matrix[r, r - 1]) for r in range(1, len(matrix) - 1))
    of_paths = (section.attempt(reading.tables, "barriers") or {}).get("", [])
    relations.tell_age(section, reading, "barriers.csv", of_paths)
    barriers = [
        row.get("error_barrier", math.nan)
        for row in of_paths
        if row.get("to_round") == row.get("from_round", math.nan) + 1 and not row.get("collapsed")
    ]
    return found | {
        "matching": verdicts.sparsest_match(reading.rows, reading.examples),
        "mean_distance": sum(steps) / len(steps) if steps else math.nan,
        "largest_barrier": max(barriers, default=math.nan),
    }


def _known(values: Iterable[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def spread(values: Sequence[float], form: str) -> str:
    """Format the mean of the known values, with least and most, and their count if some are not."""
    known = _known(values)
    if not known:
        return ""
    mean, low, high = (form.format(v) for v in (sum(known) / len(known), min(known), max(known)))
    text = mean if low == high else f"{mean} ({low} to {high})"
    return text if len(known) == len(values) else f"{text}, {len(known)} of {len(values)}"


# Sections -------------------------------------------------------------------------------------


def what_ran(section: Section, readings: Readings) -> None:
    """Add how many runs there are, how far they are, and what they have in common."""
    for reading in readings:
        section.blocks += map(Problem, filter(None, [*reading.problems, reading.repeats]))
    states = [reading.state for reading in readings]
    facts = [
        (state, f"{states.count(state)} of {tables.count(len(states), 'run')}")
        for state in dict.fromkeys(states)
    ]
    names = differing(configs(readings))
    for name in names:
        values = dict.fromkeys(format_value(r.config[name]) for r in readings if name in r.config)
        facts.append((f"--{name} varies", ", ".join(values)))
    facts.append(("time", tables.duration(sum(reading.seconds for reading in readings))))
    known = next((reading for reading in readings if reading.config), readings[0])
    facts += known.environment().items()
    section.blocks += [Facts(facts), "Flags that all have, and that are not the defaults:"]
    section.blocks.append(changed_flags_table(known, without=names))


def rows_of_groups(readings: Readings, results: dict[str, Row]) -> tuple[list[Row], Columns]:
    """Return a row for each group of replicates, means with least and most, and their columns."""
    shown = shown_results(readings)
    texts = {name: name for name in varying(configs(readings))}
    columns = {name: (name, "{}") for name in texts} | {"runs": ("runs", "{:d}")}
    columns |= {name: (title, "{}") for name, (title, _) in shown.items()}
    rows = []
    for of in replicates(readings):
        row: Row = {name: format_value(value) for name, value in of.flags.items()}
        row["runs"] = len(of.runs)
        for name, (_, form) in shown.items():
            row[name] = spread([results[reading.name][name] for reading in of.runs], form)
        rows.append(row)
    return rows, columns


def of_groups(rows: list[Row], columns: Columns) -> Section:
    """Return the table of what was compared, replicates together."""
    section = Section("Comparison")
    section.add_table(rows, columns)
    words = (
        "Means over the runs, least and most in brackets. Matches to: the lowest density at which "
        "a run is as accurate as its own dense network, less one standard deviation of an accuracy "
        "on its test examples, √(p(1-p)/n). Networks that have collapsed are left out. "
        "Mean distance: of successive rounds, angular; 1 is 90 degrees. "
        "Largest barrier: of those between successive rounds that tools.barriers has measured, "
        "without networks that have collapsed. 2 of 3: two runs alone have such a number."
    )
    section.blocks.append(words)
    return section


def of_curves(readings: Readings) -> Section:
    """Return accuracy against density, a picture for each panel."""
    section = Section("Accuracy against density")
    for common, groups in by_panel(replicates(readings)).items():
        curves = {
            of.curve or "test": (
                with_sampling_error(uncollapsed(mean_rows(of.runs)), of.runs[0].examples),
                "test_accuracy",
            )
            for of in groups
        }
        counts = sorted({len(of.runs) for of in groups})
        bars = f"means of {' to '.join(map(str, counts))} runs, min and max"
        caption = f"{common or 'All runs'}; {SAMPLING if counts == [1] else bars}"
        if any(row["collapsed"] == 1 for of in groups for row in mean_rows(of.runs)):
            caption += "; without rounds that have collapsed"
        section.draw_curves(caption, curves, "test accuracy (%)", percent=True)
    return section


def of_lead(readings: Readings) -> list[Section]:
    """Return by how much tickets lead their reinits, with a Verdict for each setting.

    There is no section where a study has not both.
    """
    section = Section("Lead of the ticket over the reinit")
    curves: dict[str, list[Row]] = {}  # in points
    for common, groups in by_panel(replicates(readings)).items():
        by_reset = {of.flags.get("reset"): of.runs for of in groups}
        if not {"init", "reinit"} <= by_reset.keys():
            continue
        tickets, reinits = by_reset["init"], by_reset["reinit"]
        of_setting = leads(
            {reading.seeds: reading.rows for reading in tickets},
            {reading.seeds: reading.rows for reading in reinits},
        )
        dense = [row for reading in tickets if (row := dense_row(reading.rows))]
        accuracy = sum(row["test_accuracy"] for row in dense) / len(dense) if dense else math.nan
        examples = tickets[0].examples
        section.verdicts.append(verdicts.leading(of_setting, accuracy, examples, common))
        curves[common or "all"] = [
            {"round": row["round"], "density": row["density"], "seeds": row["seeds"]}
            | {name: 100 * row[end] for name, end in ENDS_OF_LEAD.items()}
            for row in verdicts.lead_by_round(of_setting, examples)
        ]
    if not section.verdicts:
        return []
    section.draw_curves(
        "Lead of the ticket against density, with the 95% t interval over seeds",
        {setting: (rows, "lead") for setting, rows in curves.items()},
        "lead (percentage points)",
        line=(0.0, "no lead"),
    )
    rows = [{"setting": setting} | row for setting, of in curves.items() for row in of]
    section.add_table(rows, LEAD)
    section.blocks.append(
        "Points of test accuracy: the ticket's less that of the reinit of the same seed and "
        "round, mean over seeds, and the 95% t interval of that mean, which a single seed "
        "lacks. Networks that have collapsed are left out."
    )
    return [section]


def of_points(readings: Readings, results: dict[str, Row], start: pathlib.Path) -> Section:
    """Return a line for each run, with a link to it."""
    section, shown, names = Section("Runs"), shown_results(readings), differing(configs(readings))
    head = ["run", *names, "state", "rounds", *(title for title, _ in shown.values())]
    lines: list[list[str | Link]] = []
    for reading in readings:
        page = reading.run.path / "analysis" / "report.html"
        target = page if page.exists() else reading.run.path
        href = pages.link(target, reading.run.path.parent, start).href
        flags = [format_value(reading.config.get(name, "")) for name in names]
        found = [spread([results[reading.name][n]], form) for n, (_, form) in shown.items()]
        lines.append([Link(reading.name, href), *flags, reading.state, reading.progress, *found])
    path = tables.below_here(readings[0].run.path)
    command = f"python -m tools.report --run_dir={shlex.quote(str(path))}"
    words = "A run's name leads to its own page once that is written:"
    section.blocks += [Table(head, lines), Command(words, command)]
    table = readings[0].run.path.parent / results_of_study.FILE
    if table.exists():
        section.blocks.append(Links([pages.link(table, table.parent, start)]))
    return section


def of_failures(directory: pathlib.Path, readings: Readings) -> Section:
    """Return which runs are not finished, how each ended, and how to resume it."""
    section = Section("Unfinished or failed")
    logs = [path for path in sorted(directory.glob("*.log")) if path.is_file()]
    # {name of a run that tools.sweep started: lines of its output}
    outputs = {log.stem: log.read_text("utf-8", "replace").rstrip().splitlines() for log in logs}
    for reading in readings:
        output = outputs.pop(reading.name, [])
        if reading.state == FINISHED:
            continue
        section.blocks.append(f"{reading.name}: {reading.progress} rounds, {reading.state}.")
        for name, lines in (("log.txt", reading.log), (f"{reading.name}.log", output)):
            section.blocks += [f"{name} ends: {line}" for line in lines[-1:]]
        section.blocks += to_go_on(reading)
    for name, lines in outputs.items():
        last = (lines or ["(nothing)"])[-1]
        section.blocks.append(Problem(f"{name} left no run. {name}.log ends: {last}"))
    if not section.blocks:
        section.blocks.append("None: all runs are finished.")
    return section


def write_hparams(directory: pathlib.Path, readings: Readings, results: dict[str, Row]) -> None:
    """Write TensorBoard's page HParams: the results of each run, beside the flags that vary."""
    known = [reading for reading in readings if reading.config]
    tags = {}
    for name, (title, form) in shown_results(known).items():
        if any(math.isfinite(results[reading.name][name]) for reading in known):
            tags[name] = (f"hparams/{title} (%)", 100.0) if "%" in form else (f"hparams/{title}", 1)
    changed = [name for reading in known for name in reading.changed_flags()]
    for reading in known:
        found = {tag: results[reading.name][name] * by for name, (tag, by) in tags.items()}
        flags = {name: reading.config.get(name) for name in changed}
        hparams.write_run(reading.run.path / PAGE, flags, found, reading.state)
    shown = differing(configs(known)) or changed
    values = {name: [reading.config.get(name) for reading in known] for name in shown}
    hparams.write_study(directory / PAGE, values, [tag for tag, _ in tags.values()])
