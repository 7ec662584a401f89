"""A user's Keras model as the Network of `PruningRounds`."""

from collections.abc import Callable

import keras

from lottery_tf import masking
from lottery_tf.loop import checks, scoring
from lottery_tf.loop.callbacks import RewindPoint
from lottery_tf.loop.initialization import initialization
from lottery_tf.loop.model_store import ModelStore
from lottery_tf.loop.pruning_rounds import ScoringInputs
from lottery_tf.pruning import Masks, Weights


class ModelNetwork:
    """A masked Keras model that its user trains.

    Args:
        model: masked and built.
        first: {variable path: array}, W_0.
        seed: of fresh weights.
        sample: of the data, for criteria that need gradients.
        store: ModelStore that may hold the rewind point.
        point: RewindPoint, which keeps it in round 0; None where no round rewinds.
    """

    def __init__(
        self,
        model: keras.Model,
        first: Weights,
        seed: int,
        sample: scoring.Sample | None,
        store: ModelStore | None,
        point: RewindPoint | None,
    ):
        self.model, self.first, self.seed, self.sample = model, first, seed, sample
        self.store, self.point = store, point

    def initialization(self, round: int) -> Weights:
        """Return W_0 of round 0, and fresh weights of a later one."""
        return initialization(self.model, self.first, self.seed, round) if round else self.first

    def masks(self) -> Masks:
        """Return the masks that the model has."""
        return masking.get_masks(self.model)

    def prunable(self, masks: Masks) -> Masks:
        """Return the masks of kernels that are not frozen."""
        return {path: masks[path] for path in checks.prunable(self.model)}

    def rewind_point(self) -> Weights:
        """Return the variables that round 0 kept."""
        assert self.point, "reset=rewind has one"
        stored = self.store.rewind_point(self.point.step) if self.store else None
        return self.point.kept() if stored is None else stored

    def scoring_inputs(self, start: Callable[[], Weights], trained: Weights) -> ScoringInputs:
        """Return {scoring input: function of the masks} on the user's data."""
        return scoring.of_model(self.model, start, trained, self.sample)
