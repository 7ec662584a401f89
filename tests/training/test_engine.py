import logging
import re

import numpy as np
import pytest
import tensorflow as tf

from lottery_tf import datasets, pruning
from lottery_tf.datasets import tfrecords
from lottery_tf.errors import InputError
from lottery_tf.pruning.streams import Noise
from lottery_tf.training.devices import connect
from lottery_tf.training.engine import Engine, remedies
from lottery_tf.training.training import Training


def make(config):
    engine = Engine(config, datasets.find(config), connect(config))
    initialization = engine.initialization
    return engine, initialization(0)


def assert_equal(some, others):
    assert some.keys() == others.keys()
    for path in some:
        assert np.array_equal(some[path], others[path]), path


@pytest.mark.ci
def test_pieces_do_not_change_the_result_and_compile_once(config, monkeypatch):
    def train(seconds):
        monkeypatch.setattr("lottery_tf.training.engine.PIECE_SECONDS", seconds)
        engine, weights = make(config())
        pieces = []
        trained, _ = engine.train(
            Training(weights, engine.dense_masks(), Noise(0, 0)),
            on_piece=lambda progress: pieces.append(progress.step),
        )
        assert engine.run_steps.experimental_get_tracing_count() == 1
        assert pieces[-1] == engine.steps == 84
        return trained, len(pieces)

    some, few_pieces = train(seconds=100)
    others, many_pieces = train(seconds=0.001)
    assert_equal(some, others)
    assert many_pieces > few_pieces


def test_one_compiled_program_serves_all_bounds_of_a_piece(config):
    engine, _ = make(config())
    engine.trainer.reset_optimizer()
    data, rates = engine.feed.start_epoch(Noise(0, 0), 0, 0), tf.constant(engine.rates[:42])
    programs = {
        engine.run_steps.experimental_get_compiler_ir(
            data, rates, tf.constant(first), tf.constant(last), {}
        )(stage="hlo")
        for first, last in ((0, 1), (3, 42))
    }
    assert len(programs) == 1


@pytest.mark.ci
def test_training_in_two_parts_covers_the_same_steps_and_rates(config):
    engine, weights = make(config(schedule="cosine", optimizer="momentum", momentum=0.0))
    masks = engine.dense_masks()
    whole, history = engine.train(Training(weights, masks, Noise(0, 0)))
    half, first_half = engine.train(Training(weights, masks, Noise(0, 0), last=50))
    rest, second_half = engine.train(Training(half, masks, Noise(0, 0), first=50))
    assert_equal(whole, rest)  # without momentum, a fresh optimizer does not matter
    assert [row["step"] for row in first_half + second_half] == [42, 84]
    assert history[-1]["learning_rate"] == second_half[-1]["learning_rate"]


@pytest.mark.ci
def test_evaluation_counts_every_example_for_any_batch(config, monkeypatch):
    results = []
    for batch in (1000, 7):
        monkeypatch.setattr("lottery_tf.training.feeds.EVALUATION_BATCH", batch)
        engine, _ = make(config())
        results.append(engine.evaluate())
    images, labels = tfrecords.read(engine.directory, "test")
    logits = engine.network(engine.normalise(images)).numpy()
    accuracy = np.mean(logits.argmax(-1) == labels)
    assert results[0][1] == results[1][1] == accuracy
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)


@pytest.mark.ci
def test_the_noise_changes_the_result(config):
    engine, weights = make(config(epochs=1))
    masks = engine.dense_masks()
    finals = [
        engine.train(Training(weights, masks, noise))[0]["logits/bias"].tolist()
        for noise in (Noise(0, 0), Noise(0, 1), Noise(1, 0), Noise(0, 0))
    ]
    assert finals[0] == finals[3]
    assert finals[0] != finals[1] != finals[2] != finals[0]


@pytest.mark.slow
def test_masked_weights_stay_zero_in_the_compiled_epoch(config):
    for optimizer in ("adam", "momentum"):
        engine, weights = make(config(optimizer=optimizer, weight_decay=0.1, epochs=1))
        masks, _ = pruning.prune(weights, engine.dense_masks(), 0.9)
        trained, _ = engine.train(Training(pruning.apply_masks(weights, masks), masks, Noise(0, 0)))
        for path, mask in masks.items():
            assert not trained[path][~mask].any()
            assert (trained[path] != weights[path])[mask].all()


def test_a_loss_that_is_not_finite_names_round_epoch_and_step(config):
    engine, weights = make(config(optimizer="momentum", learning_rate=1e30))
    with pytest.raises(InputError, match=r"Round 4, epoch 1, step [1-9]: .*--learning_rate"):
        engine.train(Training(weights, engine.dense_masks(), Noise(0, 4)))
    poisoned = weights | {"logits/bias": np.full(10, np.nan, np.float32)}
    with pytest.raises(InputError, match=r"Round 0, epoch 2, step 50: (?!.*(_rate|_epochs))"):
        engine.train(Training(poisoned, engine.dense_masks(), Noise(0, 0), first=50))


def flags_in(ways):
    """The flags in some advice, with the values that it names."""
    return [flag for way in ways for flag in re.findall(r"--(\S+)", way)]


def test_advice_against_a_loss_that_is_not_finite_fits_the_cause(config):
    plain, before = {"repelled": False, "updated": True}, {"repelled": False, "updated": False}
    assert flags_in(remedies(config(), **plain)) == ["learning_rate=0.0012", "warmup_epochs"]
    assert flags_in(remedies(config(warmup_epochs=1.0), **plain)) == ["learning_rate=0.0012"]
    strong, usual = (
        remedies(config(repel=repel), repelled=True, updated=True) for repel in (1e30, 2.0)
    )
    assert flags_in(strong)[0] == "repel=1e+30"
    assert flags_in(usual)[-1] == "repel=2"
    decayed = config(weight_decay=1e4)
    assert flags_in(remedies(decayed, **plain))[0] == "weight_decay=10000"
    float16 = config(mixed_precision="float16")
    assert flags_in(remedies(float16, **before)) == ["mixed_precision=bfloat16"]
    assert flags_in(remedies(config(), **before)) == []


def test_a_batch_larger_than_the_split_is_an_error(config):
    config = config(batch_size=2000)
    with pytest.raises(InputError, match=r"--batch_size: .* 1347,.* 2000$"):
        Engine(config, datasets.find(config), connect(config))


@pytest.mark.ci
@pytest.mark.parametrize("jit_compile", ["on", "off"])
def test_dropout_is_part_of_the_noise(config, jit_compile):
    engine, weights = make(
        config(model="tests.networks:dropout", epochs=1, jit_compile=jit_compile)
    )
    masks = engine.dense_masks()
    assert len(engine.training_state.dropout) == 1
    finals = [
        engine.train(Training(weights, masks, noise))[0]
        for noise in (Noise(0, 0), Noise(0, 1), Noise(0, 0))
    ]
    assert_equal(finals[0], finals[2])
    state = engine.training_state.dropout[0].numpy()
    engine.train(Training(weights, masks, Noise(0, 3), last=1))
    assert not np.array_equal(engine.training_state.dropout[0].numpy(), state)


def test_squared_gradients_of_many_rounds_are_compiled_once(config, caplog):
    engine, _ = make(config(model="tests.networks:linear", jit_compile="off"))
    with caplog.at_level(logging.WARNING, "tensorflow"):
        tf.get_logger().propagate, before = True, tf.get_logger().propagate
        first = engine.squared_gradients(Noise(0, 0))
        for _ in range(7):
            again = engine.squared_gradients(Noise(0, 0))
        tf.get_logger().propagate = before
    assert "retracing" not in caplog.text
    assert engine._squared_gradients._gradients.experimental_get_tracing_count() == 1
    assert all(np.array_equal(first[path], again[path]) for path in first)
