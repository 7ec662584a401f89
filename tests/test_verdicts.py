"""Verdicts and pixels, on numbers to be checked by eye."""

import json

import numpy as np
import pytest

from lottery_tf.analysis import pixels
from lottery_tf.store.rundir import RunDir
from lottery_tf.studies import verdicts

NAN = float("nan")


def accuracies(*values):
    return [
        {"round": round, "density": 0.5**round, "test_accuracy": value}
        for round, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("values", "answer", "words"),
    [
        ([0.9, 0.91, 0.8981], "yes", "down to density 25.00% (89.81%), in every round."),
        ([0.9, 0.89, 0.9, 0.5], "partly", "down to density 25.00% (90.00%); not in rounds 1, 3."),
        ([0.9, 0.88, 0.89], "no", "90.00%; the best has 89.00% at density 25.00%."),
        ([0.9], "not measured", "No round is pruned yet."),
    ],
)
def test_matching_is_the_dense_accuracy_less_a_tolerance(values, answer, words):
    verdict = verdicts.matching(accuracies(*values))
    assert verdict.answer == answer
    assert verdict.words.endswith(words)
    assert "0.2 points" in verdict.rule


def test_without_a_dense_round_nothing_matches_it():
    assert verdicts.matching(accuracies(0.9, 0.9)[1:]).answer == "not measured"


@pytest.mark.parametrize(
    ("values", "answer", "words"),
    [
        ([NAN, 0.64, 0.19], "yes", "0.19 to 0.64 in rounds 1 to 2."),
        ([NAN, 0.81, 0.5, 0.3], "partly", "below the threshold in rounds 2 to 3."),
        ([NAN, 0.94, 1.02], "no", "0.94 to 1.02 in rounds 1 to 2."),
        ([NAN], "not measured", "Nothing to compare yet."),
    ],
)
def test_similar_is_clearly_nearer_than_orthogonal(values, answer, words):
    rows = [{"round": round, "to_previous": value} for round, value in enumerate(values)]
    verdict = verdicts.similar(rows)
    assert verdict.answer == answer
    assert verdict.words.endswith(words)


def barrier(start, end, value, collapsed=0):
    return {"from_round": start, "to_round": end, "error_barrier": value, "collapsed": collapsed}


def test_connected_is_a_barrier_below_2_percent_between_successive_rounds():
    assert verdicts.connected([barrier(0, 1, 0.019), barrier(0, 9, 0.5)]).answer == "yes"
    assert verdicts.connected([barrier(0, 1, 0.02)]).answer == "no"
    mixed = verdicts.connected([barrier(0, 1, 0.1), barrier(1, 2, 0.0), barrier(2, 3, 0.0, 1)])
    assert mixed.answer == "partly"
    assert mixed.words == (
        "Error barrier 0.00% to 10.00% in rounds 1 to 2: below the threshold in round 2. "
        "Collapsed: round 3."
    )
    assert verdicts.connected([barrier(0, 1, 0.0, 1)]).answer == "collapsed"
    assert verdicts.connected([barrier(0, 5, 0.0)]).answer == "not measured"


def test_stable_is_an_instability_below_2_percent():
    rows = [{"round": 0, "instability": 0.16, "collapsed": 0}]
    assert verdicts.stable(rows).words == "Instability 16.00% in round 0."
    assert verdicts.stable(rows).answer == "no"
    assert verdicts.stable([rows[0] | {"instability": 0.01}]).answer == "yes"


def test_a_ticket_is_held_against_the_random_mask_of_its_round_and_measure():
    rows = [
        {"round": 10, "mask": mask, "measure": measure, "degrees": degrees}
        for mask, measure, degrees in (
            ("ticket", "pruning", 50),
            ("random", "pruning", 80),
            ("ticket", "data order", 60),
            ("random", "data order", 40),
        )
    ]
    assert verdicts.nearer_than_random(rows).answer == "partly"
    assert verdicts.nearer_than_random(rows[:2]).answer == "yes"
    assert verdicts.nearer_than_random(rows[:1]).answer == "not measured"


def test_rounds_in_words():
    assert verdicts.in_words([3]) == "round 3"
    assert verdicts.in_words([5, 4, 0]) == "rounds 0, 4 to 5"


def test_weights_are_counted_at_each_pixel():
    kernel = np.array([[1, 1], [0, 0], [1, 0], [0, 0], [0, 0], [1, 1]], bool)  # 1 x 3 x 2 inputs
    found = pixels.weights_per_pixel({"a/kernel": kernel, "b/kernel": ~kernel}, (1, 3, 2))
    assert found.tolist() == [[2, 1, 2]]


def test_the_shape_of_the_images_is_that_of_the_data(tmp_path):
    run, wide, square = RunDir(tmp_path), {"a": (12, 5)}, {"a": (27, 5)}
    assert pixels.image_shape(run, wide) == (2, 2, 3)
    assert pixels.image_shape(run, square) == (3, 3, 3)
    assert pixels.image_shape(run, {"a": (3, 3, 1, 8)}) is None
    assert pixels.image_shape(run, {"a": (13, 5)}) is None
    (tmp_path / "data.json").write_text(json.dumps({"image": "Image 4 x 3 x 1 uint8 png"}))
    assert pixels.image_shape(run, wide) == (4, 3, 1)
    assert pixels.image_shape(run, square) is None
