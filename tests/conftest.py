"""Fixtures: TensorFlow imported as the command does, and small experiments.

This file and the other conftest.py import nothing that imports TensorFlow.
"""

import gc
import os
import pathlib
import signal
import socket
import sys

import pytest

from lottery_tf.config import Config
from lottery_tf.plots import svg
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import quiet

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # for `tools`, which are not installed
if "PYTEST_XDIST_WORKER" in os.environ:  # each has a core to itself, its commands too
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")


def pytest_configure(config):
    """Import TensorFlow as the command does, in each process that runs tests."""
    if config.option.dist != "no" and not hasattr(config, "workerinput"):
        return  # it hands the tests to other processes
    quiet.import_tensorflow()
    import tensorflow as tf

    # For --strategy=mirrored; --strategy=auto takes one device where there are no GPUs.
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )


def pytest_itemcollected(item):
    """What takes too long for the default tests but not for CI has one mark, not two."""
    if item.get_closest_marker("ci"):
        item.add_marker("slow")


# Files with tests of half a minute and more.
LONG = {"test_commands.py", "test_docs.py", "test_examples.py", "test_frozen.py", "test_sweep.py"}


def pytest_collection_modifyitems(items):
    """Begin with the longest tests: at the end each would keep one process busy alone."""
    items.sort(key=lambda item: item.path.name not in LONG)


def pytest_collection_finish():
    """Keep what was imported out of garbage collections, of which Keras makes many."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch):
    """No test asks another machine for anything."""
    resolve = socket.getaddrinfo

    def resolve_loopback(host, *args, **kwargs):
        assert host in ("localhost", "127.0.0.1", "::1"), f"A test looks for {host}."
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_loopback)


@pytest.fixture
def without_pictures(monkeypatch):
    """Figures are made, but not drawn, which takes most of the time of a page."""
    monkeypatch.setattr(svg, "inline", lambda draw, **_: f"<svg><desc>{draw()}</desc></svg>")


REAL_DATA = "LOTTERY_TF_RAW_DATA"


@pytest.fixture
def config(tmp_path):
    """A function of flags: a tiny experiment on the embedded digits."""

    def make(**flags):
        tiny = {
            "run_dir": str(tmp_path / "run"),
            "data_dir": str(ROOT / "data"),
            "initializer": "kaiming_uniform",
            "batch_size": 32,
            "epochs": 2,
            "rounds": 3,
        }
        if flags.keys() & {"density", "densities"}:
            del tiny["rounds"]  # one for each of them
        return Config(**(tiny | flags))

    return make


@pytest.fixture(scope="session")
def sharded(tmp_path_factory):
    """A data directory whose digits are 50 random images in 3 shards of unequal length."""
    from tests.synthetic import write_dataset

    data_dir = tmp_path_factory.mktemp("sharded")
    write_dataset(data_dir, shard_lengths=[20, 13, 17])
    return data_dir


@pytest.fixture(scope="session")
def raw_data():
    """The directory of real raw data that the environment variable names."""
    path = pathlib.Path(os.environ.get(REAL_DATA, ""))
    if not os.environ.get(REAL_DATA) or not path.is_dir():
        pytest.skip(f"real data: set {REAL_DATA} to a directory with mnist/ in it")
    return path


@pytest.fixture(scope="session")
def long_run(tmp_path_factory):
    """The directory of a run of long rounds."""
    from tests.launching import LONG, launch

    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    assert launch(run_dir, **LONG).returncode == 0
    return run_dir


@pytest.fixture(scope="session")
def stopped_run(tmp_path_factory):
    """One like it that SIGTERM stopped in its first round, with two checkpoints at least."""
    from tests.launching import LONG, kill_at

    run_dir = tmp_path_factory.mktemp("stopped") / "run"

    def two_there():
        return len(list(run_dir.glob("checkpoints/round_00_*"))) == 2

    flags = LONG | {"checkpoint_minutes": 1e-9}  # at every epoch
    status, error = kill_at(run_dir, two_there, signal.SIGTERM, **flags)
    assert status == 75, error
    assert RunDir(run_dir).finished_rounds() == 0
    return run_dir
