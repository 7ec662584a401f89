"""What criteria are a function of, gathered from a network and a fixed sample of its data."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from lottery_tf import models
from lottery_tf.datasets.labels import shortened
from lottery_tf.masking.batches import in_batches
from lottery_tf.masking.gradients import Flow, Gradients
from lottery_tf.pruning import Weights
from lottery_tf.terminal import console
from lottery_tf.training import feeds

EXAMPLES_PER_CLASS = 10  # Lee et al. 2019 and Wang et al. 2020 take as many
EXAMPLES_READ = 100_000  # at most, of streamed data; more where there are over 1,000 classes
READ_PER_CLASS = 100


class Evidence:
    """The evidence of a run's criteria; one process computes it, on one device.

    The sample is the first EXAMPLES_PER_CLASS training examples of each class, unaugmented. Of data
    that are streamed only the first EXAMPLES_READ examples are read: a class that has fewer there
    gives those that it has, and a line names it. Before
    training, BatchNorm's running statistics say nothing yet: there a batch is normalised by itself.

    Args:
        engine: Engine.
    """

    def __init__(self, engine: Any):
        self.engine, self.config = engine, engine.config

    def of(self, start: Callable[[], Weights], trained: Weights, round: int) -> dict[str, Callable]:
        """{name of the evidence: a function of the masks that gives {kernel path: array}}.

        Args:
            start: a function that gives {variable path: array}, before the training of a round.
            trained: {variable path: array}, after it.
            round: its number.
        """
        return {
            "initial": lambda masks: start(),
            "uniform": functools.partial(self.engine.uniform, self.config.init_seed, round),
            "initial_gradient": lambda masks: self.gradients.mean(start(), masks, training=True),
            "trained_gradient": lambda masks: self.gradients.mean(trained, masks, training=False),
            "initial_hessian_gradient": lambda masks: self.gradients.hessian(start(), masks),
            "initial_flow": lambda masks: self.flow.of(start(), masks),
        }

    @functools.cached_property
    def gradients(self) -> Gradients:
        """The Gradients on the sample; of float16 in float32, for small ones would be zero."""
        images, labels = self._sample()
        float16 = self.config.mixed_precision == "float16"
        network = self._network("float32") if float16 else self.engine.network
        return Gradients(network, in_batches(self.engine.normalise(images), labels))

    @functools.cached_property
    def flow(self) -> Flow:
        """The Flow of the network."""
        return Flow(self._network("float64"))

    def _network(self, policy):
        """The run's network, built once more with another dtype policy."""
        shape, classes = self.engine.directory.input_shape, self.engine.directory.classes
        return models.build(self.config, shape, classes, seed=0, policy=policy)

    def _sample(self):
        """(images uint8 (examples, h, w, c), labels (examples,)), by their place in the split."""
        classes, feed = self.engine.directory.classes, self.engine.feed
        if isinstance(feed, feeds.Resident):
            images, labels = map(feed.cluster.local, feed.train)
            places = _first_places(np.asarray(labels), classes)
            return tf.gather(images, places), tf.gather(labels, places)
        wanted = np.full(classes, EXAMPLES_PER_CLASS)
        left = read = max(EXAMPLES_READ, READ_PER_CLASS * classes)
        images, labels = [], []
        for batch, numbers in feed.train_batches():
            numbers = np.asarray(numbers)[:left]
            left -= len(numbers)
            for label in np.unique(numbers):
                places = np.flatnonzero(numbers == label)[: wanted[label]]
                wanted[label] -= len(places)
                images.append(tf.gather(batch, places))
                labels.append(numbers[places])
            if not wanted.any() or not left:
                break
        if wanted.any() and not left:
            few = [str(label) for label in np.flatnonzero(wanted)]
            console.say(
                f"The criterion takes fewer than {EXAMPLES_PER_CLASS} examples of the classes "
                f"{shortened(few)}: the search for them ended after {read} examples."
            )
        return tf.concat(images, 0), tf.constant(np.concatenate(labels))


def _first_places(labels, classes):
    """The places of the first examples of each class, in the order in which batches give them."""
    order = np.argsort(labels, kind="stable")
    begins = np.searchsorted(labels[order], np.arange(classes))
    ranks = np.arange(len(order)) - begins[labels[order]]
    places = order[ranks < EXAMPLES_PER_CLASS]
    return places[np.lexsort((places, labels[places], places // feeds.EVALUATION_BATCH))]
