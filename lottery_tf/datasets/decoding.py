"""Serialized examples -> images and labels."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from lottery_tf.datasets import PreparedDataset, augmentation


def parser(directory: PreparedDataset) -> Callable:
    """A function from a serialized example to (image, label int32).

    The image is decoded, uint8 or float32 (h, w, c); but if it has 8 bits and the images vary in
    size, it is the file's bytes. Of 16 bits, 1 is white; float32 are as they are, but finite.
    """
    as_bytes = not directory.one_size and directory.pixels == "uint8"
    deserialize, fields = deserializer(directory, as_bytes), directory.fields

    def parse(record):
        image, label = deserialize(record)
        if fields.dtype == "uint16":
            image = tf.cast(image, tf.float32) / 65535
        elif fields.dtype == "float32":
            image = tf.debugging.check_numerics(image, "Expected finite pixels")
        if directory.one_size:
            image = tf.ensure_shape(image, directory.image_shape)
        return image, label

    return parse


def deserializer(directory: PreparedDataset, as_bytes: bool) -> Callable:
    """A function from a serialized example to (image as stored or its bytes, label int32)."""
    fields = directory.fields
    own = {"shape": fields.shape, "dtype": np.dtype(fields.dtype)}
    image = (
        tfds.features.Image(**own, encoding_format=fields.encoding or None)
        if fields.kind == "Image"
        else tfds.features.Tensor(**own, encoding=fields.encoding or "none")
    )
    label = tfds.features.ClassLabel(num_classes=fields.classes)
    features = tfds.features.FeaturesDict({fields.image_key: image, fields.label_key: label})
    decoders = {fields.image_key: tfds.decode.SkipDecoding()} if as_bytes else None

    def deserialize(record):
        example = features.deserialize_example(record, decoders=decoders)
        return example[fields.image_key], tf.cast(example[fields.label_key], tf.int32)

    return deserialize


def decoder(directory: PreparedDataset, augment: bool) -> Callable:
    """A function of (serialized example, its draws) -> (image of input_shape, label).

    Images of varying size are cropped: at random with `augment`, else in the centre.
    """
    parse = parser(directory)
    size, _, channels = directory.input_shape

    def decode(record, draws=None):
        image, label = parse(record)

        def cropped(image):
            if augment:
                return augmentation.resized_crop(image, draws, size, channels)
            return augmentation.centre_crop(image, size, channels)

        def decoded():
            whole = tf.image.decode_image(image, channels, expand_animations=False)
            return cropped(tf.ensure_shape(whole, (None, None, channels)))

        if image.dtype == tf.string and directory.fields.encoding == "jpeg":
            image = cropped(image)  # a condition takes 15% of the speed
        elif image.dtype == tf.string:
            image = tf.cond(_is_jpeg(image, channels), lambda: cropped(image), decoded)
        elif not directory.one_size:
            image = cropped(image)
        return tf.ensure_shape(image, directory.input_shape), label

    return decode


def _is_jpeg(image, channels):
    """Whether bytes are a JPEG, of which a part can be decoded alone."""
    return tf.io.is_jpeg(image) if channels in (1, 3) else tf.constant(False)
