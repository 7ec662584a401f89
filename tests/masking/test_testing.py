"""lottery_tf.testing.check_masked_layer: good layers of one's own pass, and each fault is named."""

import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import lottery_tf
from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.masking import copying, layers, mask_variable
from lottery_tf.masking.mask_variable import KeepMasked
from lottery_tf.testing import check_masked_layer
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def same_tables():
    """Tables of layers are as they are without the layers of these tests."""
    before = dict(masking.MASKED)
    yield
    masking.MASKED.clear()
    masking.MASKED.update(before)


@keras.saving.register_keras_serializable("tests")
class Gated(keras.layers.Layer):
    """Two kernels of its own: inputs @ table * sigmoid(inputs @ gate) + bias."""

    table = gate = None

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units

    def build(self, input_shape):
        shape = (input_shape[-1], self.units)
        self.table = self.add_weight(shape=shape, initializer="normal", name="table")
        self.gate = self.add_weight(shape=shape, initializer="normal", name="gate_kernel")
        self.bias = self.add_weight(shape=(self.units,), name="bias")

    def call(self, inputs):
        gates = keras.ops.sigmoid(keras.ops.matmul(inputs, self.gate))
        return keras.ops.matmul(inputs, self.table) * gates + self.bias

    def get_config(self):
        return super().get_config() | {"units": self.units}


def check(layer, kernels=("table", "gate"), **options):
    registered = masking.masked_layer(*kernels)(layer)
    assert registered is layer
    check_masked_layer(layer, {"units": 3}, input_shape=(5,), **options)


@pytest.mark.ci
def test_a_layer_with_kernels_of_its_own_passes():
    check(Gated, kernels=("table", "gate"))
    masked = lottery_tf.masked(keras.Sequential([keras.Input((5,)), Gated(3, name="gated")]))
    assert set(masking.get_masks(masked)) == {
        "sequential/gated/table",
        "sequential/gated/gate_kernel",
    }
    assert keras.saving.get_registered_name(type(masked.layers[0])) == "tests>MaskedGated"


@pytest.mark.ci
@pytest.mark.filterwarnings("ignore:.*does not have a `build")  # as many have none
def test_a_layer_that_holds_layers_passes():
    from tests.masking.test_user_layers import TransformerBlock

    names = ["kernel"] * 6
    check_masked_layer(
        TransformerBlock, {"width": 4, "heads": 2}, input_shape=(5, 4), kernels=names
    )


class KeepsTheVariable(Gated):
    def build(self, input_shape):
        super().build(input_shape)
        self.kept = [self.table]

    def call(self, inputs):
        return super().call(inputs) + keras.ops.matmul(inputs, self.kept[0])


class ForgetsItsUnits(Gated):
    def __init__(self, units=2, **options):
        super().__init__(units, **options)

    def get_config(self):
        return {"name": self.name}


class RevivesItsWeights(Gated):
    def call(self, inputs, training=False):
        if training:
            variable = self.__dict__["table"]
            variable.assign(variable + 1.0)
        return super().call(inputs)


class InFloat32(Gated):
    def call(self, inputs):
        return tf.matmul(inputs, tf.ones((5, 3))) + super().call(inputs)


class NotCompiled(Gated):
    def call(self, inputs):
        if not tf.executing_eagerly():
            raise TypeError("inputs are not eager")
        return super().call(inputs)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor((inputs.shape[0], self.units), self.compute_dtype)


class SavesInItsOwnWay(Gated):
    def save_own_variables(self, store):
        for index, variable in enumerate(self.weights):
            store[str(index)] = variable


# A layer that breaks a promise: the check that must name it, and what it says.
BROKEN = {
    KeepsTheVariable: r"KeepsTheVariable, pruned weights: .*/table acts.*self\.<kernel>",
    ForgetsItsUnits: r"ForgetsItsUnits, masks: .*get_config",
    RevivesItsWeights: r"RevivesItsWeights, gradients: .*/table is not zero",
    InFloat32: r"InFloat32, mixed_float16: (.|\n)*self\.compute_dtype",
    NotCompiled: r"NotCompiled, fit: (.|\n)*not eager(.|\n)*compiled function",
    SavesInItsOwnWay: r"SavesInItsOwnWay, saving and loading \.keras: (.|\n)*get_config",
}


@pytest.mark.ci
@pytest.mark.parametrize("layer", BROKEN)
def test_a_layer_that_breaks_a_promise_is_told_which(layer):
    with pytest.raises(AssertionError, match=BROKEN[layer]):
        check(layer, custom_objects={layer.__name__: layer}, optimizers={})


@pytest.mark.parametrize(
    ("kernels", "words"), [(("table",), r"\['table'\]"), (("tabel",), "tabel.*None")]
)
def test_a_kernel_without_a_mask_is_told(kernels, words):
    with pytest.raises(AssertionError, match=f"Gated, masks: .*{words}.*masked_layer"):
        check_registered(kernels, ("table", "gate_kernel"))


def check_registered(registered, expected):
    masking.masked_layer(*registered)(Gated)
    check_masked_layer(Gated, {"units": 3}, input_shape=(5,), kernels=expected)


def straight_through(mask, kernel):
    kept = mask_as_it_is(mask, kernel)
    return kernel + keras.ops.stop_gradient(kept - kernel)


mask_as_it_is = mask_variable.select


# Faults of the package: what is changed, and the check that must find it.
PLANTED = {
    "outputs": (layers, "select", lambda mask, kernel: 2 * mask_as_it_is(mask, kernel)),
    "gradients": (layers, "select", straight_through),
    "the optimizer momentum": (KeepMasked, "__call__", lambda self, kernel: kernel),
    "saving and loading .keras": (
        mask_variable.SavedMasks,
        "save_own_variables",
        lambda self, store: None,
    ),
    "unmasked": (masking, "unmasked", lambda model: model),
}


@pytest.mark.ci
@pytest.mark.parametrize("name", PLANTED)
def test_each_check_finds_its_fault(name, monkeypatch):
    monkeypatch.setattr(copying, "check_same", lambda *_: None)  # it would see some
    monkeypatch.setattr(*PLANTED[name])
    with pytest.raises(AssertionError, match=f"^Dense, {re.escape(name)}: "):
        check_masked_layer(keras.layers.Dense, {"units": 3}, input_shape=(5,), policies=())


def test_wrong_arguments_are_named():
    with pytest.raises(InputError, match="Received: neither"):
        check_masked_layer(Gated, {"units": 3})
    with pytest.raises(InputError, match="Received: both"):
        check_masked_layer(Gated, {"units": 3}, input_shape=(5,), input_data=np.ones((2, 5)))
    for kernels in ((), (Gated,), ("two words",)):
        with pytest.raises(InputError, match=r"^masked_layer: .*Received: "):
            masking.masked_layer(*kernels)
    with pytest.raises(InputError, match=r"keras\.Layer.*Received: 3"):
        masking.masked_layer("kernel")(3)
    with pytest.raises(InputError, match=r"Gated.*Received: kernels"):
        masking.masked_layer("kernels")(Gated)
    assert Gated not in masking.MASKED


def test_the_package_alone_does_not_import_the_checks():
    code = "import lottery_tf, sys; assert 'lottery_tf.testing' not in sys.modules"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
