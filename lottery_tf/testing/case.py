"""Models of one layer, plain and masked, to compare with each other."""

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from lottery_tf import masking
from lottery_tf.masking import keras_generators
from lottery_tf.pruning import Array, Masks

EXAMPLES = 4


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer to be checked.

    Args:
        layer_class: as `check_masked_layer` takes it.
        options: the arguments of the class.
        data: an array, a list of arrays, or a dict {argument of the call: array}.
    """

    layer_class: type
    options: dict[str, Any]
    data: Any

    def model_of(self, layer: keras.Layer) -> keras.Model:
        """A model of a layer alone; several outputs become one."""
        if isinstance(self.data, dict):
            inputs = {name: _input(array, name) for name, array in self.data.items()}
            found = layer(**inputs)
        else:
            inputs = keras.tree.map_structure(_input, self.data)
            found = layer(inputs)
        outputs = keras.tree.flatten(found)
        if len(outputs) > 1:
            outputs = [keras.layers.Concatenate()(list(map(keras.layers.Flatten(), outputs)))]
        return keras.Model(inputs, outputs[0])

    def plain(self) -> keras.Model:
        """A plain model, always with the same weights."""
        return keras_generators.from_seed(
            0, lambda: self.model_of(self.layer_class(**self.options))
        )

    def masked(self) -> keras.Model:
        """A masked model that nothing is pruned of; its kernels are normal numbers."""
        model, generator = mask(self.plain()), np.random.default_rng(0)
        for kernel in masking.kernels(model).values():
            kernel.variable.assign(generator.normal(0, 0.5, kernel.variable.shape))
        return model

    def pruned(self) -> keras.Model:
        """A masked model that half of each kernel is pruned of."""
        model = self.masked()
        masking.set_weights(model, **half_pruned(model))
        return model

    def outputs(self, model: keras.Model) -> Array:
        """The outputs for the data, at inference, in float32."""
        return np.asarray(keras.ops.convert_to_numpy(model(self.data, training=False)), np.float32)

    def train(self, model: keras.Model, steps: int = 2) -> None:
        """Trains a compiled model on random targets."""
        shape = self.outputs(model).shape
        targets = np.float32(np.random.default_rng(1).normal(size=shape))
        for _ in range(steps):
            model.train_on_batch(self.data, targets)

    @contextlib.contextmanager
    def during(self, check: str, advice: str) -> Iterator[None]:
        """While it is open, errors name the check and say what to do."""
        try:
            yield
        except Exception as error:  # whatever Keras and the layer raise
            raise AssertionError(
                f"{self.layer_class.__name__}, {check}: {error} {advice}"
            ) from error


def _input(array, name=None):
    return keras.Input(np.shape(array)[1:], dtype=np.asarray(array).dtype.name, name=name)


def mask(model: keras.Model) -> keras.Model:
    """The masked copy of a model; that some of it stays dense is not said."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Left dense")
        return masking.masked(model)


def half_pruned(model: keras.Model) -> dict[str, Any]:
    """Masks that keep a random half of each kernel, and the weights under them."""
    generator, weights = np.random.default_rng(2), masking.get_weights(model)
    masks: Masks = {}
    for path, kept in masking.get_masks(model).items():
        order = generator.permutation(kept.size).reshape(kept.shape)
        masks[path] = order < (kept.size + 1) // 2
        weights[path] = np.where(masks[path], weights[path], 0)
    return {"weights": weights, "masks": masks}
