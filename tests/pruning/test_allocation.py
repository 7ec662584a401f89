import numpy as np
import pytest

from lottery_tf.errors import InputError
from lottery_tf.pruning.allocation import SparsityTarget, allocate
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
