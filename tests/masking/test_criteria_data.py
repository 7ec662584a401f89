"""Gradient criteria take what `fit` takes: each form against the gradient of one plain batch."""

import itertools
import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

import lottery_tf
from lottery_tf import masking, pruning
from lottery_tf.errors import InputError
from lottery_tf.loop import scoring
from lottery_tf.loop.scoring import BATCHES, Sample

layers = keras.layers
GENERATOR = np.random.default_rng(0)
INPUTS = GENERATOR.normal(size=(12, 4)).astype(np.float32)
LABELS = np.arange(12) % 3
WEIGHTS = np.linspace(0.1, 2, 12, dtype=np.float32)


def entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def model(kind=keras.Model, loss=entropy, **options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = layers.Dense(6, activation="tanh", name="hidden", **options)(inputs)
    made = lottery_tf.masked(kind(inputs, layers.Dense(3, name="outputs")(hidden)))
    if loss:
        made.compile("adam", loss())
    return made


def gradients(of, data, name="initial_gradient"):
    weights = masking.get_weights(of)
    found = scoring.of_model(of, lambda: weights, weights, Sample(data))[name]
    return list(found(masking.get_masks(of)).values())


def by_hand(of, loss):
    """The gradients of a loss() by the kernels, by a plain GradientTape."""
    with tf.GradientTape() as tape:
        value = loss()
    kernels = [one.variable for one in masking.kernels(of).values()]
    gradients_of = tape.gradient(value, kernels)
    return [np.asarray(tf.convert_to_tensor(g)) for g in gradients_of]


def same(found, expected, rtol=1e-4):
    assert any(array.any() for array in expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol, atol=1e-7)


class Batches(keras.utils.PyDataset):
    """Batches of four, of which some number is there; None: without end."""

    def __init__(self, count, **options):
        super().__init__(**options)
        self.count, self.asked = count, []

    @property
    def num_batches(self):
        return self.count

    def __getitem__(self, index):
        self.asked.append(index)
        rows = slice(4 * (index % 3), 4 * (index % 3) + 4)
        return INPUTS[rows], LABELS[rows]


class Array:
    """Like an array of another library."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __array__(self, dtype=None, copy=None):
        return self.array


def generate(count=3):
    dataset = Batches(count)
    return (dataset[index] for index in range(count))


FORMS = {
    "tensors": lambda: (tf.constant(INPUTS), tf.constant(LABELS)),
    "a list of both": lambda: [INPUTS, LABELS],
    "tf.data": lambda: tf.data.Dataset.from_tensor_slices((INPUTS, LABELS)).batch(4),
    "tf.data, unequal batches": lambda: tf.data.Dataset.from_tensor_slices((INPUTS, LABELS)).batch(
        5
    ),
    "a PyDataset": lambda: Batches(3),
    "a PyDataset with workers": lambda: Batches(3, workers=2),
    "an infinite PyDataset": lambda: Batches(None),
    "a generator": generate,
    "an infinite generator": lambda: map_forever(),
    "equal weights": lambda: (INPUTS, LABELS, np.ones(12, np.float32)),
}


def map_forever():
    dataset = Batches(None)
    return (dataset[3 * (index // 300) + index % 3] for index in itertools.count())


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_examples_gives_the_same_gradient(form):
    made = model()
    # 99 batches of the infinite ones hold each example 33 times; the 100th is one of three.
    expected = gradients(made, (INPUTS, LABELS))
    if "infinite" in form:
        rows = np.tile(np.arange(12), BATCHES // 3 + 1)[: 4 * BATCHES]
        expected = gradients(made, (INPUTS[rows], LABELS[rows]))
    same(gradients(made, FORMS[form]()), expected)


def test_of_what_comes_in_batches_the_first_hundred_are_read_once():
    dataset, made = Batches(None), model()
    for _ in lottery_tf.rounds(made, 3, 0.2, criterion="snip", data=dataset):
        assert dataset.asked == list(range(BATCHES))
    drawn = itertools.count()
    batches = ((INPUTS, LABELS) for _ in drawn)
    lottery_tf.prune(made, 0.2, criterion="taylor", data=batches)
    assert next(drawn) == BATCHES


def test_sample_weights_weigh_the_loss():
    made = model()
    losses = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
    expected = by_hand(made, lambda: tf.reduce_mean(losses(LABELS, made(INPUTS)) * WEIGHTS))
    same(gradients(made, (INPUTS, LABELS, WEIGHTS)), expected)
    dataset = tf.data.Dataset.from_tensor_slices((INPUTS, LABELS, WEIGHTS)).batch(5)
    same(gradients(made, dataset), expected)


def two_inputs(structure):
    keras.utils.set_random_seed(0)
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    outputs = layers.Dense(3)(layers.Concatenate()([a, b]))
    made = lottery_tf.masked(keras.Model(structure(a, b), outputs))
    made.compile("adam", entropy())
    return made


@pytest.mark.parametrize("structure", [lambda a, b: {"a": a, "b": b}, lambda a, b: [a, b]])
def test_nested_inputs(structure):
    made, inputs = two_inputs(structure), structure(INPUTS, -INPUTS)
    expected = by_hand(made, lambda: entropy()(LABELS, made(inputs)))
    same(gradients(made, (inputs, LABELS)), expected)
    dataset = tf.data.Dataset.from_tensor_slices(({"a": INPUTS, "b": -INPUTS}, LABELS)).batch(6)
    if isinstance(inputs, dict):
        same(gradients(made, dataset), expected)


@pytest.mark.parametrize("named", [True, False])
def test_several_outputs_have_losses_with_weights(named):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    p, q = layers.Dense(3, name="p")(inputs), layers.Dense(1, name="q")(inputs)
    made = lottery_tf.masked(keras.Model(inputs, {"p": p, "q": q} if named else [p, q]))
    labels, losses, weights = [LABELS, INPUTS[:, :1]], [entropy(), "mse"], [1.0, 0.3]
    if named:
        labels, losses, weights = (
            dict(zip("pq", part, strict=True)) for part in (labels, losses, weights)
        )
    made.compile("adam", losses, loss_weights=weights)

    def loss():
        first, second = made(INPUTS).values() if named else made(INPUTS)
        squares = tf.reduce_mean((second - INPUTS[:, :1]) ** 2)
        return entropy()(LABELS, first) + 0.3 * squares

    same(gradients(made, (INPUTS, labels)), by_hand(made, loss))
    assert lottery_tf.prune(made, 0.25, criterion="grasp", data=(INPUTS, labels)) == 0.75


class OwnLoss(keras.Model):
    """A loss of the inputs, the weights and the step of training, and the compiled one."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        own = keras.ops.mean((self.get_layer("hidden")(x) - 1) ** 2)
        return super().compute_loss(x, y, y_pred, sample_weight) + own


class OldOwnLoss(keras.Model):
    def compute_loss(self, x, y, y_pred, sample_weight):  # as Keras 3.2 had it
        return keras.ops.mean(x**2) * keras.ops.mean(y_pred**2)


class OfInputsAlone(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.ops.mean((y_pred - x[:, :3]) ** 2)


def test_an_own_compute_loss_gets_inputs_and_computes_with_the_given_weights():
    made = model(OwnLoss)

    def loss():
        hidden = made.get_layer("hidden")(INPUTS)
        return entropy()(LABELS, made(INPUTS)) + tf.reduce_mean((hidden - 1) ** 2)

    same(gradients(made, (INPUTS, LABELS)), by_hand(made, loss))
    made = model(OldOwnLoss)
    expected = by_hand(made, lambda: np.mean(INPUTS**2) * tf.reduce_mean(made(INPUTS) ** 2))
    same(gradients(made, (INPUTS, LABELS)), expected)


@pytest.mark.parametrize("compiled", [True, False])
def test_inputs_alone_are_enough_for_an_own_loss(compiled):
    made = model(OfInputsAlone, loss=None)
    if compiled:
        made.compile("adam")
    expected = by_hand(made, lambda: tf.reduce_mean((made(INPUTS) - INPUTS[:, :3]) ** 2))
    for data in (INPUTS, (INPUTS,), tf.data.Dataset.from_tensor_slices(INPUTS).batch(6)):
        same(gradients(made, data), expected)
    for _ in lottery_tf.rounds(made, 2, 0.5, criterion="taylor", data=INPUTS):
        pass
    assert pruning.density(masking.get_masks(made)) == pytest.approx(0.5, abs=0.02)


class WithoutCall(keras.Model):
    def __init__(self):
        super().__init__()
        self.encoder = masking.MaskedDense(3)
        self.encoder.build((None, 4))
        self.built = True

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.ops.mean((self.encoder(x) - 1) ** 2)


def test_a_model_without_call_has_a_loss_too():
    keras.utils.set_random_seed(0)
    made = WithoutCall()
    expected = by_hand(made, lambda: tf.reduce_mean((made.encoder(INPUTS) - 1) ** 2))
    same(gradients(made, INPUTS), expected)


def test_losses_that_layers_add_count_and_regularizers_of_weights_do_not():
    made = model(activity_regularizer=keras.regularizers.L2(0.5))
    made(INPUTS)  # Keras keeps the losses of this call
    hidden = made.get_layer("hidden")

    def loss():
        return entropy()(LABELS, made(INPUTS)) + 0.5 * tf.reduce_sum(hidden(INPUTS) ** 2) / 12

    same(gradients(made, (INPUTS, LABELS)), by_hand(made, loss))
    regularized = model(kernel_regularizer=keras.regularizers.L2(0.5))
    same(gradients(regularized, (INPUTS, LABELS)), gradients(model(), (INPUTS, LABELS)), 0)
    assert len(regularized.losses) == 1  # as before
    alone = model(loss=None, activity_regularizer=keras.regularizers.L2(0.5))
    alone.compile("adam")  # what layers add is a loss of its own
    expected = by_hand(alone, lambda: 0 * tf.reduce_sum(alone(INPUTS)) + sum(alone.losses))
    same(gradients(alone, INPUTS), expected)


def test_padded_steps_do_not_count_and_tables_have_gradients():
    keras.utils.set_random_seed(0)
    words = keras.Input((5,), dtype="int32")
    features = layers.Embedding(10, 4, mask_zero=True)(words)
    made = lottery_tf.masked(keras.Model(words, layers.Dense(3)(features)))
    made.compile("adam", entropy())
    sentences = np.array([[1, 2, 3, 0, 0], [4, 5, 0, 0, 0]])
    wrong, right = np.array([[0, 1, 2, 2, 1]] * 2), np.array([[0, 1, 2, 0, 2]] * 2)
    right[1, 2] = 1
    for one, other in zip(
        gradients(made, (sentences, wrong)), gradients(made, (sentences, right)), strict=True
    ):
        assert one.any()
        np.testing.assert_array_equal(one, other)


class Fails(keras.utils.PyDataset):
    num_batches = 2

    def __getitem__(self, index):
        raise KeyError("no such file")


WRONG = {
    "nothing": (),
    "four parts": (INPUTS, LABELS, WEIGHTS, WEIGHTS),
    "lengths": (INPUTS, LABELS[:5]),
    "lengths of weights": (INPUTS, LABELS, WEIGHTS[:5]),
    "no examples": (INPUTS[:0], LABELS[:0]),
    "scalars": (np.float32(1), np.float32(1)),
    "text": "data",
    "a list of lists": ([[1.0, 2.0]], [1]),
    "no labels": INPUTS,
    "no inputs": (None, LABELS),
    "labels out of range": (INPUTS, LABELS + 5),
    "inputs of another width": (INPUTS[:, :2], LABELS),
    "a second input": ((INPUTS, INPUTS), LABELS),
    "not batched": tf.data.Dataset.from_tensor_slices((INPUTS, LABELS)),
    "an empty dataset": tf.data.Dataset.from_tensor_slices((INPUTS, LABELS)).batch(4).take(0),
    "an empty generator": (batch for batch in ()),
    "a generator of arrays": (INPUTS for _ in range(3)),
    "a dataset that fails": Fails(),
    "a dataset and labels": (tf.data.Dataset.from_tensors(INPUTS), LABELS),
    "not a number": (np.full_like(INPUTS, np.nan), LABELS),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_data_give_one_error_before_training(what):
    made = model()
    with pytest.raises(InputError, match="data: "):
        lottery_tf.rounds(made, 3, 0.2, criterion="snip", data=WRONG[what])


def test_a_model_without_a_loss_is_told_so():
    made = model(loss=None)
    made.compile("adam")
    with pytest.raises(InputError, match=r"data: .*compile"):
        lottery_tf.prune(made, 0.2, criterion="snip", data=(INPUTS, LABELS))
    uncompiled = model(loss=None)
    with pytest.raises(InputError, match=r"^(?!.*InputError).*Sample weights.*compile"):
        lottery_tf.prune(uncompiled, 0.2, criterion="snip", data=(INPUTS, LABELS, WEIGHTS))


def test_a_criterion_without_gradients_reads_no_data():
    dataset = Batches(None)
    lottery_tf.prune(model(), 0.2, data=dataset)
    assert not dataset.asked


@pytest.mark.ci
@pytest.mark.parametrize("criterion", ["snip", "taylor", "grasp", "synflow"])
def test_many_prunings_print_no_warning_of_retracing(criterion, caplog):
    made = model()
    options = {"criterion": criterion, "data": (INPUTS, LABELS), "iterations": 2}
    with caplog.at_level(logging.WARNING, "tensorflow"):
        tf.get_logger().propagate, before = True, tf.get_logger().propagate
        for _ in range(7):
            lottery_tf.prune(made, 0.05, **options)
        tf.get_logger().propagate = before
    assert "retracing" not in caplog.text


def test_a_pruning_traces_once_however_many_iterations(monkeypatch):
    from lottery_tf.masking import gradients as module

    made, traces, loss = model(), [], module.loss_of_fit
    monkeypatch.setattr(module, "loss_of_fit", lambda *args: traces.append(1) or loss(*args))
    options = {"criterion": "snip", "data": (INPUTS, LABELS), "iterations": 6}
    for count in (1, 2):
        lottery_tf.prune(made, 0.2, **options)
        assert len(traces) == count


@pytest.mark.parametrize("name", ["initial_gradient", "initial_hessian_gradient"])
def test_a_softmax_has_the_gradients_of_its_logits(name):
    """Of confident outputs, probabilities that are clipped would have none."""
    found = []
    for activation, loss in (("softmax", "sparse_categorical_crossentropy"), (None, entropy())):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((4,))
        outputs = layers.Dense(3, activation=activation, name="outputs")(inputs)
        made = lottery_tf.masked(keras.Model(inputs, outputs))
        made.compile("adam", loss)
        weights = masking.get_weights(made)
        weights["outputs/kernel"] = 40 * weights["outputs/kernel"]
        masking.set_weights(made, weights, masking.get_masks(made))
        found.append(gradients(made, (INPUTS, LABELS), name))
    same(*found)
