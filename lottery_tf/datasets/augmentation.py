"""Augmentation as a function of random integers that are drawn for each example beforehand."""

import numpy as np
import tensorflow as tf

from lottery_tf.pruning import Array
from lottery_tf.pruning.streams import Noise

DRAWS = 2  # random integers in [0, 2**31) per example and epoch


def draw(noise: Noise, epoch: int, examples: int) -> Array:
    """The draws of every example in an epoch: int32 (examples, DRAWS)."""
    return noise.augmentation(epoch).integers(0, 2**31, (examples, DRAWS), np.int32)


def flip_crop(images: tf.Tensor, draws: tf.Tensor, *, padding: int = 4) -> tf.Tensor:
    """Flips half of the images, and crops them after padding with zeros, as is usual on CIFAR.

    Args:
        images: uint8 or float32 (batch, height, width, channels).
        draws: int32 (batch, DRAWS).
        padding: pixels on each side.

    Returns:
        Images of the same shape.
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


def none(images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """The images as they are."""
    return images


def flip(images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Flips half of the images."""
    flipped = draws[:, 0] % 2 == 1
    return tf.where(flipped[:, tf.newaxis, tf.newaxis, tf.newaxis], images[:, :, ::-1], images)


def resized_crop(image: tf.Tensor, draws: tf.Tensor, size: int, channels: int = 3) -> tf.Tensor:
    """A random part of an image, resized; `flip` comes later, on the device.

    The part's area is uniform in 8 to 100% of the image, its logarithmic aspect ratio in 3/4 to
    4/3, as in PyTorch (TensorFlow's own sampling prefers small parts). Of a JPEG it decodes only
    the part.

    Args:
        image: a scalar string, a JPEG; or uint8 or float32 (h, w, channels).
        draws: int32 (DRAWS,).
        size: height and width of the result.

    Returns:
        uint8, or float32 of such an image, (size, size, channels).
    """
    return _crop(image, random_window(image, draws), size, channels)


def random_window(image: tf.Tensor, draws: tf.Tensor, tries: int = 10) -> tf.Tensor:
    """(top, left, height, width) of the first of `tries` random parts that lies in the image."""
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
    """The middle of an image: its shorter side counts resize * size, of which size is taken.

    Of a JPEG it decodes only the middle. Arguments and result as in `resized_crop`; or a batch of
    arrays of one size, (batch, h, w, channels).
    """
    height, width = _size(image)
    side = tf.cast(tf.cast(tf.minimum(height, width), tf.float32) / resize, tf.int32)
    side = tf.maximum(side, 1)
    window = tf.stack([(height - side) // 2, (width - side) // 2, side, side])
    return _crop(image, window, size, channels)


def _size(image):
    """(height, width) of a JPEG, an array, or a batch of them."""
    shape = tf.image.extract_jpeg_shape(image) if image.dtype == tf.string else tf.shape(image)
    return tf.unstack(shape[-3:-1])


def _crop(image, window, size, channels):
    """The window of a JPEG or an array, resized."""
    if image.dtype == tf.string:
        part = tf.image.decode_and_crop_jpeg(image, window, channels=channels)
    else:
        top, left, height, width = tf.unstack(window)
        part = image[..., top : top + height, left : left + width, :]
    # Antialiasing would halve the speed of the whole input, for scales that are seldom below 1/2.
    resized = tf.image.resize(part, (size, size), method="bilinear")
    return resized if part.dtype == tf.float32 else tf.cast(resized + 0.5, tf.uint8)
