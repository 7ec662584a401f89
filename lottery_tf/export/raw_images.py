"""Raw images, as a dataset stores them, in front of a network that takes normalised ones."""

import dataclasses
from typing import Any

import numpy as np

from lottery_tf.datasets import PreparedDataset
from lottery_tf.pruning import Array

LARGER = 1.5  # raw images of any size are tried in this multiple of the network's


@dataclasses.dataclass(frozen=True)
class RawImages:
    """How raw images become the inputs of a network.

    Args:
        shape: (height, width, channels) of an input.
        dtype: of raw pixels: "uint8", "uint16" or "float32".
        mean, std: per channel, of pixels in 0 … 1 (of float32, of the pixels as they are).
        any_size: whether raw images of any size are cropped in the centre, as evaluation does.
    """

    shape: tuple[int, int, int]
    dtype: str
    mean: Array
    std: Array
    any_size: bool

    @classmethod
    def of(cls, config: Any, directory: PreparedDataset) -> "RawImages":
        """That of a run's data."""
        from lottery_tf.datasets.statistics import channel_statistics

        mean, std = channel_statistics(config, directory)
        dtype = directory.fields.dtype
        return cls(directory.input_shape, dtype, mean, std, not directory.one_size)

    @property
    def white(self) -> int:
        """The pixel that counts 1."""
        return {"uint8": 255, "uint16": 65535}.get(self.dtype, 1)

    def read(self, directory: PreparedDataset, split: str, count: int) -> tuple[Array, Array]:
        """The first raw images of a split and their labels; of a size, if theirs vary."""
        from lottery_tf.datasets import tfrecords

        parts: list = []
        for some in tfrecords.stream_raw(directory, split, size=self._raw_size()):
            parts.append(some)
            if sum(len(labels) for _, labels in parts) >= count:
                break
        images, labels = (np.concatenate(arrays)[:count] for arrays in zip(*parts, strict=True))
        return images, labels

    def _raw_size(self):
        return int(LARGER * self.shape[0]) if self.any_size else 0

    def normalised(self, raw: Array) -> Array:
        """The inputs that a network gets of raw images, as in training and evaluation."""
        pixels = self.cropped(raw).astype(np.float32) / np.float32(self.white)
        return (pixels - self.mean) / self.std

    def cropped(self, raw: Array) -> Array:
        """Raw images of the network's size, cropped as evaluation does."""
        import tensorflow as tf

        from lottery_tf.datasets.augmentation import centre_crop

        if not self.any_size:
            return raw
        size, channels = self.shape[0], self.shape[2]
        # In a graph that does not know the size, as evaluation: a division of one that is known
        # rounds otherwise, and moves the window.
        spec = tf.TensorSpec((None, None, channels), raw.dtype)
        crop = tf.function(lambda image: centre_crop(image, size, channels), input_signature=[spec])
        return np.stack([crop(image) for image in raw])

    def before(self, network: Any) -> Any:
        """A Keras model that takes raw images of the network's size and gives what it gives."""
        import keras

        raw = keras.Input(self.shape, dtype=self.dtype, name="images")
        std = self.std.astype(np.float64)
        scaled = keras.layers.Rescaling(
            (1 / (std * self.white)).tolist(), (-self.mean / std).tolist(), name="normalise"
        )(raw)
        return keras.Model(raw, network(scaled), name=network.name)
