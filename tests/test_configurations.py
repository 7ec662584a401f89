"""The table of `tests.configurations` has every layer with weights; a configuration of each."""

import inspect

import keras
import pytest

from lottery_tf import masking
from lottery_tf.masking import layers
from tests import configurations

# They hold programs and statistics of the user's; RNN holds cells, which have rows.
OTHERS = {"TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper", "Normalization", "RNN"}


def test_every_layer_with_weights_is_in_the_table():
    with_weights = {
        kind.__name__
        for kind in vars(keras.layers).values()
        if isinstance(kind, type) and kind is not keras.Layer
        if any(word in inspect.getsource(kind) for word in ("add_weight(", "add_variable("))
    }
    # Keras names this class otherwise than `keras.layers` does.
    table = {getattr(keras.layers, name).__name__ for name in configurations.table()}
    assert with_weights - table == OTHERS & with_weights
    kinds = (*masking.MASKED, *layers.COMPOSITE)
    known = {kind.__name__ for kind in kinds if kind.__module__.startswith("keras.")}
    assert known - table == {"ConvLSTMCell"}  # ConvLSTM makes it


@pytest.mark.ci
@pytest.mark.parametrize("name", configurations.table())
def test_a_configuration_of_each_layer_keeps_what_masks_promise(name, tmp_path):
    found = configurations.table()[name]
    stay_dense = configurations.STAY_DENSE.get(name, frozenset())
    configurations.check(found[len(found) // 2], tmp_path, stay_dense)
