"""Compacted networks compute what the networks computed, with fewer units."""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lottery_tf import masking, models
from lottery_tf.config import Config
from lottery_tf.export.compaction import compact

layers = keras.layers
PLAIN = {masked: layer for layer, masked in masking.MASKED.items()}


@pytest.fixture(autouse=True)
def double():
    """Float64, so that outputs may differ by rounding alone."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


def draw_weights(model, density, generator, rows=0.0):
    """Random weights in a plain model, pruned; also some whole inputs and outputs are."""
    for weight in model.weights:
        shape = weight.shape
        values = generator.normal(size=shape)
        if weight.name.endswith("kernel"):
            values *= generator.random(shape) < density
            values *= generator.random((shape[-2], 1)) >= rows
            values *= generator.random(shape[-1]) >= rows
        if weight.name == "moving_variance":
            values = np.abs(values) + 0.5
        weight.assign(values)


def images_for(model, generator, examples=4):
    """Random inputs of a model."""
    inputs = [generator.normal(size=(examples, *tensor.shape[1:])) for tensor in model.inputs]
    return inputs if len(inputs) > 1 else inputs[0]


def check_equal(model, smaller, tolerance=1e-10):
    """The outputs on random inputs, relative to their scale."""
    inputs = images_for(model, np.random.default_rng(1))
    for before, after in zip(
        keras.tree.flatten(model(inputs, training=False)),
        keras.tree.flatten(smaller(inputs, training=False)),
        strict=True,
    ):
        before, after = np.array(before), np.array(after)
        assert before.shape == after.shape
        assert np.isfinite(before).all()
        assert np.abs(before - after).max() <= tolerance * max(1, np.abs(before).max())


SHIPPED = [
    ("lenet", (8, 8, 1), {}),
    ("conv4", (12, 12, 3), {}),
    ("resnet20", (16, 16, 3), {"shortcut": "identity"}),
    ("resnet20", (16, 16, 3), {"shortcut": "projection"}),
    pytest.param("vgg16", (32, 32, 3), {}, marks=pytest.mark.ci),
    pytest.param("resnet18", (33, 33, 3), {"shortcut": "identity"}, marks=pytest.mark.ci),
    pytest.param("resnet18", (32, 32, 3), {"shortcut": "projection"}, marks=pytest.mark.ci),
    pytest.param("resnet50", (32, 32, 3), {"shortcut": "identity"}, marks=pytest.mark.ci),
]


@pytest.fixture(scope="module")
def made():
    """{name and options: a shipped network of plain layers, its weights}."""
    return {}


def shipped(name, shape, options, made):
    """A shipped network of plain layers as it was made, once for all tests."""
    key = name, *options.items()
    if key not in made:
        config = Config(model=name, bn_affine=True, **options)
        network = models.build(config, shape, 10, seed=0, policy="float64")
        model = keras.models.clone_model(
            network,
            clone_function=lambda layer: PLAIN.get(type(layer), type(layer)).from_config(
                layer.get_config()
            ),
        )
        made[key] = model, model.get_weights()
    model, weights = made[key]
    model.set_weights(weights)
    return model


def threshold_weights(model, density, generator):
    """Initial kernels pruned by one threshold, as a ticket's: wide layers lose whole units."""
    kernels = [weight for weight in model.weights if weight.name.endswith("kernel")]
    arrays = [np.array(kernel) for kernel in kernels]
    draw_weights(model, 1.0, generator)
    threshold = np.quantile(np.concatenate([np.abs(a).ravel() for a in arrays]), 1 - density)
    for kernel, array in zip(kernels, arrays, strict=True):
        kernel.assign(np.where(np.abs(array) > threshold, array, 0))


@pytest.mark.parametrize("draw", [draw_weights, threshold_weights])
@pytest.mark.parametrize("density", [0.1, 0.02, 0.005])
@pytest.mark.parametrize(("name", "shape", "options"), SHIPPED)
def test_shipped_networks_compute_the_same(name, shape, options, density, draw, made):
    model = shipped(name, shape, options, made)
    draw(model, density, np.random.default_rng(0))
    smaller, report = compact(model)
    check_equal(model, smaller)
    before, after = report.total("products")
    # Under masks of 10% hardly a unit of a wide network loses all of its weights.
    assert after < before if density < 0.01 else after <= before
    assert not report.left
    assert not report.not_counted


ACTIVATIONS = ["linear", "relu", "sigmoid", "tanh", "softmax", "gelu", "elu"]


def layer_of(draw, rank):
    """A drawn class of layers that keeps the rank (batch, …, channels), and its options."""
    dense = layers.Dense, {"units": draw(st.integers(2, 6))}
    activation = {"activation": draw(st.sampled_from(ACTIVATIONS))}
    anywhere = [
        dense,
        (layers.BatchNormalization, {"center": draw(st.booleans()), "scale": draw(st.booleans())}),
        (layers.ReLU, {"negative_slope": draw(st.sampled_from([0, 0.1]))}),
        (layers.Activation, activation),
        (layers.Dropout, {"rate": 0.5}),
        (layers.Rescaling, {"scale": 0.5, "offset": 0.25}),
        (layers.LayerNormalization, {}),
    ]
    if rank == 1:
        kind, options = draw(st.sampled_from(anywhere))
        return (kind, options | activation) if kind is layers.Dense else (kind, options)
    padding = {"padding": draw(st.sampled_from(["same", "valid"]))}
    size = {"kernel_size": draw(st.integers(1, 3)), "strides": draw(st.integers(1, 2))}
    conv = padding | size | {"use_bias": draw(st.booleans())} | activation
    multiplier = {"depth_multiplier": draw(st.integers(1, 2))}
    filters = {"filters": draw(st.integers(2, 6))}
    pool = padding | {"pool_size": draw(st.integers(1, 2)), "strides": draw(st.integers(1, 2))}
    spatial = [
        (layers.Conv2D, conv | filters),
        (layers.Conv2D, conv | filters),
        (layers.Conv2DTranspose, conv | filters),
        (layers.DepthwiseConv2D, conv | multiplier),
        (layers.SeparableConv2D, conv | filters | multiplier),
        (layers.MaxPooling2D, pool),
        (layers.AveragePooling2D, pool),
        (layers.ZeroPadding2D, {"padding": 1}),
        (layers.UpSampling2D, {}),
        (layers.Permute, {"dims": (2, 1, 3)}),
    ]
    return draw(st.sampled_from(spatial * 2 + anywhere))


def network_of(draw):
    """Random small graphs: a chain of layers, with branches that merge, then a dense end."""
    tensor = image = keras.Input((6, 6, draw(st.integers(2, 3))))
    for _ in range(draw(st.integers(1, 4))):
        kind, options = layer_of(draw, rank=3)
        tensor = kind(**options)(tensor)
        if draw(st.booleans()):
            tensor = layers.BatchNormalization()(tensor)
        if draw(st.integers(0, 2)) == 0:
            tensor = draw_branch(draw, tensor)
        if min(tensor.shape[1:3]) < 4:
            break
    end = draw(st.sampled_from(["flatten", "mean", "max", "reshape"]))
    if end == "flatten":
        tensor = layers.Flatten()(tensor)
    elif end == "reshape":
        tensor = layers.Reshape((-1,))(tensor)
    else:
        pool = layers.GlobalAveragePooling2D if end == "mean" else layers.GlobalMaxPooling2D
        tensor = pool()(tensor)
    for _ in range(draw(st.integers(0, 2))):
        kind, options = layer_of(draw, rank=1)
        tensor = kind(**options)(tensor)
    return keras.Model(image, layers.Dense(2)(tensor))


def draw_branch(draw, tensor):
    """A tensor merged with what a branch makes of it."""
    channels = tensor.shape[-1]
    side = layers.Conv2D(channels, draw(st.integers(1, 3)), padding="same")(tensor)
    if draw(st.booleans()):
        side = layers.ReLU()(layers.BatchNormalization()(side))
    merges = [
        layers.Add,
        layers.Multiply,
        layers.Average,
        layers.Maximum,
        layers.Concatenate,
        layers.Subtract,
        layers.Minimum,
    ]
    return draw(st.sampled_from(merges))()([tensor, side])


@pytest.mark.parametrize(
    "examples",
    [pytest.param(25, marks=pytest.mark.ci), pytest.param(1500, marks=pytest.mark.slow)],
)
def test_random_graphs_compute_the_same(examples):
    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=examples < 100,
        database=None,
        phases=[Phase.generate],
    )
    @given(st.data(), st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.2, 0.5, 1.0]))
    def check(data, seed, density):
        model = network_of(data.draw)
        draw_weights(model, density, np.random.default_rng(seed), rows=0.4)
        smaller, _ = compact(model)
        check_equal(model, smaller)

    check()
