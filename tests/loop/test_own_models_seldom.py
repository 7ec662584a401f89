"""What seldom comes up in models of the user's own, and must be right all the same."""

import contextlib
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import lottery_tf
from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.export import exporting, ticket
from lottery_tf.export.compaction import compact
from lottery_tf.export.flops import multiply_adds
from lottery_tf.export.formats import Choices
from lottery_tf.loop.rounds import Round, _metrics
from lottery_tf.models.normalization import FusedBatchNormalization
from lottery_tf.runs import rewind_points

GENERATOR = np.random.default_rng(0)
DATA = GENERATOR.random((12, 4)).astype(np.float32), GENERATOR.integers(0, 3, 12)


def dense_network():
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    features = keras.layers.Dense(6, activation="relu", name="hidden")(inputs)
    model = lottery_tf.masked(keras.Model(inputs, keras.layers.Dense(3, name="logits")(features)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model


def fit(model, *callbacks):
    return model.fit(*DATA, batch_size=4, epochs=2, verbose=0, callbacks=list(callbacks))


# Networks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda call: call, tf.function], ids=["eager", "graph"])
def test_a_call_without_training_is_inference(wrap):
    generator = np.random.default_rng(0)
    images = tf.constant(generator.normal(2, 3, (8, 5, 5, 4)).astype(np.float32))
    found = []
    for kind in (FusedBatchNormalization, keras.layers.BatchNormalization):
        inputs = keras.Input((5, 5, 4))
        model = keras.Model(inputs, kind()(inputs))
        found += [np.array(wrap(model)(images)), np.array(wrap(model)(images[:1]))]
    for one in (0, 1):
        np.testing.assert_allclose(found[one], found[one + 2], rtol=1e-5)
    np.testing.assert_allclose(found[0][:1], found[1], rtol=1e-5)  # whatever else is in the batch


# Rounds ----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The masks cover")
def test_a_shuffle_leaves_frozen_kernels_as_they_are():
    model = dense_network()
    model.get_layer("hidden").trainable = False
    model.compile(keras.optimizers.SGD(0.1), model.loss)
    before = masking.get_weights(model)["hidden/kernel"]
    own = masking.get_weights(model)["logits/kernel"]
    for round in lottery_tf.rounds(model, 2, 0.5, reset="shuffle"):
        np.testing.assert_array_equal(masking.get_weights(model)["hidden/kernel"], before)
        assert round.index == 0 or (masking.get_weights(model)["logits/kernel"] != own).any()
        fit(model, *round.callbacks)


def test_a_model_can_be_copied_while_a_turn_is_trained():
    model, copies = dense_network(), []
    for round in lottery_tf.rounds(model, 2, 0.5):
        fit(model, *round.callbacks)
        copies += [lottery_tf.unmasked(model), lottery_tf.masked(lottery_tf.unmasked(model))]
    np.testing.assert_allclose(copies[2](DATA[0]), model(DATA[0]), rtol=1e-5)


@pytest.mark.parametrize("reset", ["reinit", "signs", "trained_signs"])
def test_fresh_weights_of_nested_models_that_share_a_layer(reset):
    keras.utils.clear_session()
    inner, image = keras.Input((4,)), keras.Input((4,))
    shared = keras.layers.Dense(4, name="shared")
    tower = keras.Model(inner, keras.layers.ReLU()(shared(inner)), name="tower")
    plain = keras.Model(image, keras.layers.Dense(3)(shared(image) + tower(image)))
    model = lottery_tf.masked(plain)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    seen = []
    for round in lottery_tf.rounds(model, 2, 0.5, reset=reset):
        seen.append(masking.get_weights(model)["shared/kernel"])
        fit(model, *round.callbacks)
    alive = seen[1] != 0
    assert 0 < alive.sum() < alive.size
    assert (seen[0][alive] != seen[1][alive]).all()


@pytest.mark.parametrize("inputs", [[(4,), (4,)], [(None, 4)]], ids=["two", "varying"])
def test_synflow_of_a_model_that_it_does_not_know_is_refused_at_the_call(inputs):
    tensors = [keras.Input(shape) for shape in inputs]
    features = keras.layers.Concatenate()(tensors) if len(tensors) > 1 else tensors[0]
    model = lottery_tf.masked(keras.Model(tensors, keras.layers.Dense(3)(features)))
    with pytest.raises(InputError, match="synflow expects a model of one input, whose size is"):
        next(iter(lottery_tf.rounds(model, 3, 0.2, criterion="synflow")))


def test_a_metric_does_not_take_the_place_of_a_column():
    history = [{"epoch": 1, "density": 7.0, "round": 9.0, "mine": 0.5, "seconds": 1.0}]
    row = _metrics(Round(2, 0.25), history, 3.0)
    assert (row["round"], row["density"], row["seconds"], row["mine"]) == (2, 0.25, 3.0, 0.5)


class Stopped(Exception):
    pass


class StopAt(keras.callbacks.Callback):
    def __init__(self, batches):
        super().__init__()
        self.left = batches

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise Stopped


def begin(directory, *, stop=None):
    """Turn 0 of a rewound run with another order of the examples each time; its rewind point."""
    model = dense_network()
    keras.utils.set_random_seed(int(GENERATOR.integers(1000)))  # another shuffle
    rounds = lottery_tf.rounds(model, 2, 0.5, reset="rewind", rewind_to=4, directory=directory)
    round = next(iter(rounds))
    with contextlib.suppress(Stopped):
        fit(model, *round.callbacks, *[StopAt(stop)] * bool(stop))
    return rewind_points.read(directory, 4), round


@pytest.mark.ci
def test_the_rewind_point_is_of_the_turn_0_that_goes_on(tmp_path):
    # Three batches an epoch: the step 4 lies in the second epoch, which is lost and trained again.
    first, round = begin(tmp_path / "a", stop=5)
    again, _ = begin(tmp_path / "a")
    assert any((first[path] != again[path]).any() for path in first)
    # The fit ended, but the turn did not: it begins again, and so does its rewind point.
    first, round = begin(tmp_path / "b")
    again, _ = begin(tmp_path / "b")
    assert any((first[path] != again[path]).any() for path in first)
    assert round.index == 0


# Exports ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["export", "model"])
def test_an_export_that_gives_nan_is_refused(where, monkeypatch):
    outputs = {"logits": np.ones((2, 3), np.float32)}
    broken = {"logits": np.full((2, 3), np.nan, np.float32)}
    expected, found = (outputs, broken) if where == "export" else (broken, outputs)
    monkeypatch.setattr(exporting.fresh, "run", lambda *_: found)
    one = types.SimpleNamespace(test={"images": np.zeros((2, 4))}, labels=None)
    with pytest.raises(InputError, match="gives other outputs than the masked model: nan"):
        exporting._compare(one, None, Choices(), expected)


def test_inputs_come_in_the_order_of_the_model(tmp_path):
    one, other = keras.Input((1,), name="a"), keras.Input((1,), name="b")
    model = keras.Model([one, other], keras.layers.Add()([one, other]))
    np.savez(tmp_path / "given.npz", b=np.ones((2, 1)), a=np.zeros((2, 1)))
    assert list(ticket._arrays(tmp_path / "given.npz", model)) == ["a", "b"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", "npy"], ids=str)
def test_inputs_that_are_no_archive_are_named(content, tmp_path):
    path = tmp_path / "given.npz"
    if content == "npy":
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))
    else:
        path.write_bytes(content)
    images = keras.Input((2,), name="a")
    with pytest.raises(InputError, match=r"--inputs=.*expected an \.npz of arrays"):
        ticket._arrays(path, keras.Model(images, images))


@pytest.mark.parametrize("bias", [None, "d", "bd"])
def test_einsum_layers_are_compacted_or_left(bias):
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3, 4))
    hidden = keras.layers.EinsumDense("abc,cd->abd", (3, 6), bias_axes=bias, activation="relu")
    model = keras.Model(inputs, keras.layers.Dense(2)(hidden(inputs)))
    kernel = np.array(hidden.kernel)
    kernel[:, :3] = 0  # three dead units
    hidden.kernel.assign(kernel)
    found = compact(model)
    smaller = found[0] if isinstance(found, tuple) else found
    images = np.random.default_rng(1).random((5, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(smaller(images), model(images), rtol=1e-5, atol=1e-6)


def test_attention_over_several_axes_counts_all_places():
    inputs = keras.Input((3, 5, 8))
    for axes, pairs in ((None, 15 * 15), ((2,), 15 * 5)):
        layer = keras.layers.MultiHeadAttention(2, 4, attention_axes=axes, name="attention")
        counts, unknown = multiply_adds(keras.Model(inputs, layer(inputs, inputs)))
        weights = 4 * 8 * 8
        assert not unknown
        assert counts["attention"].dense == 15 * weights + pairs * 2 * (4 + 4)
