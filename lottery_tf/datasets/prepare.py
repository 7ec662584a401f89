"""Writes datasets in TensorFlow Datasets' layout: aside, then renamed."""

import contextlib
import functools
import io
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from lottery_tf.datasets import DATASETS, download, folders, raw
from lottery_tf.errors import InputError

# What a prepared dataset must hold: examples per split, and the TFDS version that it equals.
COUNTS = {
    "mnist": {"train": 60_000, "test": 10_000},
    "cifar10": {"train": 50_000, "test": 10_000},
    "cifar100": {"train": 50_000, "test": 10_000},
}
VERSIONS = {"mnist": "3.0.1", "cifar10": "3.0.2", "cifar100": "3.0.2", "imagenet2012": "5.1.0"}
NAME = re.compile(r"\w[\w.+-]*")
LONGEST_NAME = 100
EXAMPLES_PER_SHARD = 6250
SMALL = 128  # images of one size up to this are stored decoded, to be resident


def _cifar(directory, *, name, skip_bad):
    return raw.cifar_archives(name, directory) or folders.image_folders(
        directory, size=(32, 32), skip_bad=skip_bad
    )


# How the user's own files are read: a function of their directory that gives a Source per split.
RAW: dict[str, Callable[..., raw.Sources]] = {
    "mnist": lambda directory, skip_bad: raw.mnist(directory),
    "cifar10": functools.partial(_cifar, name="cifar10"),
    "cifar100": functools.partial(_cifar, name="cifar100"),
    # As TFDS stores ImageNet, and all train on it: not turned.
    "imagenet2012": functools.partial(folders.image_folders, upright=False),
    "image_folder": functools.partial(folders.image_folders, small=SMALL),
}


def prepare(dataset: str, source: str, *, data_dir: str, raw_dir: str | None = None,
            name: str | None = None, overwrite: bool = False,
            skip_bad: bool = False) -> pathlib.Path:  # fmt: skip
    """Prepares a dataset below data_dir / name.

    Args:
        dataset: a key of RAW.
        source: "tfds" downloads by TensorFlow Datasets; "raw" reads the files in raw_dir. For
            imagenet2012, "tfds" reads the official tar files in raw_dir.
        name: what to call it; by default as the dataset.
        overwrite: replace a dataset that exists.
        skip_bad: leave unreadable images out.

    Returns:
        The directory of the dataset's version.

    Raises:
        InputError: a flag does not fit, the dataset is there already, or a raw file is missing,
            damaged or not what it should be, or it cannot be downloaded or written. Nothing half
            made is left.
    """
    name = name or dataset
    directory = pathlib.Path(raw_dir) if raw_dir else None
    _check_flags(dataset, source, directory, name, skip_bad)
    target = pathlib.Path(data_dir) / name
    _check_target(target, overwrite, directory)
    with _aside(target) as aside:
        if source == "tfds":
            download.download(name, aside, directory)
        else:
            assert directory, "--source=raw expects raw_dir."
            sources = RAW[dataset](directory, skip_bad=skip_bad)
            check_counts(dataset, sources, str(directory), fewer=skip_bad)
            write(name, sources, aside, version=VERSIONS.get(name, "1.0.0"))
        if target.exists():
            shutil.rmtree(target)
        os.rename(aside / name, target)
    return next(target.glob("*/dataset_info.json")).parent


def _check_flags(dataset, source, raw_dir, name, skip_bad):
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise InputError(
            f"--name: expected the name of a directory, of letters, digits, and _ - . + after the "
            f"first, {LONGEST_NAME} characters at most. Received: {name}"
        )
    if source == "tfds" and name != dataset:
        raise InputError(f"--name={name} expects --source=raw: TFDS gives {dataset} its own name.")
    if name != dataset and name in DATASETS:
        raise InputError(
            f"--name: {name} is a known dataset, whose images would be expected under that name. "
            "Choose another."
        )
    if raw_dir and not raw_dir.is_dir():
        what = "is no directory" if raw_dir.exists() else "does not exist"
        raise InputError(f"--raw_dir={raw_dir} {what}: expected the directory of the raw files.")
    if source == "tfds" and raw_dir and dataset != "imagenet2012":
        raise InputError(
            f"--raw_dir does nothing for {dataset} with --source=tfds, which downloads it: add "
            "--source=raw, or leave --raw_dir out."
        )
    if source == "tfds" and skip_bad:
        raise InputError("--skip_bad does nothing with --source=tfds: leave it out.")


def _check_target(target, overwrite, raw_dir):
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not any(target.glob("*/dataset_info.json")):
        raise InputError(
            f"{target} is there and is no directory of a prepared dataset, so it will not be "
            "replaced. Choose another --name or --data_dir."
        )
    if not overwrite:
        raise InputError(f"{target} exists already. To make it again, add --overwrite.")
    if raw_dir and raw_dir.resolve().is_relative_to(target.resolve()):
        raise InputError(f"--overwrite would remove --raw_dir={raw_dir}, which lies in {target}.")


def check_counts(name: str, sources: raw.Sources, raw_dir: str, *, fewer: bool = False) -> None:
    """Raises InputError unless every split has the examples that the dataset is known for.

    Args:
        fewer: whether it may have fewer.
    """
    for split, count in COUNTS.get(name, {}).items():
        found = sources[split].count
        if found > count or (found < count and not fewer):
            raise InputError(
                f"{raw_dir}: expected {count} examples in the {split} split of {name}. Found: "
                f"{found}. Are the files of the two splits swapped?"
            )


def write(name: str, sources: raw.Sources, data_dir: pathlib.Path, *, version: str,
          description: str = "", homepage: str | None = None) -> None:  # fmt: skip
    """Writes {split: Source} as the TFDS dataset data_dir / name / version.

    Arrays are stored as PNG, without loss, in their order; files keep their bytes and are mixed,
    as they come class by class.
    """
    first_key, image, _ = next(sources["train"].examples())
    in_order = isinstance(first_key, int)
    shards = max(1, sources["train"].count // EXAMPLES_PER_SHARD) if not in_order else 1
    try:
        with download.own_temporaries(), _quiet_tfds():
            tfds.dataset_builders.store_as_tfds_dataset(
                name=name,
                version=version,
                features=_features(image, sources["train"].classes),
                split_datasets={s: _examples(f"{name} {s}", data) for s, data in sources.items()},
                data_dir=str(data_dir),
                description=description,
                homepage=homepage,
                disable_shuffling=in_order,
                download_config=tfds.download.DownloadConfig(num_shards=shards),
            )
    except (OSError, tf.errors.OpError, RuntimeError) as error:  # TFDS wraps in the last
        raise InputError(f"Cannot write {name} into {data_dir}: {error}.") from error


def _features(image, classes):
    """TFDS's features of images like this one: an array, or the bytes of a file."""
    arrays = isinstance(image, np.ndarray)
    shape, encoding = (image.shape, "png") if arrays else ((None, None, 3), "jpeg")
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=shape, encoding_format=encoding),
            "label": tfds.features.ClassLabel(names=classes),
        }
    )


def _examples(what, source):
    """Yields (key, example) of a raw.Source as TFDS takes them, with a progress bar."""
    for key, image, label in tqdm(
        source.examples(), what, source.count, unit="image", disable=None
    ):
        stored = image if isinstance(image, np.ndarray) else io.BytesIO(image)
        # Names of files may be no text.
        yield (
            os.fsencode(key) if isinstance(key, str) else key,
            {"image": stored, "label": int(label)},
        )


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
