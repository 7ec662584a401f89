"""What a turn of `rounds` starts from: fresh weights, and a fresh optimizer."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

import lottery_tf
from lottery_tf import masking
from lottery_tf.benchmarks import fits

pytestmark = pytest.mark.versions


@pytest.fixture(autouse=True)
def fresh_names():
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)


DATA = (
    np.random.default_rng(0).random((12, 4)).astype(np.float32),
    np.random.default_rng(1).integers(0, 3, 12),
)


def network(*, seed=0, initializer="glorot_uniform", policy="float32"):
    keras.utils.clear_session()
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(seed)
    image = keras.Input((4,))
    first = keras.layers.Dense(8, activation="relu", kernel_initializer=initializer, name="first")
    features = keras.layers.BatchNormalization(name="norm")(first(image))
    return lottery_tf.masked(keras.Model(image, keras.layers.Dense(3, name="last")(features)))


def compiled(model, optimizer=None, **options):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        **({"optimizer": optimizer or keras.optimizers.Adam(0.01), "loss": loss} | options)
    )
    return model


def starts(model, **options):
    """The weights that each turn starts from; each trains to others."""
    found = []
    for _ in lottery_tf.rounds(model, 3, 0.2, **options):
        found.append(masking.get_weights(model))
        masks = masking.get_masks(model)
        trained = {path: array * 0.9 + 0.01 for path, array in found[-1].items()}
        trained |= {path: trained[path] * masks[path] for path in masks}
        masking.set_weights(model, trained, masks)
    return found


def alive_in_both(one, other, path):
    both = (one[path] != 0) & (other[path] != 0)
    return one[path][both], other[path][both]


# Fresh weights -----------------------------------------------------------------------------


@pytest.mark.ci
@pytest.mark.parametrize("seed", range(4))
def test_a_reinit_is_not_the_ticket(seed):
    """Not even where the model was drawn from the seed that the rounds are given."""
    found = starts(network(seed=seed), seed=max(seed - 1, 0), reset="reinit")
    for path in ("first/kernel", "last/kernel"):
        for later in (1, 2):
            own, fresh = alive_in_both(found[0], found[later], path)
            assert own.size
            assert not np.isclose(own, fresh).any()


@pytest.mark.ci
def test_replicates_share_no_fresh_weights():
    first, second = (starts(network(), seed=seed, reset="reinit") for seed in (0, 1))
    for one in (1, 2):
        for other in (1, 2):
            assert not np.isclose(*alive_in_both(first[one], second[other], "last/kernel")).any()
    again = starts(network(), seed=1, reset="reinit")
    assert np.array_equal(second[2]["last/kernel"], again[2]["last/kernel"])


@pytest.mark.ci
def test_a_seed_of_an_initializer_is_not_that_of_every_turn():
    model = network(initializer=keras.initializers.GlorotUniform(seed=3))
    found = starts(model, reset="reinit")
    assert not np.isclose(*alive_in_both(found[0], found[1], "first/kernel")).any()
    assert not np.isclose(*alive_in_both(found[1], found[2], "first/kernel")).any()


def numbers():
    """The next of every generator that a user may draw from."""
    keras_drawn = keras.initializers.GlorotUniform()((1, 1))
    drawn = tf.random.uniform(()), keras.random.uniform(()), keras_drawn[0, 0]
    return [random.random(), np.random.rand(), *map(float, drawn)]


@pytest.mark.ci
@pytest.mark.parametrize("drawn_before", [0, 2])
def test_the_users_generators_go_on_as_if_nothing_was_drawn(drawn_before):
    def after(use):
        model = network()
        keras.utils.set_random_seed(5)
        for _ in range(drawn_before):
            numbers()
        if use:
            starts(model, reset="reinit")
        return numbers() + numbers()

    assert after(True) == after(False)


@pytest.mark.ci
def test_a_process_that_set_no_seed_of_tensorflow_has_none_afterwards(monkeypatch):
    from tensorflow.python.eager import context

    model, now = network(), context.context()
    monkeypatch.setattr(now, "_seed", None)
    monkeypatch.delattr(now, "_rng", raising=False)
    starts(model, reset="reinit")
    assert now._seed is None
    assert not hasattr(now, "_rng")


@pytest.mark.ci
def test_what_is_frozen_adapted_or_constant_is_not_drawn_at_random():
    image = keras.Input((4,))
    normalization = keras.layers.Normalization(name="adapted")
    frozen = keras.layers.Dense(8, trainable=False, name="frozen")
    norm = keras.layers.BatchNormalization(name="norm")
    frozen_norm = keras.layers.BatchNormalization(name="frozen_norm", trainable=False)
    features = frozen_norm(norm(frozen(normalization(image))))
    model = keras.Model(image, keras.layers.Dense(3, name="last")(features))
    model = lottery_tf.masked(model, include="*")
    for name in ("adapted", "frozen_norm", "norm"):  # pretrained
        layer = model.get_layer(name)
        layer.set_weights([array + 2 for array in layer.get_weights()])
    with pytest.warns(UserWarning, match=r"cover 42\.9%.*not pruned: frozen/kernel\."):
        _, second, _ = found = starts(model, reset="reinit")
    for path in found[0]:
        layer, _, variable = path.partition("/")
        if layer in ("adapted", "frozen_norm"):
            assert np.array_equal(second[path], found[0][path]), path
        if layer == "norm":
            expected = {"gamma": 1, "beta": 0, "moving_mean": 0, "moving_variance": 1}[variable]
            assert (second[path] == expected).all(), path
    assert np.array_equal(*alive_in_both(found[0], second, "frozen/kernel"))
    assert not np.isclose(*alive_in_both(found[0], second, "last/kernel")).any()


# A fresh optimizer -------------------------------------------------------------------------


class OwnSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Unknown to Keras, and without a configuration."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, step):
        return self.rate / (1 + keras.ops.cast(step, "float32"))


def own_loss(labels, outputs):
    return keras.losses.sparse_categorical_crossentropy(labels, outputs, from_logits=True)


def several():
    adam, sgd = keras.optimizers.Adam(0.01), keras.optimizers.SGD(0.1, momentum=0.9)
    return keras.optimizers.MultiOptimizer(
        lambda variable: adam if "first" in variable.path else sgd
    )


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01),
    "adagrad": lambda: keras.optimizers.Adagrad(0.01),
    "own schedule": lambda: keras.optimizers.SGD(OwnSchedule(0.1), momentum=0.9),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
    "several": several,
    "averages": lambda: keras.optimizers.Adam(0.01, use_ema=True),
}


def values(optimizer):
    return [keras.ops.convert_to_numpy(variable) for variable in optimizer.variables]


@pytest.mark.ci
@pytest.mark.parametrize(
    ("name", "reset"), [*((name, "reinit") for name in OPTIMIZERS), ("adam", "init")]
)
def test_every_turn_has_the_optimizer_as_it_began(name, reset):
    # Adam's function is traced, and runs in each turn; the others' one step is faster than that.
    options = {"loss": own_loss, "run_eagerly": name != "adam"}
    model = compiled(network(), OPTIMIZERS[name](), **options)
    model.optimizer.build(model.trainable_variables)
    began = values(model.optimizer)
    for _ in lottery_tf.rounds(model, 2, 0.2, reset=reset):
        for before, now in zip(began, values(model.optimizer), strict=True):
            assert np.array_equal(before, now)
        model.fit(*DATA, verbose=0)
        assert int(model.optimizer.iterations) == 1


@pytest.mark.ci
@pytest.mark.parametrize("name", ["adam", "own schedule", "several"])
def test_a_model_compiled_inside_turn_0_has_a_fresh_optimizer_too(name):
    model, iterations = network(), []
    for round in lottery_tf.rounds(model, 3, 0.2):
        if not round.index:
            compiled(model, OPTIMIZERS[name]())
        elif name == "adam":
            assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
        model.fit(*DATA, verbose=0, epochs=2, batch_size=4, callbacks=round.callbacks)
        iterations.append(int(model.optimizer.iterations))
        if name == "adam":
            model.optimizer.learning_rate = 0.5  # as a callback might
    assert iterations == [6, 6, 6]


@pytest.mark.ci
def test_an_optimizer_that_rounds_sees_only_when_it_has_trained_keeps_its_rate_with_a_warning():
    model = network()

    def train():
        for round in lottery_tf.rounds(model, 3, 0.2):
            if not round.index:
                compiled(model, keras.optimizers.Adam(0.01))
            else:
                assert int(model.optimizer.iterations) == 0
                assert float(model.optimizer.learning_rate) == pytest.approx(0.5)
            model.fit(*DATA, verbose=0, epochs=2, batch_size=4)
            model.optimizer.learning_rate = 0.5

    with pytest.warns(UserWarning, match=r"round\.callbacks") as told:
        train()
    assert len(told) == 1


@pytest.mark.ci
def test_an_optimizer_that_has_trained_starts_with_fresh_slots_and_its_rate():
    model = compiled(network(), keras.optimizers.Adagrad(0.05), run_eagerly=True)
    model.optimizer.build(model.trainable_variables)
    began = values(model.optimizer)
    model.fit(*DATA, verbose=0)
    for _ in lottery_tf.rounds(model, 2, 0.2):
        for before, now in zip(began, values(model.optimizer), strict=True):
            assert np.array_equal(before, now)


@pytest.mark.ci
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_that_has_trained_begins_again(name):
    """Even where Keras could not make another like it, for a schedule of the user's own."""
    options = {"loss": own_loss, "run_eagerly": True}  # a fit of one step, faster than its tracing
    model, fresh = (compiled(network(), OPTIMIZERS[name](), **options) for _ in range(2))
    fresh.optimizer.build(fresh.trainable_variables)
    model.fit(*DATA, verbose=0)
    next(lottery_tf.rounds(model, 2, 0.2))
    for one, other in zip(values(model.optimizer), values(fresh.optimizer), strict=True):
        assert np.array_equal(one, other)


class Warmed(keras.optimizers.SGD):
    """Keeps a variable of its own, and Keras cannot make a new one."""

    def __init__(self, power):
        super().__init__(0.1)
        self.heat = self.add_variable((), initializer="ones", name="heat")
        self.power = power

    def update_step(self, gradient, variable, learning_rate):
        self.heat.assign(self.heat * 0.5)
        super().update_step(gradient, variable, learning_rate)


@pytest.mark.ci
def test_a_trained_optimizer_whose_own_variable_cannot_be_made_anew_is_refused():
    model = compiled(network(), Warmed(2))
    for _ in lottery_tf.rounds(model, 2, 0.2):
        assert float(model.optimizer.heat) == 1
        model.fit(*DATA, verbose=0)
        assert float(model.optimizer.heat) < 1
    model = compiled(network(), Warmed(2))
    model.fit(*DATA, verbose=0)
    with pytest.raises(lottery_tf.errors.InputError, match=r"heat.*Compile the model with a new"):
        lottery_tf.rounds(model, 2, 0.2)


@pytest.mark.ci
def test_mixed_precision_scales_the_loss_in_every_turn_alike():
    model = compiled(network(policy="mixed_float16"))
    keras.config.set_dtype_policy("float32")
    for _ in lottery_tf.rounds(model, 3, 0.2, reset="reinit"):
        assert float(model.optimizer.dynamic_scale) == 2**15
        model.fit(*DATA, verbose=0)
        model.optimizer.dynamic_scale.assign(4.0)


# The rewind point --------------------------------------------------------------------------


@pytest.mark.ci
def test_the_rewind_point_counts_batches_also_where_several_run_at_once():
    model = compiled(network(), steps_per_execution=2)
    point = lottery_tf.fit.RewindPoint(4)
    model.fit(*DATA, batch_size=3, epochs=2, shuffle=False, verbose=0, callbacks=[point])
    assert int(model.optimizer.iterations) == point.steps == 8
    again = compiled(network())
    again.fit(*DATA, batch_size=3, shuffle=False, verbose=0)
    for path, array in point.kept().items():
        assert np.allclose(array, masking.get_weights(again)[path], atol=1e-6)
    with pytest.raises(lottery_tf.errors.InputError, match="from step 2 to 4 at once, past step 3"):
        model.fit(*DATA, batch_size=3, verbose=0, callbacks=[lottery_tf.fit.RewindPoint(3)])


@pytest.mark.ci
def test_the_benchmark_measures_both_ways_of_a_network(monkeypatch):
    monkeypatch.setattr(fits, "NETWORKS", {"small": lambda: small})
    monkeypatch.setattr(fits, "MOST_STEPS", 2)
    small = keras.Sequential(
        [keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    times, added = fits.fit_times(repeats=2, steps=2)
    assert {way: len(values) for way, values in times["small"].items()} == {"plain": 2, "masked": 2}
    assert 0 < added["small"] < 10
