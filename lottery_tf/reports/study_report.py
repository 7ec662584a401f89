"""The report of a study: a directory of runs, compared."""

import functools
import math
import pathlib
import shlex

from lottery_tf.analysis.statistics import dense_row, leads
from lottery_tf.config.fields import format_value
from lottery_tf.plots import Columns, Row, figures, hparams, tables
from lottery_tf.reports import failures, pages, points, verdicts
from lottery_tf.reports.blocks import Command, Facts, Link, Problem, Section, Table, Text
from lottery_tf.reports.reading import differing_flags, varying_flags
from lottery_tf.reports.relations import SIZE, Readings

MEASURES: Columns = {
    "matching": ("matches to", "{:.2%}"),
    "mean_distance": ("mean distance", "{:.3f}"),
    "largest_barrier": ("largest barrier", "{:.2%}"),
}
LEAD: Columns = {
    "setting": ("setting", "{}"),
    "round": ("round", "{:d}"),
    "density": ("density", "{:.2%}"),
    "lead": ("lead", "{:+.2%}"),
    "lead_low": ("from", "{:+.2%}"),
    "lead_high": ("to", "{:+.2%}"),
    "seeds": ("seeds", "{:d}"),
}
PERCENT = 100.0  # of a part of one
PAGE = "tensorboard"


def report(
    directory: str, out: str | None = None
) -> tuple[list[Row], Columns, list[pathlib.Path], list[str]]:
    """Writes the page of a study, and the runs' flags and results for TensorBoard's page HParams.

    Args:
        directory: that the runs are in.
        out: the file; by default report.html in the directory. Given, the runs stay as they are,
            and nothing is written for TensorBoard.

    Returns:
        (rows to print, their columns, what was written, what is damaged in words).

    Raises:
        InputError: there is no run, or the page is there and is no report.
    """
    readings = points.find(directory, keep=not out)
    page = pathlib.Path(out) if out else pathlib.Path(directory) / "report.html"
    pages.check(page)
    state = Section("What ran")
    results = {reading.name: points.results(reading, state) for reading in readings}
    rows, columns = rows_of_groups(readings, results)
    what_ran(state, readings)
    sections = [
        state,
        of_groups(rows, columns),
        of_curves(readings),
        *of_lead(readings),
        of_points(readings, results, page.parent),
        failures.unfinished(pathlib.Path(directory), readings),
    ]
    pages.write(page, pathlib.Path(directory).absolute().name, sections)
    written = [page]
    if not out:
        write_hparams(pathlib.Path(directory), readings, results)
        written.append(pathlib.Path(directory) / PAGE)
    return rows, columns, written, [text for reading in readings for text in reading.problems]


def what_ran(section: Section, readings: Readings) -> None:
    """Adds how many runs there are, how far they are, and what they have in common."""
    for reading in readings:
        section.blocks += [Problem(problem) for problem in reading.problems]
        section.blocks += [Problem(reading.repeats)] * bool(reading.repeats)
    states = [reading.state for reading in readings]
    facts = [(state, f"{states.count(state)} of {len(states)} runs") for state in
             dict.fromkeys(states)]  # fmt: skip
    names = differing_flags(readings)
    for name in names:
        values = dict.fromkeys(format_value(r.config[name]) for r in readings if name in r.config)
        facts.append((f"--{name} varies", ", ".join(values)))
    facts.append(("time", f"{sum(reading.seconds for reading in readings) / 60:.1f} minutes"))
    known = next((reading for reading in readings if reading.config), readings[0])
    facts += list(known.environment().items())
    section.blocks += [Facts(facts), Text("Flags that all have, and that are not the defaults:")]
    common = {n: both for n, both in known.changed_flags().items() if n not in names}
    rows: list[list[str | Link]] = [
        [f"--{name}", format_value(value), format_value("" if default is None else default)]
        for name, (value, default) in common.items()
    ]
    section.blocks.append(Table(["flag", "value", "default"], rows))


def rows_of_groups(readings: Readings, results: dict[str, Row]) -> tuple[list[Row], Columns]:
    """(a row for each group of replicates, its columns): means, with least and most in brackets."""
    titles = points.titles(readings)
    columns: Columns = {name: (name, "{}") for name in varying_flags(readings)}
    columns |= {"runs": ("runs", "{:d}")}
    columns |= {target: (title, "{}") for target, title in titles.items()}
    columns |= {name: (title, "{}") for name, (title, _) in MEASURES.items()}
    rows = []
    for group in points.groups(readings):
        row: Row = group.flags | {"runs": len(group.readings)}
        of_group = [results[reading.name] for reading in group.readings]
        for name in (*titles, *MEASURES):
            form = MEASURES[name][1] if name in MEASURES else "{:.2%}"
            row[name] = spread([result[name] for result in of_group], form)
        rows.append(row)
    return rows, columns


def spread(values: list[float], form: str) -> str:
    """The mean of what is known, the least and the most if they differ, and of how many it is."""
    known = [value for value in values if value == value]
    if not known:
        return ""
    mean, low, high = (form.format(v) for v in (sum(known) / len(known), min(known), max(known)))
    text = mean if low == high else f"{mean} ({low} to {high})"
    return text if len(known) == len(values) else f"{text}, {len(known)} of {len(values)}"


def of_groups(rows: list[Row], columns: Columns) -> Section:
    """The table of what was compared, replicates together."""
    section = Section("Comparison")
    section.add_table(rows, columns)
    of_matching = (
        "Means over the runs, least and most in brackets. Matches to: the lowest density at which "
        "a run is as accurate as its own dense network, less one standard deviation of an accuracy "
        "on its test examples, √(p(1-p)/n). Networks that have collapsed are left out."
    )
    of_distance = "Mean distance: of successive rounds, angular; 1 is 90 degrees."
    section.blocks.append(
        Text(f"{of_matching} {of_distance} Largest barrier: of those between "
             "successive rounds that tools.barriers has measured, without networks that have "
             "collapsed. 2 of 3: two runs alone have such a number.")
    )  # fmt: skip
    return section


def of_curves(readings: Readings) -> Section:
    """Accuracy against density, a picture for each setting of the flags but one."""
    section = Section("Accuracy against density")
    for common, found in points.panels(points.groups(readings)).items():
        inner = points.inner_flag(list(found[0].flags))
        curves = {
            f"{inner}={group.flags[inner]}" if inner else "test": (group.rows, "test_accuracy")
            for group in found
        }
        counts = sorted({len(group.readings) for group in found})
        of = "" if counts == [1] else f" (means of {' to '.join(map(str, counts))} runs, min, max)"
        draw = functools.partial(
            figures.against_density, curves, what="test accuracy (%)", percent=True
        )
        section.draw(f"{common or 'All runs'}{of}", draw, size=SIZE)
    return section


def of_lead(readings: Readings) -> list[Section]:
    """By how much each ticket leads its reinit, at every density, with a Verdict for each setting.

    Nothing where a study has not both.
    """
    section = Section("Lead of the ticket over the reinit")
    rows: list[Row] = []
    for common, found in points.panels(points.groups(readings)).items():
        by_reset = {group.flags.get("reset"): group.readings for group in found}
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
        of_rounds = verdicts.lead_by_round(of_setting, examples)
        rows += [
            {"setting": common or "all", "lead_low": row["low"], "lead_high": row["high"]} | row
            for row in of_rounds
        ]
    if not section.verdicts:
        return []
    section.add_table(rows, LEAD)
    section.blocks.append(
        Text(
            "Points of test accuracy: the ticket's less that of the reinit of the same seed and "
            "round, mean over seeds, and the 95% t interval of that mean, which a single seed "
            "lacks. Networks that have collapsed are left out."
        )
    )
    return [section]


def of_points(readings: Readings, results: dict[str, Row], start: pathlib.Path) -> Section:
    """A line for each run, with a link to it."""
    section, titles = Section("Runs"), points.titles(readings)
    names = differing_flags(readings)
    head = ["run", *names, "state", "rounds", *titles.values()]
    head += [title for title, _ in MEASURES.values()]
    lines: list[list[str | Link]] = []
    for reading in readings:
        found = results[reading.name]
        file = reading.run.path / "analysis" / "report.html"
        target = file if file.exists() else reading.run.path
        href = pages.link(target, reading.run.path.parent, start).href
        line: list[str | Link] = [Link(reading.name, href)]
        line += [format_value(reading.config.get(name, "")) for name in names]
        line += [reading.state, f"{len(reading.rows)} of {reading.config.get('rounds', '?')}"]
        line += [spread([found[target]], "{:.2%}") for target in titles]
        line += [spread([found[name]], form) for name, (_, form) in MEASURES.items()]
        lines.append(line)
    section.blocks.append(Table(head, lines))
    below = tables.below_here(readings[0].run.path)
    command = f"python -m tools.report --run_dir={shlex.quote(str(below))}"
    section.blocks.append(Command("A run's name leads to its own page once that is written:",
                                  command))  # fmt: skip
    return section


def write_hparams(directory: pathlib.Path, readings: Readings, results: dict[str, Row]) -> None:
    """Writes TensorBoard's page HParams: results of each run, beside the flags that vary."""
    known = [reading for reading in readings if reading.config]
    titles: dict[str, str] = points.titles(known)
    titles |= {name: title for name, (title, _) in MEASURES.items()}
    tags = {}
    for name, title in titles.items():
        if any(math.isfinite(results[reading.name][name]) for reading in known):
            percent = "mean" not in title
            tags[name] = (f"hparams/{title}{' (%)' * percent}", PERCENT if percent else 1.0)
    changed = [name for reading in known for name in reading.changed_flags()]
    for reading in known:
        found = {tag: results[reading.name][name] * by for name, (tag, by) in tags.items()}
        flags = {name: reading.config.get(name) for name in changed}
        hparams.write_run(reading.run.path / PAGE, flags, found, reading.state)
    shown = differing_flags(known) or changed
    values = {name: [reading.config.get(name) for reading in known] for name in shown}
    hparams.write_study(directory / PAGE, values, [tag for tag, _ in tags.values()])
