"""Writes examples as a dataset of TensorFlow Datasets: TFRecord files, and what they hold."""

import contextlib
import io
import os
import pathlib

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from lottery_tf.datasets import download, raw
from lottery_tf.datasets.census import Census
from lottery_tf.errors import InputError

EXAMPLES_PER_SHARD = 6250


def write(name: str, sources: raw.Sources, data_dir: pathlib.Path, *, version: str,
          description: str = "", homepage: str | None = None) -> None:  # fmt: skip
    """Writes {split: Source} as the TFDS dataset data_dir / name / version.

    Arrays are stored without loss, as PNG where that can be; files keep their bytes. What has whole
    numbers for keys stays in its order; what has names is mixed, as it may come class by class.
    """
    first_key, image, _ = next(sources["train"].examples())
    in_order = isinstance(first_key, int)
    shards = max(1, sources["train"].count // EXAMPLES_PER_SHARD) if not in_order else 1
    census = Census(sources["train"].classes, sum(data.count for data in sources.values()))
    try:
        with download.own_temporaries(), _quiet_tfds():
            tfds.dataset_builders.store_as_tfds_dataset(
                name=name,
                version=version,
                features=_features(image, sources["train"].classes),
                split_datasets={
                    split: _examples(f"{name} {split}", data, split, census)
                    for split, data in sources.items()
                },
                data_dir=str(data_dir),
                description=description,
                homepage=homepage,
                disable_shuffling=in_order,
                download_config=tfds.download.DownloadConfig(num_shards=shards),
            )
    except (OSError, tf.errors.OpError, RuntimeError) as error:  # TFDS wraps in the last
        raise InputError(f"Cannot write {name} into {data_dir}: {error}.") from error
    census.tell(name)


def _features(image, classes):
    """TFDS's features of images like this one: an array, or the bytes of a file."""
    if not isinstance(image, np.ndarray):
        feature = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
    elif image.dtype != np.float32 and image.shape[-1] in (1, 3, 4):
        feature = tfds.features.Image(shape=image.shape, dtype=image.dtype, encoding_format="png")
    else:  # no PNG can hold it
        feature = tfds.features.Tensor(shape=image.shape, dtype=image.dtype, encoding="zlib")
    label = tfds.features.ClassLabel(names=classes)
    return tfds.features.FeaturesDict({"image": feature, "label": label})


def _examples(what, source, split, census):
    """Yields (key, example) of a raw.Source as TFDS takes them, with a progress bar.

    The census counts each example.
    """
    for key, image, label in tqdm(
        source.examples(), what, source.count, unit="image", disable=None
    ):
        is_array = isinstance(image, np.ndarray)
        stored = image if is_array else io.BytesIO(image)
        census.add(split, key, image.tobytes() if is_array else image, int(label))
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
