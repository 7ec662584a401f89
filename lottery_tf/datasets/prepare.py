"""Writes datasets in TensorFlow Datasets' layout: aside, then renamed."""

import contextlib
import io
import os
import pathlib
import shutil
import tempfile

import tensorflow_datasets as tfds
from tqdm import tqdm

from lottery_tf.datasets import raw
from lottery_tf.errors import InputError

# What a prepared dataset must hold: examples per split, and the TFDS version that it equals.
COUNTS = {"mnist": {"train": 60_000, "test": 10_000}}
VERSIONS = {"mnist": "3.0.1"}

# How the user's own files are read: a function of their directory that gives, per split, images
# uint8 (examples, height, width, channels) and labels (examples,).
RAW = {"mnist": raw.mnist}

DOWNLOAD_ERRORS = (
    OSError,  # no connection, disk full
    tfds.download.DownloadError,
    tfds.download.download_manager.NonMatchingChecksumError,
    tfds.download.extractor.ExtractError,
)


def prepare(name, source, *, data_dir, raw_dir=None, overwrite=False):
    """Prepares a dataset below data_dir / name.

    Args:
        name: a key of RAW.
        source: "tfds" downloads by TensorFlow Datasets; "raw" reads the files in raw_dir.

    Returns:
        The directory of the dataset's version.

    Raises:
        InputError: the dataset is there already, or a raw file is missing, damaged or not what
            it should be.
    """
    target = pathlib.Path(data_dir) / name
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists already. To make it again, add --overwrite.")
    with _aside(target) as aside:
        if source == "tfds":
            _download(name, aside)
        else:
            splits = RAW[name](pathlib.Path(raw_dir))
            check_counts(name, splits, raw_dir)
            write(name, splits, aside, version=VERSIONS[name], classes=10)
        if target.exists():
            shutil.rmtree(target)
        os.rename(aside / name, target)
    return next(target.glob("*/dataset_info.json")).parent


def check_counts(name, splits, raw_dir):
    """Raises InputError unless every split has the examples that the dataset is known for."""
    for split, count in COUNTS[name].items():
        found = len(splits[split][1])
        if found != count:
            raise InputError(
                f"{raw_dir}: expected {count} examples in the {split} split of {name}. Found: "
                f"{found}. Are the files of the two splits swapped?"
            )


def write(name, splits, data_dir, *, version, classes, description="", homepage=None):
    """Writes splits {name: (images, labels)} as the TFDS dataset data_dir / name / version.

    The examples keep their order; the images are stored as PNG, without loss.
    """
    shape = splits["train"][0].shape[1:]
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=shape, encoding_format="png"),
            "label": tfds.features.ClassLabel(num_classes=classes),
        }
    )

    def examples(split, images, labels):
        pairs = zip(images, labels, strict=True)
        bar = tqdm(pairs, f"{name} {split}", len(labels), unit="image", disable=None)
        for key, (image, label) in enumerate(bar):
            yield key, {"image": image, "label": int(label)}

    with _quiet_tfds():
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version=version,
            features=features,
            split_datasets={split: examples(split, *data) for split, data in splits.items()},
            data_dir=str(data_dir),
            description=description,
            homepage=homepage,
            disable_shuffling=True,
        )


def _download(name, data_dir):
    builder = tfds.builder(name, data_dir=str(data_dir))
    try:
        builder.download_and_prepare(download_dir=str(data_dir / "downloads"))
    except DOWNLOAD_ERRORS as error:
        raise InputError(
            f"TensorFlow Datasets could not prepare {name}: {error}. If you have its raw files, "
            "use --source=raw --raw_dir=<their directory>."
        ) from error


@contextlib.contextmanager
def _quiet_tfds():
    """Keeps back what TFDS prints while it writes; our progress bar says more."""
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()


@contextlib.contextmanager
def _aside(target):
    """A directory beside `target` to write into; it is gone afterwards, whatever happens.

    What a killed preparation left is removed by the next one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f".{target.name}.*.tmp"):
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(
        prefix=f".{target.name}.", suffix=".tmp", dir=target.parent
    ) as aside:
        yield pathlib.Path(aside)
