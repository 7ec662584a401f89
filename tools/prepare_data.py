"""Prepares a dataset: downloads or reads it, checks it, writes TFRecords.

python -m tools.prepare_data --dataset=fashion_mnist --source=tfds
python -m tools.prepare_data --dataset=mnist --source=raw --raw_dir=downloads/mnist
python -m tools.prepare_data --dataset=cifar10 --source=raw --raw_dir=downloads/cifar10 \
    --shrink=2 --name=cifar10_16
python -m tools.prepare_data --source=arrays --raw_dir=mine.npz --name=mine
python -m tools.prepare_data --source=parquet --raw_dir=downloads/beans --name=beans
"""

from absl import flags

from lottery_tf.config import command
from lottery_tf.config.paths import define_path
from lottery_tf.terminal import quiet

from . import shared

DATASET = flags.DEFINE_string(
    "dataset",
    None,
    "What to prepare. --source=tfds: any image classification of TensorFlow Datasets, as mnist, "
    "fashion_mnist or emnist/letters. --source=raw: mnist, cifar10, cifar100, imagenet2012, "
    "image_folder. --source=arrays, parquet: the known dataset that the files hold; of one of "
    "your own give --name instead.",
)
SOURCE = flags.DEFINE_enum(
    "source",
    "tfds",
    ("tfds", "raw", "arrays", "parquet"),
    "Download by TensorFlow Datasets; or your own: raw files, an npz file of arrays as Keras names "
    "them (x_train, y_train, x_test, y_test, and names of classes in `classes`), or Parquet files "
    "of encoded images and labels as the Hugging Face hub has them.",
)
define_path(
    "raw_dir",
    None,
    "Directory of the raw files. mnist: the IDX files; cifar: the python or binary archive, or "
    "train and test folders (or archives) of images by class; imagenet2012, image_folder: train "
    "and val or test folders by class; image_folder may have no test folder, or be only the "
    "folders of the classes. --source=arrays: the npz file. --source=parquet: a file, "
    "several with commas, or a directory, named as train-00000-of-00001.parquet. --source=tfds: "
    "the files that it does not download itself, as the official tar files of imagenet2012.",
)
flags.DEFINE_string("name", None, "What to call the dataset. Default: as --dataset.")
flags.DEFINE_string(
    "image_key",
    None,
    "Column of the images, of Parquet. Default: one of a usual name, as image or img.",
)
flags.DEFINE_string(
    "label_key",
    None,
    "Column of the labels, of Parquet. Default: one of a usual name, as label, class or target.",
)
flags.DEFINE_bool("skip_bad", False, "Leave unreadable images out, and name them.")
flags.DEFINE_integer(
    "shrink",
    1,
    "Divide the height and width of images by it: the mean of each "
    "block of pixels. For studies on small machines; expects --name.",
)
flags.DEFINE_integer(
    "white_level",
    65535,
    "Level that becomes white (255) in gray image files of "
    "16 bits, as 4095 where they use 12 of them.",
)
define_path("data_dir", "data", "Directory that holds the prepared datasets.")
flags.DEFINE_bool("overwrite", False, "Replace a dataset that exists.")


def main(_: object) -> None:
    quiet.import_tensorflow()
    from lottery_tf.datasets.prepare import describe, prepare

    of_files = ("raw_dir", "image_key", "label_key", "skip_bad", "shrink", "white_level")
    options = shared.values("data_dir", "name", "overwrite", *of_files)
    path = prepare(DATASET.value, SOURCE.value, **options)
    name = path.parent.relative_to(options["data_dir"]).as_posix()
    print(f"{name} is ready in {path}.", *describe(path, name), sep="\n")


if __name__ == "__main__":
    command.run(main)
