"""Augmentation as a function of random words that are drawn for each example beforehand."""

import numpy as np
import tensorflow as tf

WORDS = 2  # random integers in [0, 2**31) per example and epoch


def draw(noise, epoch, examples):
    """The random words of every example in an epoch: int32 (examples, WORDS)."""
    generator = noise.generator(epoch, 1)  # 1: another stream than the order's
    return generator.integers(0, 2**31, (examples, WORDS), np.int32)


def flip_crop(images, words, *, padding=4):
    """Flips half of the images, and crops them after padding with zeros, as is usual on CIFAR.

    Args:
        images: uint8 (batch, height, width, channels).
        words: int32 (batch, WORDS).
        padding: pixels on each side.

    Returns:
        uint8 of the same shape.
    """
    height, width = images.shape[1:3]
    places = 2 * padding + 1
    flipped = words[:, 0] % 2 == 1  # (batch,)
    top, left = words[:, 1] % places, words[:, 1] // places % places
    rows = tf.range(height) + top[:, tf.newaxis]  # (batch, height)
    columns = tf.where(
        flipped[:, tf.newaxis],
        tf.range(width - 1, -1, -1) + left[:, tf.newaxis],
        tf.range(width) + left[:, tf.newaxis],
    )  # (batch, width)
    padded = tf.pad(images, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    taken = tf.gather(padded, rows, batch_dims=1)  # (batch, height, padded width, channels)
    return tf.gather(taken, columns, axis=2, batch_dims=1)


def none(images, words):
    """The images as they are."""
    return images


# Functions of (images of one size, words), run on the device on whole batches.
AUGMENTATIONS = {"none": none, "flip_crop": flip_crop}


def resized_crop(jpeg, words, size):
    """A random part of a JPEG, 8 to 100% of its area, resized and flipped in half of the cases.

    Decodes only the part.

    Args:
        jpeg: a scalar string.
        words: int32 (WORDS,).
        size: height and width of the result.

    Returns:
        uint8 (size, size, 3).
    """
    shape = tf.image.extract_jpeg_shape(jpeg)
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        tf.zeros((1, 0, 4)),
        seed=words,
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.concat([begin[:2], extent[:2]], 0)
    part = tf.image.decode_and_crop_jpeg(jpeg, window, channels=3)
    resized = _resize(part, size)
    return tf.where(words[0] % 2 == 1, tf.reverse(resized, [1]), resized)


def centre_crop(jpeg, size, *, resize=256 / 224):
    """The middle of a JPEG: its shorter side counts resize * size, of which size is taken.

    Decodes only the middle.

    Returns:
        uint8 (size, size, 3).
    """
    height, width = tf.unstack(tf.image.extract_jpeg_shape(jpeg)[:2])
    side = tf.cast(tf.cast(tf.minimum(height, width), tf.float32) / resize, tf.int32)
    window = tf.stack([(height - side) // 2, (width - side) // 2, side, side])
    return _resize(tf.image.decode_and_crop_jpeg(jpeg, window, channels=3), size)


def _resize(image, size):
    resized = tf.image.resize(image, (size, size), method="bilinear", antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
