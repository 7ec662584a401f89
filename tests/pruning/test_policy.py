"""When weights are pruned, and to which density."""

import pytest

from lottery_tf.config import Config


def test_a_fraction_is_pruned_after_every_round():
    policy = Config(prune_fraction=0.3).policy
    assert policy.most_rounds is None
    assert [policy.prunes_after(round) for round in range(3)] == [True] * 3
    assert (policy.target(7).fraction, policy.target(7).density) == (0.3, None)


def test_densities_are_pruned_to_in_turn_and_then_nothing():
    policy = Config(densities=(0.5, 0.2)).policy
    assert policy.most_rounds == 3
    assert [policy.prunes_after(round) for round in range(4)] == [True, True, False, False]
    assert [policy.target(round).density for round in range(2)] == [0.5, 0.2]
    assert policy.target(2) is None
    assert policy.target(0).fraction is None
    assert Config(density=0.1).policy.targets == (0.1,)


@pytest.mark.parametrize("when", ["init", "train"])
def test_early_pruning_prunes_after_no_round(when):
    policy = Config(prune_at=when, densities=(0.5, 0.2)).policy
    assert policy.prunes_at == when
    assert not any(policy.prunes_after(round) for round in range(3))


def test_masks_of_another_run_are_never_pruned():
    policy = Config(masks_from="runs/other", densities=(0.5, 0.2), rounds=9).policy
    assert (policy.prunes_at, policy.targets, policy.most_rounds) == ("never", (), None)
    assert not policy.prunes_after(0)


def test_a_pattern_is_a_target_of_one_round():
    policy = Config(structure="2:4").policy
    assert (policy.targets, policy.most_rounds) == ((0.5,), 2)
    assert str(policy.target(0).structure.pattern) == "2:4"
    policy = Config(structure="2:4", densities=(0.75, 0.5)).policy
    assert policy.targets == (0.75, 0.5)
    policy = Config(structure="1x4", structure_pool="l2").policy
    assert (policy.targets, policy.target(0).structure.pool) == ((), "l2")
    assert Config().policy.target(0).structure is None


def test_a_target_says_where_as_the_flags_do():
    flags = {"scope": "layer", "keep_dense": ("conv",), "min_layer_weights": 5}
    target = Config(layer_fractions=("logits:0.1", "a/b:0.25"), **flags).policy.target(0)
    assert target.layer_fractions == {"logits": 0.1, "a/b": 0.25}
    assert {name: getattr(target, name) for name in flags} == flags
