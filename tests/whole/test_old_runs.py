"""Runs that an older version made: they are read, resumed and repeated bit for bit."""

import pathlib
import re
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from lottery_tf import imp
from lottery_tf.config import command
from lottery_tf.runs.rundir import RunDir
from tests.conftest import ROOT
from tests.launching import npz_bytes

pytestmark = pytest.mark.versions

# What the bits of a result depend on, as it was where the runs were made: tests/old_run/README.md.
MADE_ON = {"avx", "avx2", "fma", "TensorFlow 2.21.0"}
BOTH = "--dataset=digits --data_dir=data --rounds=4 --checkpoint_minutes=1e-9 --batch_size=32"
MADE_BY = {
    "dropout": "--model=tests.networks:dropout --epochs=10",
    "normalised": "--model=tests.networks:normalised --epochs=3 --optimizer=momentum "
    "--learning_rate=0.05 --schedule=cosine --weight_decay=1e-4 --resident=off --repel=0.5 "
    "--reset=reinit",
}


def this_machine():
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    instructions = set(re.findall(r"\b(?:avx\w*|amx\w*|fma)\b", text))
    return instructions | {f"TensorFlow {tf.__version__}"}


@pytest.fixture(scope="module", params=MADE_BY)
def old(request, tmp_path_factory):
    """(Directory with part/, a run killed in its fourth round, and whole/, that round; flags)."""
    path = tmp_path_factory.mktemp(request.param)
    with tarfile.open(ROOT / "tests" / "old_run" / f"{request.param}.tar.gz") as archive:
        archive.extractall(path, filter="data")
    return path, f"{BOTH} {MADE_BY[request.param]}".split()


def check(run_dir, *expected_dirs, rounds):
    """Compares the npz of a run with those of others that have its rounds between them."""
    expected = {}
    for expected_dir in expected_dirs:
        expected |= npz_bytes(expected_dir)
    expected = {name: content for name, content in expected.items() if int(name[6:8]) < rounds}
    assert len(expected) == 3 * rounds
    found = npz_bytes(run_dir)
    assert found.keys() == expected.keys()
    differing = [name for name in found if found[name] != expected[name]]
    if not differing:
        return
    assert this_machine() != MADE_ON, f"{differing} are not what they were"
    for expected_dir in expected_dirs:
        for path in sorted(expected_dir.glob("round_*/final.npz")):
            if int(path.parent.name[6:]) < rounds:
                check_weights(run_dir / path.relative_to(expected_dir), path)


def check_weights(found, expected):
    found, expected = np.load(found), np.load(expected)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        # A bias before BatchNorm has no effect: it is rounding, 1e-6 at most, around zero.
        limit = 1e-3 * np.linalg.norm(array) + 1e-5
        assert np.linalg.norm(found[name] - array) <= limit, name


@pytest.mark.ci
def test_an_old_run_is_read_and_goes_on_from_its_checkpoint_bit_for_bit(old, tmp_path):
    path, made_by = old
    run_dir = shutil.copytree(path / "part", tmp_path / "run")
    run = RunDir(run_dir)
    assert run.finished_rounds() == 3
    assert [row["round"] for row in run.metrics()] == [0, 1, 2]
    step = int(next(run_dir.glob("checkpoints/round_03_*")).name.rpartition("_")[2])
    arguments = [sys.executable, "-m", "lottery_tf.imp", *made_by, f"--run_dir={run_dir}"]
    result = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "3 of 4 rounds are finished" in result.stdout
    assert f"round 3 continues at step {step}" in (run_dir / "log.txt").read_text()
    check(run_dir, path / "part", path / "whole", rounds=4)


@pytest.mark.ci
def test_the_flag_file_of_an_old_run_repeats_it_bit_for_bit(old, tmp_path):
    path, _ = old
    values = flags.FlagValues()
    command.define_config_flags(values)
    arguments = [f"--flagfile={path / 'part' / 'flags.cfg'}", f"--data_dir={ROOT / 'data'}"]
    arguments += ["--rounds=2", "--checkpoint_minutes=0", f"--run_dir={tmp_path / 'run'}"]
    assert imp.main(command.parse_config(["imp", *arguments], values)) == 0
    check(tmp_path / "run", path / "part", rounds=2)
