"""lottery_tf.masked: what a copy holds beside weights, and copies that would differ."""

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.masking import comparing, keras_private, optimizer_state


@pytest.fixture(autouse=True)
def fresh_names():
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)


def outputs(model, inputs):
    return np.asarray(model(inputs, training=False))


def check(model, inputs):
    """The masked copy, after its outputs, and those of its plain copy, are compared."""
    before = [array.copy() for array in model.get_weights()]
    masked = lottery_tf.masked(model)
    assert np.array_equal(outputs(masked, inputs), outputs(model, inputs))
    assert np.array_equal(outputs(lottery_tf.unmasked(masked), inputs), outputs(model, inputs))
    assert all(np.array_equal(*pair) for pair in zip(before, model.get_weights(), strict=True))
    return masked


def features(*shape):
    return np.random.default_rng(0).normal(40, 5, shape).astype(np.float32)


def test_adapted_statistics_are_kept(tmp_path):
    normalization = keras.layers.Normalization()
    normalization.adapt(features(50, 4))
    model = keras.Sequential([keras.Input((4,)), normalization, keras.layers.Dense(3)])
    masked = check(model, features(6, 4))
    masked.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(outputs(loaded, features(6, 4)), outputs(model, features(6, 4)))


def test_adapted_statistics_are_set_with_the_weights():
    models = []
    for scale in (1, 3):
        normalization = keras.layers.Normalization()
        normalization.adapt(scale * features(50, 4))
        layers = [keras.Input((4,)), normalization, keras.layers.Dense(3)]
        models.append(lottery_tf.masked(keras.Sequential(layers, name="same")))
        keras.utils.clear_session()
    weights, masks = masking.get_weights(models[0]), masking.get_masks(models[0])
    masking.set_weights(models[1], weights, masks)
    assert np.array_equal(*(outputs(model, features(6, 4)) for model in models))


def lookup_model(layer, dtype, shape=()):
    words = keras.Input(shape, dtype=dtype)
    embedded = keras.layers.Embedding(20, 4)(layer(words))
    if len(embedded.shape) == 3:
        embedded = keras.layers.GlobalAveragePooling1D()(embedded)
    return keras.Model(words, keras.layers.Dense(3)(embedded))


WORDS = ["oak", "ash", "elm", "oak tree"]


@pytest.mark.parametrize("kind", ["StringLookup", "IntegerLookup", "TextVectorization"])
def test_adapted_vocabularies_are_kept(kind, tmp_path):
    import tensorflow as tf

    layer = getattr(keras.layers, kind)()
    known = [7, 300, 12] if kind == "IntegerLookup" else WORDS
    layer.adapt(tf.constant(known))
    dtype = "int64" if kind == "IntegerLookup" else "string"
    model = lookup_model(layer, dtype)
    inputs = tf.constant([*known, 5 if kind == "IntegerLookup" else "fir"])
    masked = check(model, inputs)
    masked.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(outputs(loaded, inputs), outputs(model, inputs))


def test_adapted_buckets_are_kept():
    layer = keras.layers.Discretization(num_bins=4, output_mode="one_hot")
    layer.adapt(features(50, 1))
    model = keras.Sequential([keras.Input((1,)), layer, keras.layers.Dense(3)])
    check(model, features(6, 1))


class Scale(keras.layers.Layer):
    """Multiplies by what neither its weights nor its configuration hold."""

    factor = 1.0

    def call(self, inputs):
        return inputs * self.factor


def test_a_copy_that_differs_is_refused():
    for structure in ("list", "dict", "integers"):
        left = keras.Input((4,), name="left")
        right = keras.Input((None, 2), name="right")
        tokens = keras.Input((3,), dtype="int32", name="tokens")
        scale = Scale()
        parts = [
            keras.layers.Dense(3)(left),
            keras.layers.GlobalAveragePooling1D()(keras.layers.Dense(3)(right)),
            keras.layers.Flatten()(keras.layers.Embedding(7, 1)(tokens)),
        ]
        inputs = [left, right, tokens]
        if structure == "dict":
            inputs = {"left": left, "right": right, "tokens": tokens}
        if structure == "integers":
            parts, inputs = parts[2:], tokens
        summed = keras.layers.Add()(parts) if len(parts) > 1 else parts[0]
        model = keras.Model(inputs, keras.layers.Dense(2)(scale(summed)))
        scale.factor = 2.0
        with pytest.raises(
            InputError, match=r"copy of functional.* computes otherwise.* differ by "
        ):
            lottery_tf.masked(model)
        keras.utils.clear_session()


def test_dropout_and_noise_do_not_make_a_difference():
    model = keras.Sequential([keras.Input((4,)), keras.layers.GaussianNoise(1.0),
                              keras.layers.Dropout(0.5), keras.layers.Dense(3)])  # fmt: skip
    check(model, features(6, 4))


class Noisy(keras.layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.generator = keras.random.SeedGenerator(1)

    def call(self, inputs):
        return inputs + keras.random.normal(keras.ops.shape(inputs), seed=self.generator)


def test_a_model_that_is_random_at_inference_is_not_compared():
    model = keras.Sequential([keras.Input((4,)), Noisy(), keras.layers.Dense(3)])
    assert masking.kernels(lottery_tf.masked(model))


def test_a_difference_is_measured_also_where_there_are_no_numbers():
    nan = float("nan")
    assert comparing._difference([[1.0, nan]], [[1.0, nan]]) == 0
    assert comparing._difference([[1.0, 2.0]], [[1.5, 2.0]]) == 0.5
    assert comparing._difference([[1.0]], [[nan]]) > 1e100


@keras.saving.register_keras_serializable("tests")
class Squared(keras.layers.Layer):
    def call(self, inputs):
        return inputs**2


def test_layers_that_nested_models_share_stay_shared():
    inner = keras.Input((4,))
    shared = keras.layers.Dense(4, name="shared")
    tower = keras.Model(inner, Squared()(shared(inner)), name="tower")
    image = keras.Input((4,))
    model = keras.Model(image, keras.layers.Dense(2)(shared(image) + tower(image)))
    masked = check(model, features(6, 4))
    assert len(masking.kernels(masked)) == 2
    assert keras_private.shares_layers(masked)
    assert keras_private.shares_layers(lottery_tf.unmasked(masked))


class Weighted(keras.Model):
    """A functional subclass that trains otherwise."""

    def __init__(self, inputs, outputs, weight=1.0, **options):
        super().__init__(inputs, outputs, **options)
        self.weight = weight

    def train_step(self, data):
        return {"weight": self.weight}


@keras.saving.register_keras_serializable("tests")
class Rebuilt(Weighted):
    def get_config(self):
        functional = keras.Model(self.input, self.output)
        return {
            "functional": keras.saving.serialize_keras_object(functional),
            "weight": self.weight,
        }

    @classmethod
    def from_config(cls, config):
        functional = keras.saving.deserialize_keras_object(config["functional"])
        return cls(functional.input, functional.output, config["weight"])


class Steps(keras.Model):
    def train_step(self, data):
        return {"own": 1.0}


def functional(kind, **options):
    image = keras.Input((4,))
    return kind(image, keras.layers.Dense(2)(image), **options)


def test_a_functional_subclass_keeps_its_class_and_its_training(tmp_path):
    for model in (functional(Steps), functional(Rebuilt, weight=0.3)):
        masked = check(model, features(6, 4))
        assert isinstance(masked, type(model))
        assert type(lottery_tf.unmasked(masked)) is type(model)
        masked.compile("sgd")
        history = masked.fit(features(6, 4), np.ones((6, 2)), verbose=0).history
        assert history in ({"own": [1.0]}, {"weight": [pytest.approx(0.3)]})
        lottery_tf.prune(masked, 0.5)
        path = tmp_path / "model.keras"
        masked.save(path)
        loaded = keras.models.load_model(path, custom_objects={"Steps": Steps})
        assert isinstance(loaded, type(model))
        masks = map(masking.get_masks, (masked, loaded))
        assert all(np.array_equal(*m) for m in zip(*(x.values() for x in masks), strict=True))


def test_a_functional_subclass_that_cannot_be_rebuilt_is_refused():
    with pytest.raises(InputError, match=r"cannot be copied.*get_config and from_config"):
        lottery_tf.masked(functional(Weighted, weight=0.3))
    model = functional(Steps)
    model.temperature = 2.0  # what __init__ does not know
    with pytest.raises(InputError, match=r"its attribute temperature is 2.0.*'not there'"):
        lottery_tf.masked(model)


class OwnSequential(keras.Sequential):
    def train_step(self, data):
        return {"own": 1.0}


def test_a_sequential_subclass_keeps_its_class():
    model = OwnSequential([keras.Input((4,)), keras.layers.Dense(2)])
    assert type(check(model, features(6, 4))) is OwnSequential


def encoder(name):
    """As a factory makes it: the layers inside have the same names each time."""
    inputs = keras.Input((4,))
    features = keras.layers.Dense(5, activation="relu", name="up")(inputs)
    return keras.Model(inputs, keras.layers.Dense(4, name="down")(features), name=name)


@pytest.mark.ci
def test_two_encoders_of_one_factory(tmp_path):
    left, right = keras.Input((4,)), keras.Input((4,))
    both = keras.layers.Subtract()([encoder("a")(left), encoder("b")(right)])
    model = keras.Model([left, right], keras.layers.Dense(2, name="head")(both))
    inputs = [features(6, 4), features(6, 4) ** 2]
    masked = check(model, inputs)
    paths = [f"{name}/{layer}/kernel" for name in "ab" for layer in ("up", "down")]
    assert sorted(masking.get_masks(masked)) == sorted([*paths, "head/kernel"])
    assert {v.path for v in lottery_tf.unmasked(masked).weights} == set(masking.variables(masked))
    masked.compile(keras.optimizers.SGD(1e-3, momentum=0.9), "mean_squared_error")
    masked.fit(inputs, np.ones((6, 2)), verbose=0)
    masked.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for own in (masked, loaded):  # the optimizer of the loaded one was built before
        lottery_tf.prune(own, 0.5)
        masks = masking.get_masks(own)
        optimizer_state.clear_pruned(own.optimizer, own.trainable_variables, masks)
        momenta = zip(own.trainable_variables, own.optimizer.momentums, strict=True)
        for variable, momentum in momenta:
            if variable.path in masks:
                mask = masks[variable.path]
                assert not momentum.numpy()[~mask].any()
                assert momentum.numpy()[mask].any()
    assert masking.get_masks(loaded).keys() == masking.get_masks(masked).keys()
