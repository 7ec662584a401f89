"""Criteria and their evidence against NumPy in float64, on a network that fits on a page."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import lottery_tf
from lottery_tf import masking, pruning
from lottery_tf.errors import InputError
from lottery_tf.masking.batches import in_batches
from lottery_tf.masking.gradients import TEMPERATURE, Flow, Gradients, Hessian, in_float64
from lottery_tf.models.normalization import FusedBatchNormalization
from lottery_tf.pruning import criteria
from lottery_tf.pruning.allocation import SparsityTarget

FIRST, SECOND = "net/first/kernel", "net/second/kernel"
LABELS = np.array([0, 1, 2, 1])
INPUTS = np.random.default_rng(1).normal(size=(4, 3))


def network():
    """Three inputs, four hidden units of tanh, three classes."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, activation="tanh", name="first")(inputs)
    outputs = keras.layers.Dense(3, name="second")(hidden)
    return lottery_tf.masked(keras.Model(inputs, outputs, name="net"))


@pytest.fixture
def model():
    return network()


@pytest.fixture
def weights(model):
    generator = np.random.default_rng(2)
    arrays = masking.get_weights(model)
    return {p: generator.normal(size=a.shape).astype(np.float32) for p, a in arrays.items()}


@pytest.fixture
def masks(model):
    some = np.random.default_rng(3)
    return {path: some.random(mask.shape) < 0.7 for path, mask in masking.get_masks(model).items()}


def paths(weights):
    first, second = (next(p for p in weights if f"{n}/kernel" in p) for n in ("first", "second"))
    return first, second


def gradient(arrays, weights, masks, temperature=1.0):
    """Of the mean cross-entropy by the two kernels, by hand and in float64; zero where masked."""
    biases = [np.float64(weights[path.replace("kernel", "bias")]) for path in paths(weights)]
    hidden = np.tanh(INPUTS @ arrays[0] + biases[0])
    logits = (hidden @ arrays[1] + biases[1]) / temperature
    parts = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    error = (parts - np.eye(3)[LABELS]) / len(LABELS) / temperature
    inner = (error @ arrays[1].T) * (1 - hidden**2)
    derivatives = (INPUTS.T @ inner, hidden.T @ error)
    return [d * masks[path] for d, path in zip(derivatives, paths(weights), strict=True)]


def on_masks(weights, masks):
    return [np.where(masks[path], np.float64(weights[path]), 0) for path in paths(weights)]


def near(ours, reference, tolerance):
    reference = np.concatenate([array.ravel() for array in reference])
    ours = np.concatenate([array.ravel() for array in ours])
    assert np.abs(ours - reference).max() <= tolerance * np.abs(reference).max()
    assert np.count_nonzero(reference)


def test_snip_and_taylor_are_the_weight_times_the_gradient(model, weights, masks):
    arrays = on_masks(weights, masks)
    reference = [
        np.abs(a * g) for a, g in zip(arrays, gradient(arrays, weights, masks), strict=True)
    ]
    gradients = Gradients(model, in_batches(tf.constant(INPUTS, tf.float32), tf.constant(LABELS)))
    own = gradients.mean(weights, masks, training=True)
    ours = [criteria.snip(a, own[p]) for a, p in zip(arrays, paths(weights), strict=True)]
    near(ours, reference, 1e-5)
    assert criteria.taylor(arrays[0], own[paths(weights)[0]]) == pytest.approx(ours[0])
    for path, mask in masks.items():
        assert not own[path][~mask].any()


def test_grasp_is_the_weight_times_the_hessian_gradient_product(model, weights, masks):
    arrays, step = on_masks(weights, masks), 1e-4
    direction = gradient(arrays, weights, masks, TEMPERATURE)
    # H g = the derivative of the gradient along g.
    scale = 1 / max(np.abs(d).max() for d in direction)
    ends = [
        gradient(
            [a + sign * step * scale * d for a, d in zip(arrays, direction, strict=True)],
            weights, masks, TEMPERATURE,
        )
        for sign in (1, -1)
    ]  # fmt: skip
    reference = [
        a * (up - down) / (2 * step * scale) for a, up, down in zip(arrays, *ends, strict=True)
    ]
    gradients = Gradients(model, in_batches(tf.constant(INPUTS, tf.float32), tf.constant(LABELS)))
    own = gradients.hessian_product(weights, masks)
    ours = [criteria.grasp(a, own[p]) for a, p in zip(arrays, paths(weights), strict=True)]
    near(ours, reference, 1e-5)


@pytest.mark.ci
def test_gradients_over_batches_are_those_of_all_examples(model, weights, masks):
    inputs, labels = tf.constant(INPUTS, tf.float32), tf.constant(LABELS)
    whole = Gradients(model, in_batches(inputs, labels))
    parts = Gradients(model, in_batches(inputs, labels, size=3))
    for one, other in (
        (whole.mean(weights, masks, training=False), parts.mean(weights, masks, training=False)),
        (whole.hessian_product(weights, masks), parts.hessian_product(weights, masks)),
    ):
        for path in masks:
            np.testing.assert_allclose(one[path], other[path], rtol=1e-4, atol=1e-9)


def chain():
    """Convolution, BatchNorm, convolution, dense: without biases, as SynFlow's proof asks for."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return lottery_tf.masked(
        keras.Sequential(
            [
                keras.Input((6, 6, 2)),
                layers.Conv2D(8, 3, use_bias=False, name="a"),
                layers.ReLU(),
                layers.Conv2D(8, 3, use_bias=False, name="b"),
                FusedBatchNormalization(center=False, scale=False, epsilon=0.0, name="bn"),
                layers.Flatten(),
                layers.Dense(30, use_bias=False, activation="relu", name="c"),
                layers.Dense(5, use_bias=False, name="d"),
            ],
            name="chain",
        )
    )


def test_the_synaptic_flow_is_conserved_over_the_layers():
    model = chain()
    weights, masks = masking.get_weights(model), masking.get_masks(model)
    masks = {p: np.random.default_rng(5).random(m.shape) < 0.8 for p, m in masks.items()}
    flow = Flow(in_float64(model)).of(weights, masks)
    sums = [criteria.synflow(pruning.apply_masks(weights, masks)[p], flow[p]).sum() for p in masks]
    assert flow[next(iter(masks))].dtype == np.float64
    assert sums[0] > 0
    np.testing.assert_allclose(sums, sums[0], rtol=1e-6)
    # The sum of every layer's scores is R itself: the outputs of |w| for an input of ones.
    absolute = in_float64(model)
    for variable, array in zip(
        masking.variables(absolute).values(),
        pruning.apply_masks(weights, masks).values(),
        strict=True,
    ):
        variable.assign(np.abs(array) if "kernel" in variable.path else array)
    assert sums[0] == pytest.approx(float(np.sum(absolute(np.ones((1, 6, 6, 2))))), rel=1e-6)


@pytest.mark.ci
def test_synflow_keeps_every_layer_alive_where_snip_and_magnitude_lose_one():
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    layers = [keras.Input((100,))]
    layers += [keras.layers.Dense(n, activation="relu", name=f"l{n}") for n in (1000, 400, 60)]
    dense = keras.Sequential([*layers, keras.layers.Dense(10, name="logits")], name="wide")
    data = np.random.default_rng(0).normal(size=(50, 100)).astype(np.float32), np.arange(50) % 10
    alive = {}
    for criterion in ("synflow", "snip", "magnitude"):
        model = lottery_tf.masked(dense)
        options = {"data": None if criterion == "synflow" else data}
        dies = pytest.warns(UserWarning, match="has no weight left")
        with contextlib.nullcontext() if criterion == "synflow" else dies:
            lottery_tf.prune(model, density=0.001, criterion=criterion, **options)
        masks = masking.get_masks(model)
        assert pruning.remaining(masks) == round(0.001 * sum(m.size for m in masks.values()))
        alive[criterion] = [int(mask.sum()) for mask in masks.values()]
    assert min(alive["synflow"]) > 0
    assert min(alive["snip"]) == 0
    assert min(alive["magnitude"]) == 0


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["BatchNormalization", "LayerNormalization", "GroupNormalization"])
def test_products_with_the_hessian_are_right_through_a_normalising_layer(kind, training):
    keras.utils.set_random_seed(0)
    options = {"groups": 2} if kind == "GroupNormalization" else {}
    layers = [
        keras.layers.Dense(4, activation="tanh", name="first"),
        getattr(keras.layers, kind)(name="norm", **options),
        keras.layers.Dense(3, name="second"),
    ]
    model = lottery_tf.masked(keras.Sequential([keras.Input((3,)), *layers]))
    weights, masks = masking.get_weights(model), masking.get_masks(model)
    for path in weights:
        if path.endswith("moving_variance"):
            weights[path] = np.float32([0.3, 0.2, 2.0, 0.1])
    gradients = Gradients(model, in_batches(tf.constant(INPUTS, tf.float32), tf.constant(LABELS)))
    batches = gradients._gradients[training]
    g = gradients._total(batches, weights, masks, TEMPERATURE)
    step = 0.001 / max(np.abs(array).max() for array in g.values())
    up, down = (
        gradients._total(
            batches,
            weights | {path: weights[path] + sign * step * array for path, array in g.items()},
            masks,
            TEMPERATURE,
        )
        for sign in (1, -1)
    )
    own = gradients.hessian_product(weights, masks, training=training)
    near(list(own.values()), [(up[path] - down[path]) / (2 * step) for path in g], 0.01)


def test_the_hessian_is_right_through_layer_normalization():
    keras.utils.set_random_seed(0)
    norm = keras.layers.LayerNormalization(name="norm", center=False, scale=False)
    model = lottery_tf.masked(keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), norm]))
    weights, masks = masking.get_weights(model), masking.get_masks(model)
    (kernel,) = masks
    labels = LABELS.astype(np.int32)
    hessian = Hessian(model, INPUTS.astype(np.float32), labels).at(weights, masks)
    size = weights[kernel].size
    matrix = np.stack([hessian.matvec(row) for row in np.eye(hessian.shape[0])])[:size, :size]
    gradients = Gradients(model, in_batches(tf.constant(INPUTS, tf.float32), tf.constant(labels)))

    def gradient_at(step):
        moved = weights | {kernel: weights[kernel] + step.reshape(weights[kernel].shape)}
        return gradients.mean(moved, masks, training=False)[kernel].ravel()

    steps = 0.01 * np.eye(size, dtype=np.float32)
    expected = np.stack([(gradient_at(step) - gradient_at(-step)) / 0.02 for step in steps])
    near([matrix], [expected], 0.01)


@pytest.mark.parametrize("criterion", ["snip", "grasp", "taylor"])
def test_a_criterion_that_needs_data_says_so(model, criterion):
    with pytest.raises(InputError, match="data="):
        lottery_tf.prune(model, 0.5, criterion=criterion)


def test_the_criteria_of_weights_alone():
    trained, initial = np.array([1.0, -3.0, 0.5]), np.array([-2.0, -2.5, 0.1])
    expected = {
        "magnitude": [1, 3, 0.5],
        "large_init": [2, 2.5, 0.1],
        "magnitude_increase": [-1, 0.5, 0.4],
        "movement": [3, 0.5, 0.4],
    }
    evidence = {"trained": lambda m: {"a": trained}, "initial": lambda m: {"a": initial}}
    for criterion, scores in expected.items():
        found = criteria.scores(criterion, evidence, {"a": np.ones(3, bool)})
        assert found["a"] == pytest.approx(scores)


def test_evidence_that_is_not_finite_is_named():
    evidence = {"initial": lambda m: {"a": np.ones(2)},
                "initial_gradient": lambda m: {"a": np.array([1, np.nan])}}  # fmt: skip
    with pytest.raises(InputError, match="a: its initial_gradient"):
        criteria.scores("snip", evidence, {"a": np.ones(2, bool)})


def test_iterations_gather_the_evidence_under_the_masks_so_far():
    seen = []

    def gather(masks):
        seen.append(pruning.remaining(masks))
        return {"a": np.arange(1000.0).reshape(10, 100)}

    masks, _ = pruning.prune({}, {"a": np.ones((10, 100), bool)}, SparsityTarget(density=0.01),
                             criterion="random", iterations=4, uniform=gather)  # fmt: skip
    assert seen == [1000, 316, 100, 32]
    assert np.flatnonzero(masks["a"]).tolist() == list(range(990, 1000))


def test_layers_inside_layers_compute_in_float64_too():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((4, 3)),
        keras.layers.Bidirectional(keras.layers.LSTM(2, return_sequences=True)),
        keras.layers.TimeDistributed(keras.layers.Dense(3)),
        keras.layers.RNN([keras.layers.GRUCell(2), keras.layers.SimpleRNNCell(2)]),
    ])  # fmt: skip
    for of in (model, lottery_tf.masked(model)):
        copy = in_float64(of)
        assert {v.dtype for v in copy.trainable_variables} == {"float64"}
        assert copy(np.zeros((1, 4, 3))).dtype == "float64"
