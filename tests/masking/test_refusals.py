"""What cannot get masks is refused, with the way out that fits it."""

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking
from lottery_tf.errors import InputError
from tests.masking.comparing import equal

FUNCTIONS = {
    "masked": lottery_tf.masked,
    "unmasked": lottery_tf.unmasked,
    "prune": lambda model: lottery_tf.prune(model, 0.5),
    "rounds": lambda model: lottery_tf.rounds(model, 2, 0.5),
    "summary": lottery_tf.summary,
    "apply_masks": lottery_tf.apply_masks,
}


def dense(**options):
    layers = [keras.layers.Dense(8, **options), keras.layers.Dense(2)]
    return keras.Sequential([keras.Input((6,)), *layers])


def images():
    return np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)


@pytest.mark.ci
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_keras_2_models_are_told_how_to_convert_and_the_way_works(tmp_path):
    keras_2 = pytest.importorskip("tf_keras")
    image = keras_2.Input((6,))
    features = keras_2.layers.BatchNormalization()(keras_2.layers.Dense(8)(image))
    old = keras_2.Model(image, keras_2.layers.Dense(2)(features))
    for function in FUNCTIONS.values():
        with pytest.raises(InputError, match=r"Keras 2.*load_model.*set_weights") as caught:
            function(old)
        assert "keras.Input" not in str(caught.value)
    old.save(tmp_path / "model.h5")
    new = keras.models.load_model(tmp_path / "model.h5", compile=False)
    model = lottery_tf.masked(new)
    assert lottery_tf.prune(model, 0.5) == 0.5
    assert np.allclose(new([images()]), old(images()), atol=1e-6)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("given", "way"),
    [
        (keras.layers.Dense(2, name="lonely"), "lonely.*keras.Sequential"),
        ("model.keras", "load_model"),
        (keras.Model, "Received: .*Model"),
        (3, "Received: 3"),
        (None, "Received: None"),
    ],
)
def test_what_is_no_model_is_named_with_the_way_to_one(function, given, way):
    if function == "apply_masks" and isinstance(given, keras.Layer):
        way = "lottery_tf.masked"  # it takes layers, and this one has no masks
    with pytest.raises(InputError, match=way):
        FUNCTIONS[function](given)


def test_a_layer_without_weights_is_named():
    with pytest.raises(InputError, match="late"):
        lottery_tf.prune(keras.Sequential([masking.MaskedDense(3, name="late")]), 0.5)


@pytest.mark.ci
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_a_quantized_model_is_told_to_begin_before_it_was_quantized(mode):
    model = dense()
    model.quantize(mode)
    for function in ("masked", "prune", "rounds", "summary", "unmasked"):
        with pytest.raises(
            InputError, match=r"quantize\(\).*unmasked\(model\)\.quantize"
        ) as caught:
            FUNCTIONS[function](model)
        assert "include=" not in str(caught.value)
    with pytest.raises(InputError, match=r"quantize\(\)"):
        lottery_tf.masked(model, include="*")


@pytest.mark.filterwarnings("ignore:The masks cover")
def test_quantized_layers_beside_others_get_no_masks():
    model = lottery_tf.masked(dense(dtype="int8_from_float32"), include="*")
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["Dense", "MaskedDense"]
    assert len(masking.get_masks(model)) == 1
    assert lottery_tf.prune(model, 0.5) == 0.5


@pytest.mark.ci
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
@pytest.mark.parametrize("made", ["by masked", "by a file"])
def test_quantizing_masked_layers_is_refused_not_skipped(made, tmp_path):
    model = lottery_tf.masked(dense())
    lottery_tf.prune(model, 0.5)
    if made == "by a file":
        model.save(tmp_path / "model.keras")
        model = keras.models.load_model(tmp_path / "model.keras")
    before = model.get_weights()
    for options in ({}, {"type_check": False}):
        with pytest.raises(InputError, match=r"unmasked\(model\)\.quantize"):
            model.quantize("int8", **options)
    assert equal(before, model.get_weights())
    plain = lottery_tf.unmasked(model)
    plain.quantize("int8")
    assert plain.layers[0].quantization_mode == "int8"


def test_quantizing_inner_masked_layers_is_refused():
    image = keras.Input((4, 6))
    attention = keras.layers.MultiHeadAttention(2, 3)(image, image)
    model = lottery_tf.masked(keras.Model(image, keras.layers.LSTM(2)(attention)))
    with (
        pytest.warns(UserWarning, match="does not have a `quantize` method"),
        pytest.raises(InputError, match="quantize"),
    ):
        model.quantize("int8")


class Own(keras.layers.Layer):
    def build(self, shape):
        self.table = self.add_weight(shape=(shape[-1], 2))

    def call(self, inputs):
        return keras.ops.matmul(inputs, self.table)


def test_a_model_of_own_layers_alone_is_told_to_decorate_them():
    model = keras.Sequential([keras.Input((6,)), keras.layers.BatchNormalization(), Own()])
    with pytest.raises(InputError, match=r"BatchNormalization, Own.*masked_layer") as caught:
        lottery_tf.masked(model)
    assert "lottery_tf.masked(model)" not in str(caught.value)  # that was called


def trained_by_hand(model, round, steps, call):
    callbacks = keras.callbacks.CallbackList(round.callbacks, model=model)
    for step in range(steps):
        model.train_on_batch(images(), images()[:, :2])
        if call:
            callbacks.on_train_batch_end(step)
        yield step, masking.get_weights(model)


def test_loops_around_train_on_batch_keep_the_rewind_point_as_the_error_says():
    model = lottery_tf.masked(dense())
    model.compile("sgd", "mean_squared_error")
    options = {"reset": "rewind", "rewind_to": 3}
    at_3 = None
    for round in lottery_tf.rounds(model, 2, 0.5, **options):
        if round.index:
            masks = masking.get_masks(model)
            for path, array in masking.get_weights(model).items():
                assert np.array_equal(array, np.where(masks.get(path, True), at_3[path], 0))
        weights = dict(trained_by_hand(model, round, 5, call=True))
        at_3 = at_3 or weights[2]

    for call, words in ((False, r"CallbackList.*on_train_batch_end\(step\)"), (True, "2 steps")):
        model = lottery_tf.masked(dense())
        model.compile("sgd", "mean_squared_error")
        rounds = lottery_tf.rounds(model, 2, 0.5, **options)
        list(trained_by_hand(model, next(rounds), 2, call))
        with pytest.raises(InputError, match=words):
            next(rounds)
