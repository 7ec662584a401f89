"""Accuracy, and the angular distance to the round before and to the one before that, of runs.

python -m tools.successive --run_dir=runs/lenet,runs/lenet_repel --csv=successive.csv
"""

import pathlib

from absl import flags

from lottery_tf import command, files
from lottery_tf.analysis import distances
from lottery_tf.errors import InputError
from lottery_tf.rundir import RunDir

RUN_DIR = flags.DEFINE_list("run_dir", [], "Run directories.")
LABELS = flags.DEFINE_list("labels", [], "A name for each run. Default: its directory's.")
CSV = flags.DEFINE_string("csv", "successive.csv", "Where the rows are written.")


def main(_):
    names = LABELS.value or [pathlib.Path(path).name for path in RUN_DIR.value]
    if not RUN_DIR.value or len(names) != len(RUN_DIR.value):
        raise InputError(
            f"--run_dir and --labels: expected runs, and as many labels. Received: {RUN_DIR.value} "
            f"and {LABELS.value}"
        )
    rows = []
    print("run                   round   density  test acc  d(r, r-1)  d(r, r-2)")
    for path, name in zip(RUN_DIR.value, names, strict=True):
        for row in distances.to_earlier(RunDir(path)):
            rows.append({"run": name, **row})
            print(
                f"{name:20s}  {row['round']:5d}  {row['density']:8.2%}  {row['test_accuracy']:8.2%}"
                f"  {row['distance_1']:9.3f}  {row['distance_2']:9.3f}"
            )
    files.write_text(pathlib.Path(CSV.value), files.format_csv(rows).decode())


if __name__ == "__main__":
    command.run(main)
