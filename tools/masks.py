"""Overlaps of masks between rounds and runs, and what is left of each layer.

python -m tools.masks --run_dir=runs/lenet --other_run=runs/lenet_reset=reinit
"""

from lottery_tf.config import command
from lottery_tf.plots import tables

from . import shared

ABOUT = {
    "other_run": "Run whose masks are the columns of the overlap. Default: those of --run_dir.",
    "data_dir": "Directory of the prepared datasets, for a network of your own with transposed "
    "convolutions that its files do not tell from others. Default: the run's.",
}
shared.define(*shared.OUTPUT, *ABOUT, about=ABOUT)


def main(_: object) -> None:
    runs, other, output = shared.runs(), shared.other_run(), shared.output()
    from lottery_tf.analysis import masks

    reports = masks.report_masks(runs, other, output, **shared.values("data_dir"))
    for run, layers, overlaps in reports:
        round, density = layers[0]["round"], layers[0]["network_density"]
        print(f"{run.path}, round {round}, density {density:.2%}")
        tables.show(layers, masks.LAYER_COLUMNS)
        if other:
            tables.show(overlaps, masks.overlap_columns(other))
    tables.show_written(output.written)


if __name__ == "__main__":
    command.run(main)
