import numpy as np
import pytest
import tensorflow as tf

from lottery_tf import datasets, imp, pruning
from lottery_tf.datasets import tfrecords
from lottery_tf.datasets.order import visit_order
from lottery_tf.errors import InputError
from lottery_tf.pruning.streams import Noise
from lottery_tf.training.devices import connect
from lottery_tf.training.engine import Engine, remedies
from lottery_tf.training.training import Training


def make(config):
    engine, initialization = imp.prepare(config, datasets.find(config), connect(config))
    return engine, initialization(0)


def assert_equal(some, others):
    assert some.keys() == others.keys()
    for path in some:
        assert np.array_equal(some[path], others[path]), path


@pytest.fixture
def on_shards(config, sharded):
    def make(**flags):
        return config(data_dir=str(sharded), batch_size=8, shuffle_window=16, **flags)

    return make


def test_resident_and_streaming_see_the_same_examples(on_shards):
    config = on_shards()
    directory = datasets.find(config)
    images, _ = tfrecords.read(directory, "train")
    lengths = directory.splits["train"].lengths
    for epoch in range(3):
        noise = Noise(5, 1)
        order = visit_order(lengths, noise, epoch, window=16)[2]
        for first_step in (0, 1, 3):
            stream = tfrecords.stream(
                directory,
                directory.splits["train"],
                noise,
                epoch=epoch,
                window=16,
                batch_size=8,
                steps=(first_step, 6),
            )
            streamed = [batch for batch, _, _ in stream.as_numpy_iterator()]
            expected = images[order[first_step * 8 : 48]].reshape(-1, 8, *images.shape[1:])
            assert np.array_equal(streamed, expected)


@pytest.mark.ci
@pytest.mark.parametrize("jit_compile", ["on", pytest.param("off", marks=pytest.mark.slow)])
def test_resident_training_equals_streaming(on_shards, jit_compile):
    results = []
    for resident in ("on", "off"):
        engine, weights = make(on_shards(resident=resident, jit_compile=jit_compile))
        results.append(engine.train(Training(weights, engine.dense_masks(), Noise(0, 0))))
    (resident, resident_history), (streamed, streamed_history) = results
    assert_equal(resident, streamed)
    for one, other in zip(resident_history, streamed_history, strict=True):
        for column in ("step", "train_loss", "train_accuracy", "test_loss", "test_accuracy"):
            assert one[column] == other[column]


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
    with pytest.raises(InputError, match=r"Round 4, epoch 1, step [1-9]: .* lower --learning"):
        engine.train(Training(weights, engine.dense_masks(), Noise(0, 4)))
    poisoned = weights | {"logits/bias": np.full(10, np.nan, np.float32)}
    with pytest.raises(InputError, match=r"Round 0, epoch 2, step 50.* not finite in the data"):
        engine.train(Training(poisoned, engine.dense_masks(), Noise(0, 0), first=50))


def test_advice_against_a_loss_that_is_not_finite_fits_the_cause(config):
    plain, before = {"repelled": False, "updated": True}, {"repelled": False, "updated": False}
    assert remedies(config(), **plain) == [
        "lower --learning_rate=0.0012", "raise --warmup_epochs"
    ]  # fmt: skip
    assert remedies(config(warmup_epochs=1.0), **plain) == ["lower --learning_rate=0.0012"]
    strong, usual = (
        remedies(config(repel=repel), repelled=True, updated=True) for repel in (1e30, 2.0)
    )
    assert strong[0] == "bring --repel=1e+30 nearer to 0"
    assert usual[-1] == "bring --repel=2 nearer to 0"
    decayed = config(weight_decay=1e4)
    assert remedies(decayed, **plain)[0] == "lower --weight_decay=10000"
    assert remedies(config(mixed_precision="float16"), **before) == [
        "use --mixed_precision=bfloat16"
    ]
    assert not any("learning_rate" in text for text in remedies(config(), **before))


def test_a_batch_larger_than_the_split_is_an_error(config):
    config = config(batch_size=2000)
    with pytest.raises(InputError, match=r"at most 1347.*2000"):
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
