"""Nothing is lost, and nothing changes silently, when a file is damaged or a disk is full."""

import contextlib
import os
import shutil
import subprocess

import numpy as np
import pytest

from lottery_tf import datasets, imp
from lottery_tf.datasets import tfrecords
from lottery_tf.errors import InputError
from lottery_tf.runs import checkpoints
from lottery_tf.runs.rundir import RunDir
from tests.conftest import ROOT
from tests.launching import LONG, arguments, copy, found, launch, npz_bytes
from tests.synthetic import write_dataset


@pytest.mark.slow
def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_taken(
    long_run, stopped_run, tmp_path
):
    run_dir = copy(stopped_run, tmp_path)
    older, newer = found(run_dir)
    (newer / "state.npz").write_bytes((newer / "state.npz").read_bytes()[:1000])
    result = launch(run_dir, **LONG)
    assert result.returncode == 0
    assert f"{newer}/state.npz is damaged" in result.stderr
    assert (
        f"continues at step {int(older.name.rpartition('_')[2])}"
        in (run_dir / "log.txt").read_text()
    )
    assert npz_bytes(run_dir) == npz_bytes(long_run)


@pytest.mark.slow
def test_a_truncated_checkpoint_is_never_taken(stopped_run, tmp_path):
    run_dir = copy(stopped_run, tmp_path)
    older, newer = found(run_dir)
    generator = np.random.default_rng(0)
    good = checkpoints.newest(run_dir, 0, pytest.fail)
    for _ in range(20):
        name = generator.choice(["state.npz", "moment.csv", "history.csv", "SHA256SUMS"])
        content = (newer / name).read_bytes()
        (newer / name).write_bytes(content[: generator.integers(0, len(content))])
        reported = []
        newest = checkpoints.newest(run_dir, 0, reported.append)
        if reported:
            assert str(newer) in reported[0]
            assert newest.progress.step == int(older.name.rpartition("_")[2])
        else:  # SHA256SUMS lost only the newline at its end, or so
            assert name == "SHA256SUMS"
            assert newest.progress == good.progress
            assert all(np.array_equal(newest.state[key], good.state[key]) for key in good.state)
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


@pytest.mark.slow
def test_no_flipped_bit_changes_anything_silently(stopped_run, long_run, tmp_path):
    """Of 50 in a round, 50 in a checkpoint and 50 in a shard; each is named or harmless."""
    generator = np.random.default_rng()
    run = RunDir(copy(long_run, tmp_path))
    checkpointed = shutil.copytree(stopped_run, tmp_path / "stopped")
    write_dataset(tmp_path, shard_lengths=[30, 20])
    from lottery_tf.config import Config

    directory = datasets.find(Config(data_dir=str(tmp_path)))
    shards = [shard.path for split in directory.splits.values() for shard in split.shards]
    newest = found(checkpointed)[-1]

    def read_round():
        read = {name: getattr(run, name)(1) for name in ("masks", "final", "initial")}
        return {
            f"{n}/{path}": array for n, arrays in read.items() for path, array in arrays.items()
        }

    def read_checkpoint():
        def report(line):
            raise InputError(line)

        newest = checkpoints.newest(checkpointed, 0, report)
        return newest.state | {"progress": np.array(str(newest.progress))}

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


@pytest.mark.slow
def test_a_full_disk_keeps_the_finished_rounds_and_a_launch_goes_on(long_run, tmp_path):
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


@pytest.mark.ci
def test_a_checkpoint_that_cannot_be_saved_is_reported_and_the_training_goes_on(
    config, capsys, monkeypatch
):
    monkeypatch.setattr("lottery_tf.training.engine.PIECE_SECONDS", 1e-9)  # every step is a piece
    config = config(rounds=1, epochs=1, checkpoint_minutes=1e-9)
    run = RunDir(config.run_dir)
    run.path.mkdir()
    (run.path / "checkpoints").write_text("a file in the way")
    imp.main(config)
    assert "No checkpoint at step 7" in capsys.readouterr().err
    assert "No checkpoint at step 7" in (run.path / "log.txt").read_text()
    assert run.finished_rounds() == 1


@pytest.mark.slow
def test_a_run_removed_under_its_feet_is_a_clear_error(tmp_path):
    run_dir = tmp_path / "run"
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(arguments(run_dir, rounds=500), cwd=ROOT, **pipes)
    while not (run_dir / "round_01").exists():
        assert process.poll() is None
    os.rename(run_dir, tmp_path / "elsewhere")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"Error: Cannot save into {run_dir}: it was removed" in error
    assert "Traceback" not in error
    assert RunDir(tmp_path / "elsewhere").finished_rounds() >= 2
