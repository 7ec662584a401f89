"""A diagonal estimate of the Fisher information of the prunable weights."""

from typing import Any

import numpy as np
import tensorflow as tf

from lottery_tf import masking, models
from lottery_tf.pruning import Weights
from lottery_tf.pruning.streams import Noise
from lottery_tf.training.trainer import cross_entropy

EXAMPLES = 10_000


class SquaredGradients:
    """The mean over batches of the squared gradient of a batch's mean loss; compiled once.

    Over the first 10,000 training examples that the noise's first epoch visits, in evaluation mode.
    As the mean over a batch comes before the square, the values fall with the batch size; their
    proportions are what --repel_weighting uses. Images are not flipped or padded; those of varying
    size are cropped at random, as in training. Networks of float16 are computed in float32.

    Args:
        engine: Engine.
    """

    def __init__(self, engine: Any):
        self.engine, self.network = engine, engine.network
        if engine.config.mixed_precision == "float16":
            self.network = _in_float32(engine)
        self.kernels = masking.kernels(self.network)
        self._gradients = _gradients_of_batch(engine, self.network, self.kernels)

    def mean(self, noise: Noise) -> Weights:
        """{kernel path: float32 array}, of the engine's network as it is.

        Args:
            noise: streams.Noise.
        """
        engine = self.engine
        if self.network is not engine.network:
            masking.set_weights(self.network, masking.get_weights(engine.network), engine.masks())
        count = max(1, min(EXAMPLES // engine.config.batch_size, engine.steps_per_epoch))
        data = engine.feed.epoch(noise, 0, 0)
        sums = [np.zeros(kernel.mask.shape) for kernel in self.kernels.values()]
        for step in range(count):
            parts = self._gradients(engine.feed.of_step(data, step))
            for total, gradient in zip(sums, parts, strict=True):
                total += gradient.numpy() ** 2
        means = [(total / count).astype(np.float32) for total in sums]
        return dict(zip(self.kernels, means, strict=True))


def _in_float32(engine):
    """A network like the engine's: small gradients would be zero in float16."""
    directory = engine.directory
    return models.build(
        engine.config, directory.input_shape, directory.classes, seed=0,
        strategy=engine.cluster.strategy, policy="float32",
    )  # fmt: skip


def _gradients_of_batch(engine, network, kernels):
    """A compiled function of a batch: the gradients of its mean loss, over all replicas."""
    strategy, replicas = engine.cluster.strategy, engine.cluster.replicas
    variables = [kernel.variable.value for kernel in kernels.values()]

    @tf.function
    def gradients(batch):
        def mine(*batch):
            images, labels, _ = engine.feed.of_replica(*batch)
            with tf.GradientTape() as tape:
                logits = network(engine.normalise(images), training=False)
                losses = cross_entropy(labels, tf.cast(logits, tf.float32))
                share = tf.reduce_mean(losses) / replicas
            return tape.gradient(share, variables)

        parts = strategy.run(mine, args=batch)
        return [strategy.reduce("SUM", part, axis=None) for part in parts]

    return gradients
