"""What belongs to the caller's process stays as it is, whatever a function of the library does."""

import logging
import os
import pickle
import random
import sys
import warnings

import absl.logging
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.common import global_state
from tensorflow.python.eager import context
from tensorflow.python.framework import config as tf_config

import lottery_tf
import lottery_tf.rundir
import lottery_tf.testing
from lottery_tf import datasets, imp, masking, models
from lottery_tf.analysis import barriers
from lottery_tf.export import exporting, ticket
from lottery_tf.export.formats import Choices
from lottery_tf.masking import keras_generators
from lottery_tf.pruning.resets import RESETS
from lottery_tf.training.devices import connect
from lottery_tf.training.engine import Engine
from tests.made_runs import make_run
from tests.versions import since

pytestmark = pytest.mark.versions

IMAGES = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
LABELS = np.arange(20) % 3


def state():
    """{what: value} of all that a library function must not change in the process."""
    generator = global_state.get_global_attribute("global_seed_generator")
    now = context.context()
    logger = logging.getLogger("tf2onnx")
    return {
        "python": random.getstate(),
        "numpy": pickle.dumps(np.random.get_state()),
        "keras seed": global_state.get_global_attribute("global_random_seed"),
        "keras generator": generator and (id(generator), generator.state.numpy().tolist()),
        "tensorflow seed": getattr(now, "_seed", None),
        "tensorflow generator": now._rng.getstate() if hasattr(now, "_rng") else None,
        "names": dict(global_state.get_global_attribute("object_name_uids") or {}),
        "policy": keras.config.dtype_policy().name,
        "settings": (
            keras.config.floatx(),
            keras.config.epsilon(),
            keras.config.image_data_format(),
            keras.config.backend(),
        ),
        "deterministic": tf_config.is_op_determinism_enabled(),
        "eager": (
            tf.executing_eagerly(),
            tf.config.functions_run_eagerly(),
            tf.config.optimizer.get_jit(),
            tf.config.get_soft_device_placement(),
        ),
        "strategy": id(tf.distribute.get_strategy()),
        "environment": dict(os.environ),
        "warnings": list(warnings.filters),
        "logging": (absl.logging.get_verbosity(), logging.root.level, logger.level),
        "numpy errors": np.geterr(),
        "directory": os.getcwd(),
        "path": list(sys.path),
        "finders": list(sys.meta_path),
    }


@pytest.fixture(autouse=True)
def odd_process():
    """A process in the midst of the user's own work: nothing in it is at its default."""
    before = keras.config.dtype_policy()
    keras.utils.set_random_seed(7)
    keras.config.set_dtype_policy("mixed_bfloat16")
    for _ in range(3):
        random.random()
        np.random.random()
        keras.random.normal((1,))  # draws from Keras's global generator
        tf.random.uniform(())
        keras.layers.Dense(1)
    yield
    keras.config.set_dtype_policy(before)


def plain():
    image = keras.Input((6,))
    features = keras.layers.Dense(8, activation="relu", dtype="float32")(image)
    features = keras.layers.Dropout(0.5, dtype="float32")(features)
    model = keras.Model(image, keras.layers.Dense(3, dtype="float32")(features))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    return model


def of_model(function):
    """A case: what the function does to a masked model that is there before."""

    def prepared(config):
        model = lottery_tf.masked(plain())
        return lambda: function(model)

    return prepared


def prune(**options):
    return of_model(lambda model: lottery_tf.prune(model, 0.5, **options))


def load(config):
    run = run_of(config)
    return lambda: lottery_tf.load(run.path, 0)


def run_of(config):
    config = config(rounds=2)
    network = models.build(config, (8, 8, 1), 10, seed=0)
    shapes = {path: tuple(array.shape) for path, array in masking.variables(network).items()}
    return make_run(config, rounds=2, shapes=shapes)


def build(config, **options):
    return lambda: models.build(config(), (8, 8, 1), 10, seed=3, **options)


def build_drawing(config):
    made = config(model="tests.networks:drawing")
    return lambda: models.build(made, (8, 8, 1), 10, seed=3)


def engine(config):
    made = config()
    cluster = connect(made)
    return lambda: Engine(made, datasets.find(made), cluster)


def masked(config):
    model = plain()
    return lambda: lottery_tf.masked(model)


def check_layer(config):
    return lambda: lottery_tf.testing.check_masked_layer(
        keras.layers.Dense, {"units": 2}, input_shape=(3,), optimizers={}
    )


CASES = {
    "masked": masked,
    "unmasked": of_model(lottery_tf.unmasked),
    "summary": of_model(lottery_tf.summary),
    "apply_masks": of_model(lottery_tf.apply_masks),
    "prune": prune(),
    "prune at random": prune(criterion="random", seed=3),
    "prune by synflow": prune(criterion="synflow", iterations=2),
    "prune by grasp": prune(criterion="grasp", data=(IMAGES, LABELS)),
    "load": load,
    "build": build,
    "build in float64": lambda config: build(config, policy="float64"),
    "build with draws of TensorFlow": build_drawing,
    "engine": engine,
    "check_masked_layer": check_layer,
}


@pytest.mark.parametrize("case", CASES)
def test_the_process_stays_as_it_is(case, config, capsys):
    call = CASES[case](config)
    before = state()
    call()
    assert state() == before


@pytest.mark.parametrize("reset", RESETS)
def test_rounds_leave_the_process_as_it_is_between_trainings(reset, tmp_path):
    model = lottery_tf.masked(plain())
    options = {"rewind_to": 1} if reset == "rewind" else {}
    before = state()
    rounds = lottery_tf.rounds(
        model, rounds=3, fraction=0.3, reset=reset, directory=tmp_path / "run", **options
    )
    for round in rounds:
        assert state() == before
        model.fit(IMAGES, LABELS, epochs=1, batch_size=10, verbose=0, callbacks=round.callbacks)
        before = state()
    assert state() == before


def test_a_function_of_the_callers_goes_on_drawing(config):
    """TensorFlow's own operations keep a state that no Python object shows."""
    draw = tf.function(lambda: tf.random.uniform(()))

    def draws(between):
        tf.random.set_seed(1)
        first = float(draw())
        between()
        return first, float(draw())

    undisturbed = draws(lambda: None)
    assert undisturbed[0] != undisturbed[1]
    assert draws(build(config)) == undisturbed
    model = lottery_tf.masked(plain())
    assert draws(lambda: list(lottery_tf.rounds(model, 2, 0.5, reset="reinit"))) == undisturbed


def test_after_two_loads_come_other_draws(config):
    run = run_of(config)
    found = []
    for _ in range(2):
        lottery_tf.load(run.path, 0)
        found.append(
            (
                random.random(),
                np.random.random(),
                float(tf.random.uniform(())),
                float(keras.random.normal(())),
                keras.layers.Dense(1).name,
            )
        )
    assert all(first != second for first, second in zip(*found, strict=True))


def test_draws_of_tensorflow_in_a_users_network_are_a_function_of_the_seed(config):
    made = config(model="tests.networks:drawing")
    one, again, other = (
        masking.get_weights(models.build(made, (8, 8, 1), 10, seed=seed)) for seed in (1, 1, 2)
    )
    assert all(np.array_equal(one[path], again[path]) for path in one)
    assert not np.array_equal(one["logits/kernel"], other["logits/kernel"])


def test_a_layer_may_be_the_first_to_import_tensorflow(monkeypatch):
    # On another backend some layers of Keras import it when they are made.
    before_and_after = iter([None, None, None])
    monkeypatch.setattr(
        keras_generators, "_tensorflow_context", lambda: next(before_and_after, context.Context())
    )
    layers = [keras_generators.from_seed(3, lambda: keras.layers.Dense(2)) for _ in range(2)]
    one, other = (np.asarray(layer(IMAGES[:1])) for layer in layers)
    assert not hasattr(context.Context(), "_rng")
    np.testing.assert_array_equal(one, other)


def test_paths_do_not_depend_on_the_process(config):
    made = config(model="tests.networks:dropout")
    paths = [list(masking.variables(models.build(made, (8, 8, 1), 10, seed=0))) for _ in range(2)]
    assert paths[0] == paths[1]
    assert paths[0][0] == "dense/kernel"


@since("keras", "3.15", "it builds a pooling whose window is larger than the image")
def test_a_failed_build_leaves_the_process_as_it_is(config):
    before = state()
    with pytest.raises(lottery_tf.errors.InputError):
        models.build(config(model="tests.networks:too_deep"), (8, 8, 1), 10, seed=0)
    assert state() == before


@pytest.mark.ci
def test_a_run_and_its_analysis_leave_the_process_as_it_is(config):
    made = config(rounds=2, epochs=1, deterministic=True)
    before = state()
    assert imp.main(made) == 0
    assert state() == before
    run = lottery_tf.rundir.RunDir(made.run_dir)
    barriers.between_rounds(run, points=2)
    assert state() == before


@pytest.mark.parametrize(
    "format",
    [
        pytest.param(format, marks=pytest.mark.ci if format == "onnx" else pytest.mark.slow)
        for format in ("npz", "keras", "saved_model", "litert", "onnx")
    ],
)
def test_exports_leave_the_process_as_it_is(format, config, tmp_path):
    made = config(rounds=2, epochs=1)
    assert imp.main(made) == 0
    before = state()
    exporting.export(ticket.of_run(made.run_dir, "1"), tmp_path / "out", Choices(format=format))
    assert state() == before


def test_a_network_computes_as_its_run_whatever_the_policy_of_the_process(config):
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    network = lottery_tf.load(run_of(config).path, 0)
    assert {layer.dtype_policy.name for layer in network.layers} == {"float32"}
    mixed = models.build(config(mixed_precision="float16"), (8, 8, 1), 10, seed=0)
    assert mixed.get_layer("logits").dtype_policy.name == "mixed_float16"
