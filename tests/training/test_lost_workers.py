"""A worker that dies, hangs or does not come is named, and a launch continues."""

import signal
import socket
import time

import numpy as np
import pytest

from lottery_tf.training.devices import describe_lost
from tests import workers
from tests.training.test_cluster import arguments, run


def test_a_worker_that_hangs_is_named_by_what_tensorflow_waited_for():
    ports = workers.free_ports(3)
    addresses = [f"localhost:{port}" for port in ports]
    with (
        socket.create_server(("localhost", ports[1])),
        socket.create_server(("localhost", ports[2])),
    ):
        message = describe_lost(addresses, 0, "Deadline\nwaited for /job:worker/task:2 in vain")
        assert message.startswith(f"Lost worker 2 ({addresses[2]}), which does not answer.")
        assert message.endswith("TensorFlow says: waited for /job:worker/task:2 in vain")
        both = describe_lost(addresses, 0, "Deadline")
        assert f"worker 1 ({addresses[1]}) or worker 2 ({addresses[2]})" in both
    gone = describe_lost(addresses, 0)
    assert "which is not there" in gone
    assert "TensorFlow" not in gone


def wait_for(path, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert path.exists()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_the_loss_of_a_worker_is_named_and_a_launch_continues(victim, tmp_path):
    flags = {"batch_size": 32, "epochs": 5, "rounds": 6, "checkpoint_minutes": 0.01}
    undisturbed = run(tmp_path / "whole", "multi_worker", **flags)
    given = arguments(tmp_path / "killed" / "run", "multi_worker", worker_timeout=30, **flags)
    processes = workers.start(given)
    wait_for(tmp_path / "killed" / "run" / "round_01")
    time.sleep(0.2)
    processes[victim].send_signal(signal.SIGKILL)
    began = time.monotonic()
    other = workers.finish(processes)[1 - victim]
    assert time.monotonic() - began < 40
    assert other[0] == 74
    assert f"Error: Lost worker {victim} (localhost:" in other[2]
    continued = run(tmp_path / "killed", "multi_worker", worker_timeout=30, **flags)
    for round in range(6):
        for name, expected in undisturbed.final(round).items():
            assert np.array_equal(continued.final(round)[name], expected)


@pytest.mark.slow
def test_a_worker_that_does_not_come_is_named(tmp_path):
    given = arguments(tmp_path / "run", "multi_worker", worker_timeout=3)
    processes = workers.start(given)
    processes[1].kill()
    status, _, error = workers.finish(processes)[0]
    assert status == 74
    assert "Error: Lost worker 1 (localhost:" in error


@pytest.mark.slow
def test_sigterm_on_one_worker_stops_all_with_a_checkpoint(tmp_path):
    given = arguments(tmp_path / "run", "multi_worker", rounds=200, epochs=20)
    processes = workers.start(given)
    wait_for(tmp_path / "run" / "round_01")
    processes[1].send_signal(signal.SIGTERM)
    results = workers.finish(processes)
    assert [status for status, _, _ in results] == [75, 75]
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 1
