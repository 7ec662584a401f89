"""The step: loss, gradient, update."""

import keras
import numpy as np
import tensorflow as tf

from lottery_tf import masking
from lottery_tf.repulsion import loss
from lottery_tf.training import optimizers

TOTALS = ("loss", "hits", "examples", "first bad update")  # columns of Trainer.totals


class Trainer(keras.Model):
    """A masked network with its objective and its optimizer.

    The objective is the mean cross-entropy of the global batch + coupled L2, weight_decay / 2 *
    ||w||^2, + J_r where there are optima to be repelled from. Under tf.distribute, and with
    gradients accumulated over micro-batches, what depends on the parameters alone counts once per
    update.

    Args:
        network: a built keras.Model with masked layers, images -> logits.
        config: Config; its optimizer, weight decay, mixed_precision, accumulate_steps and repel.

    Attributes:
        totals: float64 (replicas, len(TOTALS)), since it was last set to zero.
    """

    def __init__(self, network, config):
        super().__init__(name="trainer")
        self.network = network
        self.repel, self.repel_scope = config.repel, config.repel_scope
        self.strategy = tf.distribute.get_strategy()
        self.micro_batches = config.accumulate_steps
        self._make_optimizer(config)
        # Replicas that do not synchronise their batches' statistics average the running ones.
        self.averaged = [
            variable
            for layer in network._flatten_layers()
            if isinstance(layer, keras.layers.BatchNormalization) and not layer.synchronized
            for variable in (layer.moving_mean, layer.moving_variance)
            if _replicas() > 1
        ]
        # Each replica adds to its own row, so that a checkpoint can hold them as they are.
        self.totals = tf.Variable(
            tf.zeros((_replicas(), len(TOTALS)), tf.float64),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )

    def _make_optimizer(self, config):
        variables = self.network.trainable_variables
        optimizer = optimizers.make(config)
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
        """One update, added to `totals`.

        Args:
            data: (images float32 (batch, h, w, c), labels int32 (batch,)), of this replica; and
                the optima to be repelled from, as in loss.value_and_gradients, or {}.
        """
        images, labels, *optima = data
        variables = self.network.trainable_variables
        if self.micro_batches == 1:
            sums, gradients = self._gradients(images, labels)
        else:
            sums, gradients = self._accumulated_gradients(images, labels)
        self._count(sums, len(images))
        if self.l2_variables:
            gradients = _add(gradients, self._decay_gradients(variables))
        if optima and optima[0]:
            gradients = self._repelled(gradients, optima[0], variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        if self.averaged:
            self._average_statistics()

    def _average_statistics(self):
        """Sets the running statistics of BatchNorm to their mean over the replicas."""
        values = tf.concat([variable.value for variable in self.averaged], 0)  # one reduction
        means = tf.distribute.get_replica_context().all_reduce("MEAN", values)
        sizes = [variable.shape[0] for variable in self.averaged]
        for variable, mean in zip(self.averaged, tf.split(means, sizes), strict=True):
            variable.assign(mean)

    def _count(self, sums, examples):
        """Adds (sum of the losses, hits) of a batch to this replica's row of the totals."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        loss, hits = tf.unstack(tf.cast(sums, tf.float64))
        # The first update whose loss was not finite, counted from 1; 0: none.
        bad = ~tf.math.is_finite(loss) & (self.totals[replica, 3] == 0)
        update = tf.cast(self.optimizer.iterations, tf.float64) + 1
        row = tf.stack([loss, hits, tf.constant(examples, tf.float64), tf.where(bad, update, 0)])
        mine = tf.range(_replicas())[:, tf.newaxis] == replica
        self.totals.assign_add(tf.where(mine, row, tf.zeros_like(row)))

    def _gradients(self, images, labels):
        """(Sum of the losses, hits) of a batch; gradients of its share in the global mean."""
        with tf.GradientTape() as tape:
            logits = tf.cast(self.network(images, training=True), tf.float32)
            losses = cross_entropy(labels, logits)  # (batch,)
            share = self._scaled(tf.reduce_mean(losses) / _replicas())
        sums = tf.stack([tf.reduce_sum(losses), count_hits(labels, logits)])
        return sums, tape.gradient(share, self.network.trainable_variables)

    def _accumulated_gradients(self, images, labels):
        """`_gradients` of a batch in micro-batches, one after the other."""
        count = self.micro_batches
        images = tf.reshape(images, (count, -1, *images.shape[1:]))
        labels = tf.reshape(labels, (count, -1))

        def add(index, sums, gradients):
            some_sums, some = self._gradients(images[index], labels[index])
            return index + 1, sums + some_sums, _add(gradients, [g / count for g in some])

        zeros = [tf.zeros(v.shape) for v in self.network.trainable_variables]
        _, sums, gradients = tf.while_loop(
            lambda index, *_: index < count, add, (tf.constant(0), tf.zeros(2), zeros)
        )
        return sums, gradients

    def _decay_gradients(self, variables):
        """Gradients of the coupled L2."""
        with tf.GradientTape() as tape:
            value = self.l2 * tf.add_n([tf.nn.l2_loss(v.value) for v in self.l2_variables])
            share = self._scaled(value / _replicas())
        return tape.gradient(share, variables)

    def _repelled(self, gradients, optima, variables):
        """The gradients with those of J_r added."""
        found = {v.path: gradient for v, gradient in zip(variables, gradients, strict=True)}
        _, repelled = loss.value_and_gradients(
            {v.path: v.value for v in variables if v.path in optima},
            optima,
            strength=self.repel,
            scope=self.repel_scope,
            onto=found,
            factor=self._scaled(tf.constant(1 / _replicas())),
        )
        return [repelled.get(v.path, found[v.path]) for v in variables]

    def _scaled(self, loss):
        scale = getattr(self.optimizer, "scale_loss", None)
        return scale(loss) if scale else loss

    def set_totals(self, totals):
        """Sets the totals to 0, or to those of an earlier training, on as many replicas or not."""
        rows = np.zeros(self.totals.shape)
        if np.shape(totals) == rows.shape:
            rows[:] = totals
        elif np.ndim(totals):
            rows[0] = np.sum(totals, 0)
        self._assign_totals(tf.constant(rows))

    @tf.function
    def _assign_totals(self, rows):
        def assign():
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            mine = tf.range(len(rows))[:, tf.newaxis] == replica
            self.totals.assign(tf.where(mine, rows, tf.zeros_like(rows)))

        self.strategy.run(assign)

    def reset_optimizer(self):
        """Forgets slots and iterations: a round starts with a fresh optimizer."""
        for variable in self.optimizer.variables:
            zeros = tf.zeros(variable.shape, variable.dtype)
            variable.assign(self.first_scalars.get(variable.path, zeros))


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


def count_hits(labels, logits):
    """How many examples are classified right, float32."""
    hits = tf.argmax(logits, -1, output_type=labels.dtype) == labels
    return tf.reduce_sum(tf.cast(hits, tf.float32))
