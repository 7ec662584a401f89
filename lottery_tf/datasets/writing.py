"""Writes examples as a dataset of TensorFlow Datasets: TFRecord files, and what they hold."""

import contextlib
import dataclasses
import functools
import io
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from lottery_tf.datasets import download
from lottery_tf.datasets.census import Census
from lottery_tf.datasets.raw import Example, Source, Sources
from lottery_tf.errors import InputError
from lottery_tf.pruning import Array

EXAMPLES_PER_SHARD = 6250


def write(
    name: str,
    sources: Sources,
    data_dir: pathlib.Path,
    *,
    version: str,
    description: str = "",
    homepage: str | None = None,
) -> None:
    """Write {split: Source} as the TFDS dataset data_dir / name / version.

    Arrays are stored without loss, as PNG where that can be; files keep their bytes. What has whole
    numbers for keys stays in its order; what has names is mixed, as it may come class by class.
    """
    first_key, image, _ = next(sources["train"].examples())
    in_order = isinstance(first_key, int)
    shards = max(1, sources["train"].count // EXAMPLES_PER_SHARD) if not in_order else 1
    census = Census(sources["train"].classes, sum(data.count for data in sources.values()))
    tfds.disable_progress_bar()  # ours says more
    try:
        with download.own_temporaries(), contextlib.redirect_stdout(io.StringIO()):
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
    finally:
        tfds.enable_progress_bar()
    census.tell(name)


def _features(image: Array | bytes, classes: tuple[str, ...]) -> tfds.features.FeaturesDict:
    """Return TFDS's features of images like this one: an array, or the bytes of a file."""
    if not isinstance(image, np.ndarray):
        feature = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
    elif image.dtype != np.float32 and image.shape[-1] in (1, 3, 4):
        feature = tfds.features.Image(shape=image.shape, dtype=image.dtype, encoding_format="png")
    else:  # no PNG can hold it
        feature = tfds.features.Tensor(shape=image.shape, dtype=image.dtype, encoding="zlib")
    label = tfds.features.ClassLabel(names=classes)
    return tfds.features.FeaturesDict({"image": feature, "label": label})


def _examples(
    what: str, source: Source, split: str, census: Census
) -> Iterator[tuple[int | bytes, dict[str, Any]]]:
    """Yield (key, example) as TFDS takes them, with a progress bar; the census counts each."""
    shown = tqdm(source.examples(), what, source.count, unit="image", disable=None)
    for key, image, label in shown:
        is_array = isinstance(image, np.ndarray)
        stored = image if is_array else io.BytesIO(image)
        census.add(split, key, image.tobytes() if is_array else image, int(label))
        # Names of files may be no text.
        name = os.fsencode(key) if isinstance(key, str) else key
        yield name, {"image": stored, "label": int(label)}


def smaller(sources: Sources, factor: int) -> Sources:
    """Return the splits with images of 1 / factor of the height and width, means of their blocks.

    Raises:
        InputError: images are stored as files, or their height or width is no multiple of factor.
    """
    for split, source in sources.items():
        first = next(iter(source.examples()))[1]
        if not isinstance(first, np.ndarray):
            raise InputError(
                f"--shrink={factor} expects images of one size that are stored decoded. Those of "
                f"the {split} split are files, or of several sizes."
            )
        height, width = first.shape[:2]
        if height % factor or width % factor:
            raise InputError(
                f"--shrink={factor} expects a height and a width that it divides. Those of the "
                f"{split} split are {height} x {width}."
            )

    def examples(source: Source) -> Iterator[Example]:
        for key, image, label in source.examples():
            assert isinstance(image, np.ndarray), "as the first is"
            yield key, block_means(image, factor), label

    return {
        split: dataclasses.replace(source, examples=functools.partial(examples, source))
        for split, source in sources.items()
    }


def block_means(image: Array, factor: int) -> Array:
    """Return the mean of each factor x factor block of pixels, rounded if pixels are whole numbers.

    Both images are (height, width, channels) of one type: uint8, uint16 or float32.
    """
    height, width, channels = image.shape
    blocks = image.reshape(height // factor, factor, width // factor, factor, channels)
    means = blocks.mean((1, 3), dtype=np.float64)
    return (means if image.dtype.kind == "f" else np.rint(means)).astype(image.dtype)
