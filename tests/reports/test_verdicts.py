"""Verdicts and pixels, on numbers to be checked by eye."""

import json
import math

import numpy as np
import pytest

from lottery_tf.analysis import pixels
from lottery_tf.reports import verdicts
from lottery_tf.runs.rundir import RunDir

NAN = float("nan")


def accuracies(*values, collapsed=()):
    return [
        {
            "round": round,
            "density": 0.5**round,
            "test_accuracy": value,
            "collapsed": int(round in collapsed),
        }
        for round, value in enumerate(values)
    ]


def runs_of(*tables):
    return {f"seed={seed}": table for seed, table in enumerate(tables)}


# Matching ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "words"),
    [
        # One standard deviation of 90% on 10,000 examples is 0.3 points.
        ([0.9, 0.91, 0.8971], ["25.00% (89.71%)", "every round"]),
        ([0.9, 0.89, 0.9, 0.5], ["25.00% (90.00%)", "not in rounds 1, 3."]),
        ([0.9, 0.88, 0.89], ["90.00%", "89.00% at density 25.00%"]),
    ],
)
def test_matching_of_one_run_is_one_seed(values, words):
    verdict = verdicts.matching({"run": accuracies(*values)}, 10_000)
    assert verdict.answer == "one seed"
    assert all(part in verdict.words for part in words)
    assert "0.3 points" in verdict.rule
    assert "10,000" in verdict.rule


def test_a_single_image_of_450_decides_nothing():
    rows = accuracies(442 / 450, 441 / 450, 440 / 450)
    assert "density 25.00%" in verdicts.matching({"run": rows}, 450).words
    assert "density 50.00%" in verdicts.matching({"run": rows}, 10_000).words
    assert verdicts.sparsest_match(rows, 450) == 0.25
    assert math.isnan(verdicts.sparsest_match(rows, 10_000))


@pytest.mark.parametrize(
    ("second", "answer", "words"),
    [
        ([0.9, 0.9, 0.899], "seen", "down to density 25.00%"),
        ([0.9, 0.9, 0.8], "partly", "does not match in round 2"),
        ([0.9, 0.8, 0.8], "not seen", "oes not match in rounds 1 to 2: -10.00 points ("),
    ],
)
def test_matching_of_several_runs_is_decided_by_the_interval(second, answer, words):
    near = [value + 1e-4 for value in second]
    verdict = verdicts.matching(runs_of(accuracies(*second), accuracies(*near)), 10_000)
    assert verdict.answer == answer
    assert words in verdict.words


def test_matching_pairs_each_pruned_network_with_the_dense_one_of_its_run():
    # Each ticket loses 0.1 points; the dense networks themselves are 4 points apart.
    tables = [accuracies(dense, dense - 0.001) for dense in (0.92, 0.90, 0.88)]
    assert verdicts.matching(runs_of(*tables), 10_000).answer == "seen"
    mixed = runs_of(accuracies(0.9, 0.89), accuracies(0.9, 0.91))
    verdict = verdicts.matching(mixed, 10_000)
    assert verdict.answer.startswith("undecided (")
    assert "seeds would decide" in verdict.answer


def test_a_dense_network_that_collapsed_leaves_its_run_out():
    good, gone = accuracies(0.9, 0.9), accuracies(0.1, 0.9, collapsed=[0])
    verdict = verdicts.matching(runs_of(good, gone), 10_000)
    assert verdict.answer == "one seed"
    assert "seed=1" in verdict.words
    assert verdicts.matching({"run": gone}, 10_000).answer == "collapsed"
    partly = runs_of(good, accuracies(0.9, 0.1, collapsed=[1]), accuracies(0.9, 0.9))
    verdict = verdicts.matching(partly, 10_000)
    assert verdict.answer == "seen"  # not dragged down by 0.1
    assert "round 1 of seed=1" in verdict.words


def test_networks_that_all_collapsed_match_nothing():
    gone = accuracies(0.9, 0.1, collapsed=[1])
    assert verdicts.matching(runs_of(gone, gone), 10_000).answer == "collapsed"
    uneven = runs_of(accuracies(0.9, 0.9), accuracies(0.9))  # one of them is pruned
    assert verdicts.matching(uneven, 10_000).answer == "not measured"


def test_without_a_dense_or_a_pruned_round_nothing_matches():
    assert verdicts.matching({"run": accuracies(0.9, 0.9)[1:]}, 100).answer == "not measured"
    assert verdicts.matching({"run": accuracies(0.9)}, 100).answer == "not measured"
    assert verdicts.matching({"run": accuracies(NAN, NAN)}, None).answer == "not measured"


def test_an_accuracy_that_is_not_known_matches_nothing_and_is_named():
    good = accuracies(0.9, 0.9, 0.9)
    verdict = verdicts.matching(runs_of(good, accuracies(0.9, 0.9, NAN), good), 10_000)
    assert verdict.answer == "seen"
    assert "nan" not in verdict.words
    assert "round 2 of seed=1." in verdict.words
    verdict = verdicts.matching(runs_of(good, accuracies(NAN, 0.9, 0.9), good), 10_000)
    assert verdict.answer == "seen"
    assert "dense network of seed=1" in verdict.words
    assert verdicts.matching({"run": accuracies(NAN, 0.9)}, None).answer == "not measured"
    words = verdicts.matching({"run": accuracies(0.9, 0.9, NAN)}, 10_000).words
    assert words.endswith(": round 2.")


# The lead ------------------------------------------------------------------------------------


def lead_of(*seeds, collapsed=()):
    """Rows of leads of pruned rounds, in points, a list for each seed."""
    return [
        {
            "seeds": (seed,) * 3,
            "round": round,
            "density": 0.5**round,
            "lead": value / 100,
            "collapsed": int((seed, round) in collapsed),
        }
        for seed, values in enumerate(seeds)
        for round, value in enumerate(values, 1)
    ]


def verdict_of(*seeds, examples=10_000, **options):
    return verdicts.leading(lead_of(*seeds, **options), 0.98, examples, "")


def test_all_densities_decide_who_is_ahead_not_the_sparsest_alone():
    behind = [-0.4, -0.5, -0.4, -0.3, -0.2, -0.3, -0.5, 0.3, 0.4, 1.56]
    verdict = verdict_of(behind, [value + 0.01 for value in behind])
    assert verdict.answer == "equal within 0.14 points"
    assert "ahead in 3 of 10, rounds 8 to 10" in verdict.words
    strong = [-0.1, 1.0, 2.0]
    verdict = verdict_of(strong, [value + 0.02 for value in strong], strong)
    assert verdict.answer == "partly"  # the mean is, round 1 is not
    assert "ahead in 2 of 3, rounds 2 to 3" in verdict.words


def test_the_answers_to_who_is_ahead():
    assert verdict_of([1.0, 1.0], [1.1, 1.1], [0.9, 0.9]).answer == "seen"
    assert verdict_of([-1.0], [-1.1], [-0.9]).answer == "not seen"
    assert verdict_of([0.02], [-0.02], [0.0]).answer == "equal within 0.14 points"
    assert verdict_of([5.0, 5.0]).answer == "one seed"
    assert verdict_of([]).answer == "not measured"


def test_undecided_names_the_seeds_that_would_decide():
    verdict = verdict_of([1.0], [0.2])  # 0.6, standard deviation 0.566
    # t(5) 0.566 / sqrt(6) = 0.594 is the first below 0.6; with 5 seeds it is 0.702.
    assert verdict.answer == "undecided (6 seeds would decide)"
    assert "2 seeds" in verdict.words
    assert verdict_of([9.0], [-8.9]).answer == "undecided (more than 1,000 seeds would decide)"


def test_two_seeds_that_agree_to_the_image_are_not_certain():
    assert verdict_of([0.444], [0.444], examples=450).answer.startswith("undecided")


def test_networks_that_collapsed_have_no_lead_and_are_named():
    seeds = [1.0, 50.0], [1.1, 1.0], [0.9, 1.0]
    verdict = verdict_of(*seeds, collapsed=[(0, 2)])
    assert verdict.words.startswith("+1.00 points (")
    assert "mean of 1 pruned rounds" in verdict.words  # the round that all seeds have
    assert "seed 0 in round 2" in verdict.words
    assert verdict_of([1.0], collapsed=[(0, 1)]).answer == "collapsed"


def test_a_seed_is_all_three_of_its_parts():
    rows = [
        row | {"seeds": (0, 0, row["seeds"][0])}
        for row in lead_of([1.0, 1.0], [1.1, 1.1], [0.9, 0.9], collapsed=[(2, 2)])
    ]
    verdict = verdicts.leading(rows, 0.98, 10_000, "")
    assert verdict.answer == "seen"
    assert "3 seeds)" in verdict.words
    assert "data_seed 2 in round 2." in verdict.words


def test_the_lead_of_each_round_has_its_interval():
    rows = verdicts.lead_by_round(lead_of([1.0, 2.0], [2.0, 4.0], [3.0, 6.0]), 10_000)
    assert [row["round"] for row in rows] == [1, 2]
    assert rows[0]["lead"] == pytest.approx(0.02)
    assert rows[0]["low"] == pytest.approx(0.02 - 0.0248, abs=1e-4)  # t(2) = 4.303, over sqrt(3)
    assert rows[1]["high"] == pytest.approx(0.04 + 0.0497, abs=1e-4)


# Against thresholds --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "answer", "words"),
    [
        ([NAN, 0.64, 0.19], "one seed", "in rounds 1 to 2, one seed: below the threshold."),
        ([NAN, 0.81, 0.5, 0.3], "one seed", "one seed: below the threshold in rounds 2 to 3."),
        (
            [NAN, 0.94, 1.02],
            "one seed",
            "0.94 to 1.02 in rounds 1 to 2, one seed: not below the threshold.",
        ),
        ([NAN], "not measured", "Nothing to compare yet."),
    ],
)
def test_similar_is_clearly_nearer_than_orthogonal(values, answer, words):
    rows = [{"round": round, "to_previous": value} for round, value in enumerate(values)]
    verdict = verdicts.similar({"run": rows})
    assert verdict.answer == answer
    assert verdict.words.endswith(words)
    assert verdict.kind == "open"


def test_a_threshold_is_held_against_the_interval_of_the_seeds():
    def of(*values):
        rows = [[{"round": 1, "to_previous": value}] for value in values]
        return verdicts.similar(runs_of(*rows)).answer

    assert of(0.50, 0.52, 0.51) == "yes"
    assert of(0.95, 0.96, 0.97) == "no"
    assert of(0.5, 0.9).startswith("undecided")  # their mean alone is below
    assert of(0.5, 0.51, NAN) == "yes"


def test_rounds_of_fewer_seeds_and_values_that_are_unknown_are_left_out():
    def of(*values):
        return [{"round": round, "instability": value} for round, value in enumerate(values)]

    verdict = verdicts.stable(runs_of(of(0.01, 0.01, 0.5), of(0.011, 0.01, NAN), of(0.01, 0.01)))
    assert verdict.answer == "yes"
    assert "in rounds 0 to 1, mean of 3 seeds" in verdict.words
    assert verdict.words.endswith("left out: round 2.")
    assert verdicts.stable(runs_of(of(NAN), of(NAN))).answer == "not measured"


def barrier(start, end, value, collapsed=0):
    return {"from_round": start, "to_round": end, "error_barrier": value, "collapsed": collapsed}


def connected(*rows):
    """The verdict of two seeds that agree."""
    return verdicts.connected(runs_of(rows, rows))


def test_connected_is_a_barrier_below_2_percent_between_successive_rounds():
    assert connected(barrier(0, 1, 0.019), barrier(0, 9, 0.5)).answer == "yes"
    assert connected(barrier(0, 1, 0.02)).answer == "no"
    mixed = connected(barrier(0, 1, 0.1), barrier(1, 2, 0.0), barrier(2, 3, 0.0, 1))
    assert mixed.answer == "partly"
    for part in ("0.00% to 10.00% in rounds 1 to 2", "threshold in round 2.", "round 3 of"):
        assert part in mixed.words
    assert connected(barrier(0, 1, 0.0, 1)).answer == "collapsed"
    assert connected(barrier(0, 5, 0.0)).answer == "not measured"


def test_stable_is_an_instability_below_2_percent():
    rows = [{"round": 0, "instability": 0.16, "collapsed": 0}]
    good = [rows[0] | {"instability": 0.01}]
    words = "Instability 16.00% in round 0, one seed: not below the threshold."
    assert verdicts.stable({"run": rows}).words == words
    assert verdicts.stable(runs_of(rows, rows)).answer == "no"
    assert verdicts.stable(runs_of(good, good)).answer == "yes"


def test_a_ticket_is_held_against_the_random_mask_of_its_round_measure_and_seed():
    rows = [
        {"round": 10, "mask": mask, "measure": measure, "degrees": degrees}
        for mask, measure, degrees in (
            ("ticket", "pruning", 50),
            ("random", "pruning", 80),
            ("ticket", "data order", 60),
            ("random", "data order", 40),
        )
    ]
    assert verdicts.nearer_than_random({"run": rows}).answer == "one seed"
    assert verdicts.nearer_than_random({"run": rows[:1]}).answer == "not measured"
    # Seeds whose angles are 30 degrees apart, of which each ticket is 29 to 31 below its mask.
    seeds = [
        [
            row | {"degrees": row["degrees"] + 30 * seed + (row["mask"] == "random") * (seed - 1)}
            for row in rows
        ]
        for seed in range(3)
    ]
    assert verdicts.nearer_than_random(runs_of(*seeds)).answer == "partly"
    assert verdicts.nearer_than_random(runs_of(*(of[:2] for of in seeds))).answer == "seen"
    assert verdicts.nearer_than_random(runs_of(*(of[2:] for of in seeds))).answer == "not seen"


def test_rounds_in_words():
    assert verdicts.in_words([3]) == "round 3"
    assert verdicts.in_words([5, 4, 0]) == "rounds 0, 4 to 5"


def test_weights_are_counted_at_each_pixel():
    kernel = np.array([[1, 1], [0, 0], [1, 0], [0, 0], [0, 0], [1, 1]], bool)  # 1 x 3 x 2 inputs
    found = pixels.weights_per_pixel({"a/kernel": kernel, "b/kernel": ~kernel}, (1, 3, 2))
    assert found.tolist() == [[2, 1, 2]]


def test_the_shape_of_the_images_is_that_of_the_data(tmp_path):
    run, wide, square = RunDir(tmp_path), {"a": (12, 5)}, {"a": (27, 5)}
    assert pixels.image_shape_of(run, wide) == (2, 2, 3)
    assert pixels.image_shape_of(run, square) == (3, 3, 3)
    assert pixels.image_shape_of(run, {"a": (3, 3, 1, 8)}) is None
    assert pixels.image_shape_of(run, {"a": (13, 5)}) is None
    (tmp_path / "data.json").write_text(json.dumps({"image": "Image 4 x 3 x 1 uint8 png"}))
    assert pixels.image_shape_of(run, wide) == (4, 3, 1)
    assert pixels.image_shape_of(run, square) is None
