"""Draws test accuracy against density of one or several runs.

python -m tools.figures --run_dir=runs/lenet,runs/lenet_reset=reinit --out=accuracy.png
"""

import pathlib

from absl import flags

from lottery_tf.config import command
from lottery_tf.errors import InputError
from lottery_tf.store.rundir import RunDir

RUN_DIR = flags.DEFINE_list("run_dir", None, "Runs to draw, with commas.", required=True)
LABELS = flags.DEFINE_list("labels", [], "A label for each run. Default: its directory's name.")
OUT = flags.DEFINE_string("out", "accuracy.png", "File to write; png, pdf or svg.")
TITLE = flags.DEFINE_string("title", "", "Title above the axes.")


def main(_: object) -> None:
    labels = LABELS.value or [pathlib.Path(path).name for path in RUN_DIR.value]
    if len(labels) != len(RUN_DIR.value):
        raise InputError(
            f"--labels: expected {len(RUN_DIR.value)}, one for each run. Received: {len(labels)}"
        )
    runs = {}
    for label, path in zip(labels, RUN_DIR.value, strict=True):
        run = RunDir(path)
        run.config()  # says so if this is no run
        runs[label] = run.metrics()
        if not runs[label]:
            raise InputError(f"{path} has no finished round.")
    from lottery_tf.output import figures

    figure = figures.accuracy_against_density(runs, title=TITLE.value)
    figure.savefig(OUT.value, dpi=150)
    print(f"Wrote {OUT.value}.")


if __name__ == "__main__":
    command.run(main)
