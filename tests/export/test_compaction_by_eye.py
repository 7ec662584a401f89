"""Compactions of networks that are small enough to see what must go."""

import keras
import numpy as np
import pytest

from lottery_tf.errors import InputError
from lottery_tf.export.compaction import compact

layers = keras.layers


def compacted(model, *inputs):
    """(compacted model, report), with the same outputs on given or on random inputs."""
    smaller, report = compact(model)
    generator = np.random.default_rng(0)
    shapes = [(4, *tensor.shape[1:]) for tensor in model.inputs]
    given = list(inputs) or [generator.normal(size=shape).astype("float32") for shape in shapes]
    given = given if len(given) > 1 else given[0]
    for before, after in zip(
        keras.tree.flatten(model(given, training=False)),
        keras.tree.flatten(smaller(given, training=False)),
        strict=True,
    ):
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)
    return smaller, report


def chain(shape, *kinds):
    return keras.Sequential([keras.Input(shape), *kinds])


def dense(kernel, bias, **options):
    """A Dense layer with these weights, once it is built."""
    kernel, bias = np.array(kernel, float), np.array(bias, float)
    start = keras.initializers.Constant
    return layers.Dense(
        len(bias), kernel_initializer=start(kernel), bias_initializer=start(bias), **options
    )


def weights_of(model, name):
    return [array.tolist() for array in model.get_layer(name).get_weights()]


def test_a_unit_without_outgoing_weights_goes():
    model = chain((2,), dense([[1, 2], [3, 4]], [5, 6], name="a"), dense([[1], [0]], [7], name="b"))
    smaller, report = compacted(model)
    assert weights_of(smaller, "a") == [[[1], [3]], [5]]
    assert weights_of(smaller, "b") == [[[1]], [7]]
    assert report.layers["a"].units == (2, 1)
    assert report.total("products") == (6, 3)
    assert report.layers["a"].weights == report.layers["a"].products == (4, 2)
    assert "6 -> 3" in report.lines()[0]
    assert "2 -> 1" in report.as_dict()["lines"][1]


def test_a_unit_without_incoming_weights_goes_into_the_next_bias():
    """Its ReLU gives 6; that of a negative bias gives 0."""
    model = chain(
        (2,),
        dense([[1, 0, 0], [3, 0, 0]], [5, 6, -4], activation="relu", name="a"),
        dense([[1], [10], [100]], [7], name="b"),
    )
    smaller, _ = compacted(model)
    assert weights_of(smaller, "a") == [[[1], [3]], [5]]
    assert weights_of(smaller, "b") == [[[1]], [67]]


def test_a_bias_is_made_where_there_was_none():
    model = chain(
        (1,),
        dense([[1, 0]], [0, 6], name="a"),
        layers.Dense(1, use_bias=False, kernel_initializer="ones", name="b"),
    )
    smaller, _ = compacted(model)
    assert weights_of(smaller, "b") == [[[1]], [6]]


def test_what_only_a_removed_unit_reads_goes_too():
    """Unit 1 of c is not read, so unit 1 of b is not, so unit 1 of a is not."""
    two = [[1, 0], [0, 1]]
    kinds = [dense(two, [0, 0], name=name) for name in "abc"]
    smaller, _ = compacted(chain((2,), *kinds, dense([[1], [0]], [0], name="d")))
    assert [smaller.get_layer(name).units for name in "abcd"] == [1, 1, 1, 1]


def test_a_network_without_weights_still_has_a_unit_in_each_layer():
    model = chain((2,), dense(np.zeros((2, 3)), [1, 2, 3]), dense(np.zeros((3, 2)), [4, 5]))
    smaller, _ = compacted(model)
    assert [layer.units for layer in smaller.layers[1:]] == [1, 2]


def conv(kernel, bias=None, **options):
    kernel = np.array(kernel, float)
    start = keras.initializers.Constant
    return layers.Conv2D(
        kernel.shape[-1],
        kernel.shape[:2],
        kernel_initializer=start(kernel),
        use_bias=bias is not None,
        bias_initializer=start(0 if bias is None else np.array(bias)),
        **options,
    )


def test_constants_at_borders_are_taken_over_by_one_of_them():
    """Three filters are the constants 1, 2, 4; a padded convolution sees them end at borders."""
    kernel = np.zeros((3, 3, 1, 4))
    kernel[..., 0] = 1
    first = conv(kernel, [0, 1, 2, 4], padding="same", name="a")
    model = chain((5, 5, 1), first, conv(np.ones((3, 3, 4, 2)), [0, 0], padding="same", name="b"))
    smaller, report = compacted(model)
    assert report.layers["a"].units == (4, 2)
    kernel, bias = smaller.get_layer("b").get_weights()
    assert (kernel[:, :, 0] == 1).all()
    assert (kernel[:, :, 1] == 1 + 1 / 4 + 2 / 4).all()  # of the constant 4
    assert (bias == 0).all()


@pytest.mark.parametrize("padded", [False, True])
def test_constants_without_borders_go_into_the_bias(padded):
    """ZeroPadding makes borders that a convolution without padding sees."""
    kernel = np.zeros((3, 3, 1, 3))
    kernel[..., 0] = 1
    between = [layers.ZeroPadding2D(1)] if padded else []
    model = chain(
        (7, 7, 1),
        conv(kernel, [0, 1, 2], name="a"),
        *between,
        conv(np.ones((3, 3, 3, 1)), name="b"),
    )
    _, report = compacted(model)
    assert report.layers["a"].units == (3, 2 if padded else 1)


def test_batch_norm_is_folded_and_its_dead_channels_with_it():
    norm = layers.BatchNormalization(name="norm")
    model = chain(
        (5, 5, 1),
        conv(np.ones((3, 3, 1, 2)), name="a"),
        norm,
        layers.ReLU(),
        layers.GlobalAveragePooling2D(),
        dense([[1], [1]], [0], name="b"),
    )
    norm.set_weights([np.array([2.0, 0]), np.array([1.0, 3]), np.array([4.0, 5]), np.ones(2)])
    smaller, report = compacted(model)
    assert list(report.removed) == ["norm"]
    assert report.layers["a"].units == (2, 1)  # the second channel is 3, for all images
    assert weights_of(smaller, "b")[1] == [3]
    np.testing.assert_allclose(smaller.get_layer("a").bias, [1 - 2 * 4], rtol=1e-3)


def test_batch_norm_stays_where_its_input_is_used_elsewhere():
    image = keras.Input((4, 4, 1))
    features = layers.Conv2D(2, 3, name="a")(image)
    normalised = layers.BatchNormalization(name="norm")(features)
    smaller, report = compacted(keras.Model(image, layers.Add()([features, normalised])))
    assert report.removed == {}
    assert smaller.get_layer("norm")


def test_a_residual_stream_loses_a_channel_where_all_branches_agree():
    """Channel 0 is constant in the branch only, channel 1 in both, channel 2 in none."""
    image = keras.Input((4, 4, 1), name="image")
    kernels = np.ones((1, 1, 1, 3)), np.ones((1, 1, 3, 3))
    kernels[0][..., 1] = 0
    kernels[1][..., :2] = 0
    stream = conv(kernels[0], [0, 1, 0], name="stream")(image)
    branch = conv(kernels[1], [1, 2, 3], name="branch")(stream)
    added = layers.ReLU()(layers.Add()([stream, branch]))
    out = dense([[1], [1], [1]], [0], name="out")(layers.GlobalAveragePooling2D()(added))
    smaller, report = compacted(keras.Model(image, out))
    assert report.layers["stream"].units == report.layers["branch"].units == (3, 2)
    assert weights_of(smaller, "out")[1] == [3]


def test_a_block_that_feeds_nothing_but_itself_goes():
    """Channel 1 of the stream is read by the branch, which writes to channel 1 alone."""
    image = keras.Input((3,), name="image")
    stream = dense(np.ones((3, 2)), [0, 0], name="stream")(image)
    inner = dense([[0, 1], [1, 0]], [0, 0], name="inner")(stream)
    branch = dense([[0, 1], [1, 0]], [0, 0], name="branch")(inner)
    out = dense([[1], [0]], [0], name="out")(layers.Add()([stream, branch]))
    _, report = compacted(keras.Model(image, out))
    assert {name: layer.units[1] for name, layer in report.layers.items()} == dict.fromkeys(
        ("stream", "inner", "branch", "out"), 1
    )


def test_flattened_features_keep_their_order():
    """Channel 1 of 3 has no weights out at any pixel."""
    kernel = np.random.default_rng(0).normal(size=(2, 2, 3, 4))
    kernel[:, :, 1] = 0
    model = chain(
        (4, 4, 1),
        layers.Conv2D(3, 3, name="a"),
        layers.Flatten(),
        dense(kernel.reshape(12, 4), np.zeros(4), name="b"),
    )
    smaller, _ = compacted(model)
    np.testing.assert_allclose(
        smaller.get_layer("b").kernel, kernel[:, :, [0, 2]].reshape(8, 4), rtol=1e-6
    )


def test_few_used_inputs_are_gathered_and_many_are_not():
    def pruned(used):
        kernel = np.zeros((100, 300))
        kernel[:used] = 1
        return compacted(chain((100,), dense(kernel, np.zeros(300), name="a")))

    few, report = pruned(20)  # 80 * 300 multiply-adds are saved
    assert few.get_layer("a").kernel.shape == (20, 300)
    assert report.layers["a"].products == (30_000, 6_000)
    assert few.input_shape == (None, 100)
    assert pruned(90)[0].get_layer("a").kernel.shape == (100, 300)


def test_depthwise_and_separable_convolutions_lose_channels():
    model = chain(
        (6, 6, 2),
        layers.Conv2D(3, 3, name="a"),
        layers.DepthwiseConv2D(3, depth_multiplier=2, name="deep"),
        layers.SeparableConv2D(4, 1, name="separable"),
    )
    deep, point = model.get_layer("deep"), model.get_layer("separable")
    kernel = np.ones((3, 3, 3, 2))
    kernel[:, :, 1] = 0  # both outputs of channel 1 are their bias
    deep.set_weights([kernel, np.arange(6.0)])
    pointwise = np.ones((1, 1, 6, 4))
    pointwise[:, :, 5] = 0
    point.set_weights([np.ones((1, 1, 6, 1)), pointwise, np.zeros(4)])
    _, report = compacted(model)
    assert report.layers["a"].units == (3, 2)
    assert report.layers["deep"].units == (6, 4)
    assert report.layers["separable_depthwise"].units == (0, 4)
    assert not report.left


def test_models_in_models_with_several_inputs_and_outputs():
    """Names, structures and dtypes of inputs and outputs stay."""
    inner_in = keras.Input((4,))
    inner = keras.Model(inner_in, layers.Dense(3, name="same")(inner_in), name="inner")
    inner.layers[1].kernel.assign(np.diag([1.0, 1, 0, 0])[:, :3])
    first, second = keras.Input((4,), name="one"), keras.Input((3,), name="two", dtype="float64")
    features = layers.Dense(4, name="same")(first)
    features = layers.Concatenate()([inner(features), second])
    outputs = {"a": layers.Dense(2, name="a")(features), "b": layers.Dropout(0.5)(features)}
    model = keras.Model({"one": first, "two": second}, outputs)
    smaller, report = compact(model)
    given = {"one": np.ones((2, 4), "float32"), "two": np.ones((2, 3))}
    before, after = model(given, training=False), smaller(given, training=False)
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_allclose(before[name], after[name], rtol=1e-5)
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in smaller.inputs] == [
        ("one", "float32", (None, 4)),
        ("two", "float64", (None, 3)),
    ]
    assert report.layers["same"].units == (4, 2)


def test_a_compacted_model_is_saved_and_loaded(tmp_path):
    kernel = np.zeros((100, 300))
    kernel[:20] = 1
    smaller, _ = compacted(chain((100,), dense(kernel, np.zeros(300)), layers.Dense(2)))
    smaller.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    inputs = np.ones((2, 100), "float32")
    np.testing.assert_array_equal(loaded(inputs), smaller(inputs))


# What is left as it is, and layers that are called more than once ------------------------------


def two_calls():
    one = keras.Input((3,))
    shared = layers.Dense(3, name="shared")
    return keras.Model(one, layers.Dense(2)(shared(shared(one))))


def test_a_shared_layer_is_left_and_stays_shared():
    smaller, report = compacted(two_calls())
    assert list(report.left) == ["shared"]
    assert len(smaller.weights) == 4


def test_a_layer_without_weights_is_compacted_wherever_it_is_called():
    act, add, flat = layers.ReLU(name="act"), layers.Add(name="add"), layers.Flatten(name="flat")
    one = keras.Input((3,), name="one")
    wide = act(dense(np.eye(3, 6), np.zeros(6), name="a")(flat(one)))
    third = act(dense(np.eye(6, 4), np.zeros(4), name="act_2")(flat(wide)))
    both = add([third, act(dense(np.eye(3, 4), np.zeros(4), name="c")(one))])
    both = add([both, third])
    smaller, report = compacted(keras.Model(one, dense(np.eye(4, 2), np.zeros(2))(both)))
    assert [report.layers[name].units for name in ("a", "act_2", "c")] == [(6, 2), (4, 2), (4, 2)]
    assert not report.left
    names = [layer.name for layer in smaller.layers]
    assert {"act", "act_2", "act_3", "act_4", "add", "add_2"} <= set(names)
    assert len(set(names)) == len(names)


def test_a_batch_norm_that_renormalizes_is_left():
    norm = layers.BatchNormalization(renorm=True, name="norm")
    smaller, report = compacted(chain((3,), layers.Dense(4), norm, layers.Dense(2)))
    assert list(report.left) == ["norm"]
    assert len(smaller.get_layer("norm").get_weights()) == len(norm.get_weights())


def test_dropout_that_is_called_as_in_training_stays():
    one = keras.Input((3,))
    model = keras.Model(one, layers.Dense(2)(layers.Dropout(0.5, name="drop")(one, training=True)))
    smaller, report = compact(model)
    assert list(report.left) == ["drop"]
    assert smaller.get_layer("drop")


def test_masks_of_time_steps_are_kept():
    """The mean leaves padded steps out, also behind a layer few of whose inputs have weights."""
    steps = keras.Input((5,), dtype="int32", name="steps")
    features = layers.Embedding(9, 100, mask_zero=True)(steps)
    kernel = np.zeros((100, 300))
    kernel[:5, :] = 1
    features = dense(kernel, np.ones(300), name="hidden")(features)
    model = keras.Model(
        steps,
        [
            layers.Dense(2)(layers.GlobalAveragePooling1D()(features)),
            layers.LSTM(3)(features),
        ],
    )
    compacted(model, np.array([[1, 2, 0, 0, 0], [3, 4, 5, 6, 7]]))


@keras.saving.register_keras_serializable(package="tests")
class Doubled(layers.Layer):
    def call(self, inputs):
        return inputs * 2


def test_layers_that_are_not_known_are_left_and_named():
    attention = layers.MultiHeadAttention(2, 3, name="attention")
    image = keras.Input((4, 6))
    features = layers.LayerNormalization(name="norm")(layers.Dense(6, name="a")(image))
    features = layers.Add()([features, attention(features, features)])
    features = Doubled(name="twice")(features)
    features = keras.ops.mean(features, axis=1)
    _, report = compacted(keras.Model(image, layers.Dense(2)(features)))
    assert {"attention", "twice", "norm", "mean"} <= report.left.keys()
    assert "Doubled" in report.left["twice"]


def test_preprocessing_keeps_what_it_learned():
    normalization = layers.Normalization()
    normalization.adapt(np.arange(12.0).reshape(4, 3))
    compacted(chain((3,), normalization, layers.Dense(2)))


def test_what_cannot_be_rebuilt_is_an_error_in_one_line():
    class Own(layers.Layer):
        def __init__(self, size):
            super().__init__()
            self.size = size

        def call(self, inputs):
            return inputs

    with pytest.raises(InputError, match=r"\bOwn\b.* get_config and from_config"):
        compact(chain((3,), Own(3), layers.Dense(2)))
    with pytest.raises(InputError, match="Received: Dense"):
        compact(layers.Dense(3))
