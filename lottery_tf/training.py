"""The step: loss, gradient, update."""

import keras
import tensorflow as tf

from lottery_tf import masking


class Trainer(keras.Model):
    """A masked network with its objective and its optimizer.

    The objective is the mean cross-entropy of the global batch + coupled L2, weight_decay / 2 *
    ||w||^2, + `auxiliary`. Under tf.distribute, and with gradients accumulated over micro-batches,
    what depends on the parameters alone counts once per update.

    Args:
        network: a built keras.Model with masked layers, images -> logits.
        config: Config; its optimizer, weight decay, mixed_precision and accumulate_steps.
        auxiliary: a function without arguments that gives a scalar to add to the objective; none
            by default.
    """

    def __init__(self, network, config, *, auxiliary=None):
        super().__init__(name="trainer")
        self.network = network
        self.auxiliary = auxiliary
        self.micro_batches = config.accumulate_steps
        self._make_optimizer(config)
        self.loss_mean = keras.metrics.Mean(name="loss")
        self.accuracy_mean = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        self.updates = tf.Variable(0, dtype=tf.int64, trainable=False)
        # The first update since reset_optimizer() whose loss was not finite; -1: none.
        self.first_bad_update = tf.Variable(-1, dtype=tf.int64, trainable=False)

    def _make_optimizer(self, config):
        variables = self.network.trainable_variables
        optimizer = OPTIMIZERS[config.optimizer](config)
        kernels = masking.kernels(self.network)
        decays = {v.path for v in variables if config.weight_decay_on == "all" or v.path in kernels}
        self.l2, self.l2_variables = 0.0, []
        if config.weight_decay and config.weight_decay_mode == "l2":
            self.l2 = config.weight_decay
            self.l2_variables = [v for v in variables if v.path in decays]
        elif config.weight_decay:
            optimizer.weight_decay = config.weight_decay
            optimizer.exclude_from_weight_decay([v for v in variables if v.path not in decays])
        if config.mixed_precision == "float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(variables)
        self.optimizer = optimizer
        # Slots start at zero; the rate and the scale of the loss are scalars that do not.
        self.first_scalars = {v.path: v.numpy() for v in optimizer.variables if not tuple(v.shape)}

    def call(self, images, training=False):
        return self.network(images, training=training)

    def train_step(self, data):
        """One update; returns the running means since reset_metrics().

        Args:
            data: (images float32 (batch, h, w, c), labels int32 (batch,)), of this replica.
        """
        images, labels = data
        variables = self.network.trainable_variables
        if self.micro_batches == 1:
            loss, gradients = self._gradients(images, labels)
        else:
            loss, gradients = self._accumulated_gradients(images, labels)
        if self.l2 or self.auxiliary:
            gradients = _add(gradients, self._penalty_gradients(variables))
        bad = ~tf.math.is_finite(loss) & (self.first_bad_update < 0)
        self.first_bad_update.assign(tf.where(bad, self.updates, self.first_bad_update))
        self.updates.assign_add(1)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return self.get_metrics_result()

    def _gradients(self, images, labels):
        """The mean loss of a batch, and the gradients of its share in the global batch's mean."""
        with tf.GradientTape() as tape:
            logits = tf.cast(self.network(images, training=True), tf.float32)
            losses = cross_entropy(labels, logits)  # (batch,)
            loss = tf.reduce_mean(losses)
            share = self._scaled(loss / _replicas())
        self.loss_mean.update_state(losses)
        self.accuracy_mean.update_state(labels, logits)
        return loss, tape.gradient(share, self.network.trainable_variables)

    def _accumulated_gradients(self, images, labels):
        """`_gradients` of a batch in micro-batches, one after the other."""
        count = self.micro_batches
        images = tf.reshape(images, (count, -1, *images.shape[1:]))
        labels = tf.reshape(labels, (count, -1))

        def add(index, loss, sums):
            some_loss, some = self._gradients(images[index], labels[index])
            return index + 1, loss + some_loss / count, _add(sums, [g / count for g in some])

        zeros = [tf.zeros(v.shape) for v in self.network.trainable_variables]
        _, loss, sums = tf.while_loop(
            lambda index, *_: index < count, add, (tf.constant(0), tf.constant(0.0), zeros)
        )
        return loss, sums

    def _penalty_gradients(self, variables):
        """Gradients of the part of the objective that depends on the parameters alone."""
        with tf.GradientTape() as tape:
            value = tf.constant(0.0)
            if self.l2:
                value += self.l2 * tf.add_n([tf.nn.l2_loss(v.value) for v in self.l2_variables])
            if self.auxiliary:
                value += self.auxiliary()
            share = self._scaled(value / _replicas())
        return tape.gradient(share, variables)

    def _scaled(self, loss):
        scale = getattr(self.optimizer, "scale_loss", None)
        return scale(loss) if scale else loss

    def reset_optimizer(self):
        """Forgets slots and iterations: a round starts with a fresh optimizer."""
        for variable in self.optimizer.variables:
            zeros = tf.zeros(variable.shape, variable.dtype)
            variable.assign(self.first_scalars.get(variable.path, zeros))
        self.updates.assign(0)
        self.first_bad_update.assign(-1)


def _replicas():
    # The optimizer adds the gradients of the replicas up.
    return tf.distribute.get_strategy().num_replicas_in_sync


def _add(some, others):
    """The sums of two lists of gradients; a gradient that is not there counts as zero."""
    return [
        one if other is None else other if one is None else one + other
        for one, other in zip(some, others, strict=True)
    ]


def cross_entropy(labels, logits):
    """The cross-entropy of each example, (batch,), of float32 logits."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


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
