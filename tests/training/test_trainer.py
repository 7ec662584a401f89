"""The step against NumPy on one layer, whose gradient can be written down; then its variants."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from lottery_tf import masking, models
from lottery_tf.config import Config
from lottery_tf.repulsion import optima
from lottery_tf.training import optimizers
from lottery_tf.training.trainer import Trainer, cross_entropy

RATE, DECAY = 0.1, 0.5


@pytest.fixture
def network():
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    image = keras.Input((4,), name="image")
    return keras.Model(image, masking.MaskedDense(3, bias_initializer="ones", name="one")(image))


def batch(seed):
    generator = np.random.default_rng(seed)
    return generator.random((8, 4)).astype(np.float32), generator.integers(0, 3, 8)


def gradients(weights, images, labels):
    logits = images @ weights["one/kernel"] + weights["one/bias"]
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    error = (softmax - np.eye(3)[labels]) / len(labels)
    return {"one/kernel": images.T @ error, "one/bias": error.sum(0)}


def run(network, steps=3, **flags):
    """Weights after some steps of the trainer."""
    config = Config(learning_rate=RATE, **flags)
    trainer = Trainer(network, config)
    for seed in range(steps):
        images, labels = batch(seed)
        trainer.train_step((tf.constant(images), tf.constant(labels)))
    return masking.get_weights(network)


def reference(weights, steps, update):
    """Weights after some steps of update(name, weight, gradient, step) -> new weight."""
    weights = dict(weights)
    for step in range(steps):
        found = gradients(weights, *batch(step))
        weights = {name: update(name, weights[name], found[name], step) for name in weights}
    return weights


def assert_close(found, expected, absolute=1e-6):
    assert found.keys() == expected.keys()
    for name in found:
        assert found[name] == pytest.approx(expected[name], rel=1e-5, abs=absolute)


def pytorch_momentum(schedule=lambda step: RATE, decay=lambda name: 0.0):
    velocity = {}

    def update(name, weight, gradient, step):
        gradient = gradient + decay(name) * weight
        velocity[name] = 0.9 * velocity.get(name, 0) + gradient
        return weight - schedule(step) * velocity[name]

    return update


def test_momentum_is_pytorchs(network):
    before = masking.get_weights(network)
    found = run(network, 3, optimizer="momentum")
    assert_close(found, reference(before, 3, pytorch_momentum()))


def test_a_drop_of_the_rate_acts_at_once(network):
    before = masking.get_weights(network)
    trainer = Trainer(network, Config(optimizer="momentum"))
    for step, rate in enumerate([RATE, RATE / 10]):
        trainer.optimizer.learning_rate.assign(rate)
        images, labels = batch(step)
        trainer.train_step((tf.constant(images), tf.constant(labels)))
    schedule = [RATE, RATE / 10]
    expected = reference(before, 2, pytorch_momentum(schedule.__getitem__))
    assert_close(masking.get_weights(network), expected)


def test_adam_with_epsilon_1e_8(network):
    before = masking.get_weights(network)
    moments = {}

    def update(name, weight, gradient, step):
        m, v = moments.get(name, (0, 0))
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        moments[name] = m, v
        scale = np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
        return weight - RATE * scale * m / (np.sqrt(v) + 1e-8)

    found = run(network, 3, optimizer="adam")
    # Adam divides by the gradient's size: 3 steps of RATE times its relative error, here 1e-5.
    assert_close(found, reference(before, 3, update), absolute=3e-6)
    trainer = Trainer(network, Config(optimizer="adam"))
    assert trainer.optimizer.epsilon == 1e-8


def test_coupled_l2_adds_to_the_gradient_of_all_variables(network):
    before = masking.get_weights(network)
    found = run(network, 2, optimizer="momentum", weight_decay=DECAY)
    assert_close(found, reference(before, 2, pytorch_momentum(decay=lambda name: DECAY)))


def test_weight_decay_on_kernels_spares_biases(network):
    before = masking.get_weights(network)
    found = run(network, 2, optimizer="momentum", weight_decay=DECAY, weight_decay_on="kernels")
    kernels = pytorch_momentum(decay=lambda name: DECAY * (name == "one/kernel"))
    assert_close(found, reference(before, 2, kernels))


@pytest.mark.parametrize("decay_on", ["all", "kernels"])
def test_decoupled_decay_shrinks_weights_by_the_rate(network, decay_on):
    before = masking.get_weights(network)
    flags = {"weight_decay_mode": "decoupled", "weight_decay_on": decay_on}
    found = run(network, 2, optimizer="momentum", weight_decay=DECAY, **flags)
    plain = pytorch_momentum()

    def update(name, weight, gradient, step):
        decays = decay_on == "all" or name == "one/kernel"
        return plain(name, weight * (1 - RATE * DECAY * decays), gradient, step)

    assert_close(found, reference(before, 2, update))


@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
@pytest.mark.parametrize("mode", ["l2", "decoupled"])
def test_masked_kernels_stay_zero_even_with_filled_slots(network, optimizer, mode):
    config = Config(optimizer=optimizer, weight_decay=DECAY, weight_decay_mode=mode)
    trainer = Trainer(network, config)

    def step(seed):
        images, labels = batch(seed)
        trainer.train_step((tf.constant(images), tf.constant(labels)))

    step(0)
    mask = np.random.default_rng(0).random((4, 3)) < 0.5
    weights = masking.get_weights(network)
    masking.set_weights(
        network, weights | {"one/kernel": weights["one/kernel"] * mask}, {"one/kernel": mask}
    )
    for seed in range(1, 5):
        step(seed)
        kernel = masking.get_weights(network)["one/kernel"]
        assert not kernel[~mask].any()
        assert kernel[mask].all()


def test_running_means_are_of_the_cross_entropy_alone(network):
    images, labels = batch(0)
    logits = network(images)
    expected = float(tf.reduce_mean(cross_entropy(labels, logits)))
    trainer = Trainer(network, Config(weight_decay=DECAY))
    trainer.train_step((tf.constant(images), tf.constant(labels)))
    loss, correct, examples, bad = trainer.totals.numpy()[0]
    assert loss / examples == pytest.approx(expected)
    assert correct == np.sum(np.argmax(logits, -1) == labels)
    assert (examples, bad) == (8, 0)


def test_reset_optimizer_forgets_slots_and_iterations(network):
    before = masking.get_weights(network)
    trainer = Trainer(network, Config(learning_rate=RATE, optimizer="adam"))
    results = []
    for _ in range(2):
        masking.set_weights(network, before, {"one/kernel": np.ones((4, 3), bool)})
        trainer.reset_optimizer()
        for seed in range(3):
            images, labels = batch(seed)
            trainer.train_step((tf.constant(images), tf.constant(labels)))
        results.append(masking.get_weights(network))
    for name in before:
        assert np.array_equal(results[0][name], results[1][name])
        assert not np.array_equal(results[0][name], before[name])


@pytest.mark.ci
@pytest.mark.parametrize("repel", [0.0, 2.0])
def test_keras_fit_does_the_same_updates(repel):
    """train_step under compile and fit: the same weights, and the running means as logs."""
    config = Config(repel=repel, optimizer="momentum", learning_rate=0.05, weight_decay=0.01)
    images = np.random.default_rng(0).normal(size=(64, 8, 8, 1)).astype(np.float32)
    labels = np.arange(64) % 10
    ends, means = [], []
    for fit in (False, True):
        network = models.build(config, (8, 8, 1), 10, seed=0)
        other = masking.get_weights(models.build(config, (8, 8, 1), 10, seed=1))
        trainer = Trainer(network, config)
        if repel:
            held = optima.on_mask(
                [("other", other, None)], masking.get_masks(network), scope="global"
            )
            trainer.optima = {
                path: {"index": held.index[path], "directions": held.directions[path]}
                for path in held.index
            }
        if fit:
            history = trainer.fit(images, labels, batch_size=16, epochs=2, shuffle=False, verbose=0)
            means = [history.history[name][-1] for name in ("loss", "accuracy")]
            assert set(trainer.evaluate(images, labels, verbose=0, return_dict=True)) == {
                "loss",
                "accuracy",
            }
            assert trainer.predict(images[:3], verbose=0).shape == (3, 10)
        else:
            for _ in range(2):
                trainer.set_totals(0)
                for start in range(0, 64, 16):
                    some = slice(start, start + 16)
                    trainer.train_step((tf.constant(images[some]), tf.constant(labels[some])))
            loss, correct, examples, _ = trainer.totals.numpy().sum(0)
        ends.append(masking.get_weights(network))
    for path, array in ends[0].items():
        np.testing.assert_allclose(ends[1][path], array, rtol=0, atol=2e-6)
    assert means == pytest.approx([loss / examples, correct / examples], rel=1e-5)


def test_every_choice_of_the_optimizer_is_made():
    (field,) = (field for field in dataclasses.fields(Config) if field.name == "optimizer")
    assert set(field.metadata["choices"]) == set(optimizers.OPTIMIZERS)


# Micro-batches, and 16 bits.


@pytest.mark.ci
@pytest.mark.parametrize("repel", [0.0, 2.0])
def test_accumulated_micro_batches_equal_the_large_batch(repel):
    """Ten steps of 4 x 32 against 128, L2 and repulsion counted once per update."""

    def train(accumulate_steps):
        keras.utils.clear_session()
        network = models.build(Config(), (8, 8, 1), 10, seed=0)
        others = masking.get_weights(models.build(Config(), (8, 8, 1), 10, seed=1))
        trainer = Trainer(
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
    plain = Config(optimizer="momentum", learning_rate=0.05)
    for trained, settings in ((network, config), (reference_network, plain)):
        trainer = Trainer(trained, settings)
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
    trainer = Trainer(models.build(config, (8, 8, 1), 10, seed=0), config)
    scale = trainer.optimizer.dynamic_scale
    first = float(scale.numpy())
    assert first > 1
    scale.assign(2.0)
    trainer.reset_optimizer()
    assert float(scale.numpy()) == first
