"""Augmentation as a function of random integers that are drawn for each example beforehand.

What --augment does depends on the images:

- Images of one size pass the function of AUGMENTATIONS that it names (`choose`), on the device, a
  whole batch at a time, inside the compiled step. "auto" means the dataset's usual one.
- Images of varying size are first cut to --image_size, one at a time, while they are decoded
  (`to_one_size`): a random part, or with --augment=none and in evaluation the centre. Then they
  pass the function too; "auto" means `flip`.
"""

import pkgutil
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from lottery_tf.datasets import (
    AUGMENTATIONS,
    DATASETS,
    USERS_OWN,
    DataFlags,
    PreparedDataset,
)
from lottery_tf.pruning import Array
from lottery_tf.pruning.streams import Noise

DRAWS = 2  # random integers in [0, 2**31) per example and epoch


def choose(flags: DataFlags, directory: PreparedDataset) -> Callable:
    """Return the function of (images of one size, draws) that --augment asks for."""
    name = flags.augment
    if name == "auto":
        usual = DATASETS.get(flags.dataset, USERS_OWN).augment
        name = usual if directory.one_size else "flip"
    return pkgutil.resolve_name(AUGMENTATIONS[name])


def draw(noise: Noise, epoch: int, examples: int) -> Array:
    """Return the draws of every example in an epoch: int32 (examples, DRAWS)."""
    return noise.augmentation(epoch).integers(0, 2**31, (examples, DRAWS), np.int32)


def none(images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Return the images as they are."""
    return images


def flip(images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Flip half of the images."""
    flipped = draws[:, 0] % 2 == 1
    return tf.where(flipped[:, tf.newaxis, tf.newaxis, tf.newaxis], images[:, :, ::-1], images)


def flip_crop(images: tf.Tensor, draws: tf.Tensor, *, padding: int = 4) -> tf.Tensor:
    """Flip half of the images, and crop them after padding with zeros, as is usual on CIFAR.

    Args:
        images: uint8 or float32 (batch, height, width, channels).
        draws: int32 (batch, DRAWS).
        padding: pixels on each side.
    """
    height, width = images.shape[1:3]
    places = 2 * padding + 1
    flipped = draws[:, 0] % 2 == 1  # (batch,)
    top, left = draws[:, 1] % places, draws[:, 1] // places % places
    rows = tf.range(height) + top[:, tf.newaxis]  # (batch, height)
    columns = tf.where(
        flipped[:, tf.newaxis],
        tf.range(width - 1, -1, -1) + left[:, tf.newaxis],
        tf.range(width) + left[:, tf.newaxis],
    )  # (batch, width)
    padded = tf.pad(images, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    taken = tf.gather(padded, rows, batch_dims=1)  # (batch, height, padded width, channels)
    return tf.gather(taken, columns, axis=2, batch_dims=1)


def to_one_size(
    image: tf.Tensor, draws: tf.Tensor | None, size: int, channels: int, *, jpeg: bool = False
) -> tf.Tensor:
    """Cut an image of any size to size x size: a random part, or without draws the centre.

    Args:
        image: a scalar string, the bytes of a file; or uint8 or float32 (h, w, channels).
        draws: int32 (DRAWS,), or None.
        size: height and width of the result, which has the pixels of the image.
        jpeg: whether bytes are known to be a JPEG; else it is looked at, which takes 15% of the
            speed.
    """

    def cut(image: tf.Tensor) -> tf.Tensor:
        if draws is None:
            return centre_crop(image, size, channels)
        return resized_crop(image, draws, size, channels)

    def cut_whole() -> tf.Tensor:
        whole = tf.image.decode_image(image, channels, expand_animations=False)
        return cut(tf.ensure_shape(whole, (None, None, channels)))

    if image.dtype != tf.string or jpeg:
        return cut(image)
    # Of a JPEG of one or three channels a part can be decoded alone.
    partly = tf.io.is_jpeg(image) if channels in (1, 3) else tf.constant(False)
    return tf.cond(partly, lambda: cut(image), cut_whole)


def resized_crop(image: tf.Tensor, draws: tf.Tensor, size: int, channels: int = 3) -> tf.Tensor:
    """Cut a random part out of an image and resize it; `flip` comes later, on the device.

    The part's area is uniform in 8 to 100% of the image, its logarithmic aspect ratio in 3/4 to
    4/3, as in PyTorch (TensorFlow's own sampling prefers small parts). Of a JPEG only the part is
    decoded. Arguments and result as in `to_one_size`; bytes are of a JPEG.
    """
    return _crop(image, random_window(image, draws), size, channels)


def random_window(image: tf.Tensor, draws: tf.Tensor, tries: int = 10) -> tf.Tensor:
    """Return (top, left, height, width) of the first of `tries` random parts inside the image."""
    height, width = _size(image)
    uniform = tf.random.stateless_uniform((2, tries), seed=draws)
    place_if_fits = tf.random.stateless_uniform((2,), seed=draws + 1)
    height, width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    area = height * width * (0.08 + 0.92 * uniform[0])  # (tries,)
    ratio = tf.exp(tf.math.log(4 / 3) * (2 * uniform[1] - 1))
    heights, widths = tf.round(tf.sqrt(area / ratio)), tf.round(tf.sqrt(area * ratio))
    fits = (heights > 0) & (widths > 0) & (heights <= height) & (widths <= width)
    # If none fits, the image is long: the middle of it, no longer than the ratio allows.
    heights = tf.concat([heights, [tf.minimum(height, tf.round(width * 4 / 3))]], 0)
    widths = tf.concat([widths, [tf.minimum(width, tf.round(height * 4 / 3))]], 0)
    first = tf.argmax(tf.cast(tf.concat([fits, [True]], 0), tf.int32))
    place = tf.where(tf.reduce_any(fits), place_if_fits, 0.5)
    top = tf.floor(place[0] * (height - heights[first] + 1))
    left = tf.floor(place[1] * (width - widths[first] + 1))
    return tf.cast(tf.stack([top, left, heights[first], widths[first]]), tf.int32)


def centre_crop(
    image: tf.Tensor, size: int, channels: int = 3, *, resize: float = 256 / 224
) -> tf.Tensor:
    """Cut out the middle of an image: its shorter side counts resize * size, of which size stays.

    Of a JPEG only the middle is decoded. Arguments and result as in `resized_crop`; or a batch of
    arrays of one size, (batch, h, w, channels).
    """
    height, width = _size(image)
    side = tf.cast(tf.cast(tf.minimum(height, width), tf.float32) / resize, tf.int32)
    side = tf.maximum(side, 1)
    window = tf.stack([(height - side) // 2, (width - side) // 2, side, side])
    return _crop(image, window, size, channels)


def _size(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return (height, width) of a JPEG, an array, or a batch of them."""
    shape = tf.image.extract_jpeg_shape(image) if image.dtype == tf.string else tf.shape(image)
    return tf.unstack(shape[-3:-1])


def _crop(image: tf.Tensor, window: tf.Tensor, size: int, channels: int) -> tf.Tensor:
    """Return the window of a JPEG or an array, resized."""
    if image.dtype == tf.string:
        part = tf.image.decode_and_crop_jpeg(image, window, channels=channels)
    else:
        top, left, height, width = tf.unstack(window)
        part = image[..., top : top + height, left : left + width, :]
    # Antialiasing would halve the speed of the whole input, for scales that are seldom below 1/2.
    resized = tf.image.resize(part, (size, size), method="bilinear")
    return resized if part.dtype == tf.float32 else tf.cast(resized + 0.5, tf.uint8)
