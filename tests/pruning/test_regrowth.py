"""Which weights are dropped and grow, against jaxpruner's published rule in NumPy."""

import math

import numpy as np
import pytest

from lottery_tf.errors import InputError
from lottery_tf.pruning import regrowth, streams


def top_k(scores, sparsity):
    """jaxpruner's mask of the highest scores: the first ones where scores are equal."""
    if sparsity == 0:
        return np.ones(scores.shape, bool)
    count = max(1, int(np.round(np.float32(scores.size) * (1 - np.float32(sparsity)))))
    order = np.argsort(-scores.ravel(), kind="stable")
    mask = np.zeros(scores.size, bool)
    mask[order[:count]] = True
    return mask.reshape(scores.shape)


def jaxpruner(old, weights, grow, fraction, eps=1e-5):
    """The rule of its SET and RigL for one layer, as published: drop to a density, then fill up."""
    density = np.float32(old.sum() / old.size)
    drop_score = np.abs(weights)
    drop_score = np.where(old, drop_score, drop_score.min() - eps)
    kept = top_k(drop_score, 1 - density * (1 - np.float32(fraction)))
    return top_k(np.where(kept, grow.max() + eps, grow), 1 - density)


@pytest.mark.parametrize("seed", range(20))
def test_the_masks_are_those_of_jaxpruners_rule(seed):
    generator = np.random.default_rng(seed)
    shapes = {"a": (13, 7), "b": (3, 3, 2, 5), "c": (40,)}
    masks, weights, gradients = {}, {}, {}
    for path, shape in shapes.items():
        masks[path] = generator.random(shape) < generator.choice([0.1, 0.4, 0.9, 1.0])
        masks[path].flat[0] = True
        weights[path] = (generator.normal(size=shape) * masks[path]).astype(np.float32)
        gradients[path] = np.abs(generator.normal(size=shape)).astype(np.float32)
    for fraction in (0.0, 0.317, 0.7731):  # of a half its float32 rounds to either side
        found = regrowth.regrow(weights, gradients, masks, fraction)
        for path, mask in masks.items():
            expected = jaxpruner(mask, weights[path], gradients[path], fraction)
            assert np.array_equal(found[path], expected), (path, fraction)
            assert found[path].sum() == mask.sum()


def test_by_eye():
    masks = {"w": np.array([True, True, True, True, False, False])}
    weights = {"w": np.array([5, -1, 2, -4, 0, 0], np.float32)}
    grow = {"w": np.array([9, 1, 3, 9, 2, 0], np.float32)}
    # Of four, -1 and 2 go. 2 has the largest score of those that may grow, then the fifth.
    assert regrowth.regrow(weights, grow, masks, 0.5)["w"].tolist() == [1, 0, 1, 1, 1, 0]
    assert regrowth.regrow(weights, grow, masks, 0.0)["w"].tolist() == masks["w"].tolist()
    # At least one stays; a layer without weights, and a dense one, stay as they are.
    assert regrowth.regrow(weights, grow, masks, 1.0)["w"][0]
    for mask in (np.zeros(6, bool), np.ones(6, bool)):
        assert np.array_equal(regrowth.regrow(weights, grow, {"w": mask}, 0.5)["w"], mask)


def test_ties_go_by_flat_index_as_in_pruning():
    masks, equal = {"w": np.array([1, 1, 1, 1, 0, 0], bool)}, {"w": np.ones(6, np.float32)}
    assert regrowth.regrow(equal, equal, masks, 0.5)["w"].tolist() == [0, 0, 1, 1, 1, 1]


def test_the_dropped_part_falls_along_half_a_cosine():
    parts = [regrowth.drop_fraction(0.3, step, 200) for step in (0, 50, 100, 150, 200)]
    expected = [0.15 * (1 + math.cos(math.pi * part)) for part in (0, 0.25, 0.5, 0.75, 1)]
    assert parts == pytest.approx(expected)
    assert parts[0] == 0.3
    assert parts[-1] == 0
    assert list(regrowth.update_steps(30, 100)) == [30, 60, 90]
    assert list(regrowth.update_steps(50, 100)) == [50]  # at the end nothing would be dropped
    with pytest.raises(InputError, match="update_every: expected fewer than 50, "):
        regrowth.update_steps(50, 50)


@pytest.mark.parametrize("of", ["weights", "scores of growth"])
def test_what_is_not_finite_is_named(of):
    masks = {"w": np.ones(3, bool)}
    arrays = {one: {"w": np.ones(3)} for one in ("weights", "scores of growth")}
    arrays[of]["w"][1] = np.nan
    with pytest.raises(InputError, match=f"regrow w: its {of}"):
        regrowth.regrow(arrays["weights"], arrays["scores of growth"], masks, 0.5)


def test_growth_has_streams_of_its_own():
    masks = {"w": np.ones((4, 5), bool)}
    keys = ((0, 0, 1), (0, 0, 2), (0, 1, 1), (1, 0, 1))
    draws = [streams.growth(*key, masks)["w"] for key in keys]
    draws += [streams.uniform(0, 0, masks)["w"]]
    draws += [streams.growth_examples(0, 0, 1).random((4, 5))]
    for place, one in enumerate(draws):
        assert not any(np.array_equal(one, other) for other in draws[place + 1 :])
    assert np.array_equal(draws[0], streams.growth(0, 0, 1, masks)["w"])
