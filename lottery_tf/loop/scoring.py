"""What criteria are a function of, gathered from a network and a sample of its data."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from lottery_tf import masking
from lottery_tf.errors import InputError, is_ours
from lottery_tf.loop import calibration, checks
from lottery_tf.loop.pruning_rounds import ScoringInputs
from lottery_tf.masking import keras_generators, keras_private
from lottery_tf.masking.batches import BATCH_SIZE, Batch, examples_of, in_batches
from lottery_tf.pruning import Masks, Weights, criteria
from lottery_tf.pruning.criteria import Criterion

if TYPE_CHECKING:  # it imports the backend's own library
    from lottery_tf.masking.gradients import Flow, Gradients

BATCHES = 100  # at most so many are read of what comes in batches
FORMS = (
    "what fit takes: (inputs, labels), (inputs, labels, sample_weight), inputs alone, a "
    "tf.data.Dataset, a PyDataset, or a generator"
)


def scoring_inputs(
    start: Callable[[], Weights],
    trained: Weights,
    *,
    gradients: Callable[[], "Gradients"],
    flow: Callable[[Weights, Masks], Weights],
    norms: Callable[[Weights, Masks], Weights],
    of_batch: bool = True,
) -> ScoringInputs:
    """Return {scoring input: function of the masks}: criteria.INPUTS without "trained", "uniform".

    Args:
        start: a function that returns {variable path: array}, before the training of a round.
        trained: {variable path: array}, after it.
        gradients: a function that returns the Gradients of the network on a sample.
        flow: a function of (weights, masks): the derivatives of SynFlow's objective.
        norms: a function of (weights, masks): the norms of the inputs of every weight.
        of_batch: whether BatchNorm takes the statistics of a batch before the training of a round.
    """
    return {
        "initial": lambda masks: start(),
        "initial_gradient": lambda masks: gradients().mean(start(), masks, training=of_batch),
        "trained_gradient": lambda masks: gradients().mean(trained, masks, training=False),
        "initial_hessian_gradient": lambda masks: gradients().hessian_product(
            start(), masks, training=of_batch
        ),
        "initial_flow": lambda masks: flow(start(), masks),
        "input_norm": lambda masks: norms(trained, masks),
    }


def gradients_of(model: keras.Model, sample: "Sample | None") -> "Gradients":
    """Return the Gradients of a user's model on a sample, of the loss that `fit` minimizes."""
    from lottery_tf.masking.gradients import Gradients, loss_of_class_numbers, loss_of_fit

    has_own = type(model).compute_loss is not keras.Model.compute_loss
    loss = loss_of_fit if model.compiled or has_own else loss_of_class_numbers
    assert sample, "`checks.check_scoring` asks for data"
    return Gradients(model, sample.batches, loss=loss)


def of_model(
    model: keras.Model,
    start: Callable[[], Weights],
    trained: Weights,
    sample: "Sample | None",
    gradients: "Callable[[], Gradients] | None" = None,
) -> ScoringInputs:
    """Return the scoring inputs of a user's model and data; arguments as in `scoring_inputs`.

    Without `gradients` they are compiled anew, as the model may have changed.

    Raises:
        InputError: when one of them is gathered, the loss cannot be computed on the sample.
    """
    gradients = gradients or functools.cache(functools.partial(gradients_of, model, sample))

    @functools.cache
    def flow_of_copy() -> "Flow":
        from lottery_tf.masking.gradients import Flow, in_float64

        return Flow(in_float64(model))

    def flow(weights: Weights, masks: Masks) -> Weights:
        copy = flow_of_copy().model
        # A copy may name its nested variables otherwise; their order is the model's.
        names = dict(zip(masking.variables(model), masking.variables(copy), strict=True))
        found = flow_of_copy().of(
            {names[path]: array for path, array in weights.items()},
            {names[path]: mask for path, mask in masks.items()},
        )
        return {path: found[names[path]] for path in masks}

    def norms(weights: Weights, masks: Masks) -> Weights:
        assert sample, "`checks.check_scoring` asks for data"
        return calibration.input_norms(model, weights, masks, sample.batches)

    held = masking.get_masks(model)

    def gathering(name: str, gather: Callable[[Masks], Weights]) -> Callable[[Masks], Weights]:
        def gathered(masks: Masks) -> Weights:
            try:
                with keras_generators.kept():  # what is gathered may come from a copy
                    # A network computes with all of its masks, those of frozen layers too.
                    return gather(held | masks)
            except InputError:
                raise
            except Exception as error:  # whatever the user's loss, model or data raise
                reason = " ".join(str(error).split())
                if _lacks_gradient(error):
                    raise InputError(
                        f"criterion: it needs the {name} of {model.name}, but "
                        f"{keras.backend.backend()} has no gradient of an operation in it or in "
                        f"its loss: {reason:.400} Use a criterion of the weights alone (magnitude, "
                        "movement, random), compute with other operations of keras.ops, or give "
                        "this one a gradient by keras.ops.custom_gradient."
                    ) from error
                if name not in criteria.FROM_LOSS or is_ours(error):
                    raise
                raise InputError(
                    f"data: expected inputs and labels on which `fit` could train {model.name}; "
                    f"its loss cannot be computed on them. {type(error).__name__}: {reason:.400}"
                ) from error

        return gathered

    inputs = scoring_inputs(start, trained, gradients=gradients, flow=flow, norms=norms)
    return {name: gathering(name, gather) for name, gather in inputs.items()}


def _lacks_gradient(error: Exception) -> bool:
    from lottery_tf.masking.gradients import lacks_gradient

    return lacks_gradient(error)


def check_gradients(
    model: keras.Model,
    criterion: Criterion,
    sample: "Sample | None",
    gradients: "Callable[[], Gradients] | None" = None,
) -> None:
    """Raise InputError if the gradients that a criterion needs cannot be computed on the sample."""
    masks, weights = checks.prunable(model), masking.get_weights(model)
    inputs = of_model(model, lambda: weights, weights, sample, gradients)
    for name in sorted(criteria.needs(criterion) & criteria.FROM_DATA):
        for path, gradient in inputs[name](masks).items():
            if not np.isfinite(gradient).all():
                raise InputError(
                    f"data: expected a finite loss. Received: the {name} of {path} is not finite."
                )


class Sample:
    """The data of one call of `prune` or `rounds`, read once, when they are first needed.

    All examples of arrays are used. Of a dataset, a loader or a generator, the first BATCHES
    batches are.

    Args:
        data: as the user gives it: a tuple (or list) of inputs, labels and sample weights, of which
            the last ones may be missing; else inputs, or what yields batches.

    Raises:
        InputError: it is not what `fit` takes, or arrays have different numbers of examples.
    """

    def __init__(self, data: Any):
        if not isinstance(data, tuple | list):
            data = (data,)
        if not 1 <= len(data) <= 3:
            raise InputError(f"data: expected {FORMS}. Received: a tuple of {len(data)} elements")
        self._parts = (*data, None, None)[:3]
        arrays = [a for a in keras.tree.flatten(self._parts) if a is not None]
        self._is_plain = all(isinstance(a, np.ndarray) or keras.ops.is_tensor(a) for a in arrays)
        if self._is_plain:
            sizes = [a.shape[0] if len(a.shape) else None for a in arrays]
            if data[0] is None or len(set(sizes)) != 1 or not sizes[0]:
                found = ", ".join(f"{size} examples" for size in sizes) or "none"
                raise InputError(
                    f"data: expected {FORMS}; arrays of the same number of examples, at least one. "
                    f"Received: arrays of {found}"
                )

    @functools.cached_property
    def batches(self) -> list[Batch]:
        """Return [(inputs, labels, sample weights)].

        Raises:
            InputError: they cannot be read, or there is none.
        """
        if (
            self._is_plain
        ):  # with the numbers as they are, where `fit` would make float32 of float64
            return in_batches(*self._parts)
        try:
            found = [keras.utils.unpack_x_y_sample_weight(batch) for batch in self._read()]
            for batch in found:
                examples_of(batch)
        except Exception as error:  # whatever a dataset or generator of the user's raises
            if is_ours(error):
                raise
            raise InputError(
                f"data: expected {FORMS}. Reading {type(self._parts[0]).__name__} failed: {error}"
            ) from error
        if not found:
            raise InputError(f"data: expected {FORMS}, at least one batch. Received: none")
        return found

    def draw(self, generator: np.random.Generator, turn: int) -> Batch:
        """Return a batch: of arrays BATCH_SIZE examples drawn at random, else the turn's.

        Raises:
            InputError: as `batches`.
        """
        if not self._is_plain:
            return self.batches[turn % len(self.batches)]
        count = examples_of(self._parts)
        places = np.sort(generator.choice(count, min(BATCH_SIZE, count), replace=False))

        def take(array: Any) -> Any:
            if array is None or isinstance(array, np.ndarray):
                return array if array is None else array[places]
            return keras.ops.take(array, places, axis=0)

        return keras.tree.map_structure(take, self._parts)

    def _read(self) -> Iterator[Any]:
        data, *others = self._parts
        if isinstance(data, keras.utils.PyDataset) and others == [None, None]:
            # By its index: workers of its own would run on after the last batch that is needed.
            count = BATCHES if data.num_batches is None else min(BATCHES, data.num_batches)
            return (data[index] for index in range(count))
        batches = keras_private.numpy_batches(data, *others, size=BATCH_SIZE)
        return itertools.islice(batches, None if _has_length(data) else BATCHES)


def _has_length(data: Any) -> bool:
    """Return whether data are arrays of a library, all of which are used."""
    return all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(data))
