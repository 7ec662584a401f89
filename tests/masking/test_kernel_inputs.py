"""The norms of what each weight multiplies, against a layer in which that weight alone is 1."""

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking
from lottery_tf.loop import calibration
from lottery_tf.loop.scoring import Sample
from lottery_tf.masking import kernel_inputs

L = keras.layers
GENERATOR = np.random.default_rng(0)


def convolutions():
    """(layer, shape of an input): strides, borders, dilations, groups, one to three axes."""
    for padding in ("same", "valid"):
        for strides, dilation in ((1, 1), (2, 1), (1, 2), (3, 1)):
            steps = {"strides": strides, "dilation_rate": dilation, "padding": padding}
            yield "Conv2D", (4, 3), steps, (7, 8, 2)
            yield "DepthwiseConv2D", (3,), {"depth_multiplier": 2, **steps}, (7, 7, 2)
            if dilation == 1:  # TensorFlow dilates no transposed convolution on a CPU
                yield "Conv1DTranspose", (3, 3), steps, (5, 2)
                yield "Conv2DTranspose", (3, (3, 2)), steps, (5, 4, 2)
        yield "Conv2D", (4, 3), {"groups": 2, "padding": padding}, (6, 6, 4)
        yield "Conv3D", (2, (2, 3, 1)), {"strides": 2, "padding": padding}, (5, 5, 4, 2)
        yield "Conv3DTranspose", (2, (2, 3, 1)), {"strides": 2, "padding": padding}, (3, 3, 2, 2)
        separable = {"depth_multiplier": 2, "strides": 2, "padding": padding}
        yield "SeparableConv2D", (3, 3), separable, (6, 6, 2)
    yield "Conv1D", (3, 3), {"padding": "causal", "dilation_rate": 2}, (7, 2)
    yield "Conv1D", (3, 3), {"padding": "causal", "strides": 2}, (7, 2)
    yield "SeparableConv1D", (3, 3), {"padding": "same"}, (7, 2)
    output_padding = {"strides": 2, "padding": "same", "output_padding": 1}
    yield "Conv2DTranspose", (3, 3), output_padding, (5, 4, 2)


PRODUCTS = [
    ("Dense", (4,), {}, (3,)),
    ("Dense", (4,), {}, (6, 3)),
    ("EinsumDense", ("abc,cde->abde", (None, 2, 3)), {}, (4, 3)),
    ("EinsumDense", ("abcd,cde->abe", (None, 4)), {}, (4, 2, 3)),
    ("EinsumDense", ("...x,xy->...y", 4), {}, (2, 2, 3)),
    ("EinsumDense", ("bhi,hio->bho", (2, 4)), {}, (2, 3)),
    ("EinsumDense", ("abc,cd->ad", (4,)), {}, (2, 3)),
]


def one_layer(kind, arguments, options, shape):
    options = {"dtype": "float64", **options} | (
        {} if kind == "EinsumDense" else {"use_bias": False}
    )
    layer = getattr(L, kind)(*arguments, **options)
    return lottery_tf.mask(keras.Sequential([keras.Input(shape, dtype="float64"), layer]))


def norms_of(model, data):
    weights, masks = masking.get_weights(model), masking.get_masks(model)
    return calibration.input_norms(model, weights, masks, Sample(data).batches)


@pytest.mark.parametrize(("kind", "arguments", "options", "shape"), [*PRODUCTS, *convolutions()])
def test_each_weight_multiplies_the_outputs_of_that_weight_alone(kind, arguments, options, shape):
    model = one_layer(kind, arguments, options, shape)
    data, before = GENERATOR.normal(size=(5, *shape)), masking.get_weights(model)
    norms, axes = norms_of(model, data), kernel_inputs.output_axes(model)
    assert all((array == before[path]).all() for path, array in masking.get_weights(model).items())
    for path, kernel in masking.kernels(model).items():
        if path.endswith("pointwise_kernel") or "Separable" not in kind:
            units = {}
            for place in np.ndindex(*kernel.variable.shape):
                alone = np.zeros(kernel.variable.shape)
                alone[place] = 1
                kernel.variable.assign(alone)
                outputs = model(data).numpy()
                assert norms[path][place] == pytest.approx(np.sqrt(np.sum(outputs**2)), abs=1e-9)
                features = np.flatnonzero(outputs.any(axis=tuple(range(outputs.ndim - 1))))
                if kind != "EinsumDense":  # the weights of a unit reach one feature
                    units.setdefault(tuple(place[axis] for axis in axes[path]), set()).update(
                        features
                    )
            assert all(len(features) <= 1 for features in units.values())
            kernel.variable.assign(before[path])


def test_the_depthwise_kernel_of_a_separable_convolution_is_that_of_a_depthwise_one():
    data = GENERATOR.normal(size=(5, 6, 6, 2))
    options = {"depth_multiplier": 2, "strides": 2, "padding": "same"}
    separable = norms_of(one_layer("SeparableConv2D", (3, 3), options, (6, 6, 2)), data)
    depthwise = norms_of(one_layer("DepthwiseConv2D", (3,), options, (6, 6, 2)), data)
    (expected,) = depthwise.values()
    found = next(array for path, array in separable.items() if "depthwise" in path)
    np.testing.assert_array_equal(found, expected)


def test_axes_of_outputs_are_those_of_the_equation():
    axes = [next(iter(kernel_inputs.output_axes(one_layer(*line)).values())) for line in PRODUCTS]
    assert axes == [(1,), (1,), (1, 2), (2,), (1,), (0, 2), (1,)]


def test_formulas_of_dense_einsum_and_convolution():
    """Written out: by rows, by an equation, and by patches."""
    inputs = keras.Input((6, 6, 2))
    hidden = L.Conv2D(3, 3, name="conv")(inputs)
    hidden = L.Reshape((4, 12))(hidden)
    hidden = L.EinsumDense("abc,cde->abde", (None, 2, 3), name="einsum")(hidden)
    model = lottery_tf.masked(keras.Model(inputs, L.Dense(5, name="dense")(hidden)))
    data = GENERATOR.normal(size=(40, 6, 6, 2)).astype(np.float32)  # more than computed at once
    norms = norms_of(model, data)
    parts = {name: model.get_layer(name).input for name in ("conv", "einsum", "dense")}
    seen = dict(zip(parts, keras.Model(model.input, list(parts.values()))(data), strict=True))
    seen = {name: array.numpy().astype(np.float64) for name, array in seen.items()}
    patches = np.lib.stride_tricks.sliding_window_view(seen["conv"], (3, 3), axis=(1, 2))
    expected = np.sqrt(np.einsum("nhwcab,nhwcab->abc", patches, patches))[..., np.newaxis]
    np.testing.assert_allclose(norms["conv/kernel"], np.broadcast_to(expected, (3, 3, 2, 3)))
    expected = np.sqrt((seen["einsum"] ** 2).sum((0, 1)))[:, np.newaxis, np.newaxis]
    np.testing.assert_allclose(norms["einsum/kernel"], np.broadcast_to(expected, (12, 2, 3)))
    expected = np.sqrt((seen["dense"] ** 2).sum((0, 1, 2)))[:, np.newaxis]
    np.testing.assert_allclose(norms["dense/kernel"], np.broadcast_to(expected, (3, 5)))
