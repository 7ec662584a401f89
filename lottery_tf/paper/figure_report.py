"""From the runs of a study to a figure: what is there is drawn, what is missing is listed."""

import dataclasses
import pathlib

from lottery_tf.analysis.measure import Output, make_directory
from lottery_tf.errors import InputError
from lottery_tf.paper import figure_tables, figures, groups
from lottery_tf.paper.drawings import DRAWINGS
from lottery_tf.paper.groups import Found
from lottery_tf.paper.measures import Measures
from lottery_tf.runs.rundir import RunDir
from lottery_tf.sweeps import grid

SMALL = "_small"
# What becomes of replicates in a drawing.
TOGETHER = {"matrices": "mean of {} seeds", "histograms": "weights of {} seeds together"}
TOGETHER |= dict.fromkeys(figure_tables.TABLES, "mean of {} seeds (min to max)")
BARS = "mean of {} seeds, bars: min and max"


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of a figure.

    Args:
        written: the paths of its files.
        drawn: how many runs are in it.
        missing: the points of its study that are not there.
        unfinished: those that lack rounds, with their runs.
    """

    written: list[pathlib.Path]
    drawn: int
    missing: list[grid.Point]
    unfinished: Found


def study_of(name: str, runs: str | None, flag_file: str | None = None) -> grid.Study:
    """The study of a figure.

    Args:
        name: a key of FIGURES.
        runs: the directory of the runs; by default the study's. Where its name ends in _small, so
            does that of the study.
        flag_file: of another study than flags/figures/<name>.cfg.
    """
    small = SMALL if runs and pathlib.Path(runs).absolute().name.endswith(SMALL) else ""
    path = flag_file or f"flags/figures/{name}{small}.cfg"
    return grid.read(path, [f"--runs={runs}"] if runs else [])


def draw(name: str, study: grid.Study, out_dir: pathlib.Path | None, measures: Measures, *,
         dpi: int = 150) -> Report:  # fmt: skip
    """Draws a figure of the runs of a study: PNG, PDF, CSV of what is plotted, TensorBoard.

    Args:
        name: a key of FIGURES.
        study: whose points its runs are, wherever below study.runs they lie.
        out_dir: where to write; by default figures/ beside the runs.
        measures: what is measured beyond the runs' metrics.
        dpi: the dots per inch of the PNG.

    Raises:
        InputError: no run of the study is there, or none is far enough.
    """
    figure = figures.FIGURES[name]
    runs, again = groups.each_once(groups.runs_below(study.runs))
    measures.left_out.extend(again)
    found, missing = groups.match(study.points, runs)
    if not found:
        raise InputError(_nothing(study, runs))
    of = groups.group(found, figure.panel)
    title = _title(name, study) + "\n" + groups.about(found, of, TOGETHER.get(figure.drawing, BARS))
    drawn = DRAWINGS[figure.drawing](figure, of, title, measures)
    output, stem = (
        Output(pdf=True, dpi=dpi),
        name + (SMALL if study.path.stem.endswith(SMALL) else ""),
    )
    path = make_directory(out_dir or study.runs / "figures") / stem
    for end, rows in drawn.tables.items():
        output.write_table(path.with_name(f"{stem}{end}.csv"), rows)
    output.draw(path.with_name(f"{stem}.png"), drawn.picture)
    from lottery_tf.plots import events

    log = path.parent / "tensorboard"
    image = (0, path.with_name(f"{stem}.png"))
    events.write(log, stem, scalars={}, images={f"figures/{stem}": image})
    output.written.append(log)
    unfinished = [(point, run) for point, run in found if not point.is_finished()]
    return Report(output.written, sum(len(group.runs) for group in of), missing, unfinished)


def _title(name: str, study: grid.Study) -> str:
    """What a figure shows; of runs of another study, which, for they are not the paper's."""
    if not name.startswith("fig"):
        return figures.FIGURES[name].shows
    number = f"Fig. {int(name[3:])}"
    if study.path.stem not in (name, name + SMALL):
        return f"{study.path.name}, drawn as {number}"
    return f"{number}: {figures.FIGURES[name].shows}"


def _nothing(study: grid.Study, runs: list[RunDir]) -> str:
    """What is said where no run of a study is there."""
    others = ", ".join(run.path.name for run in runs[:3])
    there = f"There are others there, as {others}." if runs else "There is no run with a round."
    return (
        f"{study.runs} has none of the {len(study.points)} runs of {study.path}. {there} Make them "
        f"by: python -m tools.sweep --flagfile={study.path} --runs={study.runs}"
    )


def describe(report: Report, study: grid.Study) -> list[str]:
    """The lines that tell what a figure lacks."""
    lines = [f"Drawn from {report.drawn} of {len(study.points)} runs."]
    if report.missing or report.unfinished:
        lines.append(
            "To make the others: python -m tools.sweep "
            f"--flagfile={study.path} --runs={study.runs}, or alone:"
        )
    for point, run in report.unfinished:
        lines.append(
            f"  unfinished, {run.finished_rounds()} of {point.config.rounds} rounds: "
            + " ".join(point.command)
        )
    lines += [f"  missing: {' '.join(point.command)}" for point in report.missing]
    return lines
