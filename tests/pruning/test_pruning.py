import numpy as np
import pytest

from lottery_tf.errors import InputError
from lottery_tf.pruning.allocation import SparsityTarget
from lottery_tf.pruning.top_k import apply_masks, density, prune, remaining


def weights(*values):
    return np.array(values, np.float32)


def dense(arrays):
    return {path: np.ones(array.shape, bool) for path, array in arrays.items()}


def test_prunes_the_smallest_magnitudes_over_all_layers():
    arrays = {"a": weights(0.1, -5, 3), "b": weights([-0.2, 4], [0.3, -6])}
    masks, threshold = prune(arrays, dense(arrays), 3 / 7)
    assert masks["a"].tolist() == [False, True, True]
    assert masks["b"].tolist() == [[False, True], [False, True]]
    assert threshold.removed == np.float32(0.3)
    assert threshold.kept == 3


def test_scope_layer_prunes_each_layer_by_itself():
    arrays = {"a": weights(1, 2, 3, 4), "b": weights(10, 20, 30, 40)}
    masks, threshold = prune(arrays, dense(arrays), SparsityTarget(0.5, scope="layer"))
    assert masks["a"].tolist() == [False, False, True, True]
    assert masks["b"].tolist() == [False, False, True, True]
    assert (threshold.removed, threshold.kept) == (20, 3)


def test_ties_go_by_flat_index_in_the_order_of_the_layers():
    arrays = {"b": weights(1, -1), "a": weights(1, 0.5, -1)}
    masks, threshold = prune(arrays, dense(arrays), 0.6)
    assert masks["b"].tolist() == [False, False]
    assert masks["a"].tolist() == [True, False, True]
    assert (threshold.removed, threshold.kept) == (1, 1)


def test_a_pruned_weight_never_comes_back_and_does_not_count():
    arrays = {"a": weights(9, 1, 2, 3, 4)}
    masks = {"a": np.array([False, True, True, True, True])}
    pruned, _ = prune(arrays, masks, 0.5)
    assert pruned["a"].tolist() == [False, False, False, True, True]


def test_zero_weights_that_live_are_counted():
    arrays = {"a": weights(0, 0, 0, 1)}
    masks = {"a": np.array([True, True, False, True])}
    pruned, threshold = prune(arrays, masks, 0.34)
    assert pruned["a"].tolist() == [False, True, False, True]
    assert (threshold.removed, threshold.kept) == (0, 0)


@pytest.mark.parametrize(
    ("survivors", "fraction", "removed"),
    [(5, 0.1, 0), (15, 0.1, 2), (25, 0.1, 2), (35, 0.1, 4), (100, 0.145, 14), (300, 0.145, 44)],
)
def test_the_count_rounds_half_to_even_in_decimals(survivors, fraction, removed):
    arrays = {"a": np.arange(1, survivors + 1, dtype=np.float32)}
    masks, _ = prune(arrays, dense(arrays), fraction)
    assert remaining(masks) == survivors - removed


def test_a_fraction_that_removes_nothing():
    arrays = {"a": weights(1, 2)}
    masks, threshold = prune(arrays, dense(arrays), 0.2)
    assert masks["a"].all()
    assert np.isnan(threshold.removed)
    assert threshold.kept == 1


def test_one_survivor():
    arrays = {"a": weights(1, 2), "b": weights(3)}
    masks = {"a": np.array([False, True]), "b": np.array([False])}
    kept, _ = prune(arrays, masks, 0.5)  # half of one rounds to the even 0
    assert remaining(kept) == 1
    gone, threshold = prune(arrays, masks, 0.6)
    assert remaining(gone) == 0
    assert threshold.removed == 2
    assert np.isnan(threshold.kept)


def test_an_empty_layer_stays_empty():
    arrays = {"a": weights(1, 2), "b": weights(3, 4)}
    masks = {"a": np.array([False, False]), "b": np.array([True, True])}
    for scope in ("global", "layer"):
        pruned, _ = prune(arrays, masks, SparsityTarget(0.5, scope=scope))
        assert pruned["a"].tolist() == [False, False]
        assert pruned["b"].tolist() == [False, True]


def test_extremes_are_compared_in_float32():
    tiny = np.float32(1e-45)  # the smallest denormal
    arrays = {"a": weights(3e38, tiny, 0, -3e38)}
    masks, _ = prune(arrays, dense(arrays), 0.5)
    assert masks["a"].tolist() == [True, False, False, True]


def test_25_rounds_follow_the_geometric_density():
    arrays = {"a": np.random.default_rng(0).standard_normal((300, 100)).astype(np.float32)}
    masks = dense(arrays)
    for round in range(25):
        assert abs(density(masks) - 0.8**round) < 2e-4
        masks, _ = prune(arrays, masks, 0.2)


def test_arguments_are_left_alone():
    arrays = {"a": weights(1, 2, 3)}
    masks = dense(arrays)
    prune(arrays, masks, 0.5)
    assert masks["a"].all()
    apply_masks(arrays, {"a": np.zeros(3, bool)})
    assert arrays["a"].tolist() == [1, 2, 3]


def test_apply_masks_zeroes_and_passes_other_variables_on():
    arrays = {"a": weights(-1, 2), "bias": weights(5)}
    masked = apply_masks(arrays, {"a": np.array([False, True])})
    assert masked["a"].tolist() == [0, 2]
    assert not np.signbit(masked["a"][0])
    assert masked["bias"].tolist() == [5]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"target": 0}, "fraction"),
        ({"target": 1}, "fraction"),
        ({"target": float("nan")}, "fraction"),
        ({"target": 0.5, "criterion": "magic"}, "magnitude"),
        ({"target": 0.5, "criterion": "snip"}, "initial_gradient"),
        ({"target": 0.5, "iterations": 0}, "iterations"),
    ],
)
def test_bad_arguments_are_named(arguments, word):
    with pytest.raises(InputError, match=word):
        prune({"a": weights(1)}, {"a": np.array([True])}, **arguments)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_refused(value):
    with pytest.raises(InputError, match="layer/kernel"):
        prune({"layer/kernel": weights(1, value)}, {"layer/kernel": np.ones(2, bool)}, 0.5)
