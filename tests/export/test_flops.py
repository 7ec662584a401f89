"""Multiply-adds against counts by hand."""

import keras
import numpy as np
import pytest

from lottery_tf import models
from lottery_tf.config import Config
from lottery_tf.errors import InputError
from lottery_tf.export.flops import Count, multiply_adds, total

layers = keras.layers

# The stem; three stages of convolutions of 16, 32 and 64 channels on 32 x 32, 16 x 16 and 8 x 8
# pixels, of which the first of a stage has half the channels coming in; the logits.
RESNET20 = 3 * 16 * 9 * 32**2 + 6 * 16 * 16 * 9 * 32**2
RESNET20 += 16 * 32 * 9 * 16**2 + 5 * 32 * 32 * 9 * 16**2
RESNET20 += 32 * 64 * 9 * 8**2 + 5 * 64 * 64 * 9 * 8**2 + 64 * 10
SHORTCUTS = 16 * 32 * 16**2 + 32 * 64 * 8**2  # the projections of option B


@pytest.mark.parametrize(
    ("model", "shape", "options", "expected"),
    [
        ("lenet", (28, 28, 1), {}, 784 * 300 + 300 * 100 + 100 * 10),
        ("resnet20", (32, 32, 3), {"shortcut": "identity"}, RESNET20),
        ("resnet20", (32, 32, 3), {"shortcut": "projection"}, RESNET20 + SHORTCUTS),
    ],
)
def test_shipped_networks(model, shape, options, expected):
    network = models.build(Config(model=model, **options), shape, 10, seed=0)
    counts, unknown = multiply_adds(network)
    assert total(counts).dense == total(counts).sparse == expected
    assert not unknown


def chain(shape, *kinds):
    """(multiply-adds, what is not counted) of a chain of layers."""
    return multiply_adds(keras.Sequential([keras.Input(shape), *kinds]))


HAND = {  # layer: (input, weights, multiply-adds)
    "dense on images": (layers.Dense(5), (4, 4, 3), 15, 16 * 15),
    "conv1d": (layers.Conv1D(2, 3), (10, 4), 24, 8 * 24),
    "strided": (layers.Conv2D(2, 3, strides=2, padding="same"), (7, 7, 3), 54, 16 * 54),
    "grouped": (layers.Conv2D(4, 3, groups=2), (5, 5, 4), 72, 9 * 72),
    "conv3d": (layers.Conv3D(2, 2), (3, 3, 3, 1), 16, 8 * 16),
    "transposed": (layers.Conv2DTranspose(2, 3, strides=2), (4, 4, 3), 54, 16 * 54),
    "depthwise": (layers.DepthwiseConv2D(3, depth_multiplier=2), (5, 5, 3), 54, 9 * 54),
    "separable": (layers.SeparableConv2D(4, 3), (5, 5, 3), 27 + 12, 9 * (27 + 12)),
    "einsum": (layers.EinsumDense("abc,cde->abde", (None, 2, 4)), (6, 3), 24, 6 * 24),
    "einsum over all": (layers.EinsumDense("abc,bcd->ad", (5,)), (6, 3), 90, 90),
    "simple": (layers.SimpleRNN(3), (6, 4), 12 + 9, 6 * (12 + 9)),
    "gru": (layers.GRU(3, return_sequences=True), (6, 4), 3 * (12 + 9), 6 * 3 * (12 + 9)),
    "lstm": (layers.LSTM(3), (6, 4), 4 * (12 + 9), 6 * 4 * (12 + 9)),
    "both ways": (layers.Bidirectional(layers.LSTM(3)), (6, 4), 8 * 21, 6 * 8 * 21),
    "stacked": (
        layers.RNN([layers.GRUCell(3), layers.SimpleRNNCell(2)]),
        (6, 4),
        63 + 10,
        6 * (63 + 10),
    ),
    "convlstm": (layers.ConvLSTM2D(2, 3), (4, 5, 5, 3), 8 * 9 * 5, 4 * 9 * 8 * 9 * 5),
    "convlstm of all steps": (
        layers.ConvLSTM2D(2, 3, padding="same", return_sequences=True),
        (4, 5, 5, 3),
        8 * 9 * 5,
        4 * 25 * 8 * 9 * 5,
    ),
    "in each step": (layers.TimeDistributed(layers.Conv1D(2, 3)), (4, 10, 4), 24, 4 * 8 * 24),
    "einsum with dots": (layers.EinsumDense("...x,xy->...y", 5), (6, 3), 15, 6 * 15),
}


@pytest.mark.parametrize("name", HAND)
def test_layers(name):
    layer, shape, weights, products = HAND[name]
    counts, unknown = chain(shape, layer)
    assert counts == {layer.name: Count(weights, weights, products, products)}
    assert not unknown


def test_attention():
    """Queries of 6 tokens, values of 4; 2 heads of size 3 and 5."""
    query, value = keras.Input((6, 8)), keras.Input((4, 7))
    attention = layers.MultiHeadAttention(num_heads=2, key_dim=3, value_dim=5, name="attention")
    counts, unknown = multiply_adds(keras.Model([query, value], attention(query, value)))
    kernels = {"query": 8 * 6, "key": 7 * 6, "value": 7 * 10, "output": 10 * 8}
    projections = 6 * kernels["query"] + 4 * (kernels["key"] + kernels["value"]) + 6 * 80
    products = projections + 6 * 4 * 2 * (3 + 5)
    weights = sum(kernels.values())
    assert counts == {"attention": Count(weights, weights, products, products)}
    assert not unknown


def test_pruned_weights_are_not_counted_as_sparse_products():
    conv = layers.Conv2D(2, 3, name="conv")
    model = keras.Sequential([keras.Input((5, 5, 1)), conv])
    kernel = np.zeros((3, 3, 1, 2))
    kernel[0, 0] = 1
    conv.set_weights([kernel, np.ones(2)])
    assert multiply_adds(model)[0] == {"conv": Count(18, 2, 9 * 18, 9 * 2)}


def test_a_shared_layer_multiplies_twice_and_weighs_once():
    dense = layers.Dense(4, name="dense")
    one = keras.Input((4,))
    counts, _ = multiply_adds(keras.Model(one, dense(dense(one))))
    assert counts == {"dense": Count(16, 16, 32, 32)}


def test_nested_models_are_looked_into():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="inside")], name="inner")
    one = keras.Input((4,))
    counts, _ = multiply_adds(keras.Model(one, layers.Dense(2, name="outside")(inner(one))))
    assert {name: count.dense for name, count in counts.items()} == {"inside": 12, "outside": 6}


def test_what_is_not_known_is_named():
    class Own(layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], 2))

        def call(self, inputs):
            return inputs @ self.kernel

        def compute_output_shape(self, shape):
            return (*shape[:-1], 2)

    class Cell(Own):
        state_size = output_size = 2

        def call(self, inputs, states, training=False):
            return inputs @ self.kernel, states

    own = Own(name="own")
    counts, unknown = chain((6, 4), own, layers.Dense(2, name="dense"))
    assert list(counts) == ["dense"]
    assert list(unknown) == ["own"]
    assert "Own" in unknown["own"]
    _, unknown = chain((6, 4), layers.TimeDistributed(Own(), name="each"))
    assert list(unknown) == ["each"]
    _, unknown = chain((6, 4), layers.RNN(Cell(), name="rnn"))
    assert list(unknown) == ["rnn"]
    counts, unknown = chain((6, 4), layers.TimeDistributed(layers.ReLU(), name="each"))
    assert (counts["each"].dense, unknown) == (0, {})
    _, unknown = chain((None, 4), layers.Dense(2, name="dense"))
    assert list(unknown) == ["dense"]
    one = keras.Input((3, 3))
    product = keras.ops.matmul(one, one)
    _, unknown = multiply_adds(keras.Model(one, product))
    assert ["Matmul" in why for why in unknown.values()] == [True]


def test_a_model_without_a_graph_is_refused():
    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(InputError, match="Received: Own"):
        multiply_adds(Own())
    with pytest.raises(InputError, match=r"keras\.Input.* Received: Sequential"):
        multiply_adds(keras.Sequential([layers.Dense(3)]))
