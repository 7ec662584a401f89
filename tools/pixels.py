"""Which pixels a ticket looks at, and whether its units look at places (Redman et al. 2024).

python -m tools.pixels --run_dir=runs/lenet --other_run=runs/lenet_reset=reinit
"""

from absl import flags

from lottery_tf.config import command
from lottery_tf.plots import tables

from . import shared

IMAGE_SHAPE = flags.DEFINE_list(
    "image_shape",
    [],
    "height,width,channels of the images that the first layer is on. Default: those of the run's "
    "data, or square ones of one or three channels.",
)
ABOUT = {
    "other_run": shared.BESIDE,
    "at_rounds": "Rounds to draw, with commas. Default: six of all.",
}
shared.define(*shared.OUTPUT, "labels", *ABOUT, about=ABOUT)


def main(_: object) -> None:
    groups, output = shared.groups(), shared.output()
    from lottery_tf.analysis import pixels

    options = shared.values("at_rounds") | {"image_shape": IMAGE_SHAPE.value}
    tables.show(pixels.report_pixels(groups, output, **options), pixels.COLUMNS)
    tables.show_written(output.written)


if __name__ == "__main__":
    command.run(main)
