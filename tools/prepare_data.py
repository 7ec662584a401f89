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
    "Dataset to prepare. --source=tfds takes any image classification of TensorFlow "
    "Datasets, such as mnist, fashion_mnist or emnist/letters. --source=raw takes mnist, "
    "cifar10, cifar100, imagenet2012 and image_folder. --source=arrays and parquet take the "
    "known dataset that the files hold; for one of your own give --name instead.",
)
SOURCE = flags.DEFINE_enum(
    "source",
    "tfds",
    ("tfds", "raw", "arrays", "parquet"),
    "Where the data come from. tfds downloads by TensorFlow Datasets. The others read your "
    "files: raw files, an npz file of arrays as Keras names them (x_train, y_train, x_test, "
    "y_test, and names of classes in `classes`), or Parquet files of encoded images and "
    "labels as on the Hugging Face hub.",
)
define_path(
    "raw_dir",
    None,
    "Directory of your files. mnist: the IDX files. cifar10, cifar100: the python or binary "
    "archive, or train and test folders (or archives) of images by class. imagenet2012 and "
    "image_folder: train and val or test folders by class; image_folder needs no test "
    "folder, and may hold only the folders of the classes. --source=arrays: the npz file. "
    "--source=parquet: a file, several separated by commas, or a directory, with names like "
    "train-00000-of-00001.parquet. --source=tfds: files that it does not download itself, "
    "such as the official tar files of imagenet2012.",
)
flags.DEFINE_string("name", None, "Name of the new dataset. Default: that of --dataset.")
flags.DEFINE_string(
    "image_key",
    None,
    "Parquet column that holds the images. Default: one with a usual name, such as image or img.",
)
flags.DEFINE_string(
    "label_key",
    None,
    "Parquet column that holds the labels. Default: one with a usual name, such as label, "
    "class or target.",
)
flags.DEFINE_bool("skip_bad", False, "Skip unreadable images and name them.")
flags.DEFINE_integer(
    "shrink",
    1,
    "Divide the height and width of images by this number, by averaging blocks of pixels. "
    "This serves studies on small machines, and requires --name.",
)
flags.DEFINE_integer(
    "white_level",
    65535,
    "Level that becomes white (255) in gray 16-bit images, such as 4095 if they use 12 bits.",
)
define_path("data_dir", "data", "Directory that holds the prepared datasets.")
flags.DEFINE_bool("overwrite", False, "Replace an existing dataset.")


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
