"""What a compaction leaves as it is, and layers that are called more than once."""

import keras
import numpy as np
import pytest

from lottery_tf.errors import InputError
from lottery_tf.export.compaction import compact
from tests.test_compaction_by_eye import chain, compacted, dense
from tests.versions import since

layers = keras.layers


def two_calls():
    one = keras.Input((3,))
    shared = layers.Dense(3, name="shared")
    return keras.Model(one, layers.Dense(2)(shared(shared(one))))


def test_a_shared_layer_is_left_and_stays_shared():
    smaller, report = compacted(two_calls())
    assert report.left == {"shared": "it is called more than once"}
    assert len(smaller.weights) == 4


def test_a_layer_without_weights_is_compacted_wherever_it_is_called():
    act, add, flat = layers.ReLU(name="act"), layers.Add(name="add"), layers.Flatten(name="flat")
    one = keras.Input((3,), name="one")
    wide = act(dense(np.eye(3, 6), np.zeros(6), name="a")(flat(one)))
    third = act(dense(np.eye(6, 4), np.zeros(4), name="act_2")(flat(wide)))
    both = add([third, act(dense(np.eye(3, 4), np.zeros(4), name="c")(one))])
    both = add([both, third])
    smaller, report = compacted(keras.Model(one, dense(np.eye(4, 2), np.zeros(2))(both)))
    assert [report.layers[name].units for name in ("a", "act_2", "c")] == [(6, 2), (4, 2), (4, 2)]
    assert not report.left
    names = [layer.name for layer in smaller.layers]
    assert {"act", "act_2", "act_3", "act_4", "add", "add_2"} <= set(names)
    assert len(set(names)) == len(names)


@since("keras", "3.14", "it has no renorm")
def test_a_batch_norm_that_renormalizes_is_left():
    norm = layers.BatchNormalization(renorm=True, name="norm")
    smaller, report = compacted(chain((3,), layers.Dense(4), norm, layers.Dense(2)))
    assert report.left == {"norm": "it renormalizes"}
    assert len(smaller.get_layer("norm").get_weights()) == len(norm.get_weights())


def test_dropout_that_is_called_as_in_training_stays():
    one = keras.Input((3,))
    model = keras.Model(one, layers.Dense(2)(layers.Dropout(0.5, name="drop")(one, training=True)))
    smaller, report = compact(model)
    assert list(report.left) == ["drop"]
    assert smaller.get_layer("drop")


def test_masks_of_time_steps_are_kept():
    """The mean leaves padded steps out, also behind a layer few of whose inputs have weights."""
    steps = keras.Input((5,), dtype="int32", name="steps")
    features = layers.Embedding(9, 100, mask_zero=True)(steps)
    kernel = np.zeros((100, 300))
    kernel[:5, :] = 1
    features = dense(kernel, np.ones(300), name="hidden")(features)
    model = keras.Model(steps, [
        layers.Dense(2)(layers.GlobalAveragePooling1D()(features)), layers.LSTM(3)(features),
    ])  # fmt: skip
    compacted(model, np.array([[1, 2, 0, 0, 0], [3, 4, 5, 6, 7]]))


@keras.saving.register_keras_serializable(package="tests")
class Doubled(layers.Layer):
    def call(self, inputs):
        return inputs * 2


def test_layers_that_are_not_known_are_left_and_named():
    attention = layers.MultiHeadAttention(2, 3, name="attention")
    image = keras.Input((4, 6))
    features = layers.LayerNormalization(name="norm")(layers.Dense(6, name="a")(image))
    features = layers.Add()([features, attention(features, features)])
    features = Doubled(name="twice")(features)
    features = keras.ops.mean(features, axis=1)
    smaller, report = compacted(keras.Model(image, layers.Dense(2)(features)))
    assert report.left["attention"] == "it is called with options, or with more than tensors"
    assert report.left["twice"] == "Doubled is not known here"
    assert {"norm", "mean"} <= report.left.keys()
    assert smaller.count_params() > 0


def test_preprocessing_keeps_what_it_learned():
    normalization = layers.Normalization()
    normalization.adapt(np.arange(12.0).reshape(4, 3))
    compacted(chain((3,), normalization, layers.Dense(2)))


def test_what_cannot_be_rebuilt_is_an_error_in_one_line():
    class Own(layers.Layer):
        def __init__(self, size):
            super().__init__()
            self.size = size

        def call(self, inputs):
            return inputs

    with pytest.raises(InputError, match=r"an? Own, cannot be rebuilt\. Give it get_config"):
        compact(chain((3,), Own(3), layers.Dense(2)))
    with pytest.raises(InputError, match="Expected a functional or sequential Keras model"):
        compact(layers.Dense(3))
