"""Models as keras.io writes VAEs and GANs: a train_step around parts, and no call()."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import lottery_tf
from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.rundir import RunDir

INPUTS = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)


@pytest.fixture(autouse=True)
def fresh_names():
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)


def part(inputs, outputs, name):
    layers = [keras.Input((inputs,)), keras.layers.Dense(6), keras.layers.Dense(outputs)]
    return lottery_tf.masked(keras.Sequential(layers, name=name))


class VAE(keras.Model):
    def __init__(self, encoder, decoder, **parts):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.loss_tracker = keras.metrics.Mean(name="loss")
        for name, layer in parts.items():
            setattr(self, name, layer)

    @property
    def metrics(self):
        return [self.loss_tracker]

    def train_step(self, images):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self.decoder(self.encoder(images)) - images) ** 2)
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


def vae(**parts):
    model = VAE(part(8, 2, "encoder"), part(2, 8, "decoder"), **parts)
    model.compile(keras.optimizers.Adam(0.05))
    return model


def test_it_is_pruned_and_summed_up():
    model = vae()
    assert not model.built
    assert lottery_tf.prune(model, 0.5) == 0.5
    *rows, total = lottery_tf.summary(model, show=False)
    assert len(rows) == 4
    assert (total["alive"], total["weights"]) == (60, 120)


@pytest.mark.ci
@pytest.mark.parametrize("reset", ["init", "reinit", "rewind", "finetune", "signs", "shuffle"])
def test_it_goes_through_rounds(reset, tmp_path):
    model, starts = vae(), []
    options = {"reset": reset} | ({"rewind_to": 2} if reset == "rewind" else {})
    for round in lottery_tf.rounds(model, 3, 0.5, directory=tmp_path, verbose=0, **options):
        starts.append(masking.get_weights(model))
        model.fit(INPUTS, batch_size=4, epochs=2, verbose=0, callbacks=round.callbacks)
    first, second, third = (start["encoder/dense_1/kernel"] for start in starts)
    alive = (second != 0) & (third != 0)
    assert alive.any()
    same = {"init": True, "rewind": True}.get(reset, False)
    assert ((second == third)[alive].all()) == same
    assert ((first == second)[second != 0].all()) == (reset == "init")
    rows = RunDir(tmp_path).metrics()
    assert [row["density"] for row in rows] == [1, 0.5, 0.25]
    assert rows[2]["train_loss"] < rows[0]["train_loss"] * 10
    again = vae()
    lottery_tf.load(tmp_path, 2, model=again)
    for path, array in masking.get_weights(model).items():
        np.testing.assert_array_equal(array, list(masking.get_weights(again).values())[
            list(masking.get_weights(model)).index(path)])  # fmt: skip


def test_a_masked_part_that_is_not_built_is_named():
    head = masking.MaskedDense(2, name="head")
    model = vae(head=head)
    for use in (lottery_tf.summary, lambda m: lottery_tf.prune(m, 0.5),
                lambda m: lottery_tf.rounds(m, 3, 0.5)):  # fmt: skip
        with pytest.raises(InputError, match="head has no weights yet"):
            use(model)
    head.build((None, 6))
    assert lottery_tf.prune(model, 0.5) == 0.5


def test_a_plain_part_that_is_not_built_is_refused_by_rounds_alone():
    model = vae(head=keras.layers.Dense(2, name="head"), flip=keras.layers.RandomFlip())
    assert lottery_tf.prune(model, 0.5) == 0.5
    with pytest.raises(InputError, match="head has no weights yet"):
        lottery_tf.rounds(model, 3, 0.5)
    model.head.build((None, 6))
    next(lottery_tf.rounds(model, 3, 0.5, verbose=0))


class Late(keras.layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(), name="scale")


def test_a_layer_that_gets_weights_in_round_0_is_said():
    model = vae(late=Late(name="late"))
    rounds = lottery_tf.rounds(model, 3, 0.5, verbose=0)
    next(rounds)
    model.late.build((None, 6))
    with pytest.raises(InputError, match=r"had no .*scale when round 0 began"):
        next(rounds)
