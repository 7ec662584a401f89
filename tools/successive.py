"""Accuracy, and the angular distance to the round before and to the one before that, of runs.

python -m tools.successive --run_dir=runs/lenet,runs/lenet_repel --csv=successive.csv
"""

import pathlib

from absl import flags

from lottery_tf.analysis import tool
from lottery_tf.config import command
from lottery_tf.store import files

CSV = flags.DEFINE_string("csv", "successive.csv", "Where the rows of all runs are written.")


def main(_):
    runs = tool.open_runs()
    from lottery_tf.analysis import matrices

    rows = []
    for run in runs:
        pairs, starts = matrices.measure(run, run, tool.results(run, "distances", runs))
        values = matrices.with_initialization(pairs, starts, "angular")
        rows += [{"run": run.path.name} | row for row in matrices.successive(run, values)]
    tool.print_table(rows, {"run": ("run", "{}")} | matrices.SUCCESSIVE)
    files.write_text(pathlib.Path(CSV.value), files.format_csv(rows).decode())


if __name__ == "__main__":
    command.run(main)
