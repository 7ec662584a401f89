"""What a user sees of the package and of `rounds`: names, help, what is printed, warnings."""

import inspect
import pydoc
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.pruning.allocation import SparsityTarget
from lottery_tf.rundir import RunDir

DATA = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32), np.arange(12) % 3


def network(*, seed=0, metrics=("accuracy",)):
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(3)]
    model = lottery_tf.masked(keras.Sequential(layers, name="net"))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # A fit of one step is over before its function would be traced.
    optimizer = keras.optimizers.Adam(0.01)
    model.compile(optimizer, loss, metrics=list(metrics), run_eagerly=True)
    return model


def train(model, rounds):
    for round in rounds:
        model.fit(*DATA, verbose=0, callbacks=round.callbacks)
    return round


# Names ----------------------------------------------------------------------------------------

LOOKED_AT = """
import sys, lottery_tf
names = dir(lottery_tf)
assert set(lottery_tf.__all__) | {"masking", "testing", "rundir", "errors"} <= set(names), names
assert hasattr(lottery_tf, "errors") and hasattr(lottery_tf, "rundir")
assert not hasattr(lottery_tf, "mask_everything")
assert not {"tensorflow", "keras"} & sys.modules.keys()
"""


def test_all_public_names_are_listed_without_keras():
    subprocess.run([sys.executable, "-c", LOOKED_AT], check=True)


def test_help_has_every_function():
    text = pydoc.plain(pydoc.render_doc(lottery_tf))
    functions = text[text.index("FUNCTIONS") :]
    for name in lottery_tf.__all__:
        if not inspect.isclass(getattr(lottery_tf, name)):
            assert f"\n    {name}(" in functions
        assert inspect.getdoc(getattr(lottery_tf, name))
    for name in ("masking", "testing", "rundir", "errors"):
        assert inspect.ismodule(getattr(lottery_tf, name))


@pytest.mark.parametrize("function", [lottery_tf.prune, lottery_tf.rounds])
def test_where_to_prune_is_in_the_signature(function):
    parameters, amount = inspect.signature(function).parameters, inspect.signature(SparsityTarget)
    assert not any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    for name in ("scope", "layer_fractions", "keep_dense", "min_layer_weights"):
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        if name not in ("scope", "layer_fractions"):  # wanda has a scope of its own
            assert parameters[name].default == amount.parameters[name].default
        assert name in function.__doc__
    with pytest.raises(TypeError, match="layer_fraction"):
        function(None, 0.2, layer_fraction={})


# What is printed ------------------------------------------------------------------------------


def test_a_row_is_printed_for_each_round(capsys):
    model = network()
    for round in lottery_tf.rounds(model, 3, 0.5):
        model.fit(*DATA, verbose=0, validation_data=DATA, callbacks=round.callbacks)
        printed = capsys.readouterr().out.splitlines()
        assert len(printed) == (2, 2, 1)[round.index]
    printed += capsys.readouterr().out.splitlines()
    assert printed[0].split()[:2] == ["1", "50.00%"]
    *_, loss, accuracy, seconds = printed[1].split()
    assert float(loss) == pytest.approx(round.history[2]["test_loss"], abs=1e-4)
    assert accuracy == f"{round.history[2]['test_accuracy']:.2%}"
    assert float(seconds) >= 0


def test_the_first_lines_say_where_it_starts_and_what_is_reset(capsys):
    model = network()
    lottery_tf.prune(model, 0.5)
    next(lottery_tf.rounds(model, 3, 0.5))
    first, second = capsys.readouterr().out.splitlines()
    assert "net" in first
    assert "50.00%" in first
    assert second.endswith(": optimizer (Adam).")


@pytest.mark.ci
def test_columns_without_a_value_are_left_out(capsys):
    train(network(metrics=()), lottery_tf.rounds(network(metrics=()), 2, 0.5))
    for _ in lottery_tf.rounds(network(), 2, 0.5):
        pass  # whose training is not known
    text = capsys.readouterr().out
    assert "acc" not in text
    assert "nan" not in text


def test_no_optimizer_at_all_is_said(capsys):
    model = lottery_tf.masked(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]))
    for _ in lottery_tf.rounds(model, 3, 0.5):
        pass
    (line,) = (one for one in capsys.readouterr().out.splitlines() if "optimizers=" in one)
    assert "holds none" in line


@pytest.mark.parametrize("verbose", [0, False])
def test_it_can_be_silent(verbose, capsys):
    model = network()
    train(model, lottery_tf.rounds(model, 2, 0.5, verbose=verbose))
    assert not capsys.readouterr().out


@pytest.mark.parametrize("verbose", [-1, "yes", None, 0.5])
def test_verbose_is_checked(verbose):
    with pytest.raises(InputError, match=r"^verbose: "):
        lottery_tf.rounds(network(), 2, 0.5, verbose=verbose)


def test_a_round_is_shown_in_one_line():
    round = next(lottery_tf.rounds(network(), 2, 0.5, verbose=0))
    assert repr(round) == "Round(index=0, density=1.0, optimizers=['optimizer (Adam)'])"


# A cell that runs again -----------------------------------------------------------------------


def test_a_second_call_on_a_trained_model_says_what_it_starts_from():
    model = network()
    train(model, lottery_tf.rounds(model, 3, 0.5, verbose=0))
    with pytest.warns(UserWarning, match=r"^rounds: net .*25\.00%.*set_weights"):
        again = lottery_tf.rounds(model, 3, 0.5, verbose=0)
    assert next(again).density == 0.25


def test_a_call_that_was_stopped_in_round_0_is_said_too():
    model = network()
    next(lottery_tf.rounds(model, 3, 0.5, verbose=0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        next(lottery_tf.rounds(model, 3, 0.5, verbose=0))  # nothing has trained
    model.fit(*DATA, verbose=0)
    with pytest.warns(UserWarning, match=r"^rounds: net .*100\.00%"):
        lottery_tf.rounds(model, 3, 0.5, verbose=0)


@pytest.mark.ci
def test_what_is_new_or_was_set_back_starts_without_a_warning():
    model = network()
    model.fit(*DATA, verbose=0)  # pretrained, and pruned
    lottery_tf.prune(model, 0.25)
    first = masking.get_weights(model), masking.get_masks(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, lottery_tf.rounds(model, 3, 0.5, verbose=0))
        masking.set_weights(model, *first)
        train(model, lottery_tf.rounds(model, 3, 0.5, verbose=0))
        train(model := network(), lottery_tf.rounds(model, 3, 0.5, verbose=0))


AMOUNTS = {
    "fraction": {"fraction": 0.5},
    "target_density": {"target_density": 0.1},
    "densities": {"densities": [0.5, 0.2]},
}


@pytest.mark.ci
@pytest.mark.parametrize("amount", AMOUNTS)
def test_a_directory_is_finished_whatever_the_model_went_through(amount, tmp_path, capsys):
    model = network()
    options = AMOUNTS[amount] | {"directory": tmp_path}
    expected = train(model, lottery_tf.rounds(model, 3, verbose=0, **options)).history
    ended = masking.get_weights(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(lottery_tf.rounds(model, 3, **options)) == []
    for path, array in masking.get_weights(model).items():
        np.testing.assert_array_equal(array, ended[path])
    printed = capsys.readouterr().out
    assert "3 of 3" in printed
    assert f"{expected[2]['density']:.2%}" in printed


# Loading what rounds kept ---------------------------------------------------------------------


@pytest.mark.ci
def test_a_directory_of_rounds_is_loaded_into_the_users_model(tmp_path):
    model = network()
    train(model, lottery_tf.rounds(model, 3, 0.5, directory=tmp_path, verbose=0))
    with pytest.raises(InputError, match=r"lottery_tf\.load\(.*model=model\)"):
        lottery_tf.load(tmp_path, 1)
    again = network(seed=3)
    assert lottery_tf.load(tmp_path, 1, model=again) is again
    for path, array in RunDir(tmp_path).final(1).items():
        np.testing.assert_array_equal(masking.get_weights(again)[path], array)
    for path, mask in RunDir(tmp_path).masks(1).items():
        np.testing.assert_array_equal(masking.get_masks(again)[path], mask)
    layers = [keras.Input((4,)), keras.layers.Dense(7), keras.layers.Dense(3)]
    other = lottery_tf.masked(keras.Sequential(layers))
    with pytest.raises(InputError, match=r"^directory: "):
        lottery_tf.load(tmp_path, 1, model=other)
    with pytest.raises(InputError, match=r"^load: .*net"):
        lottery_tf.load(tmp_path, 1, model="net")
