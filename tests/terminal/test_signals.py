"""SIGTERM, SIGHUP and Ctrl-C: what a run is told, and a terminal that is closed."""

import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from lottery_tf.terminal import signals
from tests.conftest import ROOT
from tests.launching import arguments


@pytest.fixture
def handlers():
    """Handlers of STOPS that count; those of before come back."""
    came = []
    before = {
        number: signal.signal(number, lambda n, _: came.append(n)) for number in signals.STOPS
    }
    yield came
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", signals.STOPS)
def test_the_first_signal_is_told(handlers, number):
    with signals.stop_signals() as stop_signal:
        assert stop_signal() == 0
        signal.raise_signal(number)
        assert stop_signal() == number
        signal.raise_signal(signal.SIGHUP)
        assert stop_signal() == number
    assert handlers == []
    signal.raise_signal(number)
    assert handlers == [number]


def test_a_second_signal_acts_but_for_a_second_hangup(handlers):
    with signals.stop_signals():
        for number in signals.STOPS * 2:
            signal.raise_signal(number)
    assert handlers == [signal.SIGTERM, signal.SIGINT]


def test_nohup_keeps_hangups_ignored(handlers):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals.stop_signals() as stop_signal:
        signal.raise_signal(signal.SIGHUP)
        assert stop_signal() == 0
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_statuses():
    statuses = {number.name: signals.Interrupted(number).status for number in signals.STOPS}
    assert statuses == {"SIGTERM": 75, "SIGHUP": 75, "SIGINT": 130}


HANGUP = """
import sys, time
from lottery_tf.terminal import signals

def function(stop_signal):
    print("ready", flush=True)
    while not stop_signal():
        time.sleep(0.01)
    print("to nobody", flush=True)
    raise signals.Interrupted(stop_signal())

sys.exit(signals.resumable(function))
"""


def close_terminal(command, ready):
    """Launches in a terminal of its own, closes it when ready(output) holds; the exit status."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, os, signal, sys, termios\n"
            "os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY)\n"
            # Tests that are run under nohup pass on that it is ignored.
            "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
            "os.execv(sys.argv[1], sys.argv[1:])",
            *command,
        ],
        cwd=ROOT,
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    os.set_blocking(master, False)
    output = b""
    while not ready(output) and process.poll() is None:
        time.sleep(0.005)
        try:
            output += os.read(master, 1 << 16)
        except OSError:  # nothing yet
            continue
    os.close(master)
    return process.wait(60), output


def test_writing_to_a_closed_terminal_stops_nothing():
    status, output = close_terminal([sys.executable, "-c", HANGUP], lambda out: b"ready" in out)
    assert status == 75, output


@pytest.mark.slow
def test_a_run_whose_terminal_is_closed_saves_a_checkpoint(tmp_path):
    run_dir = tmp_path / "run"
    command = arguments(run_dir, rounds=100)
    status, output = close_terminal(command, lambda _: (run_dir / "round_00").exists())
    assert status == 75, output.decode()
    assert len(list((run_dir / "checkpoints").iterdir())) == 1
    assert "stopped by SIGHUP" in (run_dir / "log.txt").read_text()
