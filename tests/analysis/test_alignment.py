import keras
import numpy as np
import pytest

from lottery_tf import masking, models
from lottery_tf.analysis import alignment
from lottery_tf.errors import InputError

pytestmark = pytest.mark.versions


def build(config, model, shape, **flags):
    network = models.build(config(model=model, **flags), shape, 10, seed=1)
    generator = np.random.default_rng(0)
    for variable in network.variables:
        if variable.dtype == "float32":  # BatchNorm starts with units that are all alike
            scale = 0.1 * generator.normal(size=variable.shape)
            variable.assign(
                np.abs(variable.numpy() + scale)
                if "var" in variable.path
                else variable.numpy() + scale
            )
    return network


def shuffled(network, weights, generator):
    """The weights with every group of units permuted at random."""
    found = alignment.find(network)
    groups = dict.fromkeys(g for axes in found.values() for axis in axes for g in axis or ())
    order = {g: generator.permutation(g.size) for g in groups if not g.fixed}
    assert order
    return found, alignment.permute(found, weights, order)


NETWORKS = [
    ("lenet", (8, 8, 1), {}),
    ("conv4", (8, 8, 3), {}),
    ("resnet20", (8, 8, 3), {}),
    ("resnet20", (8, 8, 3), {"shortcut": "projection", "bn_affine": True}),
    pytest.param("vgg16", (32, 32, 3), {}, marks=pytest.mark.slow),
    pytest.param("resnet18", (32, 32, 3), {"shortcut": "projection"}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("model", "shape", "flags"), NETWORKS)
def test_permuted_units_change_nothing_and_align_back(config, model, shape, flags):
    network = build(config, model, shape, **flags)
    weights = masking.get_weights(network)
    generator = np.random.default_rng(3)
    images = generator.normal(size=(4, *shape)).astype(np.float32)
    before = network(images, training=False).numpy()

    found, other = shuffled(network, weights, generator)
    assert any((other[path] != weights[path]).any() for path in weights)
    masks = masking.get_masks(network)
    masking.set_weights(network, other, masks)
    np.testing.assert_allclose(network(images, training=False), before, rtol=1e-3, atol=1e-4)

    back = alignment.align(found, weights, other)
    for path, array in weights.items():
        np.testing.assert_array_equal(back[path], array, path)


def test_shortcuts_tie_the_channels_of_a_stage(config):
    network = models.build(config(model="resnet20"), (8, 8, 3), 10, seed=0)
    found = alignment.find(network)
    stem = found["stem/kernel"][3]
    for block in (1, 2, 3):
        assert found[f"stage1_block{block}_conv2/kernel"][3] == stem
    second = found["stage2_block1_conv2/kernel"][3]
    assert [group.size for group in second] == [16, 16]
    assert second[0] is stem[0]
    assert [group.size for group in found["logits/kernel"][0]] == [16, 16, 32]
    assert found["logits/kernel"][1][0].fixed
    assert found["stem/kernel"][2][0].fixed
    inner = found["stage1_block1_conv1/kernel"][3]
    assert inner != stem
    assert inner == found["stage1_block1_conv2/kernel"][2]


def test_a_flattened_image_repeats_its_channels(config):
    network = models.build(config(model="conv4"), (8, 8, 3), 10, seed=0)
    rows = alignment.find(network)["hidden1/kernel"][0]
    assert len(rows) == 4
    assert len(set(rows)) == 1
    assert rows[0].size == 128


def test_models_that_are_not_known_are_errors():
    layers = [keras.Input((8,)), keras.layers.Dense(8, name="twice")]
    with pytest.raises(InputError, match=r"--align.*Sequential"):
        alignment.find(keras.Sequential(layers))
    image = layers[0]
    network = keras.Model(image, layers[1](layers[1](image)))
    with pytest.raises(InputError, match=r"--align.*twice"):
        alignment.find(network)


def test_a_layer_that_is_not_known_is_an_error():
    image = keras.Input((8, 8, 3))
    features = keras.layers.LayerNormalization(name="other")(image)
    network = keras.Model(image, keras.layers.Flatten()(features))
    with pytest.raises(InputError, match=r"--align.*other.*LayerNormalization"):
        alignment.find(network)
