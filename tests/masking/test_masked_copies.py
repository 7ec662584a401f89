"""lottery_tf.masked: what a copy holds beside weights, and copies that would differ."""

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.masking import copying, keras_private, optimizer_state
from tests.masking.comparing import equal, same_masks
from tests.versions import since

pytestmark = pytest.mark.versions


def outputs(model, inputs):
    return np.asarray(model(inputs, training=False))


def check(model, inputs):
    """The masked copy, after its outputs, and those of its plain copy, are compared."""
    before = [array.copy() for array in model.get_weights()]
    masked = lottery_tf.masked(model)
    assert np.array_equal(outputs(masked, inputs), outputs(model, inputs))
    assert np.array_equal(outputs(lottery_tf.unmasked(masked), inputs), outputs(model, inputs))
    assert equal(before, model.get_weights())
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


@since("keras", "3.14", "its one-hot buckets count as one feature")
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
        with pytest.raises(InputError, match=r"^masked: .*functional.*lottery_tf\.mask\(model\)"):
            lottery_tf.masked(model)
        keras.utils.clear_session()


def test_dropout_and_noise_do_not_make_a_difference():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.GaussianNoise(1.0),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3),
        ]
    )
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
    numbers, others = np.array([1.0, np.nan]), np.array([1.5, np.nan])
    assert copying._difference([numbers], [numbers]) == 0
    assert copying._difference([numbers], [others]) == 0.5
    assert copying._difference([numbers], [numbers[::-1]]) > 1e100


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
        assert same_masks(masked, loaded)


def test_a_functional_subclass_that_cannot_be_rebuilt_is_refused():
    with pytest.raises(InputError, match=r"get_config.*from_config"):
        lottery_tf.masked(functional(Weighted, weight=0.3))
    model = functional(Steps)
    model.temperature = 2.0  # what __init__ does not know
    with pytest.raises(InputError, match=r"temperature.*2\.0.*get_config"):
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


def frozen_base(kind):
    """A head on a base that was frozen as a whole."""
    image = keras.Input((4,))
    if kind == "sequential":
        base = keras.Sequential([image, keras.layers.Dense(5), keras.layers.Dense(3)], name="base")
    else:
        hidden = keras.layers.Dense(5)(image)
        base = keras.Model(image, keras.layers.Dense(3)(hidden), name="base")
    base.trainable = False
    return keras.Sequential([keras.Input((4,)), base, keras.layers.Dense(2, name="head")])


@pytest.mark.parametrize("kind", ["sequential", "functional"])
@pytest.mark.parametrize("way", ["masked", "unmasked"])
def test_a_base_that_was_frozen_as_a_whole_can_be_trained_later(kind, way):
    copy = lottery_tf.masked(frozen_base(kind), include="*")
    if way == "unmasked":
        copy = lottery_tf.unmasked(copy)
    flags = [
        [layer.trainable for layer in keras_private.flatten_layers(model) if layer.weights]
        for model in (copy, frozen_base(kind))
    ]
    assert flags[0] == flags[1]
    assert len(copy.trainable_variables) == 2
    copy.get_layer("base").trainable = True
    assert len(copy.trainable_variables) == 6
    copy.compile("sgd", "mean_squared_error", run_eagerly=True)
    before = copy.get_layer("base").get_weights()[0]
    copy.fit(features(6, 4), np.ones((6, 2)), verbose=0)
    assert not np.array_equal(copy.get_layer("base").get_weights()[0], before)


def test_what_acts_only_in_training_is_copied():
    dropout = keras.layers.Dropout(0.5, seed=3)
    layers = [keras.Input((4,)), keras.layers.Dense(8, name="a"), dropout, keras.layers.Dense(2)]
    model = keras.Sequential(layers)
    kernel, bias = model.get_layer("a").kernel, model.get_layer("a").bias
    kernel.regularizer, bias.constraint = keras.regularizers.L2(0.1), keras.constraints.NonNeg()
    kernel.constraint, bias.trainable = keras.constraints.MaxNorm(1.0), False
    model(features(6, 4), training=True)  # the state of the seed moves on
    copy = lottery_tf.masked(model)
    plain = lottery_tf.unmasked(copy)
    for other in (copy, plain):
        layer = other.get_layer("a")
        of_kernel = keras_private.stored_variable(layer, "kernel")
        assert of_kernel.regularizer is kernel.regularizer
        assert layer.bias.constraint is bias.constraint
        assert not layer.bias.trainable
        assert float(sum(other.losses)) == pytest.approx(float(sum(model.losses)))
    masked_kernel = copy.get_layer("a").kernels[0].variable
    assert masked_kernel.constraint.user_constraint is kernel.constraint
    assert plain.get_layer("a").kernel.constraint is kernel.constraint
    states = [keras_private.seed_generators(one.layers[1])[0].state for one in (model, copy, plain)]
    assert all(np.array_equal(states[0], state) for state in states)
    trained = [np.asarray(one(features(6, 4), training=True)) for one in (model, copy, plain)]
    assert np.array_equal(trained[0], trained[1])
    assert np.array_equal(trained[0], trained[2])


@keras.saving.register_keras_serializable("tests")
class InTraining(keras.layers.Layer):
    """Computes in training, or adds a loss, by what its configuration does not hold."""

    factor = loss = 1.0

    def call(self, inputs, training=False):
        self.add_loss(self.loss * keras.ops.mean(inputs**2))
        return inputs * self.factor if training else inputs


@pytest.mark.parametrize("name", ["factor", "loss"])
def test_a_copy_that_trains_otherwise_is_refused(name):
    layer = InTraining()
    model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(2)])
    lottery_tf.masked(model)
    setattr(layer, name, 2.0)
    with pytest.raises(InputError, match=r"training.*lottery_tf\.mask\(model\)"):
        lottery_tf.masked(model)


@keras.saving.register_keras_serializable("tests")
class WithoutDtype(keras.layers.Layer):
    def call(self, inputs):
        return inputs

    def get_config(self):
        return {}


def test_a_copy_of_another_dtype_is_refused():
    layers = [keras.Input((4,)), WithoutDtype(dtype="mixed_float16"), keras.layers.Dense(2)]
    with pytest.raises(InputError, match=r"mixed_float16.*get_config"):
        lottery_tf.masked(keras.Sequential(layers))


@keras.saving.register_keras_serializable("tests")
class FourAtOnce(keras.layers.Layer):
    """Takes only batches of four, which no random input has."""

    def call(self, inputs):
        return keras.ops.reshape(inputs, (4, 4))


def test_a_copy_that_was_not_compared_is_told():
    model = keras.Sequential([keras.Input((4,)), FourAtOnce(), keras.layers.Dense(2)])
    with pytest.warns(UserWarning, match=r"^masked: .*sequential"):
        copy = lottery_tf.masked(model)
    assert masking.kernels(copy)
    with pytest.warns(UserWarning, match=r"^unmasked: .*sequential"):
        lottery_tf.unmasked(copy)


def test_a_copy_that_is_not_compiled_is_told():
    def own_loss(labels, outputs):
        return keras.ops.mean((labels - outputs) ** 2)

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("adam", own_loss)
    with pytest.warns(UserWarning, match=r"compile.*own_loss"):
        copy = lottery_tf.masked(model)
    assert not copy.compiled


class OwnCompile(keras.Sequential):
    def compile(self, optimizer):
        super().compile(optimizer, "mean_squared_error")


def test_a_copy_whose_class_compiles_in_its_own_way_is_told():
    model = OwnCompile([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("sgd")
    with pytest.warns(UserWarning, match=r"compile\(\)"):
        lottery_tf.masked(model)


def test_an_error_of_our_own_is_not_the_users_model(monkeypatch):
    from lottery_tf.masking import copying

    def wrong(model, new):
        raise TypeError("a fault of this package")

    wrong = type(wrong)(wrong.__code__, vars(copying))  # as if it stood there
    monkeypatch.setattr(copying, "copy_state", wrong)
    with pytest.raises(TypeError, match="a fault of this package"):
        lottery_tf.masked(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))


def test_a_model_in_an_attribute_that_no_copy_has_is_named():
    image = keras.Input((4,))
    model = keras.Model(image, keras.layers.Dense(2)(image))
    model.teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(InputError, match="teacher"):
        lottery_tf.masked(model)


def test_the_advice_is_that_of_the_function():
    layer = InTraining()
    masked = lottery_tf.masked(keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(2)]))
    masked.layers[0].factor = 2.0
    with pytest.raises(InputError, match=r"unmasked: .*lottery_tf\.unmask\(model\)"):
        lottery_tf.unmasked(masked)


@pytest.mark.ci
def test_synflow_takes_lambdas():
    layers = [keras.Input((4,)), keras.layers.Lambda(lambda x: 2 * x), keras.layers.Dense(2)]
    masked = lottery_tf.masked(keras.Sequential(layers))
    assert lottery_tf.prune(masked, 0.5, criterion="synflow") == 0.5
