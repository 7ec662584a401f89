"""The statistics of verdicts, against published tables, SciPy's own tests and by eye."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from lottery_tf.analysis import statistics
from lottery_tf.runs.rundir import RunDir

pytestmark = pytest.mark.versions


def test_an_interval_is_that_of_a_t_test():
    values = [0.3, 1.1, -0.2, 0.9]
    found = statistics.interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert statistics.interval([1, 2, 3]).high == pytest.approx(2 + 4.302653 / math.sqrt(3))
    assert (found.mean, found.count) == (pytest.approx(0.525), 4)


def test_one_seed_has_no_interval():
    found = statistics.interval([0.5])
    assert (found.mean, found.count) == (0.5, 1)
    assert np.isnan([found.low, found.high, found.deviation]).all()


def test_seeds_that_agree_are_as_uncertain_as_the_last_digit():
    assert statistics.interval([0.5, 0.5]).low == 0.5
    found = statistics.interval([0.5, 0.5], step=1 / 450)
    assert found.deviation == pytest.approx(1 / 450 / math.sqrt(12))
    assert found.low < 0.5 < found.high


def test_the_seeds_that_decide_are_those_whose_interval_is_narrow_enough():
    found = statistics.interval([0.2, 1.0])
    count = statistics.seeds_to_decide(found, 0.6)

    def half(seeds):
        return stats.t.ppf(0.975, seeds - 1) * found.deviation / math.sqrt(seeds)

    assert half(count) < 0.6 <= half(count - 1)
    assert statistics.seeds_to_decide(found, 0) is None


@pytest.mark.parametrize(
    ("accuracy", "examples", "points"),
    [(0.98, 10_000, 0.14), (0.98, 450, 0.66), (1.0, 450, 100 / 450), (0.5, None, 0.2)],
)
def test_the_tolerance_is_one_standard_deviation_of_an_accuracy(accuracy, examples, points):
    assert 100 * statistics.tolerance(accuracy, examples) == pytest.approx(points, abs=0.005)


def row(round, accuracy, **more):
    return {"round": round, "density": 0.5**round, "test_accuracy": accuracy} | more


def test_a_lead_is_that_over_the_reinit_of_the_same_seed_and_round():
    tickets = {(0, 0, 0): [row(0, 0.9), row(1, 0.8)], (1, 1, 1): [row(0, 0.7)], (2, 2, 2): []}
    reinits = {(1, 1, 1): [row(0, 0.5), row(1, 0.1)], (0, 0, 0): [row(1, 0.75), row(0, 0.9)]}
    rows = statistics.leads(tickets, reinits)
    found = [(r["seeds"][0], r["round"], r["density"], round(r["lead"], 6)) for r in rows]
    assert found == [(0, 0, 1, 0), (0, 1, 0.5, 0.05), (1, 0, 1, 0.2)]
    unknown = {(1, 1, 1): [row(0, math.nan)]}  # of a fit without validation data
    assert statistics.leads(tickets, unknown) == []
    gone = {(1, 1, 1): [row(0, 0.1, collapse="one class")]}
    assert [r["collapsed"] for r in statistics.leads(tickets, gone)] == [1]


def test_seeds_are_called_by_what_tells_them_apart():
    names = statistics.names_of([(0, 0, 0), (1, 1, 1)])
    assert names == {(0, 0, 0): "seed 0", (1, 1, 1): "seed 1"}
    names = statistics.names_of([(0, 0, 0), (0, 0, 1), (0, 2, 0)])
    assert names[0, 2, 0] == "init_seed 2, data_seed 0"
    tickets = {(0, 0, data): [row(1, 0.8)] for data in range(3)}
    reinits = {(0, 0, data): [row(1, 0.7)] for data in range(3)}
    assert [r["seeds"] for r in statistics.leads(tickets, reinits)] == list(tickets)


def test_matching_rows_are_those_of_sound_pruned_networks():
    rows = [row(0, 0.9), row(1, 0.85), row(2, 0.8), row(3, 0.95, collapse="no weights in a")]
    assert [r["round"] for r in statistics.matching_rows(rows, 0.1)] == [1, 2]  # 0.9 - 0.1 = 0.8
    assert statistics.matching_rows([rows[0] | {"collapsed": 1}, *rows[1:]], 0.1) == []
    assert statistics.matching_rows(rows[1:], 0.1) == []


def test_the_number_of_test_examples_is_that_of_the_record(tmp_path, config):
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    (run.path / "config.json").write_text(config().to_json())
    assert statistics.test_examples(run) is None
    (run.path / "data.json").write_text(json.dumps({"test": {"examples": 450}}))
    assert statistics.test_examples(run) == 450
    (run.path / "config.json").write_text(config(test_fraction=0.1).to_json())
    assert statistics.test_examples(run) == 45
