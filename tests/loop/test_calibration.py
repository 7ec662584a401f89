"""Wanda and SparseGPT: by hand in float64, on any kind of model, and what data are refused."""

import importlib.util

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.loop import calibration
from lottery_tf.loop.scoring import Sample
from lottery_tf.masking import kernel_inputs
from lottery_tf.pruning.sparsegpt import sparsegpt

L = keras.layers
GENERATOR = np.random.default_rng(0)
INPUTS = GENERATOR.normal(size=(40, 8)).astype(np.float32) * np.linspace(0.1, 3, 8, dtype="float32")


def mlp():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,), name="features")
    hidden = L.Dense(12, activation="relu", name="first")(inputs)
    return lottery_tf.masked(keras.Model(inputs, L.Dense(6, name="last")(hidden)))


def attention():
    """A block of a transformer: a norm, attention, a shared layer, and a nested model."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 8))
    hidden = L.MultiHeadAttention(2, 4, name="attention")(inputs, inputs)
    hidden = L.LayerNormalization()(hidden + inputs)
    nested = keras.Sequential([keras.Input((5, 8)), L.Dense(16, "relu"), L.Dense(8)], name="nested")
    shared = L.Dense(8, name="shared")
    return lottery_tf.masked(keras.Model(inputs, shared(nested(shared(hidden)))))


WORDS = GENERATOR.normal(size=(12, 5, 8)).astype(np.float32)


class Net(keras.Model):
    """Subclassed, and computes with its layers in its own way."""

    def __init__(self):
        super().__init__()
        self.hidden, self.logits = L.Dense(9), L.Dense(3)

    def call(self, inputs):
        return self.logits(keras.ops.relu(self.hidden(inputs[:, ::2])))


# Wanda ----------------------------------------------------------------------------------------


def test_wanda_keeps_the_best_inputs_of_each_output():
    model = mlp()
    before = masking.get_weights(model)
    assert lottery_tf.prune(model, density=0.5, criterion="wanda", data=INPUTS) == 0.5
    kernels = [before["first/kernel"], before["last/kernel"]]
    hidden = np.maximum(INPUTS.astype(np.float64) @ kernels[0], 0)
    for (path, mask), seen in zip(masking.get_masks(model).items(), (INPUTS, hidden), strict=True):
        kernel = before[path].astype(np.float64)
        scores = np.abs(kernel) * np.sqrt((seen.astype(np.float64) ** 2).sum(0))[:, np.newaxis]
        for unit in range(kernel.shape[1]):
            best = np.sort(np.argsort(scores[:, unit])[len(kernel) // 2 :])
            np.testing.assert_array_equal(np.flatnonzero(mask[:, unit]), best)
        after = masking.get_weights(model)[path]
        np.testing.assert_array_equal(after, np.where(mask, before[path], 0))


@pytest.mark.parametrize("make", [attention, lambda: lottery_tf.mask(built(Net()))])
def test_wanda_sees_attention_nested_shared_and_own_models(make):
    model = make()
    data = WORDS if model.name.startswith("functional") else INPUTS
    lottery_tf.prune(model, 0.5, criterion="wanda", data=data)
    axes = kernel_inputs.output_axes(model)
    for path, mask in masking.get_masks(model).items():
        assert mask.sum() == mask.size // 2
        inside = tuple(axis for axis in range(mask.ndim) if axis not in axes[path])
        counts = mask.sum(axis=inside)
        assert counts.max() - counts.min() <= 1


def built(model):
    model(INPUTS[:1])
    return model


def test_a_shared_layer_is_summed_over_its_calls():
    inputs = keras.Input((8,))
    shared = L.Dense(8, name="shared", use_bias=False)
    model = lottery_tf.masked(keras.Model(inputs, shared(shared(inputs))))
    weights, masks = masking.get_weights(model), masking.get_masks(model)
    norms = calibration.input_norms(model, weights, masks, Sample(INPUTS).batches)
    both = np.concatenate([INPUTS, INPUTS @ weights["shared/kernel"]]).astype(np.float64)
    expected = np.sqrt((both**2).sum(0))[:, np.newaxis]
    np.testing.assert_allclose(norms["shared/kernel"], expected.repeat(8, 1), rtol=1e-6)


def test_wanda_around_fit_and_of_scores_over_all_layers():
    model = mlp()
    model.compile("adam", "mean_squared_error")
    options = {"criterion": "wanda", "data": INPUTS, "scope": "global", "verbose": 0}
    for round in lottery_tf.rounds(model, 3, 0.3, **options):
        model.fit(INPUTS, np.ones((40, 6)), verbose=0, callbacks=round.callbacks)
    counts = [int(mask.sum()) for mask in masking.get_masks(model).values()]
    assert sum(counts) == 83  # of 168: 118, then 83


# Data that are refused ------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", ["wanda", "sparsegpt"])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "data=inputs"),
        (INPUTS[:0], "at least one"),
        (INPUTS[:, :5], r"expected inputs of .*features.*\(None, 8\).*\(32, 5\)"),
        (np.where(INPUTS > 2, np.nan, INPUTS), "NaN or infinity in the input features"),
        (np.full_like(INPUTS, 3e38), "what reaches last/kernel is not finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_data_that_do_not_fit_are_refused(criterion, data, words):
    model = mlp()
    before = masking.get_weights(model)
    with pytest.raises(InputError, match=words):
        lottery_tf.prune(model, 0.5, criterion=criterion, data=data)
    assert all(mask.all() for mask in masking.get_masks(model).values())
    assert all((array == before[path]).all() for path, array in masking.get_weights(model).items())


@pytest.mark.parametrize("criterion", ["wanda", "sparsegpt"])
def test_layers_whose_inputs_are_not_known_are_named(criterion):
    inputs = keras.Input((4,), dtype="int32")
    hidden = L.Embedding(10, 6, name="words")(inputs)
    hidden = L.LSTM(5, name="lstm")(hidden)
    model = lottery_tf.masked(keras.Model(inputs, L.Dense(3, name="head")(hidden)))
    data = GENERATOR.integers(0, 10, (6, 4))
    with pytest.raises(InputError, match=r"words/embeddings.*keep_dense=\['lstm_cell', 'words'\]"):
        lottery_tf.prune(model, 0.5, criterion=criterion, data=data)
    words = "words/embeddings" if criterion == "wanda" else "only `prune`"
    with pytest.raises(InputError, match=words):
        next(lottery_tf.rounds(model, 2, 0.5, criterion=criterion, data=data))
    lottery_tf.prune(model, 0.4, criterion=criterion, data=data, keep_dense=("lstm_cell", "words"))
    pruned = [path for path, mask in masking.get_masks(model).items() if not mask.all()]
    assert pruned == ["head/kernel"]


def test_a_layer_that_the_sample_does_not_reach_is_named():
    class Half(Net):
        def call(self, inputs):
            return self.hidden(inputs)

    model = Half()
    model.hidden.build((None, 8))
    model.logits.build((None, 9))
    model(INPUTS[:1])
    lottery_tf.mask(model)
    for criterion in ("wanda", "sparsegpt"):
        with pytest.raises(InputError, match=r"without .*/kernel"):
            lottery_tf.prune(model, 0.5, criterion=criterion, data=INPUTS)


def test_sparsegpt_is_of_prune_alone():
    with pytest.raises(InputError, match="sparsegpt"):
        next(lottery_tf.rounds(mlp(), 2, 0.5, criterion="sparsegpt", data=INPUTS))
    with pytest.raises(InputError, match="scope"):
        lottery_tf.prune(mlp(), 0.5, criterion="sparsegpt", data=INPUTS, scope="global")


# SparseGPT ------------------------------------------------------------------------------------


def algorithm_1(w, x, counts, block, damping=0.01):
    """Algorithm 1 of Frantar & Alistarh 2023, row by row: w (outputs, inputs), x (inputs, N)."""
    rows, columns = w.shape
    w, m = w.astype(np.float64).copy(), np.ones(w.shape, bool)
    h = x @ x.T
    h += damping * np.mean(np.diag(h)) * np.eye(columns)
    h_inverse = np.linalg.cholesky(np.linalg.inv(h)).T
    for i in range(0, columns, block):
        end = min(i + block, columns)
        e = np.zeros((rows, end - i))
        for j in range(i, end):
            if j == i:
                scores = w[:, i:end] ** 2 / np.diag(h_inverse)[i:end] ** 2
                lowest = np.argsort(scores.ravel())[: scores.size - counts[i // block]]
                m[:, i:end] = ~np.isin(np.arange(scores.size), lowest).reshape(scores.shape)
            e[:, j - i] = (1 - m[:, j]) * w[:, j] / h_inverse[j, j]
            w[:, j:end] -= np.outer(e[:, j - i], h_inverse[j, j:end])
        w[:, end:] -= e @ h_inverse[i:end, end:]
    return m, w * m


@pytest.mark.parametrize(("inputs", "left"), [(20, 60), (300, 1501), (256, 640)])
def test_sparsegpt_is_algorithm_1(inputs, left):
    x = GENERATOR.normal(size=(inputs, inputs)) @ GENERATOR.normal(size=(inputs, 500))
    w = GENERATOR.normal(size=(7, inputs))
    mask, weights = sparsegpt(w.T, np.ones((inputs, 7), bool), x @ x.T, left)
    ends = np.diff([*range(0, inputs, 128), inputs])
    exact = ends * left / inputs
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: left - counts.sum()]] += 1
    expected_mask, expected = algorithm_1(w, x, counts, 128)
    np.testing.assert_array_equal(mask, expected_mask.T)
    np.testing.assert_allclose(weights, expected.T, rtol=1e-6, atol=1e-9)
    assert mask.sum() == left

    def error(matrix):
        return np.sum(((matrix - w.T).T @ x) ** 2)

    by_magnitude = np.abs(w.T) >= np.sort(np.abs(w), axis=None)[-left]
    assert error(weights) < error(w.T * by_magnitude)


def test_sparsegpt_revives_nothing_and_prunes_dead_inputs_first():
    x = GENERATOR.normal(size=(10, 50))
    x[3] = 0
    w, mask = GENERATOR.normal(size=(10, 6)), GENERATOR.random((10, 6)) < 0.7
    left = int(mask.sum()) - int(mask[3].sum())
    after, weights = sparsegpt(w, mask, x @ x.T, left)
    assert after.sum() == left
    assert not weights[~after].any()
    assert not after[3].any()
    np.testing.assert_array_equal(after[np.arange(10) != 3], mask[np.arange(10) != 3])


def test_sparsegpt_prunes_the_layers_in_order_for_inputs_that_are_pruned_already():
    model, before = mlp(), masking.get_weights(mlp())
    density = lottery_tf.prune(model, density=0.5, criterion="sparsegpt", data=INPUTS)
    assert density == 0.5
    inputs, masks = INPUTS.astype(np.float64), masking.get_masks(model)
    after = masking.get_weights(model)
    for name in ("first", "last"):
        kernel, ones = before[f"{name}/kernel"], np.ones_like(masks[f"{name}/kernel"])
        mask, weights = sparsegpt(kernel, ones, inputs.T @ inputs, kernel.size // 2)
        np.testing.assert_array_equal(masks[f"{name}/kernel"], mask)
        np.testing.assert_allclose(after[f"{name}/kernel"], weights, rtol=1e-4, atol=1e-6)
        inputs = np.maximum(inputs @ after[f"{name}/kernel"], 0)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (L.Dense(10), (5, 8)),
        (L.EinsumDense("abc,cde->abde", (None, 2, 3)), (5, 8)),
        (L.EinsumDense("abcd,cde->abe", (None, 4)), (5, 2, 4)),
        (L.EinsumDense("bhi,hio->bho", (5, 4)), (5, 8)),
    ],
)
def test_sparsegpt_comes_nearer_to_the_outputs_of_a_layer_than_magnitude(layer, shape):
    ratios = []  # the best choice of single weights need not be that of all: not below 1 for each
    for seed in range(5):
        keras.utils.set_random_seed(seed)
        generator = np.random.default_rng(seed)
        plain = keras.Sequential([keras.Input(shape), layer.from_config(layer.get_config())])
        data = generator.normal(size=(60, shape[0], 3)) @ generator.normal(size=(3, 8))
        data += generator.normal(0, 0.3, data.shape)
        data = data.reshape(-1, *shape).astype(np.float32)
        errors = {}
        for criterion in ("sparsegpt", "magnitude"):
            model = lottery_tf.masked(plain)
            lottery_tf.prune(model, 0.5, criterion=criterion, scope="layer", data=data)
            (mask,) = masking.get_masks(model).values()
            assert mask.sum() == mask.size // 2
            errors[criterion] = np.sum((model(data) - plain(data)) ** 2)
        ratios.append(errors["sparsegpt"] / errors["magnitude"])
    assert np.median(ratios) < 0.5


@pytest.mark.skipif(not importlib.util.find_spec("keras_hub"), reason="keras_hub is an extra")
@pytest.mark.parametrize("criterion", ["wanda", "sparsegpt"])
@pytest.mark.filterwarnings("ignore:Left dense in")
@pytest.mark.parametrize("kind", ["BertBackbone", "GPT2Backbone", "GemmaBackbone"])
def test_backbones_of_keras_hub(kind, criterion):
    import keras_hub

    sizes = {"vocabulary_size": 30, "num_layers": 2, "intermediate_dim": 16}
    if kind == "GemmaBackbone":
        sizes |= {"num_query_heads": 2, "num_key_value_heads": 1, "hidden_dim": 8, "head_dim": 4}
    else:
        sizes |= {"num_heads": 2, "hidden_dim": 8, "max_sequence_length": 12}
    backbone = getattr(keras_hub.models, kind)(**sizes)
    tables = (L.Embedding, L.ReversibleEmbedding)
    model = lottery_tf.mask(backbone, exclude=lambda layer: isinstance(layer, tables))
    data = {name: GENERATOR.integers(1, 30, (6, 12)) for name in ("token_ids", "segment_ids")}
    data["segment_ids"] = np.zeros((6, 12), int)
    data["padding_mask"] = np.ones((6, 12), int)
    data = {name: array for name, array in data.items() if name in model.input}
    density = lottery_tf.prune(model, density=0.5, criterion=criterion, data=data)
    assert density == pytest.approx(0.5, abs=1e-3)
    assert np.isfinite(keras.tree.flatten(model.predict(data, verbose=0))[0]).all()


@pytest.mark.parametrize("criterion", ["wanda", "sparsegpt"])
def test_a_pattern_is_exact_along_the_inputs(criterion):
    keras.utils.set_random_seed(0)
    tokens = keras.Input((5, 8))
    features = keras.layers.MultiHeadAttention(2, 4)(tokens, tokens)
    features = keras.layers.Dense(12, activation="relu")(features)
    model = lottery_tf.masked(keras.Model(tokens, keras.layers.Dense(4)(features)))
    data = np.random.default_rng(0).normal(size=(40, 5, 8)).astype("float32")
    before = model(data)
    density = lottery_tf.prune(model, structure="2:4", criterion=criterion, data=data)
    assert density == 0.5
    for path, kernel in masking.kernels(model).items():
        mask = kernel.mask.numpy()
        axis = {3: 0, 2: 0}[mask.ndim] if "attention_output" not in path else None
        rows = mask.reshape(-1, mask.shape[-1]) if axis is None else mask.reshape(len(mask), -1)
        assert (rows.reshape(-1, 4, rows.shape[1]).sum(1) == 2).all(), path
        assert not kernel.variable.numpy()[~mask].any()
    assert np.abs(model(data) - before).mean() < np.abs(before).mean()


def test_sparsegpt_takes_no_blocks():
    model = lottery_tf.masked(keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)]))
    data = np.random.default_rng(0).normal(size=(40, 8))
    with pytest.raises(InputError, match="structure"):
        lottery_tf.prune(model, 0.5, structure=(1, 2), criterion="sparsegpt", data=data)
