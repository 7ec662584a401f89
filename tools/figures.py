"""Draws test accuracy against density of one or several runs.

python -m tools.figures --run_dir=runs/lenet,runs/lenet_reset=reinit --labels=ticket,reinit
"""

import pathlib

from absl import flags

from lottery_tf.analysis.runs import metrics_with, open_any_runs
from lottery_tf.config import command
from lottery_tf.config.paths import define_path
from lottery_tf.errors import InputError
from lottery_tf.output import tables

from . import shared

OUT = define_path(
    "out",
    None,
    "Picture to write; its ending is the format, as png, pdf or svg. Default: accuracy.png in "
    "--out_dir, or analysis/ of the first run.",
)
TITLE = flags.DEFINE_string("title", "", "Title above the axes.")
ABOUT = {
    "run_dir": "Runs to draw, with commas.",
    "labels": "A name for each run, with commas. Default: its directory's.",
}
shared.define(*shared.OUTPUT, "labels", about=ABOUT)


def main(_: object) -> None:
    from lottery_tf.output import figures

    if OUT.value:
        figures.check_format(OUT.value)
    paths, output = flags.FLAGS.run_dir, shared.output()
    labels = flags.FLAGS.labels or [pathlib.Path(path).absolute().name for path in paths]
    if not len(set(labels)) == len(labels) == len(paths):
        raise InputError(
            f"--labels: expected {len(paths)} different names, one for each run. Received: "
            f"{','.join(labels)}"
        )
    runs = open_any_runs(paths)
    path = shared.file_to_write(OUT, output, runs[0], "accuracy.png")
    of_runs = {
        label: metrics_with(run, "test_accuracy") for label, run in zip(labels, runs, strict=True)
    }
    output.draw(path, figures.accuracy_against_density(of_runs, title=TITLE.value))
    tables.show_written(output.written)


if __name__ == "__main__":
    command.run(main)
