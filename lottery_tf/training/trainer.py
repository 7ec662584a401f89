"""The step: loss, gradient, update."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from lottery_tf import masking
from lottery_tf.config import Config
from lottery_tf.masking import keras_private, optimizer_state
from lottery_tf.pruning import Array
from lottery_tf.repulsion import loss
from lottery_tf.training import optimizers

TOTALS = ("loss", "correct", "examples", "first bad update")  # columns of Trainer.totals
Gradients = list[tf.Tensor | None]  # None: the loss does not depend on the variable


class Trainer(keras.Model):
    """A masked network with its objective and its optimizer, compiled: `fit` trains it.

    The objective is the mean cross-entropy of the global batch + the network's own losses, as of
    kernel_regularizer, + coupled L2, weight_decay / 2 * ||w||^2, + J_r where there are optima to be
    repelled from or attracted to (Maene et al. 2021, section 3). Under tf.distribute, and with
    gradients accumulated over micro-batches, what depends on the parameters alone counts once per
    update.

    The Engine runs train_step in loops of its own, several times as fast as `fit`, on any number of
    devices. `fit(images, labels)` does the same updates on one device, with the learning rate that
    the optimizer has.

    Args:
        network: a built keras.Model with masked layers, images -> logits.
        config: Config; its optimizer, weight decay, mixed_precision, accumulate_steps and repel.

    Attributes:
        totals: float64 (replicas, len(TOTALS)), sums since they were last set to zero.
        optima: what `fit` is repelled from, as loss.value_and_gradients takes it; {} without.
    """

    def __init__(self, network: keras.Model, config: Config):
        super().__init__(name="trainer")
        self.network = network
        self.repel, self.repel_scope = config.repel, config.repel_scope
        self.strategy = tf.distribute.get_strategy()
        self.accumulate_steps = config.accumulate_steps
        self.optima: loss.Held = {}
        self._make_optimizer(config)
        # Replicas that do not synchronise their batches' statistics average the running ones.
        self.averaged = [
            variable
            for layer in keras_private.flatten_layers(network)
            if isinstance(layer, keras.layers.BatchNormalization) and not layer.synchronized
            for variable in (layer.moving_mean, layer.moving_variance)
            if _replicas() > 1
        ]
        self.synchronizes = _replicas() > 1 and any(
            isinstance(layer, keras.layers.BatchNormalization) and layer.synchronized
            for layer in keras_private.flatten_layers(network)
        )
        # Each replica adds to its own row, so that a checkpoint can hold them as they are.
        self.totals = tf.Variable(
            tf.zeros((_replicas(), len(TOTALS)), tf.float64),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )
        self.built = True  # the network is

    def _make_optimizer(self, config: Config) -> None:
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
        self.compile(optimizer)
        self._first_values = optimizer_state.first_values(optimizer)

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return the logits (batch, classes) of normalised images (batch, h, w, c)."""
        return self.network(images, training=training)

    def train_step(self, data: tuple, optima: loss.Held | None = None) -> loss.Tensors:
        """Make one update, and add its losses to `totals`.

        Args:
            data: (images float32 (batch, h, w, c), labels int32 (batch,)), of this replica.
            optima: what to be repelled from, as loss.value_and_gradients takes it, or {}; by
                default the attribute.

        Returns:
            {"loss", "accuracy"}: running means since the totals were set to zero.
        """
        images, labels = data
        optima = self.optima if optima is None else optima
        variables = self.network.trainable_variables
        if self.accumulate_steps == 1:
            sums, gradients = self._gradients(images, labels)
        else:
            sums, gradients = self._accumulated_gradients(images, labels)
        self._count(sums, labels)
        if self.l2_variables:
            gradients = _add(gradients, self._decay_gradients(variables))
        if optima:
            gradients = self._repelled(gradients, optima, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        if self.averaged:
            self._average_statistics()
        return self._running_means()

    def test_step(self, data: tuple) -> loss.Tensors:
        """Return the running means {"loss", "accuracy"} of an evaluation."""
        images, labels = data
        logits = tf.cast(self(images, training=False), tf.float32)
        losses = tf.reduce_sum(cross_entropy(labels, logits))
        self._count(tf.stack([losses, count_correct(labels, logits)]), labels)
        return self._running_means()

    def reset_metrics(self) -> None:
        """Begin the running means again; Keras calls this at the beginning of an epoch."""
        super().reset_metrics()
        self.set_totals(0)

    def _running_means(self) -> loss.Tensors:
        loss, correct, examples, _ = tf.unstack(tf.reduce_sum(self.totals.value(), 0))
        return {"loss": loss / examples, "accuracy": correct / examples}

    def _average_statistics(self) -> None:
        """Set the running statistics of BatchNorm to their mean over the replicas."""
        values = tf.concat([variable.value for variable in self.averaged], 0)  # one reduction
        means = tf.distribute.get_replica_context().all_reduce("MEAN", values)
        sizes = [variable.shape[0] for variable in self.averaged]
        for variable, mean in zip(self.averaged, tf.split(means, sizes), strict=True):
            variable.assign(mean)

    def _count(self, sums: tf.Tensor, labels: tf.Tensor) -> None:
        """Add (sum of the losses, correct) of a batch to this replica's row of the totals."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        loss, correct = tf.unstack(tf.cast(sums, tf.float64))
        # The first update whose loss was not finite, counted from 1; 0: none.
        bad = ~tf.math.is_finite(loss) & (self.totals[replica, 3] == 0)
        update = tf.cast(self.optimizer.iterations, tf.float64) + 1
        examples = tf.cast(tf.shape(labels)[0], tf.float64)
        row = tf.stack([loss, correct, examples, tf.where(bad, update, 0)])
        mine = tf.range(_replicas())[:, tf.newaxis] == replica
        self.totals.assign_add(tf.where(mine, row, tf.zeros_like(row)))

    def _gradients(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, Gradients]:
        """Return (sum of the losses, correct), and the gradients of the batch's share of the mean.

        The optimizer adds the gradients of the replicas up, so each one's share is a part of the
        global mean.
        """
        with tf.GradientTape() as tape:
            logits = tf.cast(self.network(images, training=True), tf.float32)
            losses = cross_entropy(labels, logits)  # (batch,)
            mean = tf.reduce_mean(losses)
            if own := self.network.losses:  # of its regularizers, and what its layers add
                mean += tf.add_n([tf.cast(value, tf.float32) for value in own])
            share = self._scaled(mean / _replicas())
        sums = tf.stack([tf.reduce_sum(losses), count_correct(labels, logits)])
        return sums, tape.gradient(share, self.network.trainable_variables)

    def _accumulated_gradients(
        self, images: tf.Tensor, labels: tf.Tensor
    ) -> tuple[tf.Tensor, Gradients]:
        """Return what `_gradients` does, computed in micro-batches, one after the other."""
        count = self.accumulate_steps
        images = tf.reshape(images, (count, -1, *images.shape[1:]))
        labels = tf.reshape(labels, (count, -1))

        def add(index: tf.Tensor, sums: tf.Tensor, gradients: Gradients) -> tuple:
            some_sums, some = self._gradients(images[index], labels[index])
            parts = [None if gradient is None else gradient / count for gradient in some]
            return index + 1, sums + some_sums, _add(gradients, parts)

        zeros = [tf.zeros(v.shape) for v in self.network.trainable_variables]
        state = (tf.constant(0), tf.zeros(2), zeros)
        if not self.synchronizes:
            return tf.while_loop(lambda index, *_: index < count, add, state)[1:]
        # TensorFlow lets replicas exchange statistics in no loop of its own.
        for _ in range(count):
            with tf.control_dependencies(tf.nest.flatten(state)):  # one micro-batch at a time
                state = add(*state)
        return state[1:]

    def _decay_gradients(self, variables: Sequence[keras.Variable]) -> Gradients:
        """Return the gradients of the coupled L2."""
        with tf.GradientTape() as tape:
            value = self.l2 * tf.add_n([tf.nn.l2_loss(v.value) for v in self.l2_variables])
            share = self._scaled(value / _replicas())
        return tape.gradient(share, variables)

    def _repelled(
        self, gradients: Gradients, optima: loss.Held, variables: Sequence[keras.Variable]
    ) -> Gradients:
        """Return the gradients with those of J_r added."""
        plain = {v.path: gradient for v, gradient in zip(variables, gradients, strict=True)}
        _, repelled = loss.value_and_gradients(
            {v.path: v.value for v in variables if v.path in optima},
            optima,
            strength=self.repel,
            scope=self.repel_scope,
            onto=plain,
            factor=self._scaled(tf.constant(1 / _replicas())),
        )
        return [repelled.get(v.path, plain[v.path]) for v in variables]

    def _scaled(self, loss: tf.Tensor) -> tf.Tensor:
        scale = getattr(self.optimizer, "scale_loss", None)
        return scale(loss) if scale else loss

    def set_totals(self, totals: int | Array) -> None:
        """Set the totals to 0, or to those of an earlier training on any number of replicas."""
        rows = np.zeros(self.totals.shape)
        if np.shape(totals) == rows.shape:
            rows[:] = totals
        elif np.ndim(totals):
            rows[0] = np.sum(totals, 0)
        self._assign_totals(tf.constant(rows))

    @tf.function(autograph=False)
    def _assign_totals(self, rows: tf.Tensor) -> None:
        def assign() -> None:
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            mine = tf.range(rows.shape[0])[:, tf.newaxis] == replica
            self.totals.assign(tf.where(mine, rows, tf.zeros_like(rows)))

        self.strategy.run(assign)

    def reset_optimizer(self) -> None:
        """Forget slots and iterations: a round starts with a fresh optimizer."""
        optimizer_state.reset(self.optimizer, self._first_values)


def _replicas() -> int:
    return tf.distribute.get_strategy().num_replicas_in_sync


def _add(some: Gradients, others: Gradients) -> Gradients:
    """Return the sums of two lists of gradients; a missing gradient counts as zero."""
    return [
        one if other is None else other if one is None else one + other
        for one, other in zip(some, others, strict=True)
    ]


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return the cross-entropy of each example, (batch,), of float32 logits."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def count_correct(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return how many examples are classified correctly, float32."""
    correct = tf.argmax(logits, -1, output_type=labels.dtype) == labels
    return tf.reduce_sum(tf.cast(correct, tf.float32))


def count_predictions(logits: tf.Tensor) -> tf.Tensor:
    """Return how many examples are predicted to be of each class, float32 (classes,)."""
    predictions = tf.argmax(logits, -1, output_type=tf.int32)
    return tf.reduce_sum(tf.one_hot(predictions, logits.shape[-1]), 0)
