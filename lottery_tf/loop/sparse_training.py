"""`SparseTraining`: a callback that trains a sparse model whose masks change, RigL and SET."""

import functools
import numbers
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from lottery_tf import masking, pruning
from lottery_tf.errors import InputError
from lottery_tf.loop import checks, scoring
from lottery_tf.loop.mask_updates import MaskUpdates
from lottery_tf.loop.prune import Data
from lottery_tf.masking import optimizer_state
from lottery_tf.masking.optimizer_state import Optimizer
from lottery_tf.pruning import Weights, criteria, regrowth, streams
from lottery_tf.pruning.allocation import SparsityTarget, allocate


class SparseTraining(MaskUpdates):
    """Train a masked model at a constant density, and move its weights to where they help.

        training = lottery_tf.SparseTraining(density=0.1, data=(images, labels))
        model.fit(images, labels, epochs=10, callbacks=[training])

    A dense model begins with random masks of this density; a model that was pruned to this density
    keeps its masks. After every `update_every` steps each layer drops its smallest weights and
    grows as many others. New weights and their slots begin at zero. regrow="gradient" grows the
    weights with the largest gradient of the loss (RigL, Evci et al. 2020); "random" grows any
    (SET, Mocanu et al. 2018). A weight that is dropped and grown in one update stays as it is. The
    part that is dropped falls along half a cosine. Every layer keeps its number of weights.

    Steps, logs, a second fit, resuming and `steps_per_execution` work as in `GradualPruning`: put
    the callback before all others. RigL's paper skips the update of the weights in a step that
    changes the masks; here no batch is skipped.

    Args:
        density: the part of the prunable weights that is alive, in (0, 1).
        regrow: "gradient" or "random".
        update_every: the number of steps between two changes of the masks.
        drop_fraction: the part of a layer's weights that the first change drops, in (0, 1).
        update_until: changes happen before this step. Default: three quarters of the steps of the
            first fit.
        data: for regrow="gradient", training data in any form that `fit` takes. Each change
            computes the gradient of one batch: of arrays 500 examples, drawn anew; of batches one
            of the first 100, which are read once and stay in memory.
        seed: the seed of the first masks, of the examples, and of random growth.
        scope: how the first masks spread the density. "erk": denser in small layers (Evci et al.
            2020). "layer": the same density in each layer.
        keep_dense: see `prune`.
        min_layer_weights: see `prune`.
        optimizer: the optimizer whose updates are the steps. Default: that of the compiled model.

    Raises:
        InputError: when the callback is made, a value is out of bounds. When `fit` begins, before
            anything trains: the model has no masks, a layer is unknown, the density is above that
            of the model, the changes end after the fit, or the loss cannot be computed on the data.
    """

    def __init__(
        self,
        density: float,
        *,
        regrow: str = "gradient",
        update_every: int = 100,
        drop_fraction: float = 0.3,
        update_until: int | None = None,
        data: Data = None,
        seed: int = 0,
        scope: str = "erk",
        keep_dense: Sequence[str] = (),
        min_layer_weights: int = 0,
        optimizer: Optimizer | None = None,
    ):
        super().__init__(optimizer)
        checks.whole_number(1, update_every=update_every)
        checks.whole_number(0, below=streams.SEEDS, seed=seed)
        if update_until is not None:
            checks.whole_number(1, update_until=update_until)
            regrowth.update_steps(update_every, update_until)
        _check_regrow(regrow, data)
        _check_part(drop_fraction)
        self.where = checks.where(scope, "random", None, keep_dense, min_layer_weights)
        self.target = SparsityTarget(density=density, **self.where)
        self.regrow, self.update_every, self.seed = regrow, update_every, seed
        self.drop_fraction, self.update_until = drop_fraction, update_until
        self.sample = None if data is None else scoring.Sample(data)

    def prepare(self, model: keras.Model) -> None:
        self.target = checks.make_target(model, None, self.target.density, self.where)
        allocate(self.target, checks.prunable(model))

    def plan(self, step: int, last: int | None) -> Sequence[int]:
        if self.update_until is None and last is None:
            raise InputError(
                f"{self.name}: Keras does not know how long this fit is: pass update_until=, the "
                "step at which the masks stop to change."
            )
        if self.update_until is None:
            assert last is not None
            self.update_until = last * 3 // 4
        return regrowth.update_steps(self.update_every, self.update_until)

    def begin(self, step: int) -> None:
        self._gradients = functools.cache(
            functools.partial(scoring.gradients_of, self.model, self.sample)
        )
        before, trained = checks.prunable(self.model), masking.get_weights(self.model)
        if self.regrow == "gradient":
            self._gradient(trained, step)  # fails before anything trains
        masks, _ = pruning.prune(  # none goes where the density is reached
            trained,
            before,
            self.target,
            criterion="random",
            uniform=functools.partial(streams.uniform, self.seed, 0),
        )
        if pruning.remaining(masks) < pruning.remaining(before):
            checks.warn_of_death(before, masks, another=False, stacklevel=2)
            optimizer_state.set_masks(self.model, masks, self.optimizers)

    def change(self, due: int) -> None:
        assert self.update_until, "`plan` sets it"
        masking.apply_masks(self.model)  # what grows begins with zeros: weights and slots
        optimizer_state.forget_pruned(self.model, self.optimizers)
        before, trained = checks.prunable(self.model), masking.get_weights(self.model)
        if self.regrow == "gradient":
            scores = self._gradient(trained, due)
        else:
            scores = streams.growth(self.seed, 0, due, before)
        fraction = regrowth.drop_fraction(self.drop_fraction, due, self.update_until)
        masks = regrowth.regrow(trained, scores, before, fraction)
        optimizer_state.set_masks(self.model, masks, self.optimizers)

    def _gradient(self, weights: Weights, step: int) -> Weights:
        """Return {kernel path: |gradient|} of all weights, pruned ones too, on one batch.

        Weights that are zero act as pruned ones do, so the gradient is taken under full masks.
        """
        assert self.sample, "the gradient needs data"
        generator = streams.growth_examples(self.seed, 0, step)
        self._gradients().batches = [self.sample.draw(generator, step // self.update_every)]
        held, masks = masking.get_masks(self.model), checks.prunable(self.model)
        full = {path: np.ones_like(mask) for path, mask in masks.items()}
        zeros = pruning.apply_masks(weights, held)
        inputs = scoring.of_model(self.model, lambda: zeros, zeros, self.sample, self._gradients)
        found = inputs["initial_gradient"](held | full)
        return {path: np.abs(found[path]) for path in masks}


def _check_part(value: Any) -> None:
    is_number = isinstance(value, numbers.Real)
    if not is_number or not 0 < value < 1:
        raise InputError(f"drop_fraction: expected a number in (0, 1). Received: {value!r}")


def _check_regrow(regrow: object, data: Data) -> None:
    if regrow not in list(regrowth.REGROW):  # whatever it is, without a hash
        why = (
            " A criterion of weights cannot revive one: those that are pruned are all zero."
            if callable(regrow) or regrow in list(criteria.CRITERIA)
            else ""
        )
        raise InputError(
            f"regrow: expected one of {', '.join(regrowth.REGROW)}. Received: {regrow!r}.{why}"
        )
    if regrow == "gradient" and data is None:
        raise InputError(
            "regrow=gradient: it needs gradients: pass data=(inputs, labels), or use regrow=random."
        )
    if regrow == "random" and data is not None:
        raise InputError("data: regrow=random does without. Leave one of them out.")
