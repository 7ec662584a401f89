import json
import shutil
import types

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import datasets, imp, masking
from lottery_tf.analysis import barriers, paths
from lottery_tf.analysis.path_evaluator import PathEvaluator, first_dense
from lottery_tf.errors import InputError
from lottery_tf.runs.rundir import RunDir
from lottery_tf.training.devices import connect
from lottery_tf.training.engine import Engine, Evaluator
from tests.made_runs import make_run


@pytest.fixture(scope="module", params=["lenet", "tests.networks:normalised"])
def trained(request, tmp_path_factory):
    """(engine, run) of two short rounds."""
    from lottery_tf.config import Config
    from tests.conftest import ROOT

    config = Config(
        run_dir=str(tmp_path_factory.mktemp("trained") / "run"),
        data_dir=str(ROOT / "data"),
        model=request.param,
        batch_size=32,
        learning_rate=1e-2,
        epochs=1,
        rounds=2,
    )
    imp.main(config)
    engine = Engine(config, datasets.find(config), connect(config))
    return engine, RunDir(config.run_dir)


def accuracy(engine, weights):
    """(loss, error) of weights by the engine's own evaluation."""
    masking.set_weights(engine.network, weights, engine.dense_masks())
    loss, hits = engine.evaluate()
    return loss, 1 - hits


@pytest.mark.ci
@pytest.mark.parametrize("bn_stats", ["endpoint", "interpolate"])
def test_the_ends_have_the_stored_loss_and_accuracy(trained, bn_stats):
    engine, run = trained
    rows = PathEvaluator(engine, points=5, bn_stats=bn_stats).evaluate(run.final(0), run.final(1))
    assert [row["alpha"] for row in rows] == [0, 0.25, 0.5, 0.75, 1]
    for row, metrics in zip((rows[0], rows[-1]), run.metrics(), strict=True):
        assert 1 - row["error"] == pytest.approx(metrics["test_accuracy"], abs=1e-12)
        assert row["loss"] == pytest.approx(metrics["test_loss"], rel=1e-6)


def test_between_the_ends_all_variables_are_interpolated(trained):
    engine, run = trained
    rows = PathEvaluator(engine, points=5, bn_stats="interpolate").evaluate(
        run.final(0), run.final(1)
    )
    start, end = run.final(0), run.final(1)
    middle = {path: 0.75 * start[path] + 0.25 * end[path] for path in start}
    loss, error = accuracy(engine, middle)
    assert rows[1]["loss"] == pytest.approx(loss, rel=1e-5)
    assert rows[1]["error"] == pytest.approx(error, abs=1e-3)
    assert rows[1]["loss"] != pytest.approx(rows[0]["loss"], rel=1e-3)


def test_the_training_split_is_whole_and_not_augmented(trained):
    engine, run = trained
    lines = PathEvaluator(engine, points=2, split="train", bn_stats="endpoint")
    row = lines.evaluate(run.final(0), run.final(1))[0]
    counts = sum(len(labels) for _, labels in lines._first("train", None))
    assert counts == engine.feed.split.examples
    wrong = row["error"] * counts
    assert wrong == pytest.approx(round(wrong), abs=1e-6)
    assert 0 < row["loss"] < 2.5


WITH_BN = pytest.mark.parametrize("trained", ["tests.networks:normalised"], indirect=True)


@WITH_BN
def test_recomputed_statistics_are_those_of_the_training_examples(trained):
    engine, run = trained
    lines = PathEvaluator(engine, points=3, bn_stats="recompute")
    weights = run.final(1)
    ends = [[weights[path] for path in lines.variables]] * 2
    mean, variance = lines._statistics(ends)
    # The convolution's outputs by Keras, the statistics by NumPy.
    masking.set_weights(engine.network, weights, engine.dense_masks())
    images = np.concatenate([images for images, _ in lines._first("train", None)])
    features = engine.network.get_layer("conv")(engine.normalise(images)).numpy()
    for point in range(3):
        np.testing.assert_allclose(mean[point], features.mean((0, 1, 2)), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(variance[point], features.var((0, 1, 2)), rtol=1e-3)
    before = masking.get_weights(engine.network)
    lines.evaluate(weights, weights)
    after = masking.get_weights(engine.network)
    assert all(np.array_equal(before[path], after[path]) for path in before)
    norm = engine.network.get_layer("bn")
    assert norm.momentum == 0.5  # as it was


@WITH_BN
def test_recomputed_statistics_undo_a_scaling_before_them(trained):
    engine, run = trained
    weights = run.final(1)
    scaled = weights | {f"conv/{name}": 10 * weights[f"conv/{name}"] for name in ("kernel", "bias")}
    loss = {}
    for bn_stats in ("recompute", "endpoint"):
        rows = PathEvaluator(engine, points=2, bn_stats=bn_stats).evaluate(weights, scaled)
        loss[bn_stats] = [row["loss"] for row in rows]
    same, other = loss["recompute"]
    assert other == pytest.approx(same, rel=0.02)  # but for BatchNorm's epsilon
    same, other = loss["endpoint"]
    assert other != pytest.approx(same, rel=0.2)


def test_a_loaded_round_has_the_stored_accuracy_and_masks(trained):
    engine, run = trained
    for round in (0, 1):
        network = lottery_tf.load(run.path, round)
        masks = masking.get_masks(network)
        assert all(np.array_equal(masks[path], mask) for path, mask in run.masks(round).items())
        evaluator = Evaluator(
            network, engine.feed, engine.normalise, engine.cluster, jit_compile=False
        )
        assert evaluator.evaluate()[1] == run.metrics()[round]["test_accuracy"]


def test_what_cannot_be_loaded_is_named(trained, tmp_path):
    _, run = trained
    elsewhere = RunDir(shutil.copytree(run.path, tmp_path / "run"))
    flags = elsewhere.config() | {"dataset": "mnist", "data_dir": str(tmp_path)}
    (elsewhere.path / "config.json").write_text(json.dumps(flags))
    with pytest.raises(InputError, match=r"There is no dataset mnist in .*Prepare it with"):
        lottery_tf.load(elsewhere.path, 0)
    with pytest.raises(InputError, match="no finished round 7"):
        lottery_tf.load(str(run.path), 7)
    with pytest.raises(InputError, match="is not a run"):
        lottery_tf.load(tmp_path, 0)


@pytest.mark.ci
def test_a_first_dense_layer_is_interpolated_in_its_outputs(trained):
    engine, run = trained
    ends = run.final(0), run.final(1)
    plain, once = (
        PathEvaluator(engine, points=5, bn_stats="interpolate", first_layer_once=first)
        for first in (False, True)
    )
    assert (once.first_layer is not None) == (engine.config.model == "lenet")
    for expected, row in zip(plain.evaluate(*ends), once.evaluate(*ends), strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert row["error"] == pytest.approx(expected["error"], abs=2 / engine.feed.test_examples)
    if layer := once.first_layer:
        assert layer is engine.network.get_layer("hidden1")
        assert layer.activation is keras.activations.relu  # as it was before it was traced
        assert "call" not in vars(layer)


@pytest.mark.ci
def test_a_first_dense_layer_that_is_called_twice_is_interpolated_in_its_weights():
    keras.utils.set_random_seed(0)
    shared = keras.layers.Dense(4, activation="tanh")
    layers = [keras.Input((4,)), shared, shared, keras.layers.Dense(2)]
    network = lottery_tf.masked(keras.Sequential(layers))

    class Feed:
        inputs = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")

        def test_batches(self):
            yield self.inputs, np.arange(8) % 2

    engine = types.SimpleNamespace(network=network, feed=Feed(), jit=False, normalise=lambda x: x)
    start = masking.get_weights(network)
    ends = start, {path: 2 * array + 0.1 for path, array in start.items()}
    plain, once = (
        PathEvaluator(engine, points=5, first_layer_once=first).evaluate(*ends)
        for first in (False, True)
    )
    assert once == plain


@pytest.mark.ci
def test_the_first_dense_layer_of_a_network():
    def masked(*layers, shape=(4,)):
        return lottery_tf.masked(keras.Sequential([keras.Input(shape), *layers]))

    dense = keras.layers.Dense
    assert first_dense(masked(keras.layers.Flatten(), dense(3), dense(2), shape=(2, 2))).units == 3
    assert first_dense(masked(keras.layers.BatchNormalization(), dense(2))) is None
    assert first_dense(masked(keras.layers.EinsumDense("ab,bc->ac", 3))) is None
    assert first_dense(masked(dense(3, dtype="mixed_float16"))) is None


@pytest.mark.ci
@pytest.mark.parametrize("trained", ["lenet"], indirect=True)
def test_barriers_can_be_asked_for_without_the_tool(trained):
    _, run = trained
    (row,) = barriers.between_rounds(run, points=3)
    _, points = barriers.along_paths(run, points=3)
    assert [point["alpha"] for point in points] == [0, 0.5, 1]
    assert 1 - points[0]["error"] == pytest.approx(run.metrics()[0]["test_accuracy"], abs=1e-12)
    dense, sparse = (metrics["test_accuracy"] for metrics in run.metrics())
    assert row == {"from_round": 0, "to_round": 1, "density": points[0]["density"], "split": "test",
                   "bn_stats": "none", "over_dense": sparse - dense,
                   **paths.summarize(points)}  # fmt: skip
    with pytest.raises(InputError, match=r"--points: expected at least 2. Received: 1"):
        barriers.between_rounds(run, points=1)
    assert not (run.path / "analysis").exists()


@pytest.mark.parametrize("trained", ["lenet"], indirect=True)
def test_without_batchnorm_there_are_no_statistics(trained):
    assert PathEvaluator(trained[0], points=2, bn_stats="recompute").bn_stats == "none"


def test_barriers_that_can_be_seen():
    assert paths.barrier([1, 5, 3]) == (3, 2)
    assert paths.barrier([2, 1, 2]) == (0, 0)
    assert paths.barrier([0, 1, 4]) == (2, 0)


def test_pairs_are_successive_or_named(config, tmp_path):
    run = make_run(config(), rounds=3)
    other = make_run(config(run_dir=str(tmp_path / "other")), rounds=2)
    assert barriers.parse_pairs(["successive"], run, run) == [(0, 1), (1, 2)]
    assert barriers.parse_pairs(["successive"], run, other) == [(0, 0), (1, 1)]
    assert barriers.parse_pairs(["0-2", "1-1"], run, run) == [(0, 2), (1, 1)]
    with pytest.raises(InputError, match=r"pairs of rounds as 0-1,4-5. Received: 0:1"):
        barriers.parse_pairs(["0:1"], run, run)
    with pytest.raises(InputError, match=r"other has no finished round 2; its rounds are 0 to 1"):
        barriers.parse_pairs(["0-2"], run, other)
    one = make_run(config(run_dir=str(tmp_path / "one")), rounds=1)
    with pytest.raises(InputError, match="two finished rounds or more"):
        barriers.parse_pairs(["successive"], one, one)
