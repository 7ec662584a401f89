"""Exact loss and accuracy of a network on a whole split, whatever the batch or the devices."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from lottery_tf.training.devices import Cluster
from lottery_tf.training.feeds import Feed
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

    def __init__(self, network: Any, feed: Feed, normalise: Callable, cluster: Cluster, *,
                 jit_compile: bool):  # fmt: skip
        self.network, self.feed, self.cluster = network, feed, cluster
        self.normalise = normalise
        self._run = tf.function(self._replicas, jit_compile=jit_compile)

    def evaluate(self) -> tuple[float, float, float]:
        """(mean cross-entropy, accuracy, part of the examples given the most frequent answer)."""
        totals = np.zeros(3 + self.network.output_shape[-1])
        for images, labels in self.feed.test_batches():
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
        """[sum of the losses, hits, examples, answers of each class] of this replica's part."""
        mine = slice(self.cluster.replica_here, None, self.cluster.replicas_here)
        images, labels = images[mine], labels[mine]
        logits = tf.cast(self.network(self.normalise(images), training=False), tf.float32)
        losses = tf.reduce_sum(cross_entropy(labels, logits))
        examples = tf.cast(tf.shape(labels)[0], tf.float32)
        sums = tf.stack([losses, count_hits(labels, logits), examples])
        return tf.concat([sums, count_answers(logits)], 0)
