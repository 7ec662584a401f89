"""tools.barriers, tools.instability and tools.stability on a run of the digits."""

import os
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from lottery_tf import imp
from lottery_tf.analysis import instability
from lottery_tf.analysis.retraining import Retrainings, parse_start
from lottery_tf.config import Config
from lottery_tf.errors import InputError
from lottery_tf.runs import rewind_points
from lottery_tf.runs.files import parse_csv, parse_npz
from lottery_tf.runs.rundir import RunDir
from tests import forked
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of the digits."""
    config = Config(
        run_dir=str(tmp_path_factory.mktemp("finished") / "run"),
        data_dir=str(ROOT / "data"),
        batch_size=32,
        epochs=2,
        rounds=3,
    )
    imp.main(config)
    return RunDir(config.run_dir)


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it."""
    return RunDir(shutil.copytree(finished.path, tmp_path / "run"))


def command(name, run, *flags):
    return [forked.python(), "-m", f"tools.{name}", f"--run_dir={run.path}", *flags]


def tool(name, run, *flags, status=0):
    result = subprocess.run(
        command(name, run, *flags), cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr
    return result


def rows(run, name):
    return parse_csv((run.path / "analysis" / f"{name}.csv").read_bytes())


def trained(run):
    """{copy: time of its last change} of the copies that are finished."""
    return {path.parent.name: path.stat().st_mtime_ns for path in run.path.glob("copies/*/trained")}


@pytest.mark.slow
def test_barriers_of_successive_rounds(run):
    result = tool("barriers", run, "--points=3")
    assert result.stderr == ""
    found = rows(run, "barriers")
    assert [(row["from_round"], row["to_round"]) for row in found] == [(0, 1), (1, 2)]
    assert {row["bn_stats"] for row in found} == {"none"}
    points = rows(run, "barriers_paths")
    for point in points:
        if point["alpha"] in (0, 1):
            metrics = run.metrics()[point["from_round"] + int(point["alpha"])]
            assert 1 - point["error"] == pytest.approx(metrics["test_accuracy"], abs=1e-12)
    errors = [point["error"] for point in points[:3]]
    assert found[0]["error_barrier"] == max(errors) - (errors[0] + errors[2]) / 2
    # A second call evaluates nothing: it needs no data.
    again = tool("barriers", run, "--points=3", "--data_dir=nowhere")
    assert again.stdout == result.stdout
    tool("barriers", run, "--points=3", "--align=permutation", "--pairs=0-2")
    assert [row["to_round"] for row in rows(run, "barriers_permutation")] == [2]


@pytest.mark.ci
def test_instability_resumes_without_repeating_a_finished_copy(run):
    process = subprocess.Popen(
        command("instability", run, "--at_rounds=0,2", "--copies=3"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    while not trained(run):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()  # its output has ended, and so has it
    before = trained(run)
    assert 0 < len(before) < 4
    result = tool("instability", run, "--at_rounds=0,2", "--copies=3")
    after = trained(run)
    assert {name: after[name] for name in before} == before
    names = {f"round_{r:02d}_init_data_seed_{seed}" for r in (0, 2) for seed in (1, 2)}
    assert set(after) == names
    pairs = rows(run, "instability_pairs")
    assert [(row["round"], row["pair"]) for row in pairs] == [
        (round, pair) for round in (0, 2) for pair in ("0-1", "0-2", "1-2")
    ]
    found = rows(run, "instability")
    first = [row["instability"] for row in pairs[:3]]
    assert found[0]["instability"] == pytest.approx(np.mean(first))
    assert found[0]["instability_max"] == max(first)
    assert "stable" in result.stdout
    # The run's own network is the first copy: an end of each path with it.
    ends = [p for p in rows(run, "instability_paths") if p["round"] == 2 and p["alpha"] == 0]
    assert 1 - ends[0]["error_min"] >= run.metrics()[2]["test_accuracy"] - 1e-12
    # Nothing is left to do; a longer list trains what is new alone.
    tool("instability", run, "--at_rounds=0,2", "--copies=3", "--data_dir=nowhere")
    assert trained(run) == after


@pytest.mark.slow
def test_a_copy_differs_in_its_data_seed_alone(run):
    """The copy of a round is what a run with the other data seed would have trained."""
    tool("instability", run, "--at_rounds=0")
    other = Config.recorded(
        run.config() | {"data_seed": 1, "rounds": 1}, run_dir=str(run.path.parent / "other")
    )
    imp.main(other)
    path = run.path / "copies" / "round_00_init_data_seed_1" / "trained" / "final.npz"
    copy, expected = parse_npz(path.read_bytes()), RunDir(other.run_dir).final(0)
    assert copy.keys() == expected.keys()
    assert all(np.array_equal(copy[name], expected[name]) for name in copy)


@pytest.mark.ci
def test_a_copy_whose_start_differs_in_one_weight(run, monkeypatch):
    seen = []

    def remember(self, name, training):
        seen.append((name, training))
        return training.start, run.history(training.noise.round)

    monkeypatch.setattr(Retrainings, "train", remember)
    found, points = instability.between_copies(
        run, at_rounds=["1"], copies=3, noise="one_weight", points=2
    )
    assert [row["pair"] for row in found] == ["0-1", "0-2", "1-2"]
    # Number 0 is the run's own network.
    assert points[0]["error"] == pytest.approx(1 - run.metrics()[1]["test_accuracy"])
    (first, training), (second, other) = seen[0], seen[1]
    assert (first, second) == ("round_01_init_one_weight_1", "round_01_init_one_weight_2")
    own, masks, places = run.initial(1), run.masks(1), []
    for copy in (training, other):
        assert (copy.noise.data_seed, copy.noise.round) == (0, 1)
        changed = {path: np.flatnonzero(copy.start[path] != own[path]) for path in own}
        ((path, (place,)),) = ((path, places) for path, places in changed.items() if places.size)
        assert masks[path].flat[place]
        step = copy.start[path].flat[place] - own[path].flat[place]
        assert step == pytest.approx(0.01 * own[path][masks[path]].std(), rel=1e-3)
        places.append((path, place))
    assert places[0] != places[1]


@pytest.mark.slow
def test_instability_from_a_rewind_point(run):
    result = tool("instability", run, "--at_rounds=1", "--start=rewind:30")
    assert "1" in result.stdout
    assert set(trained(run)) == {
        "round_01_rewind_30_data_seed_0", "round_01_rewind_30_data_seed_1"
    }  # fmt: skip
    point = rewind_points.read(run.path, 30)
    start, end = run.initial(0), run.final(0)
    for name in point:
        assert not np.array_equal(point[name], start[name])
        assert not np.array_equal(point[name], end[name])
    copy = run.path / "copies/round_01_rewind_30_data_seed_1/trained"
    history = parse_csv((copy / "history.csv").read_bytes())
    assert history[0]["epoch"] == 1
    for name, mask in run.masks(1).items():
        assert not parse_npz((copy / "final.npz").read_bytes())[name][~mask].any()
    error = tool("instability", run, "--start=rewind:1000", "--at_rounds=1", status=1).stderr
    assert "before the end of training" in error


@pytest.mark.slow
def test_a_signal_leaves_a_checkpoint_to_go_on_from(run):
    config = run.config() | {"epochs": 100_000, "rounds": 1}  # the signal comes first
    long = RunDir(run.path.parent / "long")
    shutil.copytree(run.path, long.path)
    (long.path / "config.json").write_text(Config.recorded(config).to_json())
    process = subprocess.Popen(
        command("instability", long, "--at_rounds=0"), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    source = long.path / "copies" / "round_00_init_data_seed_1" / "source.txt"
    while not source.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "To resume: python -m tools.instability" in stderr
    assert len(os.listdir(source.parent / "checkpoints")) == 1


@pytest.mark.slow
def test_stability_of_ticket_and_random_masks(run):
    result = tool("stability", run, "--at_rounds=2", "--replicates=2")
    found = rows(run, "stability")
    assert len(found) == 8
    assert "degrees" in result.stdout
    assert "published" not in result.stdout  # that is of MNIST
    assert (run.path / "analysis" / "stability_degrees.png").exists()
    masks = ["dense_init_0", "dense_init_2", "random_0_init_0", "random_0_init_1",
             "random_1_init_2", "random_1_init_3", "init_1", "init_2", "init_3"]  # fmt: skip
    names = {f"round_02_{name[:-1]}data_seed_{name[-1]}" for name in masks}
    assert set(trained(run)) == names
    dense = parse_npz(
        (run.path / "copies/round_02_dense_init_data_seed_0/trained/final.npz").read_bytes()
    )
    ticket, masks = run.final(2), run.masks(2)
    difference = [(dense[path] - ticket[path])[masks[path]] for path in masks]
    expected = np.linalg.norm(np.concatenate(difference).astype(np.float64))
    assert (found[0]["mask"], found[0]["measure"]) == ("ticket", "pruning")
    assert found[0]["l2"] == pytest.approx(expected)
    assert found[0]["density"] == pytest.approx(0.64, abs=1e-3)


def test_starts_are_init_or_a_step_of_round_0():
    assert parse_start("init", 10) == 0
    assert parse_start("rewind:500", 10) == 500
    assert parse_start("rewind:4ep", 10) == 40
    for wrong in ("rewind", "rewind:0", "rewind:x", "rewind:-1", "other:3"):
        with pytest.raises(InputError, match=r"--start.*500.*4ep"):
            parse_start(wrong, 10)


@pytest.mark.parametrize(
    ("name", "flags", "words"),
    [
        ("distances", ["--run_dir=nowhere"], "nowhere is not a run"),
        ("distances", ["--run_dir="], "--run_dir: expected"),
        ("barriers", ["--points=1"], "--points: expected at least 2. Received: 1"),
        ("barriers", ["--pairs="], "--pairs: expected successive"),
        ("barriers", ["--at_rounds=2"], "no path of --pairs starts from [2]"),
        ("thresholds", ["--labels=a,a"], "--labels: expected 1 different names"),
        ("barriers", ["--pairs=0-9"], "has no finished round 9; its rounds are 0 to 2"),
        ("instability", ["--copies=1"], "--copies: expected at least 2. Received: 1"),
        ("instability", ["--at_rounds=5"], "no finished round 5"),
        ("stability", ["--replicates=0"], "--replicates: expected at least 1"),
        ("histograms", ["--at_rounds=7"], "no finished round 7"),
        ("thresholds", ["--labels=a,b"], "--labels: expected 1 different names"),
        ("masks", ["--other_run=nowhere"], "nowhere is not a run"),
    ],
)
def test_bad_input_is_one_line(finished, name, flags, words):
    error = tool(name, finished, *flags, status=1).stderr
    assert error.startswith("Error: ")
    assert words in error
    assert len(error.splitlines()) == 1


@pytest.mark.ci
def test_what_was_trained_already_is_not_trained_again(run):
    """At round 0 dense, random and ticket masks are the same; the run's own seed is the run's."""
    tool("stability", run, "--at_rounds=0", "--replicates=1")
    assert set(trained(run)) == {
        "round_00_random_0_init_data_seed_1", "round_00_init_data_seed_1"
    }  # fmt: skip
    files = [run.path / "copies" / name / "trained/final.npz" for name in trained(run)]
    assert files[0].samefile(files[1])
