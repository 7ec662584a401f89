"""Writes accuracy and distances to the two rounds before, of several runs, into one CSV file.

python -m tools.successive --run_dir=runs/lenet,runs/lenet_repel
"""

from lottery_tf.config import command
from lottery_tf.config.paths import define_path
from lottery_tf.plots import tables

from . import shared

CSV = define_path(
    "csv",
    None,
    "File that receives the rows of all runs. Default: successive.csv in --out_dir, or in "
    "analysis/ of the first run.",
)
shared.define(*shared.OUTPUT[:2])


def main(_: object) -> None:
    runs, output = shared.runs(), shared.output()
    from lottery_tf.analysis import distances

    head = ",".join(["run", *distances.SUCCESSIVE]).encode()
    path = shared.file_to_write(
        CSV,
        output,
        runs[0],
        "successive.csv",
        "table of tools.successive",
        lambda content: content.startswith(head),
    )
    from lottery_tf.analysis.cache import Cache

    rows = []
    for run in runs:
        cache = Cache(output.of(run, apart=len(runs) > 1) / "distances.cache.json")
        of_run = distances.successive(run, cache=cache)
        rows += [{"run": run.path.name} | row for row in of_run]
    tables.show(rows, {"run": ("run", "{}")} | distances.SUCCESSIVE)
    print(f"({distances.LABELS['angular']})")
    output.write_table(path, rows)
    tables.show_written(output.written)


if __name__ == "__main__":
    command.run(main)
