"""The step: loss, gradient, update."""

import keras
import tensorflow as tf

from lottery_tf import masking


class Trainer(keras.Model):
    """A masked network with its objective and its optimizer.

    The objective is the mean cross-entropy of the global batch + coupled L2, weight_decay / 2 *
    ||w||^2, + `auxiliary`. Under tf.distribute, what depends on the parameters alone counts once
    per update, not once per replica.

    Args:
        network: a built keras.Model with masked layers, images -> logits.
        config: Config; its optimizer and weight decay.
        auxiliary: a function without arguments that gives a scalar to add to the objective; none
            by default.
    """

    def __init__(self, network, config, *, auxiliary=None):
        super().__init__(name="trainer")
        self.network = network
        self.auxiliary = auxiliary
        self.optimizer = OPTIMIZERS[config.optimizer](config)
        kernels = masking.kernels(network)
        decayed = [
            variable
            for variable in network.trainable_variables
            if config.weight_decay_on == "all" or variable.path in kernels
        ]
        self.l2, self.l2_variables = 0.0, []
        if config.weight_decay and config.weight_decay_mode == "l2":
            self.l2, self.l2_variables = config.weight_decay, decayed
        elif config.weight_decay:
            self.optimizer.weight_decay = config.weight_decay
            kept = {variable.path for variable in decayed}
            self.optimizer.exclude_from_weight_decay(
                [v for v in network.trainable_variables if v.path not in kept]
            )
        self.optimizer.build(network.trainable_variables)
        self.loss_mean = keras.metrics.Mean(name="loss")
        self.accuracy_mean = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        # The first update since reset() whose objective was not finite; -1: none.
        self.first_bad_update = tf.Variable(-1, dtype=tf.int64, trainable=False)

    def call(self, images, training=False):
        return self.network(images, training=training)

    def train_step(self, data):
        """One update; returns the running means since reset_metrics().

        Args:
            data: (images float32 (batch, h, w, c), labels int32 (batch,)), of this replica.
        """
        images, labels = data
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        with tf.GradientTape() as tape:
            logits = self.network(images, training=True)
            losses = cross_entropy(labels, logits)  # (batch,)
            loss = tf.reduce_mean(losses)
            objective = (loss + self.penalty()) / replicas  # the optimizer adds the replicas up
        variables = self.network.trainable_variables
        gradients = tape.gradient(objective, variables)
        bad = ~tf.math.is_finite(objective) & (self.first_bad_update < 0)
        update = tf.cast(self.optimizer.iterations.value, tf.int64)
        self.first_bad_update.assign(tf.where(bad, update, self.first_bad_update))
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self.loss_mean.update_state(losses)
        self.accuracy_mean.update_state(labels, logits)
        return self.get_metrics_result()

    def penalty(self):
        """The part of the objective that depends on the parameters alone."""
        value = tf.constant(0.0)
        if self.l2:
            value += self.l2 * tf.add_n([tf.nn.l2_loss(v.value) for v in self.l2_variables])
        if self.auxiliary:
            value += self.auxiliary()
        return value

    def reset_optimizer(self):
        """Forgets slots and iterations: a round starts with a fresh optimizer."""
        for variable in self.optimizer.variables:
            if variable is not self.optimizer.learning_rate:
                variable.assign(tf.zeros(variable.shape, variable.dtype))
        self.first_bad_update.assign(-1)


def cross_entropy(labels, logits):
    """The cross-entropy of each example in float32, (batch,)."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tf.cast(logits, tf.float32))


class Momentum(keras.optimizers.Optimizer):
    """SGD with momentum in PyTorch's form: v <- momentum * v + g; w <- w - rate * v.

    keras.optimizers.SGD folds the rate into the velocity, v <- momentum * v - rate * g, so that a
    change of the rate acts late.
    """

    def __init__(self, learning_rate, *, momentum, name="momentum", **kwargs):
        super().__init__(learning_rate, name=name, **kwargs)
        self.momentum = momentum

    def build(self, variables):
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")

    def update_step(self, gradient, variable, learning_rate):
        velocity = self.velocities[self._get_variable_index(variable)]
        self.assign(velocity, self.momentum * velocity + gradient)
        self.assign_sub(variable, learning_rate * velocity)

    def get_config(self):
        return super().get_config() | {"momentum": self.momentum}


# An optimizer is called with the Config; the engine sets its learning rate before every step.
OPTIMIZERS = {
    "adam": lambda config: keras.optimizers.Adam(config.learning_rate, epsilon=1e-8),
    "momentum": lambda config: Momentum(config.learning_rate, momentum=config.momentum),
}
