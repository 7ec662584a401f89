"""Accuracy, and the angular distance to the round before and to the one before that, of runs.

python -m tools.successive --run_dir=runs/lenet,runs/lenet_repel --csv=successive.csv
"""

import pathlib

from absl import flags

from lottery_tf.config import command
from lottery_tf.output import tables
from lottery_tf.store import files

from . import shared

CSV = flags.DEFINE_string("csv", "successive.csv", "Where the rows of all runs are written.")
shared.define(*shared.OUTPUT)


def main(_: object) -> None:
    runs = shared.runs()
    from lottery_tf.analysis import distances
    from lottery_tf.analysis.cache import Cache

    rows = []
    for run in runs:
        directory = shared.output().of(run, apart=len(runs) > 1)
        of_run = distances.successive(run, cache=Cache(directory / "distances.cache.json"))
        rows += [{"run": run.path.name} | row for row in of_run]
    tables.show(rows, {"run": ("run", "{}")} | distances.SUCCESSIVE)
    files.write_text(pathlib.Path(CSV.value), files.format_csv(rows).decode())


if __name__ == "__main__":
    command.run(main)
