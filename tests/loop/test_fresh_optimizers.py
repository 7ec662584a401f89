"""Every optimizer that a model holds begins again in each round of `rounds`."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import lottery_tf
from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.masking import optimizer_state
from tests.masking import test_layer_contract as contract

LABELS = np.zeros((6, 2), np.float32)
INPUTS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


@pytest.fixture(autouse=True)
def fresh_names():
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)


def network(sizes=(5, 2), **options):
    layers = [keras.layers.Dense(size, bias_initializer="ones") for size in sizes]
    return lottery_tf.masked(keras.Sequential([keras.Input((4,)), *layers], **options))


def values(optimizer):
    return [keras.ops.convert_to_numpy(variable) for variable in optimizer.variables]


# Slots that begin as a function of the weights -----------------------------------------------


class Anchored(keras.optimizers.SGD):
    """Is drawn to half of the first weights, by a rate that is their norm; slots by `build`."""

    def build(self, variables):
        super().build(variables)
        (self._anchors,) = self.add_optimizer_variables(variables, ["anchor"])
        self._norm = keras.Variable(0.0, name="norm")
        for anchor, variable in zip(self._anchors, variables, strict=True):
            anchor.assign(0.5 * variable)
            self._norm.assign_add(keras.ops.sum(variable**2))

    def update_step(self, gradient, variable, learning_rate):
        anchor = self._anchors[self._get_variable_index(variable)]
        pull = 0.1 * self._norm * (variable - anchor)
        super().update_step(gradient + pull, variable, learning_rate)


class Lookahead(keras.optimizers.Optimizer):
    """Wraps another optimizer, and keeps slow weights that begin as the weights."""

    def __init__(self, inner, **options):
        super().__init__(learning_rate=0.0, **options)
        self.inner = inner

    def build(self, variables):
        self.inner.build(variables)
        super().build(variables)
        (self._slow,) = self.add_optimizer_variables(variables, ["slow"])
        for slow, variable in zip(self._slow, variables, strict=True):
            slow.assign(variable)

    @property
    def variables(self):
        return super().variables + self.inner.variables

    def apply(self, gradients, variables=None):
        self.inner.apply(gradients, variables)
        for slow, variable in zip(self._slow, variables, strict=True):
            slow.assign(0.5 * (slow + variable))
            variable.assign(slow)


class Unguarded(keras.optimizers.SGD):
    """As the example in Keras's own BaseOptimizer: a second `build` would make new slots."""

    def build(self, variables):
        keras.optimizers.Optimizer.build(self, variables)
        self.momentums = [
            self.add_variable_from_reference(one, name="momentum") for one in variables
        ]


def several():
    schedule_free, adam = keras.optimizers.ScheduleFreeAdamW(0.1), keras.optimizers.Adam(0.01)
    return keras.optimizers.MultiOptimizer(
        lambda variable: schedule_free if "kernel" in variable.path else adam
    )


def accumulating():
    return keras.optimizers.ScheduleFreeAdamW(0.1, gradient_accumulation_steps=2)


OPTIMIZERS = {
    **{name: lambda name=name: contract.optimizer(name, "plain") for name in contract.OPTIMIZERS},
    "averaged": lambda: contract.optimizer("Adam", "averaged"),
    "averaged and schedule-free": lambda: contract.optimizer("ScheduleFreeAdamW", "averaged"),
    "several": several,
    "accumulating": accumulating,
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.ScheduleFreeAdamW(0.1)),
    "anchored": lambda: Anchored(0.1, momentum=0.9),
    "wrapped": lambda: Lookahead(keras.optimizers.Adam(0.1)),
    "unguarded in one": lambda: Lookahead(Unguarded(0.1, momentum=0.9)),
}


def step(model, optimizer, seed=0):
    """One step with made-up gradients, so that nothing needs to be compiled."""
    generator = np.random.default_rng(seed)
    variables = model.trainable_variables
    optimizer.apply([tf.constant(generator.normal(size=v.shape), "float32") for v in variables],
                    variables)  # fmt: skip


def train(model, round):
    """A step in a loop of the user's own, with the callbacks of the round; then it moves on."""
    callbacks = keras.callbacks.CallbackList(round.callbacks, model=model)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    step(model, model.optimizer)
    callbacks.on_train_batch_end(0)
    callbacks.on_epoch_end(0)
    callbacks.on_train_end()


@pytest.mark.ci
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_first_step_of_a_round_is_that_of_a_new_optimizer(name):
    for reset in ("init", "reinit", "rewind", "finetune"):
        model = network()
        model.compile(OPTIMIZERS[name](), "mse")
        options = {"rewind_to": 1} if reset == "rewind" else {}
        for round in lottery_tf.rounds(model, 2, 0.4, reset=reset, verbose=0, **options):
            start, masks = masking.get_weights(model), masking.get_masks(model)
            train(model, round)
            ended = masking.get_weights(model)
        masking.set_weights(model, start, masks)
        fresh = OPTIMIZERS[name]()
        fresh.build(model.trainable_variables)
        step(model, fresh)
        for path, array in masking.get_weights(model).items():
            np.testing.assert_array_equal(array, ended[path], f"{reset}, {path}")
        for one, other in zip(values(model.optimizer), values(fresh), strict=True):
            np.testing.assert_array_equal(one, other, reset)


# All that a model holds -----------------------------------------------------------------------


class GAN(keras.Model):
    def __init__(self, discriminator, generator):
        super().__init__()
        self.discriminator, self.generator = discriminator, generator

    def compile(self, d_optimizer, g_optimizer):
        super().compile(optimizer=None)
        self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer

    def train_step(self, real):
        noise = keras.random.normal((6, 3), seed=1)
        parts = (
            (self.discriminator, self.d_optimizer, 1.0),
            (self.generator, self.g_optimizer, -1),
        )
        for part, optimizer, sign in parts:
            with tf.GradientTape() as tape:
                fake = self.discriminator(self.generator(noise))
                loss = sign * tf.reduce_mean(fake - self.discriminator(real))
            weights = part.trainable_weights
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


def gan():
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    noise = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    model = GAN(network(sizes=(5, 1)), lottery_tf.masked(noise))
    model.compile(keras.optimizers.Adam(0.1), keras.optimizers.ScheduleFreeAdamW(0.1))
    return model


@pytest.mark.ci
def test_both_optimizers_of_a_gan_begin_again():
    model, seen = gan(), []
    for round in lottery_tf.rounds(model, 3, 0.2, scope="layer", verbose=0):
        assert "d_optimizer (Adam)" in round.optimizers
        assert "g_optimizer (ScheduleFreeAdamW)" in round.optimizers
        for optimizer in (model.d_optimizer, model.g_optimizer):
            assert int(optimizer.iterations) == 0
            assert float(optimizer.learning_rate) == pytest.approx(0.1)
            if round.index:
                assert optimizer.built
                slots = [v for v in optimizer.variables if "velocity" in v.name]
                assert not any(slot.numpy().any() for slot in slots)
        model.fit(INPUTS, verbose=0, callbacks=round.callbacks)
        seen.append(int(model.d_optimizer.iterations))
        model.d_optimizer.learning_rate = 0.7  # as a callback might
    assert seen == [1, 1, 1]


@pytest.mark.ci
def test_a_round_of_a_gan_that_was_stopped_goes_on_with_both_optimizers(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    ends = []
    for name, calls in (("whole", [[]]), ("parts", [[Stop()], []])):
        for callbacks in calls:
            model = gan()
            try:
                for round in lottery_tf.rounds(model, 1, directory=tmp_path / name, verbose=0):
                    model.fit(INPUTS, epochs=3, shuffle=False, verbose=0,
                              callbacks=[*round.callbacks, *callbacks])  # fmt: skip
            except KeyboardInterrupt:
                continue
            ends.append(masking.get_weights(model))
    assert len(ends) == 2
    for path, array in ends[0].items():
        np.testing.assert_array_equal(array, ends[1][path], path)


def test_optimizers_are_found_wherever_a_model_holds_them():
    kinds = ["SGD", "Adam", "RMSprop", "Adagrad", "Lion", "AdamW"]
    sgd, adam, rmsprop, adagrad, lion, adamw = (getattr(keras.optimizers, k)(0.1) for k in kinds)
    part, model = network(), network()
    part.compile(sgd)
    model.compile(keras.optimizers.LossScaleOptimizer(adam))
    model.part, model.of_parts, model.by_name = part, [rmsprop, (adagrad,)], {"d": {"e": lion}}
    model.layers[-1].own = adamw
    held = optimizer_state.find(model)
    names = {id(optimizer): name for name, optimizer in held.items()}
    assert names[id(sgd)] == "part.optimizer"
    assert names[id(rmsprop)] == "of_parts[0]"
    assert names[id(adagrad)] == "of_parts[1][0]"
    assert names[id(lion)] == "by_name['d']['e']"
    assert names[id(adamw)] == f"{model.layers[-1].name}.own"
    assert id(adam) not in names
    assert optimizer_state.with_inner(held["optimizer"]) == [model.optimizer, adam]
    assert len(held) == 6


@pytest.mark.ci
def test_an_optimizer_of_the_users_own_loop_is_named():
    model, optimizer, seen = network(), keras.optimizers.Adam(0.1), []
    for round in lottery_tf.rounds(model, 3, 0.5, optimizers=[optimizer], verbose=0):
        assert round.optimizers == ("optimizers[0] (Adam)",)
        seen.append((int(optimizer.iterations), float(optimizer.learning_rate)))
        step(model, optimizer)
        optimizer.learning_rate = 0.7
    assert seen == [(0, pytest.approx(0.1))] * 3
    assert repr(round) == f"Round(index=2, density={round.density:.4g}, optimizers={['optimizers[0] (Adam)']})"  # noqa: E501  # fmt: skip


@pytest.mark.parametrize(
    "wrong", ["adam", ["adam"], keras.optimizers.Adam(), [types.SimpleNamespace(built=True)], None]
)
def test_what_is_no_list_of_optimizers_is_refused(wrong):
    expected = wrong[0] if isinstance(wrong, list) else wrong
    with pytest.raises(InputError, match="optimizers: expected") as error:
        lottery_tf.rounds(network(), 3, 0.2, optimizers=wrong)
    assert repr(expected)[:50] in str(error.value)


def test_a_pruning_clears_the_slots_of_every_optimizer():
    model = network()
    model.other = keras.optimizers.Adam(0.1)
    step(model, model.other)
    lottery_tf.prune(model, 0.5)
    masks = {f"{path.replace('/', '_')}_velocity": mask
             for path, mask in masking.get_masks(model).items()}  # fmt: skip
    found = [(slot, masks[slot.name]) for slot in model.other.variables if slot.name in masks]
    assert len(found) == 2
    for slot, mask in found:
        assert not slot.numpy()[~mask].any()
        assert slot.numpy()[mask].all()


def test_what_is_built_anew_leaves_the_optimizer_as_it_is():
    from lottery_tf.masking import keras_private

    model = network()
    for optimizer in (keras.optimizers.Nadam(0.1), Unguarded(0.1), Anchored(0.1)):
        step(model, optimizer)
        variables, before = optimizer.variables, values(optimizer)
        made = keras_private.built_anew(optimizer)
        assert made
        assert all(one is other for one, other in zip(variables, optimizer.variables, strict=True))
        for one, other in zip(before, values(optimizer), strict=True):
            np.testing.assert_array_equal(one, other)
        step(model, optimizer)  # and it trains on
