"""A diagonal estimate of the Fisher information of the prunable weights."""

from typing import Any

import numpy as np
import tensorflow as tf

from lottery_tf import masking, models
from lottery_tf.method import Weights
from lottery_tf.method.streams import Noise
from lottery_tf.training.trainer import cross_entropy

EXAMPLES = 10_000


def mean_squared_gradients(engine: Any, noise: Noise) -> Weights:
    """The mean over batches of the squared gradient of a batch's mean loss.

    Over the first 10,000 training examples that the noise's first epoch visits, in evaluation mode.
    As the mean over a batch comes before the square, the values fall with the batch size; their
    proportions are what --repel_weighting uses. Images are not flipped or padded; those of varying
    size are cropped at random, as in training. Networks of float16 are computed in float32.

    Args:
        engine: Engine; its network as it is.
        noise: streams.Noise.

    Returns:
        {kernel path: float32 array}.
    """
    float16 = engine.config.mixed_precision == "float16"
    network = _in_float32(engine) if float16 else engine.network
    kernels = masking.kernels(network)
    gradients = _gradients_of_batch(engine, network, kernels)
    count = max(1, min(EXAMPLES // engine.config.batch_size, engine.steps_per_epoch))
    data = engine.feed.epoch(noise, 0, 0)
    sums = [np.zeros(kernel.mask.shape) for kernel in kernels.values()]
    for step in range(count):
        for total, gradient in zip(sums, gradients(engine.feed.of_step(data, step)), strict=True):
            total += gradient.numpy() ** 2
    return {
        path: (total / count).astype(np.float32) for path, total in zip(kernels, sums, strict=True)
    }


def _in_float32(engine):
    """The network once more: small gradients would be zero in float16."""
    directory = engine.directory
    network = models.build(
        engine.config, directory.input_shape, directory.classes, seed=0,
        strategy=engine.cluster.strategy, policy="float32",
    )  # fmt: skip
    masking.set_weights(network, masking.get_weights(engine.network), engine.masks())
    return network


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
