import io
import zipfile

import h5py
import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking
from lottery_tf.masking import keras_private
from lottery_tf.models.lenet import lenet

pytestmark = pytest.mark.versions


@pytest.fixture
def network():
    return lenet((8, 8, 1), 10, initializer="kaiming_uniform")


def half_masked(network):
    generator = np.random.default_rng(0)
    kernels = masking.kernels(network)
    masks = {path: generator.random(kernel.mask.shape) < 0.5 for path, kernel in kernels.items()}
    weights = masking.get_weights(network)
    for path, mask in masks.items():
        weights[path] = weights[path] * mask
    masking.set_weights(network, weights, masks)
    return masks


def images(count=16):
    return np.random.default_rng(1).random((count, 8, 8, 1)).astype(np.float32)


def test_parameter_counts_of_table_1():
    network = lenet((28, 28, 1), 10, initializer="kaiming_uniform")
    assert sum(kernel.mask.numpy().size for kernel in masking.kernels(network).values()) == (
        266_200
    )
    assert sum(v.numpy().size for v in network.trainable_variables) == 266_200 + 410


def test_paths_are_stable_and_without_masks(network):
    assert list(masking.get_weights(network)) == [
        f"{layer}/{kind}"
        for layer in ("hidden1", "hidden2", "logits")
        for kind in ("kernel", "bias")
    ]


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.Adam(0.01, weight_decay=0.1),
        keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    ],
)
def test_plain_fit_keeps_masks_set_in_the_middle_of_training(network, optimizer):
    network.compile(optimizer, "mean_squared_error")
    targets = np.random.default_rng(2).random((16, 10))
    network.fit(images(), targets, batch_size=4, verbose=0)  # fills the slots
    masks = half_masked(network)
    before = masking.get_weights(network)
    network.fit(images(), targets, batch_size=4, epochs=3, verbose=0)
    after = masking.get_weights(network)
    for path, mask in masks.items():
        assert not after[path][~mask].any()
        assert (after[path] != before[path])[mask].any()


def test_a_revived_weight_is_saved_as_zero_and_stays_in_the_model(network, tmp_path):
    masks = half_masked(network)
    layer = network.get_layer("hidden1")
    layer._kernel.assign(np.ones(layer._kernel.shape))  # as an average of weights may be
    expected = network(images()).numpy()
    before = [array.copy() for array in network.get_weights()]
    network.save(tmp_path / "network.keras")
    network.save_weights(tmp_path / "network.weights.h5")
    assert all(map(np.array_equal, network.get_weights(), before))
    with zipfile.ZipFile(tmp_path / "network.keras") as archive:
        stored = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
    assert np.array_equal(stored["layers/masked_dense/vars/0"], masks["hidden1/kernel"])
    loaded = keras.models.load_model(tmp_path / "network.keras")
    network.load_weights(tmp_path / "network.weights.h5")
    for model in (loaded, network):
        kernel = masking.kernels(model)["hidden1/kernel"]
        assert np.array_equal(kernel.variable.numpy(), masks["hidden1/kernel"])
        assert np.array_equal(model(images()).numpy(), expected)


def test_a_user_constraint_holds_too():
    layer = masking.MaskedDense(3, kernel_constraint="non_neg", use_bias=False)
    network = keras.Sequential([keras.Input((4,)), layer])
    network.compile(keras.optimizers.SGD(10.0), "mean_squared_error")
    network.fit(np.ones((8, 4)), -np.ones((8, 3)), verbose=0)
    assert (layer._kernel.numpy() >= 0).all()


def test_variables_of_one_path_are_named_apart_and_others_keep_theirs():
    image = keras.Input((4,))
    nested = keras.Model(image, masking.MaskedDense(4, name="same")(image), name="nested")
    features = masking.MaskedDense(4, name="same")(masking.MaskedDense(4, name="own")(image))
    model = keras.Model(image, nested(features))
    assert list(masking.kernels(model)) == ["own/kernel", "same/kernel", "nested/same/kernel"]
    assert list(masking.variables(model)) == [
        f"{layer}/{name}" for layer in ("own", "same", "nested/same") for name in ("kernel", "bias")
    ]
    assert list(masking.get_weights(model)) == list(masking.variables(model))


def test_layers_are_listed_in_their_order_and_kernels_as_finished_runs_have_them():
    image = keras.Input((4, 6))
    attended = keras.layers.MultiHeadAttention(2, 3, name="attention")(image, image)
    block = keras.Sequential([keras.layers.Dense(5, name=f"inner{i}") for i in range(3)], name="b")
    shared = keras.layers.Dense(5, name="shared")
    model = keras.Model(image, keras.layers.Dense(2, name="last")(shared(shared(block(attended)))))
    names = [layer.name for layer in keras_private.flatten_layers(model)]
    expected = ["attention", "query", "key", "value", "attention_output"]
    expected += ["b", "inner0", "inner1", "inner2", "shared", "last"]
    assert [name for name in names if name in expected] == expected
    assert keras_private.flatten_layers(model)[0] is model
    assert keras_private.flatten_layers(model, include_self=False)[0] is not model
    of_keras = model._flatten_layers(include_self=False)
    ours = keras_private.flatten_layers(model, include_self=False)
    assert {id(layer) for layer in ours} == {id(layer) for layer in of_keras}

    masked = lottery_tf.masked(model)
    paths = [path.split("/")[-2] for path in masking.kernels(masked)]
    assert paths == [
        "attention_output",
        "value",
        "key",
        "query",
        "inner2",
        "inner1",
        "inner0",
        "shared",
        "last",
    ]
