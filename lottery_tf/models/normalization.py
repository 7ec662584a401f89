"""Runs BatchNorm as one TensorFlow operation forward and one backward."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="lottery_tf")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Computes what keras.layers.BatchNormalization does, faster, with its weights and options.

    Keras 3 composes it of a dozen operations, a third of a ResNet-20's step on a CPU. Where the
    fused operation does not apply (statistics synchronised over replicas, a mask, another axis
    than the last, renorm, float64, other than images), Keras's own code runs.
    """

    plain = keras.layers.BatchNormalization  # in unmasked models

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        rank, last = len(inputs.shape), self.axis in (-1, len(inputs.shape) - 1)
        renorm = getattr(self, "renorm", False)  # Keras has it from 3.14 on
        other = self.synchronized or mask is not None or not last or rank != 4 or renorm
        if other or self.compute_dtype == "float64":
            return super().call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        gamma = self.gamma.value if self.scale else tf.ones(channels)
        beta = self.beta.value if self.center else tf.zeros(channels)
        inputs = tf.cast(inputs, self.compute_dtype)
        batch = bool(training and self.trainable)  # the operation takes None for True
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            tf.cast(gamma, tf.float32),
            tf.cast(beta, tf.float32),
            None if batch else self.moving_mean.value,
            None if batch else self.moving_variance.value,
            epsilon=self.epsilon,
            is_training=batch,
        )
        if batch:
            # The operation gives the unbiased variance; Keras keeps the biased one.
            count = tf.cast(tf.size(inputs) // channels, tf.float32)
            self._follow(self.moving_mean, mean)
            self._follow(self.moving_variance, variance * (count - 1) / count)
        return outputs

    def _follow(self, moving: keras.Variable, value: tf.Tensor) -> None:
        """Move a moving average towards a value."""
        moving.assign(moving * self.momentum + value * (1 - self.momentum))
