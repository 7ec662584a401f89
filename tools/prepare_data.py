"""Prepares a dataset: downloads or reads it, checks it, writes TFRecords.

python -m tools.prepare_data --dataset=mnist --source=tfds
python -m tools.prepare_data --dataset=mnist --source=raw --raw_dir=downloads/mnist
"""

from absl import flags

from lottery_tf.config import command
from lottery_tf.config.paths import define_path
from lottery_tf.errors import InputError
from lottery_tf.terminal import quiet

from . import shared

DATASETS = ("mnist", "cifar10", "cifar100", "imagenet2012", "image_folder")

DATASET = flags.DEFINE_enum("dataset", None, DATASETS, "What to prepare.", required=True)
SOURCE = flags.DEFINE_enum(
    "source", "tfds", ("tfds", "raw"), "Download by TensorFlow Datasets, or your own raw files."
)
RAW_DIR = define_path(
    "raw_dir",
    None,
    "Directory of the raw files. mnist: the IDX files; cifar: the python or binary archive, or "
    "train and test folders (or tars) of images by class; imagenet2012, image_folder: train and "
    "val or test folders by class; imagenet2012 with --source=tfds: the official tar files.",
)
NAME = flags.DEFINE_string("name", None, "What to call the dataset. Default: as --dataset.")
flags.DEFINE_bool("skip_bad", False, "Leave unreadable images out, and name them.")
define_path("data_dir", "data", "Directory that holds the prepared datasets.")
flags.DEFINE_bool("overwrite", False, "Replace a dataset that exists.")


def main(_: object) -> None:
    if SOURCE.value == "raw" and not RAW_DIR.value:
        raise InputError("--source=raw expects --raw_dir, the directory of the raw files.")
    if DATASET.value == "image_folder" and SOURCE.value == "tfds":
        raise InputError("--dataset=image_folder expects --source=raw.")
    quiet.import_tensorflow()
    from lottery_tf.datasets.prepare import prepare

    options = shared.values("data_dir", "raw_dir", "name", "skip_bad", "overwrite")
    path = prepare(DATASET.value, SOURCE.value, **options)
    print(f"{NAME.value or DATASET.value} is ready in {path}.")


if __name__ == "__main__":
    command.run(main)
