import numpy as np
import pytest

from lottery_tf.errors import InputError
from lottery_tf.pruning.allocation import SparsityTarget, allocate, in_equal_parts
from lottery_tf.pruning.top_k import density, prune, remaining

SHAPES = {"conv/kernel": (3, 3, 4, 8), "dense/kernel": (50, 20), "logits/kernel": (20, 10)}


@pytest.fixture
def arrays():
    generator = np.random.default_rng(0)
    return {p: generator.normal(size=s).astype(np.float32) for p, s in SHAPES.items()}


@pytest.fixture
def masks():
    return {path: np.ones(shape, bool) for path, shape in SHAPES.items()}


@pytest.mark.parametrize("scope", ["global", "layer", "erk"])
@pytest.mark.parametrize("target", [0.5, 0.1, 0.013])
def test_a_density_is_reached_exactly(scope, target, arrays, masks):
    pruned, _ = prune(arrays, masks, SparsityTarget(density=target, scope=scope))
    assert remaining(pruned) == round(target * sum(map(np.size, arrays.values())))


def test_layers_get_equal_densities_under_scope_layer(arrays, masks):
    pruned, _ = prune(arrays, masks, SparsityTarget(density=0.25, scope="layer"))
    for mask in pruned.values():
        assert mask.mean() == pytest.approx(0.25, abs=1 / mask.size)


def test_erk_densities_are_in_proportion_to_sum_over_product(arrays, masks):
    pruned, _ = prune(arrays, masks, SparsityTarget(density=0.1, scope="erk"))
    rule = {path: sum(shape) / np.prod(shape) for path, shape in SHAPES.items()}
    scales = [pruned[path].mean() / rule[path] for path in SHAPES]
    np.testing.assert_allclose(scales, np.mean(scales), rtol=0.05)
    # A layer whose share is more than it has stays dense, and the others take the rest.
    pruned, _ = prune(arrays, masks, SparsityTarget(density=0.8, scope="erk"))
    assert pruned["logits/kernel"].all()
    assert density(pruned) == pytest.approx(0.8, abs=1e-3)


def test_erk_rounds_lie_in_one_another(arrays, masks):
    for _ in range(12):
        after, _ = prune(arrays, masks, SparsityTarget(0.3, scope="erk"))
        assert not any((after[path] & ~masks[path]).any() for path in masks)
        assert remaining(after) == remaining(masks) - round(0.3 * remaining(masks))
        masks = after


def test_a_layer_has_a_fraction_of_its_own(arrays, masks):
    amount = SparsityTarget(0.2, scope="layer", layer_fractions={"logits": 0.1})
    pruned, _ = prune(arrays, masks, amount)
    assert [int((~mask).sum()) for mask in pruned.values()] == [58, 200, 20]


@pytest.mark.parametrize("name", ["logits", "logits/kernel", "log*"])
def test_a_layer_is_kept_dense_and_counts(name, arrays, masks):
    pruned, _ = prune(arrays, masks, SparsityTarget(density=0.5, keep_dense=(name,)))
    assert pruned["logits/kernel"].all()
    assert density(pruned) == pytest.approx(0.5, abs=1e-3)


def test_a_layer_keeps_its_highest_scores(arrays, masks):
    arrays["logits/kernel"] *= 1e-6
    pruned, _ = prune(arrays, masks, SparsityTarget(density=0.3))
    assert not pruned["logits/kernel"].any()
    pruned, _ = prune(arrays, masks, SparsityTarget(density=0.3, min_layer_weights=7))
    assert pruned["logits/kernel"].sum() == 7
    highest = np.sort(np.abs(arrays["logits/kernel"]).ravel())[-7:]
    assert (
        np.sort(np.abs(arrays["logits/kernel"][pruned["logits/kernel"]])).tolist()
        == highest.tolist()
    )
    assert remaining(pruned) == round(0.3 * 1488)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "one of them"),
        ({"fraction": 0.2, "density": 0.1}, "one of them"),
        ({"density": 1.0}, "density"),
        ({"density": 0.0}, "density"),
        ({"fraction": 0.2, "scope": "everywhere"}, "erk"),
        ({"fraction": 0.2, "layer_fractions": {"logits": 0.1}}, "scope=layer"),
        ({"fraction": 0.2, "scope": "layer", "layer_fractions": {"nothing": 0.1}}, "dense/kernel"),
        ({"fraction": 0.2, "keep_dense": ("nothing",)}, "dense/kernel"),
        ({"fraction": 0.2, "keep_dense": ("*",)}, "left for pruning"),
        ({"density": 0.1, "keep_dense": ("dense",)}, "cannot be reached"),
        ({"density": 0.01, "min_layer_weights": 10}, "min_layer_weights"),
    ],
)
def test_bad_amounts_are_named(options, words, arrays, masks):
    with pytest.raises(InputError, match=words):
        prune(arrays, masks, SparsityTarget(**options))


def test_a_density_above_that_of_the_network_is_refused(arrays, masks):
    pruned, _ = prune(arrays, masks, 0.9)
    with pytest.raises(InputError, match="do not come back"):
        allocate(SparsityTarget(density=0.5), pruned)


@pytest.mark.parametrize(
    "target", [SparsityTarget(density=0.37, scope="output"), SparsityTarget(0.63, scope="output")]
)
def test_every_output_keeps_the_same_number_of_inputs(target, arrays, masks):
    pruned, _ = prune(arrays, masks, target)
    total = sum(mask.size for mask in masks.values())
    assert remaining(pruned) == (round(0.37 * total) if target.density else sum(
        mask.size - round(0.63 * mask.size) for mask in masks.values()))  # fmt: skip
    for path, mask in pruned.items():
        scores, kept = (a.reshape(-1, a.shape[-1]) for a in (np.abs(arrays[path]), mask))
        counts = kept.sum(0)
        assert counts.max() - counts.min() <= 1
        for unit, count in enumerate(counts):
            best = np.argsort(scores[:, unit])[len(kept) - count :]
            assert kept[best, unit].all()
    again, _ = prune(arrays, pruned, SparsityTarget(0.5, scope="output"))
    assert not any((again[path] & ~pruned[path]).any() for path in masks)


def test_ties_inside_an_output_go_by_index_and_axes_say_what_an_output_is():
    ones, masks = {"up/kernel": np.ones((2, 3, 4))}, {"up/kernel": np.ones((2, 3, 4), bool)}
    target = SparsityTarget(0.5, scope="output", output_axes={"up/kernel": (1,)})
    (mask,) = prune(ones, masks, target)[0].values()
    np.testing.assert_array_equal(
        mask, np.broadcast_to(np.array([False, True])[:, None, None], mask.shape)
    )
    (mask,) = prune(ones, masks, SparsityTarget(0.5, scope="output"))[0].values()
    np.testing.assert_array_equal(mask.reshape(6, 4)[:, 0], [False] * 3 + [True] * 3)


def test_what_does_not_divide_goes_to_the_largest_remainders_and_then_to_the_first():
    assert in_equal_parts(np.array([3, 3, 3]), 4).tolist() == [2, 1, 1]
    assert in_equal_parts(np.array([1, 9, 5]), 5).tolist() == [0, 3, 2]
    assert in_equal_parts(np.array([4, 0, 2]), 6).tolist() == [4, 0, 2]
