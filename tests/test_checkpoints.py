"""Nothing is lost, and nothing changes, when a run dies, a file is damaged, or a disk is full."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from lottery_tf import checkpoints, datasets, engine, files, imp
from lottery_tf.cluster import connect
from lottery_tf.console import Interrupted
from lottery_tf.datasets import tfrecords
from lottery_tf.datasets.order import Noise
from lottery_tf.errors import InputError
from lottery_tf.moment import Moment
from lottery_tf.rundir import RunDir
from tests.conftest import ROOT
from tests.synthetic import write_dataset
from tests.test_imp import arguments, kill_at, launch, npz_bytes

WAYS = {
    "adam": {},
    "momentum, conv": {
        "model": "resnet20", "optimizer": "momentum", "schedule": "cosine", "train_examples": 320,
        "batch_size": 16,
    },
    "streamed": {"resident": "off", "shuffle_window": 100},
    "dropout": {"model": "tests.networks:dropout"},
    "float16": {"mixed_precision": "float16", "optimizer": "momentum"},
    "mirrored": {"strategy": "mirrored", "cpu_devices": 2},
    "mirrored, streamed, dropout": {
        "strategy": "mirrored", "cpu_devices": 2, "resident": "off",
        "model": "tests.networks:dropout",
    },
}  # fmt: skip


def make(config):
    trained, initialization = imp.prepare(config, datasets.find(config), connect(config))
    return trained, initialization(0)


@pytest.mark.parametrize(
    ("way", "stop_at"),  # an epoch has 20 or 42 steps
    [("adam", 3), ("adam", 42), ("momentum, conv", 20), *((way, 24) for way in WAYS)],
)
def test_a_training_goes_on_from_any_step_bit_for_bit(way, stop_at, config, monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "PIECE_SECONDS", 1e-9)  # every step is a piece
    config = config(epochs=2, deterministic=True, **WAYS[way])
    first, weights = make(config)
    masks, noise = first.dense_masks(), Noise(0, 1)
    expected, history = first.train(weights, masks, noise)

    def stop(moment):
        if moment.step == stop_at:
            checkpoints.save(tmp_path, 1, moment, first.state())
            raise Interrupted(signal.SIGTERM)

    with pytest.raises(Interrupted):
        first.train(weights, masks, noise, on_piece=stop)
    again, _ = make(config)  # a new process, but for the compiler's caches
    checkpoint = checkpoints.newest(tmp_path, 1, pytest.fail)
    checkpoint = checkpoints.unpack(checkpoints.pack(checkpoint))  # as it travels to workers
    assert checkpoint[0].step == stop_at
    steps = []
    found, resumed = again.train(
        {}, masks, noise, checkpoint=checkpoint, on_piece=lambda moment: steps.append(moment.step)
    )
    assert steps[0] == stop_at + 1
    for path in expected:
        assert np.array_equal(found[path], expected[path]), path
    for one, other in zip(history, resumed, strict=True):
        assert {k: v for k, v in one.items() if "seconds" not in k} == {
            k: v for k, v in other.items() if "seconds" not in k
        }


def test_a_checkpoint_of_one_device_continues_on_two(config, monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "PIECE_SECONDS", 1e-9)
    one, weights = make(config())
    masks, taken = one.dense_masks(), []

    def take(moment):
        if moment.step == 30:
            taken.append((moment, one.state()))

    expected, history = one.train(weights, masks, Noise(0, 0), on_piece=take)
    two, _ = make(config(strategy="mirrored", cpu_devices=2))
    found, resumed = two.train({}, masks, Noise(0, 0), checkpoint=taken[0])
    for path in expected:
        assert np.linalg.norm(found[path] - expected[path]) <= 1e-5 * np.linalg.norm(expected[path])
    assert resumed[0]["train_loss"] == pytest.approx(history[0]["train_loss"], rel=1e-6)
    assert resumed[0]["train_accuracy"] == pytest.approx(history[0]["train_accuracy"])


LONG = {"epochs": 300, "rounds": 2}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    assert launch(run_dir, **LONG).returncode == 0
    return run_dir


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that SIGTERM stopped in its first round, with two checkpoints at least."""
    run_dir = tmp_path_factory.mktemp("stopped") / "run"

    def two_there():
        return len(list(run_dir.glob("checkpoints/round_00_*"))) == 2

    flags = LONG | {"checkpoint_minutes": 0.005}
    status, error = kill_at(run_dir, two_there, signal.SIGTERM, **flags)
    assert status == 75, error
    assert RunDir(run_dir).finished_rounds() == 0
    return run_dir


def copy(run_dir, tmp_path):
    return shutil.copytree(run_dir, tmp_path / "run")


def found(run_dir):
    return sorted(run_dir.glob("checkpoints/round_*"))


def test_sigterm_saves_and_a_launch_goes_on_inside_the_round(undisturbed, stopped, tmp_path):
    run_dir = copy(stopped, tmp_path)
    step = int(found(run_dir)[-1].name.rpartition("_")[2])
    assert 0 < step < 300 * 42
    result = launch(run_dir, **LONG)
    assert result.returncode == 0
    assert npz_bytes(run_dir) == npz_bytes(undisturbed)
    assert not (run_dir / "checkpoints").exists()
    assert "continues at step" in (run_dir / "log.txt").read_text()
    history = RunDir(run_dir).history(0)
    assert [row["epoch"] for row in history] == list(range(1, 301))


@pytest.mark.slow
def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_taken(
    undisturbed, stopped, tmp_path
):
    run_dir = copy(stopped, tmp_path)
    older, newer = found(run_dir)
    (newer / "state.npz").write_bytes((newer / "state.npz").read_bytes()[:1000])
    result = launch(run_dir, **LONG)
    assert result.returncode == 0
    assert f"{newer}/state.npz is damaged" in result.stderr
    assert (
        f"continues at step {int(older.name.rpartition('_')[2])}"
        in (run_dir / "log.txt").read_text()
    )
    assert npz_bytes(run_dir) == npz_bytes(undisturbed)


def test_a_truncated_checkpoint_is_never_taken(stopped, tmp_path):
    run_dir = copy(stopped, tmp_path)
    older, newer = found(run_dir)
    generator = np.random.default_rng(0)
    good = checkpoints.newest(run_dir, 0, pytest.fail)
    for _ in range(20):
        name = generator.choice(["state.npz", "moment.csv", "history.csv", "SHA256SUMS"])
        content = (newer / name).read_bytes()
        (newer / name).write_bytes(content[: generator.integers(0, len(content))])
        reported = []
        moment, state = checkpoints.newest(run_dir, 0, reported.append)
        if reported:
            assert str(newer) in reported[0]
            assert moment.step == int(older.name.rpartition("_")[2])
        else:  # SHA256SUMS lost only the newline at its end, or so
            assert name == "SHA256SUMS"
            assert moment == good[0]
            assert all(np.array_equal(state[key], good[1][key]) for key in state)
        (newer / name).write_bytes(content)
    shutil.rmtree(older)
    (newer / "state.npz").unlink()
    assert checkpoints.newest(run_dir, 0, reported.append) is None


def flip(path, generator):
    """Flips a random bit of a file; returns its content before."""
    content = path.read_bytes()
    damaged = bytearray(content)
    damaged[generator.integers(len(damaged))] ^= 1 << generator.integers(8)
    path.write_bytes(damaged)
    return content


def test_no_flipped_bit_changes_anything_silently(stopped, undisturbed, tmp_path):
    """Of 50 in a round, 50 in a checkpoint and 50 in a shard; each is named or harmless."""
    generator = np.random.default_rng()
    run = RunDir(copy(undisturbed, tmp_path))
    checkpointed = shutil.copytree(stopped, tmp_path / "stopped")
    write_dataset(tmp_path, shard_lengths=[30, 20])
    from lottery_tf.config import Config

    directory = datasets.find(Config(data_dir=str(tmp_path)))
    shards = [shard.path for split in directory.splits.values() for shard in split.shards]
    newest = found(checkpointed)[-1]

    def read_round():
        return {f"{n}/{k}": v for n in ("masks", "final", "initial")
                for k, v in getattr(run, n)(1).items()}  # fmt: skip

    def read_checkpoint():
        def report(line):
            raise InputError(line)

        moment, state = checkpoints.newest(checkpointed, 0, report)
        return state | {"moment": np.array(str(moment))}

    def read_data():
        arrays = [a for split in ("train", "test") for a in tfrecords.read(directory, split)]
        return dict(enumerate(arrays))

    detected = 0
    for read, paths in (
        (read_round, [*run.round_path(1).glob("*.npz"), run.round_path(1) / "SHA256SUMS"]),
        (read_checkpoint, sorted(newest.iterdir())),
        (read_data, shards),
    ):
        expected = read()
        for _ in range(50):
            path = paths[generator.integers(len(paths))]
            before = flip(path, generator)
            try:
                arrays = read()
            except InputError as error:
                detected += 1
                name = path.parent if path.name == "SHA256SUMS" else path
                complaint = str(error)
            else:
                name = complaint = ""
                assert all(np.array_equal(arrays[key], expected[key]) for key in expected)
            assert str(name) in complaint
            path.write_bytes(before)
    print(f"{detected} of 150 flipped bits were detected, the others harmless")
    assert detected > 100


@contextlib.contextmanager
def small_disk(path, megabytes):
    """A file system of its own."""
    path.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)]
    if subprocess.run(mounting, capture_output=True).returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_keeps_the_finished_rounds_and_a_launch_goes_on(undisturbed, tmp_path):
    flags = {"epochs": 3, "rounds": 8}
    whole = tmp_path / "whole"
    assert launch(whole, **flags).returncode == 0
    with small_disk(tmp_path / "disk", megabytes=2) as disk:  # a round takes 0.5 MB
        result = launch(disk / "run", **flags)
        assert result.returncode == 1
        finished = RunDir(disk / "run").finished_rounds()
        assert 2 <= finished < 8
        message = f"Error: Cannot save {disk}/run/round_{finished:02d}: No space left on device."
        assert message in result.stderr
        assert "Traceback" not in result.stderr
        for round in range(finished):
            RunDir(disk / "run").final(round)
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        assert launch(disk / "run", **flags).returncode == 0
        assert npz_bytes(disk / "run") == npz_bytes(whole)


def test_a_checkpoint_that_cannot_be_saved_is_reported_and_the_training_goes_on(config, capsys):
    class Silent:
        def __getattr__(self, name):
            return lambda *args, **kwargs: None

    from lottery_tf.recorder import Recorder

    config = config()
    run = RunDir(config.run_dir)
    with run.open(config):
        recorder = Recorder(run, config, Silent())
        recorder.round = 0
        (run.path / "checkpoints").write_text("a file in the way")
        recorder.save_checkpoint(Moment(7, 0.0, 0.0, [], 0.0, 0.0), {"weights/w": np.zeros(1)})
    assert "No checkpoint at step 7" in capsys.readouterr().err
    assert "No checkpoint at step 7" in (run.path / "log.txt").read_text()


def test_a_run_removed_under_its_feet_is_a_clear_error(tmp_path):
    run_dir = tmp_path / "run"
    process = subprocess.Popen(
        arguments(run_dir, rounds=500), cwd=ROOT, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (run_dir / "round_01").exists():
        assert process.poll() is None
    os.rename(run_dir, tmp_path / "elsewhere")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"Error: Cannot save into {run_dir}: it was removed" in error
    assert "Traceback" not in error
    assert RunDir(tmp_path / "elsewhere").finished_rounds() >= 2


def test_only_the_newest_two_are_kept(tmp_path):
    for step in (5, 10, 15, 15):
        moment = Moment(step, 0.5, 0.25, [{"epoch": 1, "train_loss": 0.1}], 1.5, 1.0)
        checkpoints.save(tmp_path, 3, moment, {"totals": np.full(3, step)})
    names = [path.name for path in found(tmp_path)]
    assert names == ["round_03_step_00000010", "round_03_step_00000015"]
    moment, state = checkpoints.newest(tmp_path, 3, pytest.fail)
    assert moment == Moment(15, 0.5, 0.25, [{"epoch": 1, "train_loss": 0.1}], 1.5, 1.0)
    assert state["totals"].tolist() == [15] * 3
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


def test_a_save_is_whole_or_not_there(tmp_path, monkeypatch):
    def fail(path, content):
        if path.name == "b":
            raise OSError(28, "No space left on device")
        path.write_bytes(content)

    monkeypatch.setattr(files, "write", fail)
    with pytest.raises(InputError, match=r"Cannot save .*/whole: No space left"):
        files.write_directory(tmp_path / "whole", {"a": b"1", "b": b"2"})
    assert list(tmp_path.iterdir()) == []
    assert sys.exc_info() == (None, None, None)
