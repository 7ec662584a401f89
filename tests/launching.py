"""Launches small experiments as commands, and kills them."""

import shutil
import subprocess
import time

from tests import forked
from tests.conftest import ROOT

LONG = {"epochs": 60, "rounds": 2}


def arguments(run_dir, **flags):
    tiny = {"batch_size": 32, "epochs": 3, "rounds": 4, "initializer": "kaiming_uniform"}
    flags = tiny | flags | {"run_dir": run_dir, "data_dir": ROOT / "data"}
    names = [f"--{name}={value}" for name, value in flags.items()]
    return [forked.python(), "-m", "lottery_tf.imp", *names]


def launch(run_dir, **flags):
    return subprocess.run(arguments(run_dir, **flags), cwd=ROOT, capture_output=True, text=True)


def npz_bytes(run_dir):
    """{file: bytes} of every npz of a run."""
    return {
        str(path.relative_to(run_dir)): path.read_bytes()
        for path in sorted(run_dir.glob("round_*/*.npz"))
    }


def kill_at(run_dir, condition, number, **flags):
    """Launches, waits until condition() holds, and sends a signal; (exit status, stderr)."""
    process = subprocess.Popen(
        arguments(run_dir, **flags), cwd=ROOT, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    while not condition() and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(number)
    _, stderr = process.communicate()
    return process.returncode, stderr


def copy(run_dir, tmp_path):
    """A copy of a run directory."""
    return shutil.copytree(run_dir, tmp_path / "run")


def found(run_dir):
    """The checkpoints of a run."""
    return sorted(run_dir.glob("checkpoints/round_*"))
