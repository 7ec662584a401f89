"""Writes an HTML page about a run, about replicates, or about a study.

python -m tools.report --run_dir=runs/lenet
python -m tools.report --runs=runs/fig01_small

The page opens in a browser without a server. The page of a run has every measure of the other
tools. Some need training or evaluation, as barriers, predictions and curvature: the page shows
their results if their tool has run, else the command of the tool. The page of a study compares the
runs' accuracies, leads, distances and barriers, and TensorBoard's page HParams shows them, too. If
a run is damaged, the exit status is 1.
"""

import sys

from absl import flags

from lottery_tf.config import command
from lottery_tf.config.paths import define_path
from lottery_tf.errors import InputError
from lottery_tf.plots import tables

from . import shared

RUNS = define_path("runs", None, "Directory of a study, whose runs one page compares.")
OUT = define_path(
    "out",
    None,
    "HTML file to write; the runs then stay as they are. Default: analysis/report.html of "
    "the (first) run, or report.html in --runs.",
)
ABOUT = {"run_dir": "Directory of the run. Several runs, separated by commas, are replicates."}
shared.define(*ABOUT, about=ABOUT)


def main(_: object) -> int:
    run_dir = flags.FLAGS.run_dir
    if bool(run_dir) == bool(RUNS.value):
        received = "both" if run_dir else "neither"
        raise InputError(f"Expected --run_dir or --runs. Received: {received}.")
    if RUNS.value:
        from lottery_tf.reports import study_report

        rows, columns, written, damage, verdicts = study_report.report(RUNS.value, OUT.value)
        tables.show(rows, columns)
    else:
        from lottery_tf.reports import run_report

        path, verdict = run_report.report(run_dir, OUT.value)
        written = [path]
        damage = [str(block) for block in verdict.blocks]
        verdicts = verdict.verdicts
    for of in verdicts:
        print(f"{of.name}: {of.answer}. {of.command or of.words}")
    tables.show_written(written)
    for words in damage:
        print(f"Error: {words}", file=sys.stderr)
    return int(bool(damage))


if __name__ == "__main__":
    command.run(main)
