"""Exact loss and accuracy of a network on a whole split, whatever the batch or the devices."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from lottery_tf.training import feeds
from lottery_tf.training.devices import Cluster
from lottery_tf.training.trainer import count_answers, count_hits, cross_entropy


class Evaluator:
    """Evaluates a network on the test split, each replica on its part of it.

    Args:
        network: keras.Model, images -> logits.
        feed: a feed of feeds.py.
        normalise: the function of uint8 images that feeds.normaliser gives.
        cluster: cluster.Cluster.
        jit_compile: whether to compile with XLA.
    """

    def __init__(self, network: Any, feed: feeds.Feed, normalise: Callable, cluster: Cluster, *,
                 jit_compile: bool):  # fmt: skip
        self.network, self.feed, self.cluster = network, feed, cluster
        self.normalise = normalise
        # The sum of the losses, the hits, the examples, and the answers of each class.
        self.columns = 3 + network.output_shape[-1]
        self._run = tf.function(self._replicas, jit_compile=jit_compile)

    def evaluate(self) -> tuple[float, float, float]:
        """(mean cross-entropy, accuracy, part of the examples given the most frequent answer)."""
        totals = np.zeros(self.columns)
        for images, labels in self.feed.test_pieces():
            parts = self._run(images, labels)
            for part in self.cluster.strategy.experimental_local_results(parts):
                totals += part.numpy()
        loss, hits, examples, *answers = self.cluster.sum(totals)
        if examples != self.feed.test_examples:
            raise RuntimeError(
                f"Evaluated {examples:.0f} of the {self.feed.test_examples} test examples."
            )
        return float(loss / examples), float(hits / examples), float(max(answers) / examples)

    def _replicas(self, images, labels):
        return self.cluster.strategy.run(self._rows, args=(images, labels))

    def _rows(self, images, labels):
        """The columns of this replica's part of a piece, float64.

        A piece is evaluated batch by batch in one compiled loop: a call for each batch took as
        long as its products.
        """
        size = feeds.EVALUATION_BATCH
        batches, rest = divmod(images.shape[0], size)

        def add(index, totals):
            batch = (_slice(array, index * size, size) for array in (images, labels))
            return index + 1, totals + self._batch(*batch)

        totals = tf.zeros(self.columns, tf.float64)
        if batches:
            _, totals = tf.while_loop(
                lambda index, _: index < batches, add, (tf.constant(0), totals)
            )
        return totals + self._batch(images[-rest:], labels[-rest:]) if rest else totals

    def _batch(self, images, labels):
        """The columns of this replica's part of a batch, float64."""
        mine = slice(self.cluster.replica_here, None, self.cluster.replicas_here)
        images, labels = images[mine], labels[mine]
        logits = tf.cast(self.network(self.normalise(images), training=False), tf.float32)
        losses = tf.reduce_sum(cross_entropy(labels, logits))
        examples = tf.cast(tf.shape(labels)[0], tf.float32)
        sums = tf.stack([losses, count_hits(labels, logits), examples])
        return tf.cast(tf.concat([sums, count_answers(logits)], 0), tf.float64)


def _slice(array, start, size):
    """array[start : start + size], of a shape that the compiler knows."""
    begin = [start] + [0] * (len(array.shape) - 1)
    return tf.slice(array, begin, [size, *array.shape[1:]])
