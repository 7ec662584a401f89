"""Evaluates loss and error along the line between two networks. Imports TensorFlow."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lottery_tf import masking
from lottery_tf.masking import keras_private
from lottery_tf.plots import Row
from lottery_tf.pruning import Array, Weights, collapse
from lottery_tf.training.engine import Engine
from lottery_tf.training.trainer import count_correct, count_predictions, cross_entropy

STATISTICS_EXAMPLES = 10_000
Tensor = Any  # TensorFlow has no types
Ends = list[list[Tensor]]  # the variables of both ends


class PathEvaluator:
    """Evaluates networks on lines; all points of a line in one compiled program.

    The points are evaluated in turn for each batch, so that data are read once and memory holds
    one network and one batch more than the two ends.

    Args:
        engine: its network gives the function, its feed the data.
        points: equidistant points of a line, both ends included.
        split: "test"; "train", which is not augmented here; or "validation".
        bn_stats: BatchNorm's statistics at a point: "recompute", mean and variance over the first
            10,000 training examples, unaugmented, with each batch of the feed normalised by itself;
            "interpolate" those of the ends; "endpoint", those of the nearer end.
        examples: the first ones of the split to evaluate; None for all.
        first_layer_once: interpolate the outputs of a first Dense layer in place of its weights.
            They are equal up to rounding, and 9 of 10 of LeNet's multiply-adds are there.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        points: int,
        split: str = "test",
        bn_stats: str = "recompute",
        examples: int | None = None,
        first_layer_once: bool = False,
    ):
        self.engine, self.network = engine, engine.network
        self.first_layer = first_dense(self.network) if first_layer_once else None
        self.split, self.examples = split, examples
        self.alphas = np.linspace(0, 1, points, dtype=np.float32)
        self.variables = masking.variables(self.network)
        layers, kind = keras_private.flatten_layers(self.network), keras.layers.BatchNormalization
        self.norms = [layer for layer in layers if isinstance(layer, kind)]
        self.statistics = [
            v.path for layer in self.norms for v in (layer.moving_mean, layer.moving_variance)
        ]
        self.bn_stats = bn_stats if self.norms else "none"
        self._totals = tf.function(
            self._totals_of_batch, jit_compile=engine.jit, reduce_retracing=True, autograph=False
        )
        self._moments = tf.function(self._moments_of_batch, jit_compile=engine.jit, autograph=False)

    def evaluate(self, start: Weights, end: Weights) -> list[Row]:
        """Return rows of paths.POINT of the points between two networks that are zero where masked.

        All variables are interpolated, (1 - alpha) start + alpha end, without further masks.
        "collapsed" is 1 where a network gives all examples one class, or is at chance; else 0.
        """
        ends = [[tf.constant(w[path]) for path in self.variables] for w in (start, end)]
        stats = self._statistics(ends) if self.bn_stats == "recompute" else []
        totals = np.zeros((len(self.alphas), 3 + self.network.output_shape[-1]))
        for images, labels in self._first(self.split, self.examples):
            totals += self._totals(ends, stats, images, labels).numpy()
        return [self._row(*of_point) for of_point in zip(self.alphas, totals, strict=True)]

    def _row(self, alpha: np.float32, totals: Array) -> Row:
        loss, correct, examples, *predictions = totals
        share = max(predictions) / examples
        collapses = collapse.of_predictions(correct / examples, share, len(predictions), examples)
        return {
            "alpha": float(alpha),
            "loss": float(loss / examples),
            "error": float((examples - correct) / examples),
            "collapsed": int(bool(collapses)),
        }

    def _first(self, split: str, examples: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of a split up to some examples, or all."""
        for images, labels in getattr(self.engine.feed, f"{split}_batches")():
            yield images[:examples], labels[:examples]
            if examples is not None and (examples := examples - len(labels)) <= 0:
                break

    def _statistics(self, ends: Ends) -> list[Tensor]:
        """Return [(points, channels) mean, variance] of each BatchNorm, over the first examples."""
        sums, count = [0.0] * 2 * len(self.norms), 0
        for images, _ in self._first("train", STATISTICS_EXAMPLES):
            moments = [m.numpy().astype(np.float64) for m in self._moments(ends, images)]
            sums = [a + len(images) * b for a, b in zip(sums, moments, strict=True)]
            count += len(images)
        statistics = []
        for total, squares in zip(sums[::2], sums[1::2], strict=True):
            mean = total / count
            statistics += [mean, np.maximum(squares / count - mean**2, 0)]
        return [tf.constant(array, tf.float32) for array in statistics]

    def _totals_of_batch(
        self, ends: Ends, stats: list[Tensor], images: Tensor, labels: Tensor
    ) -> Tensor:
        """Return [sum of losses, correct, examples, predictions of each class] of each point."""
        images = self.engine.normalise(images)
        count = tf.cast(tf.shape(labels)[0], tf.float32)
        first = self._first_outputs(ends, images) if self.first_layer else []

        def point(of_point: tuple[Tensor, list[Tensor]]) -> Tensor:
            alpha, stats = of_point
            with contextlib.ExitStack() as stack:
                if self.first_layer:
                    hidden = self.first_layer.activation((1 - alpha) * first[0] + alpha * first[1])
                    stack.enter_context(_calling(self.first_layer, lambda *_, **__: hidden))
                logits, _ = self._call(alpha, ends, stats, images, training=False)
            logits = tf.cast(logits, tf.float32)
            loss = tf.reduce_sum(cross_entropy(labels, logits))
            sums = tf.stack([loss, count_correct(labels, logits), count])
            return tf.concat([sums, count_predictions(logits)], 0)

        elements = (tf.constant(self.alphas), stats)
        return tf.map_fn(point, elements, parallel_iterations=1, fn_output_signature=tf.float32)

    def _first_outputs(self, ends: Ends, images: Tensor) -> list[Tensor]:
        """Return what the first layer gives at either end, before its activation.

        A network may call the layer more than once. Then its weights are interpolated instead.
        """
        layer, outputs = self.first_layer, []
        assert layer is not None
        own_call, activation = layer.call, layer.activation

        def keep(*arguments: Any, **options: Any) -> Tensor:
            layer.activation = keras.activations.linear
            try:
                outputs.append(own_call(*arguments, **options))
            finally:
                layer.activation = activation
            return outputs[-1]

        with _calling(layer, keep):  # what follows the layer is computed nowhere
            for end in (0.0, 1.0):
                self._call(end, ends, [], images, training=False)
        if len(outputs) != len(ends):
            self.first_layer = None
        return outputs

    def _moments_of_batch(self, ends: Ends, images: Tensor) -> list[Tensor]:
        """Return [(points, channels) mean, mean square] of what each BatchNorm is given."""
        images = self.engine.normalise(images)

        def point(alpha: Tensor) -> list[Tensor]:
            _, after = self._call(alpha, ends, [], images, training=True)
            moments = []
            for layer in self.norms:
                mean, variance = after[layer.moving_mean.path], after[layer.moving_variance.path]
                moments += [mean, variance + mean**2]
            return moments

        alphas, types = tf.constant(self.alphas), [tf.float32] * (2 * len(self.norms))
        before = [(layer.momentum, layer.synchronized) for layer in self.norms]
        try:  # what is traced here sets the running statistics to those of the batch
            for layer in self.norms:
                layer.momentum, layer.synchronized = 0.0, False
            return tf.map_fn(point, alphas, parallel_iterations=1, fn_output_signature=types)
        finally:
            for layer, (momentum, synchronized) in zip(self.norms, before, strict=True):
                layer.momentum, layer.synchronized = momentum, synchronized

    def _call(
        self,
        alpha: Tensor | float,
        ends: Ends,
        stats: list[Tensor],
        images: Tensor,
        *,
        training: bool,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return (logits, {path: value of each variable that is not trained, after the call})."""
        values = {}
        for path, start, end in zip(self.variables, *ends, strict=True):
            values[path] = (1 - alpha) * start + alpha * end if start.dtype.is_floating else start
            if self.bn_stats == "endpoint" and path in self.statistics:
                values[path] = tf.where(alpha < 0.5, start, end)
        values |= dict(zip(self.statistics, stats, strict=False))
        for kernel in masking.kernels(self.network).values():
            values[kernel.mask.path] = tf.ones(kernel.mask.shape, bool)
        network, others = self.network, self.network.non_trainable_variables
        trainable = [values[variable.path] for variable in network.trainable_variables]
        not_trained = [values.get(variable.path, variable.value) for variable in others]
        logits, updated = network.stateless_call(trainable, not_trained, images, training=training)
        return logits, {v.path: value for v, value in zip(others, updated, strict=True)}


def first_dense(network: keras.Model) -> keras.layers.Dense | None:
    """Return the Dense layer that a functional network calls before all others with variables."""
    layer = next((layer for layer in network.layers if layer.variables), None)
    if layer is None or type(layer) is not masking.MaskedDense:
        return None
    if layer.compute_dtype != "float32":
        return None
    try:
        layer.input  # noqa: B018  # a tensor of the network's graph
    except (AttributeError, ValueError):
        return None
    return layer


@contextlib.contextmanager
def _calling(layer: keras.layers.Layer, call: Callable[..., Tensor]) -> Iterator[None]:
    """Compute with another function in place of a layer's own `call`, while a graph is traced."""
    layer.call = call
    try:
        yield
    finally:
        del layer.call
