"""Micro-batches and 16 bits against the plain step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lottery_tf import masking, models
from lottery_tf.config import Config
from lottery_tf.training import trainer as training


@pytest.mark.ci
@pytest.mark.parametrize("repel", [0.0, 2.0])
def test_accumulated_micro_batches_equal_the_large_batch(repel):
    """Ten steps of 4 x 32 against 128, L2 and repulsion counted once per update."""

    def train(accumulate_steps):
        keras.utils.clear_session()
        network = models.build(Config(), (8, 8, 1), 10, seed=0)
        others = masking.get_weights(models.build(Config(), (8, 8, 1), 10, seed=1))
        trainer = training.Trainer(
            network,
            Config(
                optimizer="momentum",
                learning_rate=0.05,
                weight_decay=0.1,
                batch_size=128,
                accumulate_steps=accumulate_steps,
                repel=repel,
            ),
        )
        optima = {
            path: {
                "index": tf.range(kernel.mask.shape.num_elements()),
                "directions": tf.constant(others[path].reshape(1, -1)),
            }
            for path, kernel in masking.kernels(network).items()
            if repel
        }
        step = tf.function(trainer.train_step)
        generator = np.random.default_rng(0)
        for _ in range(10):
            images = generator.random((128, 8, 8, 1)).astype(np.float32)
            labels = tf.constant(generator.integers(0, 10, 128))
            step((tf.constant(images), labels), optima)
        return masking.get_weights(network), trainer.totals.numpy()

    (whole, whole_totals), (parts, parts_totals) = train(1), train(4)
    start = masking.get_weights(models.build(Config(), (8, 8, 1), 10, seed=0))
    for path in whole:
        difference = np.linalg.norm(whole[path] - parts[path]) / np.linalg.norm(whole[path])
        assert difference <= 1e-5, path
        assert not np.array_equal(whole[path], start[path])
    assert parts_totals == pytest.approx(whole_totals, rel=1e-5)


@pytest.mark.parametrize("mixed_precision", ["bfloat16", "float16"])
def test_mixed_precision_keeps_variables_in_float32(mixed_precision):
    config = Config(mixed_precision=mixed_precision, optimizer="momentum", learning_rate=0.05)
    network = models.build(config, (8, 8, 1), 10, seed=0)
    assert network.compute_dtype == mixed_precision
    before = masking.get_weights(network)
    reference_network = models.build(Config(), (8, 8, 1), 10, seed=0)
    generator = np.random.default_rng(0)
    images = generator.random((64, 8, 8, 1)).astype(np.float32)
    labels = generator.integers(0, 10, 64)
    weights = []
    for trained, settings in ((network, config), (reference_network, Config(
            optimizer="momentum", learning_rate=0.05))):  # fmt: skip
        trainer = training.Trainer(trained, settings)
        for _ in range(3):
            trainer.train_step((tf.constant(images), tf.constant(labels)))
        weights.append(masking.get_weights(trained))
    low, full = weights
    for path in before:
        assert low[path].dtype == np.float32
        moved = np.linalg.norm(full[path] - before[path])
        assert 0 < np.linalg.norm(low[path] - full[path]) < 0.05 * moved, path
    assert network.dtype_policy != keras.config.dtype_policy()  # it is set back


def test_float16_scales_the_loss_and_a_reset_restores_the_scale():
    config = Config(mixed_precision="float16")
    trainer = training.Trainer(models.build(config, (8, 8, 1), 10, seed=0), config)
    scale = trainer.optimizer.dynamic_scale
    first = float(scale.numpy())
    assert first > 1
    scale.assign(2.0)
    trainer.reset_optimizer()
    assert float(scale.numpy()) == first
