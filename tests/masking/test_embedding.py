"""Embeddings under masks: rows, gradients, tied tables."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import lottery_tf
from lottery_tf import masking

pytestmark = pytest.mark.versions

layers = keras.layers
TOKENS = np.array([[1, 3, 0], [2, 2, 0]])


def pruned(layer, *others):
    """A masked model whose table has lost the first entry of each row."""
    model = keras.Sequential([keras.Input((3,), dtype="int32"), layer, *others])
    masked = lottery_tf.masked(model)
    weights, masks = masking.get_weights(masked), masking.get_masks(masked)
    path = next(path for path in masks if "embeddings" in path)
    masks[path][:, 0] = False
    masking.set_weights(masked, weights | {path: weights[path] * masks[path]}, masks)
    return masked, model, masking.kernels(masked)[path]


def test_a_masked_table_gives_masked_rows_and_sparse_gradients(tmp_path):
    masked, model, kernel = pruned(layers.Embedding(4, 2, name="words"))
    table = model.layers[0].embeddings.numpy()
    expected = table[TOKENS] * [0, 1]
    assert np.array_equal(masked(TOKENS), expected)
    kernel.variable.assign(kernel.variable + 1)  # past the mask
    assert np.array_equal(masked(TOKENS), (table[TOKENS] + 1) * [0, 1])
    assert not np.asarray(masked.layers[0].embeddings)[:, 0].any()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(masked(TOKENS))
    gradient = tape.gradient(loss, masked.trainable_variables[0].value)
    assert isinstance(gradient, tf.IndexedSlices)
    assert np.array_equal(tf.convert_to_tensor(gradient), [[0, 2], [0, 1], [0, 2], [0, 1]])
    masked.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(loaded(TOKENS), masked(TOKENS))
    plain = lottery_tf.unmasked(masked)
    assert type(plain.layers[0]) is layers.Embedding
    assert np.array_equal(plain(TOKENS), masked(TOKENS))


def test_the_token_zero_masks_later_layers():
    masked, *_ = pruned(layers.Embedding(4, 2, mask_zero=True), layers.LSTM(3))
    assert np.array_equal(masked.layers[0].compute_mask(TOKENS), TOKENS != 0)
    shorter = np.array([[1, 3], [2, 2]])
    assert np.allclose(masked(TOKENS), masked(shorter), atol=1e-7)


@keras.saving.register_keras_serializable("tests")
class Tied(keras.layers.Layer):
    """Gives logits by the table that it embeds with."""

    def __init__(self, tokens, width, **options):
        super().__init__(**options)
        self.tokens, self.width = tokens, width
        self.words = layers.Embedding(tokens, width)

    def build(self, input_shape):
        self.words.build()

    def call(self, inputs):
        return keras.ops.matmul(self.words(inputs), keras.ops.transpose(self.words.embeddings))

    def get_config(self):
        return super().get_config() | {"tokens": self.tokens, "width": self.width}


def test_a_table_that_a_layer_of_the_users_own_ties_is_masked_in_both_places(tmp_path):
    masked, model, kernel = pruned(Tied(4, 2))
    (table,) = (array * [0, 1] for array in model.get_weights())
    kernel.variable.assign(kernel.variable + np.array([1, 0]))
    assert np.allclose(masked(TOKENS), table[TOKENS] @ table.T)
    masked.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(loaded(TOKENS), masked(TOKENS))


def test_a_reversible_embedding_is_masked_in_both_directions():
    layer = layers.ReversibleEmbedding(4, 2)
    tokens = keras.Input((3,), dtype="int32")
    model = keras.Model(tokens, layer(layer(tokens), reverse=True))
    masked = lottery_tf.masked(model)
    assert np.array_equal(masked(TOKENS), model(TOKENS))
    lottery_tf.prune(masked, 0.5)
    (path,) = masking.get_masks(masked)
    table = masking.get_weights(masked)[path]
    masking.kernels(masked)[path].variable.assign(table + 1 - masking.get_masks(masked)[path])
    assert np.allclose(masked(TOKENS), table[TOKENS] @ table.T)


def test_a_reversible_embedding_that_is_not_tied_has_two_kernels(tmp_path):
    layer = layers.ReversibleEmbedding(4, 2, tie_weights=False, name="words")
    tokens = keras.Input((3,), dtype="int32")
    model = keras.Model(tokens, layer(layer(tokens), reverse=True))
    masked = lottery_tf.masked(model)
    assert np.array_equal(masked(TOKENS), model(TOKENS))
    assert list(masking.get_masks(masked)) == ["words/embeddings", "words/reverse_embeddings"]
    lottery_tf.prune(masked, 0.5, scope="layer")
    weights, masks = masking.get_weights(masked), masking.get_masks(masked)
    for path, kernel in masking.kernels(masked).items():
        kernel.variable.assign(np.where(masks[path], weights[path], 1))  # past the mask
    expected = weights["words/embeddings"][TOKENS] @ weights["words/reverse_embeddings"]
    assert np.allclose(masked(TOKENS), expected)

    masked.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    masked.save_weights(tmp_path / "masked.weights.h5")
    other = lottery_tf.masked(model)
    other.load_weights(tmp_path / "masked.weights.h5")
    for one in (loaded, other, lottery_tf.unmasked(masked)):
        assert np.allclose(one(TOKENS), expected)
    for one in (loaded, other):
        found, stored = masking.get_masks(one), masking.get_weights(one)
        assert all(np.array_equal(found[path], mask) for path, mask in masks.items())
        assert all(np.array_equal(stored[path], weights[path]) for path in masks)
    model.save_weights(tmp_path / "plain.weights.h5")
    other.load_weights(tmp_path / "plain.weights.h5")
    assert np.array_equal(other(TOKENS), model(TOKENS))
    assert all(mask.all() for mask in masking.get_masks(other).values())


def test_low_rank_adaptation_of_a_masked_table():
    masked, _, kernel = pruned(layers.Embedding(4, 2))
    masked.layers[0].enable_lora(1)
    assert not kernel.variable.trainable
    masked.layers[0].lora_embeddings_b.assign([[1, 1]])
    assert not np.asarray(masked(TOKENS))[..., 0].any()
