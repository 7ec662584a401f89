"""Which run is next, and what follows from the end of an attempt."""

import concurrent.futures
import shutil

import pytest

from lottery_tf.sweeps import grid
from lottery_tf.sweeps.schedule import Schedule
from lottery_tf.sweeps.sweep import Pace
from tests.conftest import ROOT
from tests.made_runs import add_rounds, make_run


@pytest.fixture
def points(tmp_path, monkeypatch):
    """Two seeds, the ticket and the control of each, of two rounds."""
    monkeypatch.chdir(tmp_path)
    lines = ["--dataset=digits", f"--data_dir={ROOT}/data", "--rounds=2", "--epochs=1"]
    (tmp_path / "my.cfg").write_text(
        "\n".join([*lines, "--grid=seed=0,1", "--grid=reset=init,reinit", "--bases=digits.cfg"])
    )
    return grid.read("my.cfg").points


class Attempts:
    """Attempts that end as the test says, having finished some rounds."""

    def __init__(self, points, ends):
        self.ends, self.begun, self.lines = {n: list(e) for n, e in ends.items()}, [], []
        self.names = {point.name: f"{i}" for i, point in enumerate(points)}

    def submit(self, point):
        """Finishes the rounds that the next of ends names; a Future of its status."""
        name = self.names[point.name]
        self.begun.append(name)
        rounds, status = self.ends[name].pop(0) if self.ends.get(name) else (2, 0)
        before = point.finished_rounds()
        run = make_run(point.config, rounds=0)
        add_rounds(run, range(before, rounds))
        future = concurrent.futures.Future()
        if isinstance(status, Exception):
            future.set_exception(status)
        else:
            future.set_result(status)
        return future


def make(points, *, retries=3, show=lambda states: None, stop=lambda: 0, **ends):
    """(Schedule, Attempts) after all is done; ends as {"0": [(rounds, status), …]}."""
    attempts = Attempts(points, {name.strip("_"): end for name, end in ends.items()})
    schedule = Schedule(points, retries=retries, report=attempts.lines.append)
    schedule.run(attempts.submit, slots=lambda: 1, show=show, stop_signal=stop)
    return schedule, attempts


def failures(schedule):
    return [state.failure for state in schedule.states]


def test_the_one_that_shares_its_round_0_goes_first_and_lends_it(points):
    schedule, attempts = make(points)
    assert attempts.begun == ["0", "1", "2", "3"]
    assert all(state.finished for state in schedule.states)
    lent = [line for line in attempts.lines if "round 0 is that of" in line]
    assert len(lent) == 2
    log = (points[1].directory / "log.txt").read_text()
    assert f"round 0 was taken from {points[0].directory}" in log


def test_others_go_on_while_a_round_0_is_waited_for(points):
    schedule = Schedule(points, retries=3, report=print)
    first, control, second, _ = schedule.states
    first.attempt = concurrent.futures.Future()
    assert schedule.next() is second
    second.attempt = concurrent.futures.Future()
    assert schedule.next() is None
    make_run(first.point.config, rounds=1)
    assert schedule.next() is control


def test_without_the_lender_the_next_one_trains_round_0(points):
    schedule, attempts = make(points, _0=[(0, 1)])
    assert attempts.begun == ["0", "1", "2", "3"]
    assert [bool(failure) for failure in failures(schedule)] == [True, False, False, False]
    assert not any(f"that of {points[0].name}" in line for line in attempts.lines)


@pytest.mark.parametrize(
    ("status", "word"),
    [(75, "signal"), (74, "worker"), (-9, "SIGKILL"), (137, "137"), (RuntimeError("gone"), "gone")],
)
def test_a_run_that_was_killed_or_stopped_is_started_again(points, status, word):
    schedule, attempts = make(points, _0=[(0, status), (1, status)])
    assert attempts.begun.count("0") == 3
    assert failures(schedule) == [""] * 4
    assert sum(word in line for line in attempts.lines) == 2


def test_bad_input_is_not_tried_again(points):
    schedule, attempts = make(points, _0=[(0, 1)])
    assert attempts.begun.count("0") == 1
    assert not schedule.states[0].finished


def test_a_run_is_given_up_after_its_retries_without_a_further_round(points):
    schedule, attempts = make(points, retries=2, _2=[(0, -9)] * 9)
    assert attempts.begun.count("2") == 3
    assert [name for name in failures(schedule) if name] == ["killed by SIGKILL"]


def test_a_finished_round_begins_the_count_of_retries_anew(points):
    schedule, attempts = make(points, retries=1, _0=[(0, 75), (1, 75), (1, 75), (1, 75)])
    assert attempts.begun.count("0") == 3  # round 0 came with the second, and none with the third
    assert failures(schedule)[0]


def test_a_status_0_without_all_rounds_is_a_failure(points):
    schedule, _ = make(points, _0=[(1, 0)])
    assert "status 0" in failures(schedule)[0]


def test_finished_runs_are_not_begun(points):
    make_run(points[0].config, rounds=2)
    _, attempts = make(points)
    assert "0" not in attempts.begun


def test_a_run_that_is_damaged_while_it_runs_fails_alone(points):
    def remove(states):
        path = points[2].directory / "round_00"
        if states[2].attempt and path.exists():
            shutil.rmtree(path)

    schedule, _ = make(points, show=remove, _2=[(2, 0)])
    assert "round_00" in failures(schedule)[2]
    assert [state.finished for state in schedule.states] == [True, True, False, True]


def test_nothing_begins_after_a_signal(points):
    _, attempts = make(points, stop=lambda: 15)
    assert attempts.begun == []


def test_the_time_left_is_that_of_the_rounds_so_far(points):
    pace = Pace()
    assert pace.seconds_left(points) is None
    make_run(points[0].config, rounds=1, seconds=10)
    assert pace.seconds_left(points) == 10 + 3 * 2 * 10
    make_run(points[1].config, rounds=1, seconds=30)
    assert pace.seconds_left(points) == 10 + 30 + 2 * 2 * 20
