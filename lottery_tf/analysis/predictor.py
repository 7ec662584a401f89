"""Predicts the test split with the networks of rounds. Imports TensorFlow."""

from typing import Any

import numpy as np
import tensorflow as tf

from lottery_tf import masking
from lottery_tf.pruning import Array, Masks, Weights
from lottery_tf.training.engine import Engine


class Predictor:
    """Gives the softmax outputs of networks on the test split, with their running statistics.

    Attributes:
        labels: int32 (examples,), the class numbers of the test split.
    """

    def __init__(self, engine: Engine):
        self.engine = engine
        self.labels: Array = np.concatenate([labels for _, labels in engine.feed.test_batches()])
        self._outputs = tf.function(self._outputs_of_batch, jit_compile=engine.jit)

    def probabilities(self, weights: Weights, masks: Masks) -> Array:
        """Return float32 (examples, classes), rows that sum to 1."""
        masking.set_weights(self.engine.network, weights, masks)
        batches = self.engine.feed.test_batches()
        return np.concatenate([self._outputs(images).numpy() for images, _ in batches])

    def classes(self, weights: Weights, masks: Masks) -> Array:
        """Return the class number of each example, (examples,)."""
        return self.probabilities(weights, masks).argmax(1)

    def _outputs_of_batch(self, images: Any) -> Any:
        logits = self.engine.network(self.engine.normalise(images), training=False)
        return tf.nn.softmax(tf.cast(logits, tf.float32))
