"""Methods beside one another: what goes together, and what of it counts."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from lottery_tf import masking
from lottery_tf.config import Config
from lottery_tf.config.constraints import check_new
from lottery_tf.errors import InputError
from lottery_tf.pruning.streams import Noise
from lottery_tf.repulsion.optima import optima_of
from lottery_tf.runs import other_runs, rewind_points
from lottery_tf.training import engine, gradual
from lottery_tf.training.chief import end_of_round
from lottery_tf.training.network import EngineNetwork
from lottery_tf.training.trainer import Trainer
from tests.loop.test_methods import experiment, prepared, same
from tests.synthetic import write_dataset

__all__ = ["experiment"]  # a fixture


# Masks of another run -------------------------------------------------------------------------


@pytest.mark.ci
@pytest.mark.parametrize("prune_at", ["init", "train"])
def test_masks_of_another_run_are_not_pruned_again(prune_at, experiment):
    _, other = experiment("other")
    flags = {"prune_at": prune_at, "densities": (0.2,), "masks_from": str(other.path), "rounds": 3}
    _, run = experiment("run", **flags)  # as a flag file of --prune_at and --masks_from
    assert run.finished_rounds() == 3  # not the 2 of --densities
    for round in range(3):
        same(run.masks(round), other.masks(round))


@pytest.mark.parametrize("flag", ["masks_from", "round_0_from", "repel_runs"])
def test_a_run_of_other_data_is_refused(flag, experiment, tmp_path):
    _, other = experiment("other", rounds=1)
    write_dataset(tmp_path / "data", shard_lengths=[20, 13, 18])
    path = str(other.path)
    flags = {flag: (path,), "repel": 2.0} if flag == "repel_runs" else {flag: path}
    with pytest.raises(InputError, match=r"holds other data than .*other was trained on"):
        experiment("run", data_dir=str(tmp_path / "data"), **flags)
    assert not (tmp_path / "run").exists()


# Gradual pruning and short rounds -------------------------------------------------------------


def test_a_round_rewound_behind_its_last_pruning_is_refused(experiment):
    flags = {"prune_at": "train", "density": 0.25, "prune_frequency": 1, "prune_end": "3"}
    with pytest.raises(InputError, match="at most the step of the last gradual pruning, 3"):
        experiment("run", **flags, reset="rewind", rewind_to="4")
    _, run = experiment("at", **flags, reset="rewind", rewind_to="3")
    assert run.metrics()[1]["density"] == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"prune_at": "train", "density": 0.1}, "--prune_at=train"),
        ({"reset": "finetune"}, "--reset=finetune"),
    ],
)
def test_short_rounds_do_not_go_with_everything(flags, words, config):
    made = config(
        early_stop="connected", epochs=3, short_epochs=1, validation_fraction=0.1, **flags
    )
    with pytest.raises(InputError, match=words):
        check_new(made)


class Connected:
    path = None

    def metrics_of(self, round):
        return {"barrier": 0.0}

    def log(self, line):
        pass


@pytest.mark.parametrize(("first", "last"), [(0, 30), (20, 50), (25, 60), (95, None)])
def test_a_short_round_ends_with_an_epoch_where_it_is_evaluated(first, last, config):
    flags = config(early_stop="connected", epochs=10, short_epochs=3)
    assert end_of_round(flags, 100, 10, Connected(), 2, first) == last


def test_no_gradual_density_lies_below_the_one_that_is_asked_for(config):
    flags = {"prune_at": "train", "density": 0.0025, "prune_schedule": "constant"}
    events = gradual.schedule(config(epochs=20, prune_frequency=5, **flags), 0.0025, 10)
    assert len(events) > 20
    assert set(events.values()) == {0.0025}  # 1 - float32(1 - 0.0025) is less


# Optima of a run that grows -------------------------------------------------------------------


@pytest.mark.ci
def test_a_run_is_repelled_from_the_rounds_that_another_had_when_it_began(experiment, config):
    _, other = experiment("other", rounds=1)
    flags = {"repel": 20.0, "repel_runs": (str(other.path),)}
    _, run = experiment("run", rounds=1, **flags)
    experiment("other", rounds=3)
    experiment("run", rounds=2, **flags)
    names = {row["optimum"] for row in run.table(1, "repulsion.csv")}
    assert names == {"round 0", f"{other.path}, round 0"}
    assert len(optima_of(config(**flags), run, 0, run.masks(0)).names) == 1  # as a copy of it takes
    _, later = experiment("later", rounds=1, **flags)
    assert len({row["optimum"] for row in later.table(0, "repulsion.csv")}) == 3


@pytest.mark.ci
def test_optima_that_are_gone_are_named_before_training(experiment):
    _, other = experiment("other", rounds=2)
    flags = {"repel": 20.0, "repel_runs": (str(other.path),)}
    _, run = experiment("run", rounds=1, **flags)
    shutil.rmtree(other.round_path(1))
    with pytest.raises(InputError, match=r"expected the 2 rounds that it had .* Found: 1"):
        experiment("run", rounds=2, **flags)
    (run.path / other_runs.NAME).write_text("[2]")
    with pytest.raises(InputError, match=r"repel_runs.json is damaged"):
        experiment("run", rounds=2, **flags)
    (run.path / other_runs.NAME).unlink()  # as of an older version
    experiment("run", rounds=2, **flags)
    assert "is new" in (run.path / "log.txt").read_text()


# What counts in the loss and the scores -------------------------------------------------------


@pytest.mark.ci
def test_a_rewind_point_that_is_made_again_is_repelled_as_round_0_was(experiment, config):
    from lottery_tf.training import rewinding

    _, other = experiment("other", rounds=1)
    flags = {"repel": 20.0, "repel_runs": (str(other.path),), "rounds": 1}
    _, run = experiment("run", reset="rewind", rewind_to="4", **flags)
    stored = rewind_points.read(run.path, 4)
    shutil.rmtree(run.path / rewind_points.NAME / "step_00000004")
    assert not rewind_points.exists(run.path, 4)
    made, _ = prepared(run, config)
    rewinding.make_sure(made, run, 4, lambda: 0)
    same(rewind_points.read(run.path, 4), stored)


def regularized():
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    image = keras.Input((4,), name="image")
    features = keras.layers.ActivityRegularization(l2=0.5)(image)  # of constants: no gradient
    layer = masking.MaskedDense(3, kernel_regularizer=keras.regularizers.L2(0.25), name="one")
    return keras.Model(image, layer(features))


@pytest.mark.parametrize("accumulate_steps", [1, 2])
def test_the_networks_own_losses_are_trained(accumulate_steps):
    images, labels = np.zeros((8, 4), np.float32), np.zeros(8, np.int32)
    network, flags = regularized(), {"optimizer": "momentum", "learning_rate": 0.1}
    before = masking.get_weights(network)["one/kernel"]
    trainer = Trainer(network, Config(batch_size=8, accumulate_steps=accumulate_steps, **flags))
    trainer.train_step((tf.constant(images), tf.constant(labels)))
    # Images of zeros have no gradient; that of 0.25 ||w||^2 is 0.5 w.
    after = masking.get_weights(network)["one/kernel"]
    np.testing.assert_allclose(after, before - 0.1 * 0.5 * before, rtol=1e-6)


def test_a_weight_that_does_not_reach_the_logits_may_be_accumulated():
    class Apart(keras.Model):
        def __init__(self):
            super().__init__(name="apart")
            self.one, self.other = masking.MaskedDense(3, name="one"), keras.layers.Dense(2)

        def call(self, images, training=False):
            self.other(images)
            return self.one(images)

    network = Apart()
    network(np.zeros((1, 4), np.float32))
    trainer = Trainer(network, Config(batch_size=8, accumulate_steps=2))
    before = trainer.network.other.kernel.numpy()
    generator = np.random.default_rng(0)
    images = generator.random((8, 4)).astype(np.float32)
    trainer.train_step((tf.constant(images), tf.constant(generator.integers(0, 3, 8))))
    np.testing.assert_array_equal(trainer.network.other.kernel.numpy(), before)


@pytest.mark.ci
def test_scores_of_float16_are_computed_in_float32(experiment, config):
    _, run = experiment("run", rounds=1, mixed_precision="float16", model="tests.networks:dropout")
    made, weights = prepared(run, config)
    assert made.network.compute_dtype == "float16"
    found = EngineNetwork(made, None)._gradients
    assert found.model.compute_dtype == "float32"
    scores = found.hessian_product(weights, made.dense_masks())
    assert scores.keys() == made.dense_masks().keys()
    assert all(np.isfinite(score).all() and score.any() for score in scores.values())


@pytest.mark.ci
def test_squared_gradients_of_float16_are_those_of_float32(experiment, config, monkeypatch):
    plain = engine.cross_entropy

    def tiny(labels, logits):  # as of a network that is sure of its answers
        return 1e-9 * plain(labels, logits)

    monkeypatch.setattr(engine, "cross_entropy", tiny)
    found = []
    for mixed_precision in ("off", "float16"):
        flags = {"rounds": 1, "epochs": 1, "mixed_precision": mixed_precision}
        _, run = experiment(mixed_precision, **flags)
        made, weights = prepared(run, config)
        masking.set_weights(made.network, weights, made.dense_masks())
        found.append(made.squared_gradients(Noise(0, 0)))
    for path, array in found[0].items():
        assert array.any()
        np.testing.assert_allclose(found[1][path], array, rtol=1e-3)
