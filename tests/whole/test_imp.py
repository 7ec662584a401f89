"""Whole runs on the digits, in process and as the command."""

import csv
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

from lottery_tf import imp, pruning
from lottery_tf.runs.rundir import RunDir
from tests.conftest import ROOT
from tests.launching import arguments, kill_at, launch, npz_bytes


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A finished run, and what its command printed."""
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    _, *given = arguments(run_dir)
    command = [sys.executable, *given]  # what importing TensorFlow prints must not be seen
    return run_dir, subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_a_run_leaves_what_it_should_and_prints_one_row_per_round(undisturbed):
    run_dir, result = undisturbed
    assert result.returncode == 0
    assert result.stderr == ""
    rows = result.stdout.splitlines()
    assert rows[1].split() == ["round", "density", "train", "acc", "test", "acc", "threshold",
                               "seconds"]  # fmt: skip
    assert [row.split()[:2] for row in rows[2:]] == [
        ["0", "100.00%"], ["1", "80.00%"], ["2", "64.00%"], ["3", "51.20%"]
    ]  # fmt: skip
    names = {path.name for path in run_dir.iterdir()}
    assert names == {
        ".lock", "config.json", "data.json", "environment.json", "flags.cfg", "log.txt",
        "metrics.csv", "tensorboard",
    } | {f"round_{round:02d}" for round in range(4)}  # fmt: skip
    with open(run_dir / "metrics.csv") as file:
        metrics = list(csv.DictReader(file))
    densities = [float(row["density"]) for row in metrics]
    assert densities == pytest.approx([1, 0.8, 0.64, 0.512], abs=2e-5)
    assert float(metrics[0]["test_accuracy"]) > 0.9
    assert "finished" in (run_dir / "log.txt").read_text().splitlines()[-1]


def test_rounds_follow_the_algorithm(undisturbed):
    run = RunDir(undisturbed[0])
    w0 = run.initial(0)
    for round in range(4):
        masks, initial, final = run.masks(round), run.initial(round), run.final(round)
        for path in w0:
            expected = np.where(masks[path], w0[path], 0) if path in masks else w0[path]
            assert np.array_equal(initial[path], expected)
            assert not np.array_equal(final[path], initial[path])
        if round:
            pruned, threshold = pruning.prune(run.final(round - 1), run.masks(round - 1), 0.2)
            assert all(np.array_equal(pruned[path], masks[path]) for path in masks)
            assert run.metrics()[round - 1]["threshold"] == threshold.removed


def test_history_has_a_row_per_epoch(undisturbed):
    history = RunDir(undisturbed[0]).history(2)
    assert [(row["epoch"], row["step"]) for row in history] == [(1, 42), (2, 84), (3, 126)]
    assert history[2]["train_loss"] < history[0]["train_loss"]


def read_events(path):
    events = event_accumulator.EventAccumulator(str(path), size_guidance={"tensors": 0})
    events.Reload()
    return events


def scalars(events, tag):
    return [float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)]


def test_tensorboard_sees_curves_by_epoch_and_everything_by_round(undisturbed):
    run = RunDir(undisturbed[0])
    by_round = read_events(run.path / "tensorboard")
    tags = by_round.Tags()
    densities = scalars(by_round, "round/density (%)")
    assert densities == pytest.approx([100, 80, 64, 51.2], abs=2e-3)
    for tag in ("round/test_accuracy (%)", "round/threshold", "surviving weights/all",
                "surviving weights/hidden1/kernel"):  # fmt: skip
        assert tag in tags["tensors"]
        assert [event.step for event in by_round.Tensors(tag)] == [0, 1, 2, 3]
    by_epoch = read_events(run.path / "tensorboard" / "epochs")
    steps = [event.step for event in by_epoch.Tensors("epoch/test_accuracy (%)")]
    assert steps == list(range(1, 4 * 3 + 1))  # 4 rounds of 3 epochs
    found = scalars(by_epoch, "epoch/test_accuracy (%)")[2 * 3 : 3 * 3]
    assert found == pytest.approx([100 * row["test_accuracy"] for row in run.history(2)])


def test_tensorboards_list_has_two_entries_for_a_run_whatever_its_rounds(undisturbed):
    files = (undisturbed[0] / "tensorboard").rglob("events.*")
    assert {path.parent.name for path in files} == {"tensorboard", "epochs"}


@pytest.mark.ci
def test_kill_9_in_a_round_and_resume_equals_uninterrupted(undisturbed, tmp_path):
    run_dir = tmp_path / "run"

    def started():
        return any(run_dir.glob("tensorboard/epochs/*.round_02"))

    status, _ = kill_at(run_dir, started, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert RunDir(run_dir).finished_rounds() == 2
    result = launch(run_dir)
    assert result.returncode == 0
    assert "2 of 4 rounds are finished" in result.stdout
    assert npz_bytes(run_dir) == npz_bytes(undisturbed[0])
    assert len((run_dir / "metrics.csv").read_text().splitlines()) == 5
    by_round = read_events(run_dir / "tensorboard").Tensors("round/density (%)")
    assert [event.step for event in by_round] == [0, 1, 2, 3]


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_nothing(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    flags = {"epochs": 20, "rounds": 40}
    assert launch(whole, **flags).returncode == 0
    generator = np.random.default_rng()
    for _ in range(10):
        base = RunDir(killed).finished_rounds()
        more, extra = generator.integers(0, 4), generator.uniform(0, 0.3)

        def moment(enough=base + more, extra=extra):
            there = RunDir(killed).finished_rounds() >= enough and (killed / "config.json").exists()
            time.sleep(extra if there else 0)
            return there

        status, _ = kill_at(killed, moment, signal.SIGKILL, **flags)
        print(f"killed at {more} rounds + {extra:.3f} s: {base} -> "
              f"{RunDir(killed).finished_rounds()} rounds")  # fmt: skip
        assert status == -signal.SIGKILL
    assert launch(killed, **flags).returncode == 0
    assert npz_bytes(killed) == npz_bytes(whole)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGTERM, marks=pytest.mark.ci),
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_signals_end_cleanly_and_say_how_to_resume(tmp_path, number):
    run_dir = tmp_path / "run"

    def started():
        return any(run_dir.glob("tensorboard/epochs/*.round_01"))

    status, stderr = kill_at(run_dir, started, number, rounds=100)
    assert status == {signal.SIGINT: 130, signal.SIGTERM: 75}[number]
    assert len(list((run_dir / "checkpoints").iterdir())) == 1
    assert stderr.startswith(f"Stopped by {number.name}. To resume: python -m lottery_tf.imp")
    assert f"--run_dir={run_dir}" in stderr
    assert "Traceback" not in stderr
    assert RunDir(run_dir).finished_rounds() >= 1


@pytest.mark.ci
def test_rounds_may_grow_on_a_finished_run(undisturbed, tmp_path):
    run_dir = tmp_path / "run"
    assert launch(run_dir, rounds=2).returncode == 0
    before = {name: os.stat(run_dir / name).st_mtime_ns for name in npz_bytes(run_dir)}
    assert launch(run_dir, rounds=4).returncode == 0
    assert npz_bytes(run_dir) == npz_bytes(undisturbed[0])
    assert all(os.stat(run_dir / name).st_mtime_ns == then for name, then in before.items())


@pytest.mark.slow
def test_reinit_starts_every_round_elsewhere_on_its_own_masks(config):
    imp.main(config(reset="reinit", rounds=4, epochs=1))
    run = RunDir(config().run_dir)
    starts = [run.initial(round)["logits/kernel"] for round in range(4)]
    for some in range(4):
        for other in range(some):
            both = (starts[some] != 0) & (starts[other] != 0)
            assert both.any()
            assert (starts[some] != starts[other])[both].all()
    for round in range(1, 4):
        pruned, _ = pruning.prune(run.final(round - 1), run.masks(round - 1), 0.2)
        assert all(np.array_equal(pruned[path], run.masks(round)[path]) for path in pruned)


@pytest.mark.slow
def test_seeds_act_on_what_they_name(config, tmp_path):
    def run(name, **flags):
        flags = {"model": "tests.networks:linear", "rounds": 1, "epochs": 1} | flags
        imp.main(config(run_dir=str(tmp_path / name), **flags))
        run = RunDir(tmp_path / name)
        return run.initial(0)["logits/kernel"], run.final(0)["logits/kernel"]

    base = run("base", seed=3)
    assert np.array_equal(base, run("same", init_seed=3, data_seed=3))
    other_noise = run("noise", seed=3, data_seed=4)
    assert np.array_equal(base[0], other_noise[0])
    assert not np.array_equal(base[1], other_noise[1])
    assert not np.array_equal(base[0], run("init", seed=3, init_seed=4)[0])
