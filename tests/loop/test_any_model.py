import warnings

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking, pruning
from lottery_tf.errors import InputError


@pytest.fixture(autouse=True)
def fresh_names():
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)


def dense_model():
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(3),
        ]
    )


ATTENTION = {
    "multi_head": lambda: keras.layers.MultiHeadAttention(2, 4, name="attention"),
    "group_query": lambda: keras.layers.GroupQueryAttention(4, 2, 2, name="attention"),
}


def transformer(kind):
    tokens = keras.Input((6,), dtype="int32")
    features = keras.layers.Embedding(11, 8, name="embedding")(tokens)
    attention = ATTENTION[kind]()
    features = keras.layers.LayerNormalization()(features + attention(features, features))
    mlp = keras.Sequential(
        [keras.layers.Dense(16, activation="gelu"), keras.layers.Dense(8)], name="mlp"
    )
    features = keras.layers.TimeDistributed(keras.layers.Dense(8, name="timed"))(mlp(features))
    features = keras.layers.GlobalAveragePooling1D()(features)
    return keras.Model(tokens, keras.layers.Dense(3)(features))


def data(count=32):
    generator = np.random.default_rng(0)
    return generator.random((count, 4)).astype(np.float32), generator.integers(0, 3, count)


def compiled(model, **options):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, **options)
    return model


class CheckMasks(keras.callbacks.Callback):
    """Fails at the first batch that leaves a pruned weight other than zero."""

    batches = 0

    def on_train_batch_end(self, batch, logs=None):
        CheckMasks.batches += 1
        for kernel in masking.kernels(self.model).values():
            masking.check_masked(kernel.variable.path, kernel.variable.numpy(), kernel.mask.numpy())


@pytest.mark.ci
@pytest.mark.parametrize(
    "kind", ["multi_head", pytest.param("group_query", marks=pytest.mark.slow)]
)
def test_attention_nested_models_and_wrappers_are_reached(tmp_path, kind):
    model = transformer(kind)
    tokens = np.random.default_rng(0).integers(0, 11, (5, 6))
    before = model(tokens).numpy()
    masked = lottery_tf.masked(model)
    assert np.allclose(masked(tokens).numpy(), before, atol=1e-6)
    shapes = [tuple(kernel.variable.shape) for kernel in masking.kernels(masked).values()]
    assert sorted(shapes) == sorted(
        [(11, 8)] + [(8, 2, 4)] * 3 + [(2, 4, 8)] + [(8, 16), (16, 8)] + [(8, 8)] + [(8, 3)]
    )  # the table; query, key, value; output; the nested model; the wrapped layer; the last
    lottery_tf.prune(masked, 0.6, scope="layer")
    compiled(masked).fit(tokens, np.arange(5) % 3, epochs=2, verbose=0, callbacks=[CheckMasks()])
    masked.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert np.allclose(loaded(tokens).numpy(), masked(tokens).numpy(), atol=1e-6)
    assert pruning.density(masking.get_masks(loaded)) == pytest.approx(0.4, abs=1e-2)


def test_the_model_itself_is_left_alone():
    model = dense_model()
    weights = [array.copy() for array in model.get_weights()]
    masked = lottery_tf.masked(model)
    lottery_tf.prune(masked, 0.9)
    assert all(np.array_equal(*pair) for pair in zip(weights, model.get_weights(), strict=True))
    assert type(model.layers[0]) is keras.layers.Dense


@pytest.mark.slow
def test_mobilenet_prunes_to_a_tenth_under_plain_fit(tmp_path):
    model = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), classes=10)
    masked = lottery_tf.masked(model)
    generator = np.random.default_rng(0)
    images = generator.random((16, 32, 32, 3)).astype(np.float32)
    labels = generator.integers(0, 10, 16)
    masked.compile("adam", "sparse_categorical_crossentropy")
    CheckMasks.batches = 0
    density = 1
    while density > 0.1:
        density = lottery_tf.prune(masked, min(0.5, 1 - 0.1 / density))
        masked.fit(images, labels, batch_size=8, verbose=0, callbacks=[CheckMasks()])
    assert density == pytest.approx(0.1, abs=1e-6)
    assert CheckMasks.batches == 8
    masked.save(tmp_path / "mobilenet.keras")
    loaded = keras.models.load_model(tmp_path / "mobilenet.keras")
    expected = masked.predict(images, verbose=0)
    assert np.array_equal(loaded.predict(images, verbose=0), expected)
    assert pruning.density(masking.get_masks(loaded)) == density


@pytest.mark.ci
def test_rounds_is_imp_around_fit():
    images, labels = data()
    model = compiled(lottery_tf.masked(dense_model()))
    start = masking.get_weights(model)
    seen = []
    for round in lottery_tf.rounds(model, rounds=4, fraction=0.5):
        weights, masks = masking.get_weights(model), masking.get_masks(model)
        assert pruning.density(masks) == round.density
        for path, array in start.items():
            kept = np.where(masks[path], array, 0) if path in masks else array
            assert np.array_equal(weights[path], kept)
        assert all(not variable.numpy().any() for variable in model.optimizer.variables
                   if variable is not model.optimizer._learning_rate)  # fmt: skip
        model.fit(images, labels, epochs=2, verbose=0, callbacks=[CheckMasks()])
        model.optimizer.learning_rate = 0.5  # as a callback might
        expected, _ = pruning.prune(masking.get_weights(model), masks, 0.5)
        seen.append((round.index, round.density, expected))
    assert [index for index, *_ in seen] == [0, 1, 2, 3]
    densities = [density for _, density, _ in seen]
    assert densities == pytest.approx([1, 0.5, 0.25, 0.125], abs=0.01)
    assert pruning.density(seen[2][2]) == densities[3]


def test_rounds_restores_the_rate_and_reinit_starts_elsewhere():
    model = compiled(lottery_tf.masked(dense_model()))
    starts = []
    for _ in lottery_tf.rounds(model, rounds=3, fraction=0.2, reset="reinit"):
        assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
        model.optimizer.learning_rate = 0.5
        starts.append(masking.get_weights(model)["sequential/dense/kernel"])
    for some in range(3):
        for other in range(some):
            both = (starts[some] != 0) & (starts[other] != 0)
            assert (starts[some] != starts[other])[both].all()


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, images):
        return self.dense(images)


def test_models_that_cannot_be_masked_are_named():
    subclassed = Subclassed()
    subclassed(np.zeros((1, 4)))
    for model, words in (
        (subclassed, "subclassed"),
        (keras.Sequential([keras.layers.Dense(3)]), "keras.Input first"),
        ("a string", "a string"),
        (keras.Sequential([keras.Input((4,)), keras.layers.ReLU()]), "masked: .* has no kernel"),
    ):
        with pytest.raises(InputError, match=words):
            lottery_tf.masked(model)
    masked = lottery_tf.masked(dense_model())
    with pytest.raises(InputError, match="init, rewind, reinit"):
        next(lottery_tf.rounds(masked, 3, 0.2, reset="never"))
    with pytest.raises(InputError, match="rounds"):
        next(lottery_tf.rounds(masked, 0, 0.2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lottery_tf.masked(dense_model())  # nothing is left dense, so nothing is said
