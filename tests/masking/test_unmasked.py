"""lottery_tf.unmasked: plain Keras layers, with zeros where the masks were."""

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.masking import keras_private
from tests.layers import LAYERS
from tests.networks import every_layer

pytestmark = pytest.mark.versions


def pruned(model, fraction=0.6, **where):
    masked = lottery_tf.masked(model)
    lottery_tf.prune(masked, fraction, **where)
    return masked


def check(masked, inputs):
    """The plain copy, after its classes, names, weights and outputs are compared."""
    plain = lottery_tf.unmasked(masked)
    old, new = keras_private.flatten_layers(masked), keras_private.flatten_layers(plain)
    assert [layer.name for layer in masked.layers] == [layer.name for layer in plain.layers]
    # Attention names its inner dropout anew in each copy.
    assert [x.name for x in old if x.weights] == [x.name for x in new if x.weights]
    assert not any(type(layer).__module__.startswith("lottery_tf") for layer in new)
    weights, masks = masking.get_weights(masked), masking.get_masks(masked)
    for (path, array), variable in zip(weights.items(), plain.weights, strict=True):
        assert variable.path == path
        assert np.array_equal(variable.numpy(), array)
        if path in masks:
            assert not variable.numpy()[~masks[path]].any()
    assert np.allclose(plain(inputs).numpy(), masked(inputs).numpy(), atol=1e-6)
    return plain


def zeros(model):
    kernels = [v for v in model.weights if len(v.shape) > 1]
    return sum(int((v.numpy() == 0).sum()) for v in kernels)


def images(*shape):
    return np.random.default_rng(0).random((4, *shape)).astype(np.float32)


def test_every_layer_becomes_the_keras_layer_that_it_masks():
    model = every_layer((4, 4, 1), 3)
    plain = check(pruned(model), images(4, 4, 1))
    found = {type(layer).__name__ for layer in plain.layers}
    assert set(LAYERS) <= found


def nested():
    tokens = keras.Input((6,), dtype="int32")
    features = keras.layers.Embedding(11, 8, name="embedding")(tokens)
    attention = keras.layers.MultiHeadAttention(2, 4, name="attention")
    features = keras.layers.LayerNormalization()(features + attention(features, features))
    mlp = keras.Sequential([keras.layers.Dense(16, name="up"), keras.layers.Dense(8, name="down")])
    inner = keras.Input((6, 8))
    functional = keras.Model(inner, keras.layers.Conv1D(8, 3, padding="same", name="c")(inner))
    features = functional(mlp(features))
    features = keras.layers.TimeDistributed(keras.layers.Dense(8, name="timed"))(features)
    features = keras.layers.GlobalAveragePooling1D()(features)
    return keras.Model(tokens, keras.layers.Dense(3, name="logits")(features))


def test_nested_models_wrappers_and_attention_become_plain():
    check(pruned(nested(), scope="layer"), np.random.default_rng(0).integers(0, 11, (4, 6)))


def test_a_shared_layer_stays_shared():
    image = keras.Input((5,))
    shared = keras.layers.Dense(5, name="shared")
    model = keras.Model(image, keras.layers.Dense(2)(shared(shared(image))))
    plain = check(pruned(model), images(5))
    assert keras_private.calls(plain.get_layer("shared")) == 2


def test_sequential_stays_sequential_and_the_masked_model_is_left_alone():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8), keras.layers.Dense(3)])
    masked = pruned(model)
    before = masking.get_masks(masked)
    plain = check(masked, images(6))
    assert type(plain) is keras.Sequential
    plain.set_weights([array + 1 for array in plain.get_weights()])
    after = masking.get_masks(masked)
    assert all(np.array_equal(before[path], after[path]) for path in before)
    assert type(masked.layers[0]) is masking.MaskedDense


def test_a_weight_that_was_revived_is_zero():
    masked = pruned(keras.Sequential([keras.Input((6,)), keras.layers.Dense(8)]))
    kernel = masked.layers[0].kernels[0]
    kernel.variable.assign(np.ones((6, 8)))
    plain = lottery_tf.unmasked(masked)
    assert np.array_equal(plain.weights[0].numpy(), kernel.mask.numpy())


@pytest.mark.ci
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
def test_int8_keeps_the_zeros_and_export_and_lora_work(tmp_path):
    image = keras.Input((6, 6, 1))
    features = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, activation="relu")(image))
    features = keras.layers.Dense(8, activation="relu", name="hidden")(features)
    masked = pruned(keras.Model(image, keras.layers.Dense(3)(features)), 0.7)
    inputs = images(6, 6, 1)
    expected = masked(inputs).numpy()

    quantized = lottery_tf.unmasked(masked)
    before = zeros(quantized)
    quantized.quantize("int8")
    assert zeros(quantized) >= before > 0
    assert str(quantized.get_layer("hidden")._kernel.dtype) == "int8"
    assert np.allclose(quantized(inputs).numpy(), expected, atol=0.05)

    plain = lottery_tf.unmasked(masked)
    plain.export(tmp_path / "exported", verbose=False)
    import tensorflow as tf

    served = tf.saved_model.load(tmp_path / "exported")
    assert np.allclose(served.serve(inputs).numpy(), expected, atol=1e-5)

    plain.get_layer("hidden").enable_lora(2)
    assert np.allclose(plain(inputs).numpy(), expected, atol=1e-6)
    plain.compile("adam", "mean_squared_error")
    plain.fit(inputs, 0 * expected + 1, verbose=0)
    assert not np.allclose(plain(inputs).numpy(), expected)


def test_what_cannot_be_unmasked_is_named():
    dense = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(InputError, match=r"lottery_tf\.masked\(model\)"):
        lottery_tf.unmasked(dense)
    with pytest.raises(InputError, match=r"^unmasked: .*a string"):
        lottery_tf.unmasked("a string")
