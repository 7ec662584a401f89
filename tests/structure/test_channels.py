"""Channels go with all that belongs to them, and compaction then removes them for real.

The graphs are those that DepGraph (Fang et al. 2023) names as hard: residual chains, concatenates
of concatenates, depthwise and grouped convolutions, and attention.
"""

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking, models
from lottery_tf.config import Config
from lottery_tf.errors import InputError
from lottery_tf.export.compaction import compact
from lottery_tf.models.resnet import resnet20
from lottery_tf.structure import channels_of, in_words, structure_of

layers = keras.layers


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def conv(filters, name, **options):
    return layers.Conv2D(filters, 3, padding="same", name=name, **options)


def norm(name):
    return layers.BatchNormalization(name=name)


def end(tensor):
    return layers.Dense(3, name="logits")(layers.GlobalAveragePooling2D()(tensor))


def residual():
    """Two blocks on one stream of 8 channels, which all of them share."""
    image = keras.Input((6, 6, 3))
    stream = layers.ReLU()(norm("stem_bn")(conv(8, "stem")(image)))
    for block in (1, 2):
        inner = layers.ReLU()(norm(f"bn{block}")(conv(6, f"conv{block}_1")(stream)))
        stream = layers.ReLU()(layers.Add()([conv(8, f"conv{block}_2")(inner), stream]))
    return keras.Model(image, end(stream))


def dense_net():
    """Each convolution reads the concatenation of all before."""
    image = keras.Input((6, 6, 3))
    features = conv(4, "stem")(image)
    for block in (1, 2, 3):
        new = conv(4, f"conv{block}")(layers.ReLU()(norm(f"bn{block}")(features)))
        features = layers.Concatenate()([features, new])
    return keras.Model(image, end(features))


def mobile():
    """Inverted residuals: pointwise, depthwise, pointwise, and an addition."""
    image = keras.Input((6, 6, 3))
    stream = conv(4, "stem")(image)
    for block in (1, 2):
        wide = layers.ReLU(6)(
            norm(f"bn{block}_1")(layers.Conv2D(8, 1, name=f"expand{block}")(stream))
        )
        deep = layers.DepthwiseConv2D(3, padding="same", name=f"deep{block}")(wide)
        deep = layers.ReLU(6)(norm(f"bn{block}_2")(deep))
        thin = layers.Conv2D(4, 1, name=f"project{block}")(deep)
        stream = layers.Add()([thin, stream])
    return keras.Model(image, end(stream))


def separable():
    image = keras.Input((6, 6, 3))
    tensor = layers.SeparableConv2D(8, 3, depth_multiplier=2, name="first")(image)
    tensor = layers.SeparableConv2D(8, 2, depth_multiplier=2, name="second")(layers.ReLU()(tensor))
    tensor = layers.Dense(6, "relu", name="hidden")(layers.Flatten()(tensor))
    return keras.Model(image, layers.Dense(3, name="logits")(tensor))


def decoder():
    """A transposed convolution, a concatenation with an earlier tensor, a flattening."""
    image = keras.Input((6, 6, 3))
    first = conv(4, "down", strides=2, activation="relu")(image)
    up = layers.Conv2DTranspose(6, 2, strides=2, name="up", activation="relu")(first)
    both = layers.Concatenate()([up, conv(4, "skip")(image)])
    both = layers.Flatten()(conv(5, "last", activation="relu")(both))
    return keras.Model(image, layers.Dense(3, name="logits")(both))


def transformer():
    """A block whose stream LayerNormalization holds; its heads and hidden units are free."""
    tokens = keras.Input((5, 8))
    attended = layers.MultiHeadAttention(4, 3, name="attention")(tokens, tokens)
    stream = layers.LayerNormalization(name="norm")(layers.Add()([tokens, attended]))
    hidden = layers.Dense(16, "gelu", name="hidden")(stream)
    stream = layers.Add()([stream, layers.Dense(8, name="back")(hidden)])
    pooled = layers.GlobalAveragePooling1D()(stream)
    return keras.Model(tokens, layers.Dense(3, name="logits")(pooled))


def grouped_attention():
    tokens = keras.Input((5, 8))
    options = {"head_dim": 3, "num_query_heads": 8, "num_key_value_heads": 4}
    attended = layers.GroupQueryAttention(**options, name="attention")(tokens, tokens)
    hidden = layers.Dense(6, "relu", name="hidden")(attended)
    return keras.Model(tokens, layers.Dense(3, name="logits")(hidden))


def nested():
    inner = keras.Sequential(
        [keras.Input((8,)), layers.Dense(8, "relu", name="inner")], name="part"
    )
    inputs = keras.Input((5,))
    hidden = inner(layers.Dense(8, "relu", name="before")(inputs))
    return keras.Model(inputs, layers.Dense(3, name="logits")(hidden))


ATTENTION = {f"attention/{name}" for name in ("query", "key", "value", "attention_output")}
# {network: [(channels that compete, kernels that make them)]}
GRAPHS = {
    residual: [(8, {"stem", "conv1_2", "conv2_2"}), (6, {"conv1_1"}), (6, {"conv2_1"})],
    dense_net: [(4, {"stem"}), (4, {"conv1"}), (4, {"conv2"}), (4, {"conv3"})],
    mobile: [(4, {"stem", "project1", "project2"}), (8, {"expand1"}), (8, {"expand2"})],
    separable: [(8, {"first"}), (8, {"second"}), (6, {"hidden"})],
    decoder: [(4, {"down"}), (6, {"up"}), (4, {"skip"}), (5, {"last"})],
    transformer: [(4, ATTENTION), (16, {"hidden"})],
    grouped_attention: [(4, ATTENTION), (6, {"hidden"})],
    nested: [(8, {"before"}), (8, {"inner"})],
}


def drawn(make):
    """A masked network with drawn weights, biases and statistics."""
    model, generator = lottery_tf.masked(make()), np.random.default_rng(0)
    for variable in model.weights:
        if "mask" in variable.name:
            continue
        values = generator.normal(0, 0.5, variable.shape)
        variable.assign(np.abs(values) + 0.5 if "variance" in variable.name else values)
    return model


def check_smaller(model, tolerance=1e-5):
    """Compact a pruned network, and compare the outputs; return the smaller one."""
    data = normal(4, *model.inputs[0].shape[1:])
    smaller, report = compact(lottery_tf.unmasked(model))
    expected = np.array(model(data, training=False))
    assert np.abs(smaller(data, training=False) - expected).max() <= tolerance * max(
        1, np.abs(expected).max()
    )
    return smaller, report


@pytest.mark.parametrize("make", GRAPHS)
def test_channels_that_go_together_are_one(make):
    units, _ = channels_of(lottery_tf.masked(make()))
    found = []
    for name, makers in units.makers.items():
        layers_of = {path.removeprefix("part/").rpartition("/")[0] for path in makers}
        found.append((len(units.sets[name]), layers_of))
    assert sorted(found, key=str) == sorted(GRAPHS[make], key=str)


@pytest.mark.filterwarnings("ignore:.*Channels stay", "ignore:After this pruning")
@pytest.mark.parametrize("scope", ["global", "layer", "erk"])
@pytest.mark.parametrize("make", GRAPHS)
def test_what_is_pruned_can_be_removed(make, scope):
    model = drawn(make)
    before = masking.get_masks(model)
    structure = structure_of(model, "channel")
    total = structure.units(before, before).count
    lottery_tf.prune(model, density=0.5, structure="channel", scope=scope)
    masks = masking.get_masks(model)
    alive = structure.units(masks, masks).alive(masks)
    assert sum(map(np.count_nonzero, alive.values())) == round(total / 2)
    if scope == "layer":
        assert all(np.count_nonzero(one) == len(one) / 2 or len(one) % 2 for one in alive.values())
    smaller, _ = check_smaller(model)
    # What is left has no pruned weight: all of the channels went.
    left = {path: mask.sum() for path, mask in masks.items()}
    kernels = [w for w in smaller.weights if "kernel" in w.name]
    if scope == "layer":
        assert sum(int(np.prod(kernel.shape)) for kernel in kernels) == sum(left.values())
    # Nothing comes back, and another pruning goes on from here.
    lottery_tf.prune(model, 0.3, structure="channel", scope=scope)
    for path, mask in masking.get_masks(model).items():
        assert not (mask & ~masks[path]).any()
    check_smaller(model)


@pytest.mark.filterwarnings("ignore:.*Channels stay")
@pytest.mark.parametrize("make", [residual, mobile, transformer])
def test_a_training_changes_nothing_of_that(make):
    model = drawn(make)
    lottery_tf.prune(model, density=0.5, structure="channel", scope="layer")
    masks = masking.get_masks(model)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    data = normal(16, *model.inputs[0].shape[1:])
    model.fit(data, np.arange(16) % 3, epochs=3, verbose=0)
    smaller, _ = check_smaller(model)
    kernels = [w for w in smaller.weights if "kernel" in w.name]
    assert sum(int(np.prod(kernel.shape)) for kernel in kernels) == sum(
        mask.sum() for mask in masks.values()
    )


def test_heads_go_whole():
    model = drawn(transformer)
    with pytest.warns(UserWarning, match="back/kernel"):
        lottery_tf.prune(model, density=0.5, structure="channel", scope="layer")
    smaller, _ = check_smaller(model)
    attention = smaller.get_layer("attention")
    assert attention.num_heads == 2
    assert attention.key_dim == 3
    assert smaller.get_layer("hidden").units == 8


@pytest.mark.parametrize("pool", ["sum", "mean", "l2"])
def test_scores_are_pooled_over_all_that_goes(pool):
    inputs = keras.Input((4,))
    model = lottery_tf.masked(
        keras.Model(inputs, layers.Dense(1, name="out")(layers.Dense(2, name="in")(inputs)))
    )
    weights = masking.get_weights(model)
    weights["in/kernel"] = np.array([[1, 1.9]] * 4, np.float32)
    weights["out/kernel"] = np.array([[5], [0]], np.float32)
    masking.set_weights(model, weights, masking.get_masks(model))
    lottery_tf.prune(model, 0.5, structure="channel", pool=pool)
    kept = masking.get_masks(model)["in/kernel"][0]
    assert kept.tolist() == [True, False]  # 9 > 7.6, 1.8 > 1.5, 5.4 > 3.8: with what it feeds


def not_resolved(kind):
    image = keras.Input((6, 6, 4))
    if kind == "groups":
        tensor = conv(8, "odd", groups=2)(conv(4, "before")(image))
    elif kind == "shared":
        shared = conv(4, "odd")
        tensor = shared(shared(image))
    elif kind == "softmax":
        tensor = conv(8, "odd", activation="softmax")(image)
    elif kind == "lambda":
        tensor = layers.Lambda(lambda x: x[..., ::-1], output_shape=(6, 6, 8))(
            conv(8, "odd")(image)
        )
    else:
        tensor = layers.LayerNormalization(name="norm")(conv(8, "odd")(image))
    tensor = conv(4, "free")(tensor)
    return lottery_tf.masked(keras.Model(image, end(tensor)))


@pytest.mark.parametrize("kind", ["groups", "shared", "softmax", "norm", "lambda"])
def test_channels_that_cannot_be_resolved_are_named_and_stay(kind):
    model = not_resolved(kind)
    with pytest.warns(UserWarning, match=r"prune: Channels stay in .*odd/kernel \("):
        lottery_tf.prune(model, density=0.5, structure="channel")
    masks = masking.get_masks(model)
    assert masks["odd/kernel"].all()
    assert masks["free/kernel"].any((0, 1, 2)).sum() == 2


@pytest.mark.filterwarnings("ignore:.*Channels stay")
def test_outputs_are_never_pruned_nor_named():
    for last in ([], [layers.Softmax()], [layers.Activation("softmax")]):
        stack = [keras.Input((4,)), layers.Dense(6, name="in"), layers.Dense(3, name="out"), *last]
        model = lottery_tf.masked(keras.Sequential(stack))
        units, left = channels_of(model)
        assert (units.count, left) == (6, {})
        lottery_tf.prune(model, 0.9, structure="channel")
        (mask,) = (m for path, m in masking.get_masks(model).items() if "in/kernel" in path)
        assert mask.any(0).sum() == 1
    assert in_words(structure_of(model, "channel")) == ""


def test_layers_that_stay_dense_keep_their_channels_and_weights():
    model = drawn(residual)
    lottery_tf.prune(model, density=0.5, structure="channel", keep_dense=("stem", "logits"))
    masks = masking.get_masks(model)
    for path, mask in masks.items():
        assert mask.any((0, 1, 2) if mask.ndim == 4 else 0).all() == ("_1" not in path)
    check_smaller(model)


def test_a_reader_without_a_mask_sees_constants():
    inputs = keras.Input((4,))
    hidden = layers.Dense(6, "relu", name="hidden")(inputs)
    plain = keras.Model(inputs, layers.Dense(3, name="logits")(hidden))
    model = lottery_tf.masked(plain, exclude="logits")
    model.get_layer("hidden").bias.assign(np.arange(6) - 2.5)
    lottery_tf.prune(model, 0.5, structure="channel")
    smaller, _ = check_smaller(model)
    assert smaller.get_layer("hidden").units == 3


def test_a_maker_without_a_mask_keeps_its_channels():
    model = lottery_tf.masked(residual(), exclude="conv1_2")
    with pytest.warns(UserWarning, match=r"stem/kernel \(conv1_2 has no mask\)"):
        lottery_tf.prune(model, 0.5, structure="channel", scope="layer")
    model = lottery_tf.masked(residual())
    model.get_layer("conv2_2").trainable = False
    lottery_tf.prune(model, 0.5, structure="channel", scope="layer")
    masks = masking.get_masks(model)
    assert masks["stem/kernel"].all((0, 1, 2)).all()
    assert masks["conv1_1/kernel"].any((0, 1, 2)).sum() == 3
    assert masks["conv2_2/kernel"].all()


@keras.saving.register_keras_serializable("tests")
class Own(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.last = layers.Dense(8), layers.Dense(2)

    def call(self, inputs):
        return self.last(self.first(inputs))


def test_a_model_without_a_graph_is_refused():
    model = Own()
    model(normal(2, 4))
    lottery_tf.mask(model)
    with pytest.raises(InputError, match="functional"):
        lottery_tf.prune(model, 0.5, structure="channel")


def test_a_network_with_nothing_to_prune_is_refused():
    model = lottery_tf.masked(keras.Sequential([keras.Input((4,)), layers.Dense(3)]))
    with pytest.raises(InputError, match="no channels"):
        lottery_tf.prune(model, 0.5, structure="channel")


@pytest.mark.parametrize("least", [0, 1, 2])
def test_each_layer_keeps_a_channel_or_as_many_as_it_should(least):
    model = drawn(dense_net)
    kernel = model.get_layer("conv2")._kernel
    kernel.assign(kernel.numpy() * 1e-3)
    lottery_tf.prune(model, density=0.5, structure="channel", min_layer_weights=least)
    masks = masking.get_masks(model)
    units = structure_of(model, "channel").units(masks, masks)
    assert min(alive.sum() for alive in units.alive(masks).values()) >= max(least, 1)


@pytest.mark.parametrize("pool", ["sum", "mean", "l2"])
def test_no_layer_of_a_resnet_is_emptied_before_the_others(pool):
    """Pooled sums and means differ by layers as their sizes do: by up to a hundred times here."""
    keras.utils.set_random_seed(0)
    options = {"initializer": "kaiming_normal", "shortcut": "identity", "bn_affine": True}
    model = lottery_tf.mask(resnet20((8, 8, 3), 10, **options))
    lottery_tf.prune(model, density=0.5, structure="channel", pool=pool)
    masks = masking.get_masks(model)
    units = structure_of(model, "channel").units(masks, masks)
    parts = [alive.mean() for alive in units.alive(masks).values()]
    assert sum(alive.sum() for alive in units.alive(masks).values()) == units.count / 2
    assert min(parts) > 0.25
    assert max(parts) < 0.75


def test_rounds_halve_channels():
    model = drawn(residual)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    options = {"structure": "channel", "scope": "layer", "verbose": 0}
    for _ in lottery_tf.rounds(model, 3, target_density=0.25, **options):
        model.fit(normal(12, 6, 6, 3), np.arange(12) % 3, verbose=0)
    masks = masking.get_masks(model)
    units = structure_of(model, "channel").units(masks, masks)
    assert sum(map(np.count_nonzero, units.alive(masks).values())) == 5  # of 20


@pytest.mark.parametrize("criterion", ["magnitude", "snip", "taylor", "synflow", "random", "grasp"])
def test_every_criterion_prunes_channels(criterion):
    model = drawn(residual)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    data = normal(12, 6, 6, 3), np.arange(12) % 3
    lottery_tf.prune(model, 0.5, criterion=criterion, structure="channel", data=data, iterations=3)
    masks = masking.get_masks(model)
    units = structure_of(model, "channel").units(masks, masks)
    assert sum(map(np.count_nonzero, units.alive(masks).values())) == 10


SHIPPED = [
    ("conv4", (12, 12, 3), {}),
    pytest.param("resnet20", (16, 16, 3), {"shortcut": "identity"}, marks=pytest.mark.ci),
    pytest.param("resnet20", (16, 16, 3), {"shortcut": "projection"}, marks=pytest.mark.ci),
]


@pytest.mark.parametrize(("name", "shape", "options"), SHIPPED)
def test_half_of_the_channels_halve_parameters_and_multiply_adds(name, shape, options):
    model = models.build(Config(model=name, bn_affine=True, **options), shape, 10, seed=0)
    data = normal(32, *shape), np.arange(32) % 10
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    model.fit(*data, epochs=2, verbose=0)
    lottery_tf.prune(model, density=0.5, structure="channel", scope="layer")
    model.fit(*data, epochs=2, verbose=0)
    smaller, report = check_smaller(model, tolerance=1e-4)
    for field in ("weights", "products"):
        before, after = report.total(field)
        assert after <= before / 2
    assert smaller.count_params() <= lottery_tf.unmasked(model).count_params() / 2
