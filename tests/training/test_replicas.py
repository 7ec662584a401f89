"""What replicas of one process share, and what each has of its own."""

import numpy as np
import pytest
import tensorflow as tf

from lottery_tf import datasets, masking
from lottery_tf.datasets import tfrecords
from lottery_tf.errors import InputError
from lottery_tf.pruning.streams import Noise
from lottery_tf.training.devices import connect
from lottery_tf.training.engine import Engine
from lottery_tf.training.training import Training


def mirrored(config, **flags):
    config = config(strategy="mirrored", cpu_devices=2, **flags)
    engine = Engine(config, datasets.find(config), connect(config))
    initialization = engine.initialization
    return engine, initialization(0)


def local_values(engine, variable):
    return [
        value.numpy()
        for value in engine.cluster.strategy.experimental_local_results(variable.value)
    ]


@pytest.mark.ci
@pytest.mark.parametrize("sync_bn", [True, False])
def test_batch_norm_statistics(config, sync_bn):
    flags = {"model": "tests.networks:batch_norm", "epochs": 1, "sync_bn": sync_bn}
    engine, weights = mirrored(config, **flags)
    trained, _ = engine.train(Training(weights, engine.dense_masks(), Noise(0, 0), last=1))
    one_config = config(strategy="one_device", **flags)
    one = Engine(one_config, datasets.find(one_config), connect(one_config))
    expected, _ = one.train(Training(weights, one.dense_masks(), Noise(0, 0), last=1))
    path = "bn/moving_variance"
    variable = masking.variables(engine.network)[path]
    assert np.array_equal(*local_values(engine, variable))
    synchronous = np.allclose(trained[path], expected[path], rtol=1e-5)
    assert synchronous == sync_bn
    # The mean of the halves' variances lacks the variance between the halves' means.
    assert sync_bn or (trained[path] < expected[path] + 1e-6).all()


@pytest.mark.ci
def test_replicas_drop_other_units(config):
    engine, weights = mirrored(config, model="tests.networks:dropout", epochs=1)
    masks = engine.dense_masks()
    finals = [engine.train(Training(weights, masks, Noise(0, 0), last=5))[0] for _ in range(2)]
    for path in finals[0]:
        assert np.array_equal(finals[0][path], finals[1][path])
    states = local_values(engine, engine.training_state.dropout[0])
    assert not np.array_equal(*states)


@pytest.mark.slow
@pytest.mark.parametrize("mixed_precision", ["bfloat16", "float16"])
def test_mixed_precision_on_two_replicas(config, mixed_precision):
    engine, weights = mirrored(config, mixed_precision=mixed_precision, epochs=3)
    _, history = engine.train(Training(weights, engine.dense_masks(), Noise(0, 0)))
    assert history[-1]["test_accuracy"] > 0.9


@pytest.mark.slow
def test_accumulated_micro_batches_on_two_replicas(config):
    flags = {"optimizer": "momentum", "learning_rate": 0.05, "weight_decay": 0.1, "epochs": 1}
    finals = []
    for accumulate_steps in (1, 4):
        engine, weights = mirrored(config, accumulate_steps=accumulate_steps, **flags)
        finals.append(
            engine.train(Training(weights, engine.dense_masks(), Noise(0, 0), last=10))[0]
        )
    for path, whole in finals[0].items():
        assert np.linalg.norm(finals[1][path] - whole) <= 1e-5 * np.linalg.norm(whole)


@pytest.mark.ci
@pytest.mark.parametrize("sync_bn", [True, False])
def test_micro_batches_move_batch_norm_on_two_replicas(config, sync_bn):
    """Two micro-batches of the same images: the update of one, and statistics that move twice."""
    images = np.float32(np.random.default_rng(0).normal(size=(2, 6, 8, 8, 1)))  # (replicas, …)
    labels, finals = np.arange(12).reshape(2, 6) % 10, []
    flags = {"model": "tests.networks:batch_norm", "sync_bn": sync_bn, "optimizer": "momentum"}
    for accumulate_steps in (1, 2):
        engine, weights = mirrored(config, accumulate_steps=accumulate_steps, **flags)
        engine.train(Training(weights, engine.dense_masks(), Noise(0, 0), last=2))
        masking.set_weights(engine.network, weights, engine.dense_masks())
        engine.trainer.reset_optimizer()

        def step(engine=engine, count=accumulate_steps):
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            own = [tf.gather(array, replica) for array in (images, np.int32(labels))]
            engine.trainer.train_step(tuple(tf.concat([one] * count, 0) for one in own), {})

        strategy = engine.cluster.strategy
        tf.function(lambda run=strategy.run, step=step: run(step), autograph=False)()
        finals.append(masking.get_weights(engine.network))
    once, twice = finals
    for path, first in weights.items():
        expected = once[path]
        if "moving" in path:  # of a momentum of 0.5
            expected = first + 1.5 * (once[path] - first)
        assert (once[path] != first).any(), path
        assert np.allclose(twice[path], expected, rtol=1e-4, atol=1e-6), path


@pytest.mark.ci
def test_evaluation_is_exact_on_two_replicas(config, monkeypatch):
    monkeypatch.setattr("lottery_tf.training.feeds.EVALUATION_BATCH", 7)  # does not divide by 2
    engine, weights = mirrored(config)
    masking.set_weights(engine.network, weights, engine.dense_masks())
    images, labels = tfrecords.read(engine.directory, "test")
    logits = engine.network(engine.normalise(images)).numpy()
    assert engine.evaluate()[1] == np.mean(logits.argmax(-1) == labels)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"batch_size": 33}, r"--batch_size .* 2, .*32 or 34.* 33$"),
        ({"batch_size": 36, "accumulate_steps": 4}, r"--batch_size .* 8, .*32 or 40.* 36$"),
        ({"jit_compile": "on"}, "--jit_compile=on .* 2\\."),
    ],
)
def test_what_several_replicas_cannot_do(config, flags, message):
    with pytest.raises(InputError, match=message):
        mirrored(config, **flags)
