"""Draws a figure from the runs of a study that are there, and lists those that are missing."""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Sequence

from lottery_tf.analysis.measure import Output, make_directory
from lottery_tf.analysis.runs import repeats
from lottery_tf.errors import InputError
from lottery_tf.paper import figures
from lottery_tf.paper.drawings import DRAWINGS, TABLES
from lottery_tf.paper.measures import Measures
from lottery_tf.plots import events
from lottery_tf.runs.rundir import RunDir
from lottery_tf.sweeps import grid, groups
from lottery_tf.sweeps.grid import Point, Study
from lottery_tf.sweeps.groups import EXPERIMENT, Flags, Group

SMALL = "_small"
# What becomes of replicates in a drawing.
TOGETHER = {"matrices": "mean of {} seeds", "histograms": "weights of {} seeds together"}
TOGETHER |= dict.fromkeys(TABLES, "mean of {} seeds (min to max)")
BARS = "mean of {} seeds, bars: min and max"
Found = list[tuple[Point, RunDir]]  # points of a study that have a run


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of a figure."""

    written: list[pathlib.Path]  # its files
    drawn: int  # how many runs are in it
    missing: list[Point]  # the points of its study that are not there
    unfinished: Found  # those that lack rounds


def study_of(name: str, runs: str | None, flag_file: str | None = None) -> Study:
    """Return the study of a figure.

    Args:
        name: a key of FIGURES.
        runs: the directory of the runs; by default the study's. Where its name ends in _small, so
            does that of the study.
        flag_file: of another study than flags/figures/<name>.cfg.
    """
    small = SMALL if runs and pathlib.Path(runs).absolute().name.endswith(SMALL) else ""
    path = flag_file or f"flags/figures/{name}{small}.cfg"
    return grid.read(path, [f"--runs={runs}"] if runs else [])


def draw(
    name: str,
    study: Study,
    out_dir: pathlib.Path | None,
    measures: Measures,
    *,
    dpi: int = 150,
) -> Report:
    """Draw a figure of the runs of a study: PNG, PDF, CSV of what is plotted, TensorBoard.

    Args:
        name: a key of FIGURES.
        study: its runs may lie anywhere below study.runs.
        out_dir: where to write; by default figures/ beside the runs.
        measures: measures what is not in the runs' metrics.
        dpi: the dots per inch of the PNG.

    Raises:
        InputError: no run of the study is there, or none is far enough.
    """
    figure = figures.FIGURES[name]
    runs, repeated = each_once(runs_below(study.runs))
    measures.left_out.extend(repeated)
    found, missing = match(study.points, runs)
    if not found:
        others = ", ".join(run.path.name for run in runs[:3])
        there = f"There are others, as {others}." if runs else "There is no run with a round."
        raise InputError(
            f"{study.runs} has none of the {len(study.points)} runs of {study.path}. {there} Make "
            f"them by: {_command(study)}"
        )
    of_figure = group(found, figure.panel)
    about = _about(found, of_figure, TOGETHER.get(figure.drawing, BARS))
    title = f"{_title(name, study)}\n{about}"
    drawn = DRAWINGS[figure.drawing](figure, of_figure, title, measures)
    output = Output(pdf=True, dpi=dpi)
    stem = name + (SMALL if study.path.stem.endswith(SMALL) else "")
    directory = make_directory(out_dir or study.runs / "figures")
    for end, rows in drawn.tables.items():
        output.write_table(directory / f"{stem}{end}.csv", rows)
    picture, log = directory / f"{stem}.png", directory / "tensorboard"
    output.draw(picture, drawn.picture)
    events.write(log, stem, scalars={}, images={f"figures/{stem}": (0, picture)})
    output.written.append(log)
    unfinished = [(point, run) for point, run in found if not point.is_finished()]
    return Report(output.written, sum(len(of.runs) for of in of_figure), missing, unfinished)


def _title(name: str, study: Study) -> str:
    """Return the title of a figure, which names a study other than the figure's own."""
    if not name.startswith("fig"):
        return figures.FIGURES[name].shows
    number = f"Fig. {int(name[3:])}"
    if study.path.stem not in (name, name + SMALL):
        return f"{study.path.name}, drawn as {number}"
    return f"{number}: {figures.FIGURES[name].shows}"


def describe(report: Report, study: Study) -> list[str]:
    """Return the lines that say which runs a figure lacks."""
    lines = [f"Drawn from {report.drawn} of {len(study.points)} runs."]
    if report.missing or report.unfinished:
        lines.append(f"To make the others: {_command(study)}, or alone:")
    for point, run in report.unfinished:
        rounds = f"{run.finished_rounds()} of {point.config.rounds} rounds"
        lines.append(f"  unfinished, {rounds}: {' '.join(point.command)}")
    lines += [f"  missing: {' '.join(point.command)}" for point in report.missing]
    return lines


def _command(study: Study) -> str:
    return f"python -m tools.sweep --flagfile={study.path} --runs={study.runs}"


# The runs of a study --------------------------------------------------------------------------


def runs_below(directory: pathlib.Path) -> list[RunDir]:
    """Return the runs below a directory that have a finished round, known by their config.json.

    Raises:
        InputError: a run is damaged.
    """
    found = []
    for path, directories, files in os.walk(directory):
        if "config.json" in files:
            directories.clear()
            found.append(RunDir(path))
        directories.sort()
    return [run for run in found if run.finished_rounds()]


def each_once(runs: Iterable[RunDir]) -> tuple[list[RunDir], list[str]]:
    """Return (runs of different flags or seeds, sentences about the runs that repeat one)."""
    runs = list(runs)
    again = repeats(runs)
    words = [
        f"{run.path} repeats {first.path}, and is left out: {why}."
        for run, (first, why) in again.items()
    ]
    return [run for run in runs if run not in again], words


def match(points: Iterable[Point], runs: Iterable[RunDir]) -> tuple[Found, list[Point]]:
    """Return ([(point, the run of its flags)], points without a run)."""

    def key(flags: Flags) -> tuple[object, ...]:
        values = (flags[name] for name in EXPERIMENT)
        return tuple(tuple(value) if isinstance(value, list) else value for value in values)

    by_flags = {key(run.config()): run for run in runs}
    pairs = [(point, by_flags.get(key(dataclasses.asdict(point.config)))) for point in points]
    found = [(dataclasses.replace(point, directory=run.path), run) for point, run in pairs if run]
    return found, [point for point, run in pairs if not run]


def group(found: Found, panel: Sequence[str]) -> list[Group[RunDir]]:
    """Return the Groups of runs: of replicates the finished ones, where there are such.

    Raises:
        InputError: two groups have the same names.
    """
    runs = [(dataclasses.asdict(point.config), (point, run)) for point, run in found]
    varied = groups.varying((flags for flags, _ in runs), panel)
    curve = [name for name in varied if name != "reset"] + ["reset"] * ("reset" not in panel)

    def name(flags: Flags) -> str:
        return ", ".join(filter(None, (figures.called(*item) for item in flags.items())))

    named = [
        Group(
            of.panel or "regular" * bool(panel),
            of.curve or "rewound",
            of.flags,
            [run for point, run in of.runs if point.is_finished()] or [run for _, run in of.runs],
            of.colour,
        )
        for of in groups.group(runs, panel=panel, curve=curve, name=name)
    ]
    titles = [(of.panel, of.curve) for of in named]
    if alike := [names for names in titles if titles.count(names) > 1]:
        raise InputError(f"Two groups of runs are both called {', '.join(alike[0])}.")
    return named


def _about(found: Found, groups: Sequence[Group[RunDir]], together: str) -> str:
    """Say what runs have in common: model, dataset, and the number of seeds, as in `together`."""
    configs = [point.config for point, _ in found]
    dataset = figures.NAMES["dataset"]
    names = dict.fromkeys(f"{config.model} on {dataset(config.dataset)}" for config in configs)
    counts = sorted({len(group.runs) for group in groups})
    seeds = f"{counts[0]} to {counts[-1]}" if counts[1:] else str(counts[0])
    return f"{', '.join(names)}; " + (together.format(seeds) if counts != [1] else "one seed")
