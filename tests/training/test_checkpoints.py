"""Nothing is lost, and nothing changes, when a run is stopped and launched again."""

import dataclasses
import re
import signal
import subprocess

import numpy as np
import pytest

from lottery_tf import datasets
from lottery_tf.pruning.streams import Noise
from lottery_tf.runs import checkpoints
from lottery_tf.runs.checkpoints import Checkpoint, Progress
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal.signals import Interrupted
from lottery_tf.training import engine
from lottery_tf.training.devices import connect
from lottery_tf.training.engine import Engine
from lottery_tf.training.training import Training
from tests.launching import LONG, copy, found, launch, npz_bytes

pytestmark = pytest.mark.versions

WAYS = {
    "adam": {},
    "momentum, conv": {
        "model": "tests.networks:batch_norm",
        "optimizer": "momentum",
        "schedule": "cosine",
        "weight_decay": 1e-4,
    },
    "streamed": {"resident": "off", "shuffle_window": 100},
    "dropout": {"model": "tests.networks:dropout"},
    "float16": {"mixed_precision": "float16", "optimizer": "momentum"},
    "mirrored": {"strategy": "mirrored", "cpu_devices": 2},
    "mirrored, streamed, dropout": {
        "strategy": "mirrored",
        "cpu_devices": 2,
        "resident": "off",
        "model": "tests.networks:dropout",
    },
}


def make(config):
    trained = Engine(config, datasets.find(config), connect(config))
    initialization = trained.initialization
    return trained, initialization(0)


@pytest.mark.ci
@pytest.mark.parametrize(
    ("way", "stops"),  # an epoch has 42 steps
    [
        ("adam", [24, 3, 42]),
        ("momentum, conv", [24]),
        *(
            pytest.param(way, [24], marks=pytest.mark.slow)
            for way in WAYS
            if way not in ("adam", "momentum, conv")
        ),
    ],
)
def test_a_training_goes_on_from_any_step_bit_for_bit(way, stops, config, monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "PIECE_SECONDS", 1e-9)  # every step is a piece
    config = config(epochs=2, deterministic=True, **WAYS[way])
    first, weights = make(config)
    training = Training(weights, first.dense_masks(), Noise(0, 1))
    expected, history = first.train(training)

    again, _ = make(config)  # a new process, but for the compiler's caches
    for stop_at in stops:

        def stop(progress, stop_at=stop_at):
            if progress.step == stop_at:
                checkpoints.save(tmp_path, 1, Checkpoint(progress, first.state()))
                raise Interrupted(signal.SIGTERM)

        with pytest.raises(Interrupted):
            first.train(training, on_piece=stop)
        checkpoint = checkpoints.newest(tmp_path, 1, pytest.fail)
        checkpoints.forget(tmp_path)
        checkpoint = Checkpoint.unpack(checkpoint.pack())  # as it travels to workers
        assert checkpoint.progress.step == stop_at
        steps = []
        found, resumed = again.train(
            dataclasses.replace(training, start=checkpoint),
            on_piece=lambda progress, steps=steps: steps.append(progress.step),
        )
        assert steps[0] == stop_at + 1
        for path in expected:
            assert np.array_equal(found[path], expected[path]), path
        assert list(map(without_seconds, resumed)) == list(map(without_seconds, history))


def without_seconds(row):
    return {column: value for column, value in row.items() if "seconds" not in column}


@pytest.mark.slow
def test_a_checkpoint_of_one_device_continues_on_two(config, monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "PIECE_SECONDS", 1e-9)
    one, weights = make(config())
    training, taken = Training(weights, one.dense_masks(), Noise(0, 0)), []

    def take(progress):
        if progress.step == 30:
            taken.append(Checkpoint(progress, one.state()))

    expected, history = one.train(training, on_piece=take)
    two, _ = make(config(strategy="mirrored", cpu_devices=2))
    found, resumed = two.train(dataclasses.replace(training, start=taken[0]))
    for path in expected:
        assert np.linalg.norm(found[path] - expected[path]) <= 1e-5 * np.linalg.norm(expected[path])
    assert resumed[0]["train_loss"] == pytest.approx(history[0]["train_loss"], rel=1e-6)
    assert resumed[0]["train_accuracy"] == pytest.approx(history[0]["train_accuracy"])


@pytest.mark.slow
def test_sigterm_saves_and_a_launch_goes_on_inside_the_round(long_run, stopped_run, tmp_path):
    run_dir = copy(stopped_run, tmp_path)
    step = int(found(run_dir)[-1].name.rpartition("_")[2])
    assert 0 < step < LONG["epochs"] * 42
    result = launch(run_dir, **LONG)
    assert result.returncode == 0
    assert npz_bytes(run_dir) == npz_bytes(long_run)
    assert not (run_dir / "checkpoints").exists()
    assert re.search(rf"\b{step}\b", (run_dir / "log.txt").read_text())
    history = RunDir(run_dir).history(0)
    assert [row["epoch"] for row in history] == list(range(1, LONG["epochs"] + 1))


def test_only_the_newest_two_are_kept(tmp_path):
    for step in (5, 10, 15, 15):
        progress = Progress(step, 0.5, 0.25, [{"epoch": 1, "train_loss": 0.1}], 1.5, 1.0)
        checkpoints.save(tmp_path, 3, Checkpoint(progress, {"totals": np.full(3, step)}))
    names = [path.name for path in found(tmp_path)]
    assert names == ["round_03_step_00000010", "round_03_step_00000015"]
    newest = checkpoints.newest(tmp_path, 3, pytest.fail)
    assert newest.progress == Progress(15, 0.5, 0.25, [{"epoch": 1, "train_loss": 0.1}], 1.5, 1.0)
    assert newest.state["totals"].tolist() == [15] * 3
    assert checkpoints.newest(tmp_path, 4, pytest.fail) is None
    result = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=found(tmp_path)[0], capture_output=True
    )
    assert result.returncode == 0
    checkpoints.forget(tmp_path)
    assert not found(tmp_path)


@pytest.mark.slow
def test_deterministic_runs_repeat_bit_for_bit(tmp_path):
    flags = {"model": "resnet20", "epochs": 1, "rounds": 2, "deterministic": True}
    for name in ("one", "two"):
        assert launch(tmp_path / name, train_examples=640, **flags).returncode == 0
    assert npz_bytes(tmp_path / "one") == npz_bytes(tmp_path / "two")
