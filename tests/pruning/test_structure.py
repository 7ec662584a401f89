"""N:M patterns and blocks: exact in every group, on top of what is pruned, and refused by name."""

import numpy as np
import pytest

from lottery_tf.errors import InputError
from lottery_tf.pruning.allocation import SparsityTarget, allocate
from lottery_tf.pruning.criteria import CRITERIA, needs
from lottery_tf.pruning.structure import (
    Layout,
    Member,
    Pattern,
    Structure,
    Units,
    parse,
)
from lottery_tf.pruning.top_k import density, prune, remaining


def dense(arrays):
    return {path: np.ones(array.shape, bool) for path, array in arrays.items()}


def drawn(*shapes, seed=0):
    generator = np.random.default_rng(seed)
    return {
        f"{name}/kernel": generator.standard_normal(shape).astype(np.float32)
        for name, shape in zip("abcdef", shapes, strict=False)
    }


def target(structure, pool="sum", layouts=None, channels=None, **options):
    options["structure"] = Structure(parse(structure), pool, layouts or {}, channels)
    return SparsityTarget(**options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("none", None),
        ("2:4", Pattern("n:m", 2, 4)),
        ("1:16", Pattern("n:m", 1, 16)),
        ("1x4", Pattern("blocks", 1, 4)),
        ((4, 1), Pattern("blocks", 4, 1)),
        ([2, 2], Pattern("blocks", 2, 2)),
        ("channel", Pattern("channel")),
    ],
)
def test_what_a_structure_is(text, expected):
    assert parse(text) == expected
    if expected:
        assert parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["4:4", "0:4", "5:4", "1x1", "0x4", "2:4:8", "blocks", "", 4, (1,), (1, "a"), (0.5, 4)]
)
def test_what_a_structure_is_not(text):
    with pytest.raises(InputError, match="2:4"):
        parse(text)


def test_two_of_four_by_eye():
    arrays = {"a/kernel": np.array([[1, -8], [-4, 7], [2, 6], [3, -5]], np.float32)}
    masks, threshold = prune(arrays, dense(arrays), target("2:4"))
    assert masks["a/kernel"].T.tolist() == [
        [False, True, False, True],
        [True, True, False, False],
    ]
    # The extremes over all groups: 6 went in one, where 3 is kept in the other.
    assert (threshold.removed, threshold.kept) == (6, 3)


def test_ties_in_a_group_go_by_flat_index():
    arrays = {"a/kernel": np.array([[1], [1], [1], [-1]], np.float32)}
    masks, _ = prune(arrays, dense(arrays), target("1:4"))
    assert masks["a/kernel"].ravel().tolist() == [False, False, False, True]


# {kernel: (shape, its layout, how to bring it to (groups of outputs and taps, inputs))}
KERNELS = {
    "dense": ((8, 3), None, lambda a: a.T),
    "conv": ((3, 3, 8, 5), None, lambda a: a.transpose(0, 1, 3, 2).reshape(-1, 8)),
    "transposed": ((3, 3, 5, 8), Layout((-1,), (-2,)), lambda a: a.reshape(-1, 8)),
    "query": ((8, 2, 3), Layout((0,), (1, 2)), lambda a: a.reshape(8, -1).T),
    "attention output": ((2, 4, 5), Layout((0, 1), (2,)), lambda a: a.reshape(8, 5).T),
    "inputs apart": ((2, 5, 4), Layout((0, 2), (1,)), lambda a: a.transpose(1, 0, 2).reshape(5, 8)),
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_group_of_a_kernel_is_exact(name, criterion):
    shape, layout, rows = KERNELS[name]
    arrays = drawn(shape)
    layouts = {} if layout is None else {"a/kernel": layout}
    inputs = {one: lambda _: drawn(shape, seed=1) for one in needs(criterion) - {"trained"}}
    for structure, n, m in (("2:4", 2, 4), ("1:4", 1, 4), ("3:8", 3, 8)):
        masks, _ = prune(
            arrays, dense(arrays), target(structure, layouts=layouts), criterion=criterion, **inputs
        )
        assert (rows(masks["a/kernel"]).reshape(-1, m).sum(1) == n).all()


def test_a_pattern_keeps_the_best_of_each_group():
    arrays = drawn((8, 16))
    masks, _ = prune(arrays, dense(arrays), target("2:4"))
    groups = np.abs(arrays["a/kernel"].T.reshape(-1, 4))
    kept = masks["a/kernel"].T.reshape(-1, 4)
    assert (groups.min(1, initial=9, where=kept) > groups.max(1, initial=0, where=~kept)).all()


def test_a_pattern_comes_on_top_of_what_is_pruned():
    arrays = drawn((16, 6))
    before, _ = prune(arrays, dense(arrays), 0.6)
    masks, _ = prune(arrays, before, target("2:4"))
    groups = [one["a/kernel"].T.reshape(-1, 4).sum(1) for one in (before, masks)]
    assert not (masks["a/kernel"] & ~before["a/kernel"]).any()
    assert (groups[1] == groups[0].clip(max=2)).all()
    assert (groups[0] < 2).any()
    again, threshold = prune(arrays, masks, target("2:4"))
    assert np.array_equal(again["a/kernel"], masks["a/kernel"])
    assert np.isnan(threshold.removed)


def test_a_density_on_the_way_keeps_more():
    arrays = drawn((16, 6))
    masks = dense(arrays)
    for wanted, left in ((0.9, 4), (0.75, 3), (0.7, 3), (0.51, 3), (0.5, 2)):
        masks, _ = prune(arrays, masks, target("2:4", density=wanted))
        assert (masks["a/kernel"].T.reshape(-1, 4).sum(1) == left).all()
    with pytest.raises(InputError, match=r"2:4.*0\.5"):
        prune(arrays, masks, target("2:4", density=0.4))


def test_a_pattern_in_iterations_ends_exact():
    arrays = drawn((32, 6))
    scores = iter(range(9))
    masks, _ = prune(
        arrays,
        dense(arrays),
        target("2:8"),
        criterion="random",
        iterations=5,
        uniform=lambda _: drawn((32, 6), seed=next(scores)),
    )
    assert (masks["a/kernel"].T.reshape(-1, 8).sum(1) == 2).all()
    assert next(scores) == 5


def test_groups_of_an_allocation_hold_exact_counts():
    arrays = drawn((16, 6), (8, 2))
    (one, other) = allocate(target("2:4"), dense(arrays))
    assert (one.alive, one.left, other.alive, other.left) == (96, 48, 16, 8)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"fraction": 0.2}, "fraction"),
        ({"scope": "erk"}, "scope"),
        ({"min_layer_weights": 3}, "min_layer_weights"),
    ],
)
def test_what_a_pattern_says_itself_is_refused(options, word):
    with pytest.raises(InputError, match=word):
        target("2:4", **options)
    assert target("2:4", fraction=0.5).fraction == 0.5  # it agrees


@pytest.mark.parametrize(
    ("structure", "shape", "layouts", "words"),
    [
        ("2:4", (6, 3), {}, "6 inputs"),
        ("2:4", (3, 3, 3, 8), {}, "3 inputs"),
        ("1x4", (6, 3), {}, "6 inputs"),
        ("2x4", (8, 3), {}, "3 outputs"),
        ("2:4", (8,), {}, "vector"),
        ("1x4", (8, 8), {"a/kernel": "no product sums over it"}, "no product"),
    ],
)
def test_a_layer_that_it_does_not_fit_is_named(structure, shape, layouts, words):
    arrays = drawn(shape, (8, 8))
    options = {} if ":" in structure else {"density": 0.5}
    with pytest.raises(InputError, match=rf"a/kernel.*{words}.*keep_dense=.*exclude="):
        prune(arrays, dense(arrays), target(structure, layouts=layouts, **options))
    masks, _ = prune(
        arrays, dense(arrays), target(structure, layouts=layouts, keep_dense=("a",), **options)
    )
    assert masks["a/kernel"].all()
    assert not masks["b/kernel"].all()


def test_blocks_by_eye():
    arrays = {"a/kernel": np.array([[1, 9], [1, 0], [5, 1], [5, 1]], np.float32)}
    masks, threshold = prune(arrays, dense(arrays), target("1x2", density=0.5))
    assert masks["a/kernel"].T.tolist() == [
        [False, False, True, True],
        [True, True, False, False],
    ]
    assert (threshold.removed, threshold.kept) == (2, 9)


@pytest.mark.parametrize(
    ("pool", "kept"), [("sum", [True, False]), ("mean", [False, True]), ("l2", [True, False])]
)
def test_scores_are_pooled_over_what_is_left_of_a_block(pool, kept):
    arrays = {"a/kernel": np.array([[2], [2], [9], [3]], np.float32)}
    masks = {"a/kernel": np.array([[True], [True], [False], [True]])}
    masks, _ = prune(arrays, masks, target("1x2", pool, fraction=0.5))
    left = masks["a/kernel"].ravel().reshape(2, 2)
    # The 9 is pruned already: sums 4 and 3, means 2 and 3, roots 2.8 and 3.
    expected = kept if pool != "l2" else [False, True]
    assert left.any(1).tolist() == expected


def blocks_of(mask, outputs, inputs):
    """Return the weights that live in each block of a matrix (inputs, outputs)."""
    rows, columns = mask.shape
    grid = mask.reshape(rows // inputs, inputs, columns // outputs, outputs)
    return grid.sum((1, 3))


@pytest.mark.parametrize("scope", ["global", "layer", "erk"])
@pytest.mark.parametrize("structure", ["1x4", "4x1", "2x4"])
@pytest.mark.parametrize("pool", ["sum", "mean", "l2"])
def test_blocks_live_and_die_whole_in_exact_numbers(structure, scope, pool):
    outputs, inputs = map(int, structure.split("x"))
    size, arrays = outputs * inputs, drawn((16, 8), (32, 4), (64, 12))
    masks = dense(arrays)
    total = sum(mask.size for mask in masks.values())
    for wanted in (0.7, 0.333, 0.1):
        before = masks
        masks, _ = prune(arrays, masks, target(structure, pool, density=wanted, scope=scope))
        counts = [blocks_of(mask, outputs, inputs) for mask in masks.values()]
        assert all(np.isin(count, (0, size)).all() for count in counts)
        assert abs(remaining(masks) - wanted * total) <= size / 2
        assert not any((masks[path] & ~before[path]).any() for path in masks)
        if scope == "layer":
            assert all(abs(mask.mean() - wanted) <= size / mask.size for mask in masks.values())
    left = sum(np.count_nonzero(count) for count in counts)
    masks, _ = prune(arrays, masks, target(structure, pool, fraction=0.5))
    counts = [blocks_of(mask, outputs, inputs) for mask in masks.values()]
    assert sum(map(np.count_nonzero, counts)) == left - round(left / 2)


def test_equal_blocks_go_by_flat_index_of_their_first_weight():
    arrays = {"a/kernel": np.ones((2, 1, 4, 2), np.float32)}  # a convolution with two taps
    masks, _ = prune(arrays, dense(arrays), target("1x2", density=3 / 8))
    assert masks["a/kernel"][0].sum() == 0
    assert masks["a/kernel"][1, 0].tolist() == [
        [False, True],
        [False, True],
        [True, True],
        [True, True],
    ]


def test_blocks_share_what_layers_that_stay_dense_leave():
    arrays = drawn((6, 4), (16, 8))
    masks, _ = prune(arrays, dense(arrays), target("1x4", density=0.5, keep_dense=("a",)))
    assert density(masks) == 76 / 152
    assert masks["a/kernel"].all()


def test_each_layer_keeps_some_blocks():
    arrays = drawn((16, 8), (16, 8))
    arrays["a/kernel"] *= 0.001
    masks, _ = prune(arrays, dense(arrays), target("1x4", density=0.3, min_layer_weights=10))
    assert masks["a/kernel"].sum() == 12
    masks, _ = prune(arrays, dense(arrays), target("1x4", density=0.3))
    assert masks["a/kernel"].sum() == 0


def test_layers_have_fractions_of_their_own():
    arrays = drawn((16, 8), (16, 8))
    options = {"scope": "layer", "fraction": 0.5, "layer_fractions": {"b": 0.25}}
    masks, _ = prune(arrays, dense(arrays), target("1x4", **options))
    assert [mask.mean() for mask in masks.values()] == [0.5, 0.75]


def test_an_unknown_pool_is_refused():
    with pytest.raises(InputError, match="l2"):
        target("1x4", "max", density=0.5)


def chain():
    """Units of two layers, a (4, 3) and b (3, 2): the outputs of a, which b reads."""
    units = np.arange(3)
    members = {"a/kernel": (Member(units[None]),), "b/kernel": (Member(units[:, None], own=False),)}
    return Units({"a/kernel": units}, members)


def test_a_channel_goes_with_what_reads_it():
    arrays = {
        "a/kernel": np.array([[1, 2, 3]] * 4, np.float32),
        "b/kernel": np.array([[9, 9], [0, 0], [0, 0]], np.float32),
    }
    masks, threshold = prune(
        arrays, dense(arrays), target("channel", channels=chain(), fraction=0.34)
    )
    # Sums over both kernels: 4 + 18, 8, 12; of mean 14.
    assert masks["a/kernel"].tolist() == [[True, False, True]] * 4
    assert masks["b/kernel"].tolist() == [[True, True], [False, False], [True, True]]
    assert (threshold.removed, threshold.kept) == pytest.approx((8 / 14, 12 / 14))


def two_layers():
    """Units of two layers: the two outputs of each."""
    units = np.arange(2)
    members = {"a/kernel": (Member(units[None]),), "b/kernel": (Member(2 + units[None]),)}
    return Units({"a/kernel": units, "b/kernel": 2 + units}, members)


@pytest.mark.parametrize("scale", [1, 1e-3, 1e3])
@pytest.mark.parametrize("pool", ["sum", "mean", "l2"])
def test_channels_of_all_layers_compete_as_multiples_of_their_means(pool, scale):
    arrays = {  # 0.8 and 1.2 of their mean; 0.5 and 1.5
        "a/kernel": np.array([[4, 6]] * 2, np.float32),
        "b/kernel": np.array([[10, 30]] * 9, np.float32) * np.float32(scale),
    }
    options = {"pool": pool, "channels": two_layers()}
    masks, threshold = prune(arrays, dense(arrays), target("channel", density=0.75, **options))
    assert masks["a/kernel"].all()
    assert masks["b/kernel"].tolist() == [[False, True]] * 9
    assert (threshold.removed, threshold.kept) == pytest.approx((0.5, 0.8))
    # What is pruned is not in the mean: the channel of b that is left is 1.
    _, threshold = prune(arrays, masks, target("channel", fraction=0.34, **options))
    assert (threshold.removed, threshold.kept) == pytest.approx((0.8, 1))


def test_channels_of_a_layer_that_is_kept_dense_stay():
    arrays = drawn((4, 3), (3, 2))
    with pytest.raises(InputError, match="no channels"):
        prune(
            arrays,
            dense(arrays),
            target("channel", channels=chain(), density=0.5, keep_dense=("a",)),
        )
    masks, _ = prune(
        arrays, dense(arrays), target("channel", channels=chain(), fraction=0.34, keep_dense=("b",))
    )
    assert masks["b/kernel"].all()
    assert masks["a/kernel"].sum() == 8


def test_a_density_of_channels_counts_channels():
    arrays = drawn((4, 3), (3, 2))
    masks = dense(arrays)
    masks, _ = prune(arrays, masks, target("channel", channels=chain(), density=2 / 3))
    assert masks["a/kernel"].any(0).sum() == 2
    masks, _ = prune(arrays, masks, target("channel", channels=chain(), density=0.34, scope="erk"))
    assert masks["a/kernel"].any(0).sum() == 1
    assert remaining(masks) == 4 + 2
