"""Draws a figure of the papers from the runs of its study, or accuracy against density of runs.

python -m tools.figures --figure=1 --runs=runs/fig01
python -m tools.figures --run_dir=runs/lenet,runs/lenet_reset=reinit --labels=ticket,reinit
python -m tools.figures --run_dir=runs/lenet,runs/lenet_seed=1 \
    --other_run=runs/lenet_reset=reinit,runs/lenet_reset=reinit_seed=1 --labels=ticket,reinit

The studies are flags/figures/*.cfg; python -m tools.sweep makes their runs.
"""

import pathlib
from collections.abc import Callable

from absl import flags

from lottery_tf.analysis import replicates
from lottery_tf.analysis.measure import OURS
from lottery_tf.analysis.runs import metrics_with, open_any_runs
from lottery_tf.config import command
from lottery_tf.config.paths import define_path
from lottery_tf.errors import InputError
from lottery_tf.plots import tables
from lottery_tf.terminal import signals

from . import shared

OUT = define_path(
    "out",
    None,
    "Picture to write; its ending chooses the format, as in png, pdf or svg. Default: "
    "accuracy.png in --out_dir, or in analysis/ of the first run.",
)
TITLE = flags.DEFINE_string("title", "", "Title to write above the axes.")
FIGURE = flags.DEFINE_string(
    "figure",
    None,
    "Figure of Maene et al. 2021 to draw: 1 to 23, table1 or appendix_c; or stability or "
    "rewinding of Frankle et al. 2019. Default: accuracy against density of --run_dir.",
)
RUNS = define_path(
    "runs",
    None,
    "Directory that holds the runs for --figure, which are known by their config.json. "
    "Default: that of --study.",
)
STUDY = define_path(
    "study",
    None,
    "Flag file of the study that makes the runs for --figure. Default: for figure 1 "
    "flags/figures/fig01.cfg, or fig01_small.cfg if --runs ends in _small.",
)
DRAW_ONLY = flags.DEFINE_bool(
    "draw_only",
    False,
    "With --figure, only list what would have to be evaluated or trained. Default: evaluate "
    "and train it.",
)
DPI = flags.DEFINE_integer(
    "dpi", 150, "Dots per inch of the PNG of --figure.", lower_bound=20, upper_bound=1200
)
ABOUT = {
    "run_dir": "Runs to draw, separated by commas. With --other_run they are replicates: mean, "
    "min and max.",
    "other_run": "Runs to show beside those of --run_dir, such as their reinits. They are "
    "replicates, too.",
    "out_dir": "Directory to write into. Default: figures/ in --runs, or analysis/ of the first "
    "run.",
    "labels": "Names of the runs, or with --other_run of both groups, separated by commas. "
    "Default: the names of the directories.",
}
shared.define(*shared.OUTPUT, "other_run", "labels", *shared.COMPUTING, about=ABOUT)


def main(_: object) -> int:
    if FIGURE.value is None:
        if alone := [flag.name for flag in (RUNS, STUDY) if flag.value]:
            raise InputError(f"--{alone[0]} expects --figure, as --figure=1.")
        draw_accuracy()
        return 0
    if flags.FLAGS.run_dir or flags.FLAGS.other_run:
        raise InputError("Expected --figure with --runs, or --run_dir. Received: both.")
    return signals.resumable(draw_figure)


def draw_figure(stop_signal: Callable[[], int]) -> None:
    from lottery_tf.paper import figure_report, figures
    from lottery_tf.paper.measures import Measures

    name = figures.find(FIGURE.value)
    study = figure_report.study_of(name, RUNS.value, STUDY.value)
    out_dir = flags.FLAGS.out_dir and pathlib.Path(flags.FLAGS.out_dir)
    measures = Measures(DRAW_ONLY.value, shared.computing(), stop_signal)
    report = figure_report.draw(name, study, out_dir, measures, dpi=DPI.value)
    print("\n".join([*figure_report.describe(report, study), *measures.left_out]))
    tables.show_written(report.written)


def draw_accuracy() -> None:
    from lottery_tf.plots import figures

    if OUT.value:
        figures.check_format(OUT.value)
    output = shared.output()
    if flags.FLAGS.other_run:
        groups = shared.groups()
    else:  # runs that may be of different experiments
        paths = flags.FLAGS.run_dir
        labels = shared.labels_of(paths, "one for each run")
        groups = dict(zip(labels, ([run] for run in open_any_runs(paths)), strict=True))
    first = next(iter(groups.values()))[0]
    path = shared.file_to_write(
        OUT, output, first, "accuracy.png", "picture", lambda content: OURS.encode() in content
    )
    curves = {}
    for label, runs in groups.items():
        known = [metrics_with(run, "density", "test_accuracy") for run in runs]
        curves[label] = replicates.of_runs(runs, known, ("round",))
    output.draw(path, figures.accuracy_against_density(curves, title=TITLE.value))
    tables.show_written(output.written)


if __name__ == "__main__":
    command.run(main)
