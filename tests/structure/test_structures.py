"""`structure=` around a Keras model: along the axis that each kind of layer sums over."""

import json

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.structure import layouts
from lottery_tf.structure.layouts import of_equation

layers = keras.layers
DATA = np.random.default_rng(0).normal(size=(24, 8)).astype(np.float32), np.arange(24) % 4


def of(tensor, *stack):
    for layer in stack:
        tensor = layer(tensor)
    return tensor


def masked(inputs, *stack):
    return lottery_tf.masked(keras.Model(inputs, of(inputs, *stack)))


def dense(units=(16, 8, 4)):
    stack = [layers.Dense(one, "relu", name=f"dense{i}") for i, one in enumerate(units)]
    model = masked(keras.Input((8,)), *stack)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def groups(mask, m, axis=0):
    return np.moveaxis(mask, axis, -1).reshape(-1, m).sum(1)


IMAGE, SEQUENCE = (6, 6, 8), (5, 8)
# {name: (input, layer, {kernel: axis that its products sum over})}
SUMS = {
    "Dense": ((8,), lambda: layers.Dense(3), {"kernel": 0}),
    "Conv1D": (SEQUENCE, lambda: layers.Conv1D(3, 2), {"kernel": 1}),
    "Conv2D": (IMAGE, lambda: layers.Conv2D(3, 2), {"kernel": 2}),
    "groups": (IMAGE, lambda: layers.Conv2D(4, 2, groups=2), {"kernel": 2}),
    "Conv2DTranspose": (IMAGE, lambda: layers.Conv2DTranspose(3, 2), {"kernel": 3}),
    "EinsumDense": (
        SEQUENCE, lambda: layers.EinsumDense("btx,xy->bty", (None, 3)), {"kernel": 0},
    ),
    "EinsumDense swapped": (
        SEQUENCE, lambda: layers.EinsumDense("btx,yx->bty", (None, 3)), {"kernel": 1},
    ),
    "LSTM": (SEQUENCE, lambda: layers.LSTM(4), {"kernel": 0, "recurrent_kernel": 0}),
    "ConvLSTM1D": (
        (3, 6, 8), lambda: layers.ConvLSTM1D(4, 2), {"kernel": 1, "recurrent_kernel": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SUMS)
def test_groups_lie_along_the_axis_that_products_sum_over(name):
    shape, make, axes = SUMS[name]
    model = masked(keras.Input(shape), make())
    inputs = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    density = lottery_tf.prune(model, structure="2:4")
    found = masking.get_masks(model)
    assert density == 0.5
    for path, mask in found.items():
        assert (groups(mask, 4, axes[path.rpartition("/")[2]]) == 2).all()
    plain = lottery_tf.unmasked(model)
    assert np.allclose(plain(inputs), model(inputs), atol=1e-6)


def test_attention_sums_over_features_and_over_its_heads():
    inputs = keras.Input((5, 8))
    model = lottery_tf.masked(keras.Model(inputs, layers.MultiHeadAttention(2, 6)(inputs, inputs)))
    lottery_tf.prune(model, structure="2:4")
    for path, mask in masking.get_masks(model).items():
        if "output" in path:  # (heads, size, features)
            assert (groups(mask.reshape(12, 8), 4) == 2).all()
        else:  # (features, heads, size)
            assert (groups(mask, 4) == 2).all()


@pytest.mark.parametrize(
    ("equation", "inputs", "outputs"),
    [
        ("ab,bc->ac", (0,), (1,)),
        ("abc,cde->abde", (0,), (1, 2)),
        ("abcd,cde->abe", (0, 1), (2,)),
        ("...x,yx->...y", (1,), (0,)),
        ("abc,bcd->abd", (1,), (2,)),  # a kernel for each b
    ],
)
def test_an_equation_says_which_axes_it_sums_over(equation, inputs, outputs):
    found = of_equation(equation)
    assert (found.inputs, found.outputs) == (inputs, outputs)


def test_an_equation_that_sums_over_nothing():
    assert "sums over none" in of_equation("ab,b->ab")


@pytest.mark.parametrize(
    ("shape", "stack"),
    [
        (IMAGE, lambda: [layers.DepthwiseConv2D(3, name="odd")]),
        (IMAGE, lambda: [layers.SeparableConv2D(4, 3, name="odd")]),
        ((), lambda: [layers.Embedding(8, 4, name="odd")]),
        ((8,), lambda: [layers.Dense(6), layers.Dense(4, name="odd")]),
    ],
    ids=["depthwise", "separable", "embedding", "six inputs"],
)
@pytest.mark.parametrize(
    "options", [{"structure": "2:4"}, {"structure": (1, 4), "fraction": 0.5, "scope": "layer"}]
)
def test_a_layer_that_a_structure_does_not_fit_is_refused_by_name(shape, stack, options):
    stack = [*stack(), layers.Dense(4)] if shape else [*stack(), layers.Flatten(), layers.Dense(4)]
    model = masked(keras.Input(shape or (4,)), *stack)
    with pytest.raises(InputError, match=r"odd/.*keep_dense=.*exclude="):
        lottery_tf.prune(model, **options)
    lottery_tf.prune(model, keep_dense=("odd",), **options)
    found = masking.get_masks(model)
    assert all(mask.all() == ("odd" in path) for path, mask in found.items())


def test_a_table_with_tied_weights_sums_over_its_vectors():
    table = layers.ReversibleEmbedding(12, 8)
    tokens = keras.Input((4,))
    model = lottery_tf.masked(keras.Model(tokens, table(table(tokens), reverse=True)))
    lottery_tf.prune(model, structure="2:4")
    (mask,) = masking.get_masks(model).values()
    assert (groups(mask, 4, axis=1) == 2).all()


def test_a_table_that_is_not_tied_leaves_the_pattern_to_its_reverse():
    table = layers.ReversibleEmbedding(12, 8, tie_weights=False, name="words")
    tokens = keras.Input((4,))
    model = lottery_tf.masked(keras.Model(tokens, table(table(tokens), reverse=True)))
    with pytest.raises(InputError, match=r"words/embeddings.*looked up"):
        lottery_tf.prune(model, structure="2:4")
    lottery_tf.prune(model, structure="2:4", keep_dense=("words/embeddings",))
    looked_up, mask = masking.get_masks(model).values()
    assert looked_up.all()
    assert (groups(mask, 4) == 2).all()


def test_layouts_say_why_a_kernel_has_none():
    model = masked(keras.Input(IMAGE), layers.SeparableConv2D(4, 3, name="odd"))
    kinds = {path.rpartition("/")[2]: type(found) for path, found in layouts(model).items()}
    assert kinds["depthwise_kernel"] is str
    assert kinds["pointwise_kernel"] is not str


def test_a_training_keeps_the_pattern():
    model = dense()
    model.fit(*DATA, verbose=0)
    assert lottery_tf.prune(model, structure="2:4") == 0.5
    before = masking.get_masks(model)
    model.fit(*DATA, epochs=2, verbose=0)
    for path, kernel in masking.kernels(model).items():
        assert np.array_equal(kernel.mask.numpy(), before[path])
        assert (groups(kernel.variable.numpy() != 0, 4) <= 2).all()


@pytest.mark.parametrize("criterion", ["magnitude", "random", "snip", "taylor", "synflow", "grasp"])
@pytest.mark.parametrize("options", [{"structure": "1:4"}, {"structure": "1x4", "density": 0.25}])
def test_every_criterion_prunes_in_structures(criterion, options):
    model = dense()
    assert lottery_tf.prune(model, criterion=criterion, data=DATA, **options) == 0.25


def test_rounds_reach_a_pattern_in_one_pruning():
    model = dense()
    found = [round.density for round in lottery_tf.rounds(model, 2, structure="2:4", verbose=0)]
    assert found == [1, 0.5]


def test_rounds_go_over_the_patterns_on_the_way():
    model = dense()
    rounds = lottery_tf.rounds(model, 3, densities=[0.75, 0.5], structure="2:4", verbose=0)
    for round in rounds:
        assert round.density == (1, 0.75, 0.5)[round.index]
        assert all(
            (groups(mask, 4) == 4 - round.index).all() for mask in masking.get_masks(model).values()
        )


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"rounds": 3, "structure": "2:4"}, r"densities=\[0\.75, 0\.5\]"),
        ({"rounds": 3, "structure": "2:4", "densities": [0.9, 0.5]}, r"0\.9"),
        ({"rounds": 2, "structure": "2:4", "densities": [0.75]}, r"ends at 0\.5"),
        ({"rounds": 3, "structure": "2:4", "target_density": 0.5}, "density"),
        ({"rounds": 3, "structure": "2:4", "fraction": 0.2}, "fraction"),
        ({"rounds": 3, "structure": "3:5", "densities": [0.8, 0.6]}, "8 inputs"),
        ({"rounds": 2, "structure": "2x"}, "2:4"),
        ({"rounds": 2, "fraction": 0.5, "pool": "mean"}, "pool"),
        ({"rounds": 2, "fraction": 0.5, "structure": "1x4", "pool": "max"}, "l2"),
        ({"rounds": 2, "structure": "1x4"}, "fraction"),
    ],
)
def test_rounds_refuse_what_does_not_agree(arguments, word):
    with pytest.raises(InputError, match=word):
        lottery_tf.rounds(dense(), **arguments)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"structure": "2:4", "density": 0.6}, r"0\.6"),
        ({"structure": "2:4", "density": 0.25}, r"0\.25"),
        ({"structure": "2:4", "fraction": 0.2}, "fraction"),
        ({"structure": "2:4", "scope": "layer"}, "scope"),
        ({"structure": "4:2"}, "2:4"),
    ],
)
def test_prune_refuses_what_does_not_agree(arguments, word):
    with pytest.raises(InputError, match=word):
        lottery_tf.prune(dense(), **arguments)


def test_a_density_that_agrees_is_no_mistake():
    assert lottery_tf.prune(dense(), density=0.5, structure="2:4") == 0.5
    assert lottery_tf.prune(dense(), 0.5, structure="2:4") == 0.5


def test_a_directory_knows_its_structure(tmp_path):
    arguments = {"rounds": 2, "verbose": 0, "directory": tmp_path / "run"}
    for round in lottery_tf.rounds(dense(), structure="2:4", **arguments):
        model = dense()
        assert round.density in (1, 0.5)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["structure"], config["structure_pool"]) == ("2:4", "sum")
    with pytest.raises(InputError, match="structure"):
        lottery_tf.rounds(model, densities=[0.5], **arguments)
    assert not list(lottery_tf.rounds(model, structure="2:4", **arguments))
    assert all((groups(mask, 4) == 2).all() for mask in masking.get_masks(model).values())
