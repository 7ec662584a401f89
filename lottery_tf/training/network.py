"""The engine's network as the Network of `PruningRounds`."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from lottery_tf import models
from lottery_tf.datasets.labels import shortened
from lottery_tf.loop import calibration
from lottery_tf.loop.pruning_rounds import ScoringInputs
from lottery_tf.loop.scoring import scoring_inputs
from lottery_tf.loop.store import RoundStore
from lottery_tf.masking.batches import in_batches
from lottery_tf.masking.gradients import Flow, Gradients
from lottery_tf.pruning import Array, Masks, Weights
from lottery_tf.terminal import console
from lottery_tf.training import feeds

if TYPE_CHECKING:
    from lottery_tf.training.engine import Engine

EXAMPLES_PER_CLASS = 10  # Lee et al. 2019 and Wang et al. 2020 take as many
EXAMPLES_READ = 100_000  # at most, of streamed data; more where there are over 1,000 classes
READ_PER_CLASS = 100


class EngineNetwork:
    """The network of a run's engine, with what its criteria are a function of.

    One process gathers that, on one device. The sample of gradients is the first
    EXAMPLES_PER_CLASS training examples of each class, unaugmented. Of data that are streamed, only
    the first EXAMPLES_READ examples are read: a class that has fewer there gives those that it has,
    and a line names it. Before training, BatchNorm's running statistics say nothing yet: there a
    batch is normalised by itself, if --evidence_bn says nothing else.

    Args:
        engine: Engine.
        store: RoundStore of the run, which has the rewind point.
    """

    def __init__(self, engine: "Engine", store: RoundStore):
        self.engine, self.store = engine, store

    def initialization(self, round: int) -> Weights:
        """Return the fresh weights of a round; of round 0, W_0."""
        return self.engine.initialization(round)

    def masks(self) -> Masks:
        """Return dense masks."""
        return self.engine.dense_masks()

    def prunable(self, masks: Masks) -> Masks:
        """Return all masks: no kernel of a run is frozen."""
        return masks

    def rewind_point(self) -> Weights:
        """Return all variables of round 0 after --rewind_to."""
        step = self.engine.rewind_step
        stored = self.store.rewind_point(step) if step else self.initialization(0)
        assert stored is not None, "`rewinding.make_sure` has trained it"
        return stored

    def scoring_inputs(self, start: Callable[[], Weights], trained: Weights) -> ScoringInputs:
        """Return {scoring input: function of the masks} on the sample."""
        return scoring_inputs(
            start,
            trained,
            gradients=lambda: self._gradients,
            flow=lambda *of: self._flow.of(*of),
            norms=self._norms,
            of_batch=self.engine.config.evidence_bn == "batch",
        )

    def _norms(self, weights: Weights, masks: Masks) -> Weights:
        images, labels = self._sample()
        batches = in_batches(self.engine.normalise(images), labels)
        return calibration.input_norms(self._network("float32"), weights, masks, batches)

    @functools.cached_property
    def _gradients(self) -> Gradients:
        """The gradients on the sample; of float16 in float32, where small ones would be zero."""
        images, labels = self._sample()
        float16 = self.engine.config.mixed_precision == "float16"
        network = self._network("float32") if float16 else self.engine.network
        return Gradients(network, in_batches(self.engine.normalise(images), labels))

    @functools.cached_property
    def _flow(self) -> Flow:
        return Flow(self._network("float64"))

    def _network(self, policy: str) -> keras.Model:
        """Build the run's network once more, with another dtype policy."""
        shape, classes = self.engine.directory.input_shape, self.engine.directory.classes
        return models.build(self.engine.config, shape, classes, seed=0, policy=policy)

    def _sample(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return images, uint8 (examples, h, w, c), and labels, by their place in the split."""
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


def _first_places(labels: Array, classes: int) -> Array:
    """Return the places of the first examples of each class, in the order of batches."""
    order = np.argsort(labels, kind="stable")
    begins = np.searchsorted(labels[order], np.arange(classes))
    ranks = np.arange(len(order)) - begins[labels[order]]
    places = order[ranks < EXAMPLES_PER_CLASS]
    return places[np.lexsort((places, labels[places], places // feeds.EVALUATION_BATCH))]
