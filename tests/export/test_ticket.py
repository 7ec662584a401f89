"""Rounds and models to export, and the data that they are compared on."""

import json
import math
import re

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf.errors import InputError
from lottery_tf.export import ticket
from lottery_tf.reports import verdicts
from tests.export import networks
from tests.made_runs import make_run, set_metrics

NONE, ONE = np.zeros(3, np.float32), np.ones(3, np.float32)


@pytest.mark.parametrize(("height", "width"), [(24, 24), (50, 33), (16, 40)])
def test_raw_images_of_any_size_become_those_of_the_network(height, width):
    raw = np.random.default_rng(0).integers(0, 256, (2, height, width, 3)).astype(np.uint8)
    images = ticket.RawImages((16, 16, 3), "uint8", NONE, ONE, True)
    cropped = images.cropped(raw)
    assert cropped.shape == (2, 16, 16, 3)
    assert cropped.dtype == np.uint8
    assert np.array_equal(images.normalised(raw), cropped / np.float32(255))


@pytest.mark.parametrize(("dtype", "white"), [("uint8", 255), ("uint16", 65535), ("float32", 1)])
def test_a_network_behind_raw_images_gets_what_training_gave_it(dtype, white):
    mean, std = np.array([0.5, 0.4, 0.3], np.float32), np.array([0.2, 0.3, 0.4], np.float32)
    images = ticket.RawImages((4, 4, 3), dtype, mean, std, False)
    raw = (np.random.default_rng(0).random((2, 4, 4, 3)) * white).astype(dtype)
    inputs = keras.Input((4, 4, 3))
    network = keras.Model(inputs, keras.layers.Flatten()(inputs))
    found = np.asarray(images.before(network)(raw))
    expected = (raw.astype(np.float32) / white - mean) / std
    assert np.allclose(found, expected.reshape(2, -1), atol=1e-5)
    assert np.allclose(images.normalised(raw), expected, atol=1e-6)


@pytest.fixture
def measured(config):
    """A run whose rounds have these accuracies on 10,000 examples."""
    run = make_run(config(), rounds=5)
    for round, accuracy in enumerate([0.9, 0.92, 0.85, 0.9, 0.8975]):
        set_metrics(run, round, test_accuracy=accuracy)
    (run.path / "data.json").write_text(json.dumps({"test": {"examples": 10_000}}))
    return run


def test_the_best_round_is_the_sparsest_that_is_as_accurate(measured):
    assert ticket.best_round(measured, 0)[0] == 3
    assert ticket.best_round(measured, 0.011)[0] == 4
    with pytest.raises(InputError, match=r"^--tolerance.* -0\.1$"):
        ticket.best_round(measured, -0.1)


def test_the_best_round_is_by_default_the_sparsest_that_the_verdict_calls_matching(measured):
    # One standard deviation of 90% on 10,000 examples is 0.3 points.
    number, words = ticket.best_round(measured)
    rows = measured.metrics()
    assert number == 4
    assert verdicts.sparsest_match(rows, 10_000) == rows[number]["density"]
    assert re.search(r"\b90\.00%.*\b0\.3\b", words)
    set_metrics(measured, 4, collapse="one class for all test examples")
    assert ticket.best_round(measured)[0] == 3
    for round in (1, 3):
        set_metrics(measured, round, test_accuracy=0.5)
    assert ticket.best_round(measured)[0] == 0  # no pruned network matches


def test_the_best_round_says_on_which_examples_it_was_chosen(measured, config):
    assert "test split" in ticket.best_round(measured)[1]
    path = measured.path / "config.json"
    path.write_text(config(test_split="validation").to_json())
    assert "validation" in ticket.best_round(measured)[1]
    path.write_text(config(test_fraction=0.1).to_json())
    assert "--test_fraction=0.1" in ticket.best_round(measured)[1]


@pytest.mark.parametrize("gone", [{"test_accuracy": math.nan}, {"collapse": "one class"}])
def test_without_a_dense_accuracy_no_round_is_the_best(measured, gone):
    set_metrics(measured, 0, **gone)
    with pytest.raises(InputError, match="--round=best"):
        ticket.best_round(measured)


def test_rounds_that_are_not_finished_are_refused(measured):
    for wrong in ("5", "-1", "latest"):
        with pytest.raises(InputError, match=f"^--round.* 0 to 4.* {wrong}$"):
            ticket.of_run(measured.path, wrong)


def test_models_and_inputs_that_do_not_fit_are_named(tmp_path):
    (tmp_path / "no.keras").write_text("nothing")
    with pytest.raises(InputError, match=r"^--model=.*no\.keras"):
        ticket.of_file(tmp_path / "no.keras")
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "plain.keras")
    with pytest.raises(InputError, match=r"(?i)masked"):
        ticket.of_file(tmp_path / "plain.keras")
    lottery_tf.masked(networks.two_inputs()).save(tmp_path / "own.keras")
    np.savez(tmp_path / "given.npz", first=np.zeros((1, 6)))
    with pytest.raises(InputError, match=r"^--inputs=.* first, second\b.* first$"):
        ticket.of_file(tmp_path / "own.keras", inputs=tmp_path / "given.npz")
    for shape, named in {
        (1, 4): r" second .*\(None, 4, 5\).* \(1, 4\)$",
        (1, 4, 6): r" second .*\(None, 4, 5\).* \(1, 4, 6\)$",
        (0, 4, 5): r" second .*\(None, 4, 5\).* \(0, 4, 5\)$",
        (2, 4, 5): r" {'first': 1, 'second': 2}$",
    }.items():
        np.savez(tmp_path / "given.npz", first=np.zeros((1, 6)), second=np.zeros(shape))
        with pytest.raises(InputError, match=named):
            ticket.of_file(tmp_path / "own.keras", inputs=tmp_path / "given.npz")
