"""A run as a process: pinned, stopped, and ended with what started it."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from lottery_tf.sweeps import processes
from lottery_tf.sweeps.processes import Job, attempt, cores_held, hold_cores
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="affinity and prctl are Linux's")


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A function of Python code -> the Job that runs it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # where cores are held

    def make(code, **changes):
        values = {
            "command": ("python", "-c", code),
            "directory": str(tmp_path),
            "environment": dict(os.environ),
            "run_dir": str(tmp_path / "run"),
            "log": str(tmp_path / "run.log"),
            "cores": 1,
            "stop_file": str(tmp_path / "stop"),
        }
        return Job(**values | changes)

    return make


SHOW = """
import os
print(sorted(os.sched_getaffinity(0)), os.environ["TF_NUM_INTRAOP_THREADS"],
      os.environ["OMP_NUM_THREADS"], os.getcwd(), os.environ["OWN"])
"""


def test_a_run_is_pinned_to_its_cores_with_as_many_threads(job, tmp_path):
    first = min(os.sched_getaffinity(0))
    assert attempt(job(SHOW, environment=dict(os.environ) | {"OWN": "mine"})) == 0
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert "python -c" in lines[0]
    assert lines[-2].endswith(f"on cores {first}")
    assert lines[-1] == f"[{first}] 1 1 {tmp_path} mine"


def test_without_cores_nothing_is_pinned(job, tmp_path):
    code = "import os; print(len(os.sched_getaffinity(0)), os.environ.get('OMP_NUM_THREADS'))"
    environment = {name: text for name, text in os.environ.items() if name != "OMP_NUM_THREADS"}
    assert attempt(job(code, cores=0, environment=environment)) == 0
    all_cores = len(os.sched_getaffinity(0))
    assert (tmp_path / "run.log").read_text().splitlines()[-1] == f"{all_cores} None"


def test_exit_statuses_and_signals_are_told(job):
    assert attempt(job("raise SystemExit(74)")) == 74
    assert attempt(job("import os; os.kill(os.getpid(), 9)")) == -9


STOPPABLE = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
open("ready", "w").close()
time.sleep(60)
"""


def wait_for(path):
    while not path.exists():
        time.sleep(0.01)


def test_the_stop_file_stops_it(job, tmp_path):
    status = []
    thread = threading.Thread(target=lambda: status.append(attempt(job(STOPPABLE))))
    thread.start()
    wait_for(tmp_path / "ready")
    (tmp_path / "stop").touch()
    thread.join(30)
    assert status == [75]
    (tmp_path / "ready").unlink()
    assert attempt(job(STOPPABLE)) == 75  # not begun at all
    assert not (tmp_path / "ready").exists()


STARTER = """
import os, sys
from lottery_tf.sweeps import processes
from lottery_tf.sweeps.processes import Job, attempt
import tempfile; tempfile.tempdir = sys.argv[1]
attempt(Job(("python", "-c", sys.argv[2]), sys.argv[1], dict(os.environ), sys.argv[1] + "/run",
            sys.argv[1] + "/log", 1, sys.argv[1] + "/stop"))
"""
COUNTING = """
import os, signal, sys, time
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
open("ready", "w").close()
while not told:
    time.sleep(0.01)
time.sleep(1)  # as long as a checkpoint takes: a second SIGTERM would be counted
with open("telling", "w") as file:
    file.write(str(len(told)))
os.rename("telling", "told")  # what waits for it finds it whole
"""


def start(tmp_path, code):
    """A process that attempts a Job with this code; it is ready."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", STARTER, tmp_path, code], env=environment)
    wait_for(tmp_path / "ready")
    return process


def child(process, thread=None):
    """The number of the only child that a thread of a process, by default its first, started."""
    return int(pathlib.Path(f"/proc/{process}/task/{thread or process}/children").read_text())


def kill_worker(worker):
    worker.kill()


def kill_child(worker):
    os.kill(child(worker.pid), signal.SIGKILL)  # as Ray does where the driver is gone


def kill_child_then_worker(worker):
    kill_child(worker)
    worker.kill()


def stop_then_kill_child(worker):
    (pathlib.Path(worker.args[3]) / "stop").touch()
    process = child(worker.pid)
    wait_for(pathlib.Path(worker.args[3]) / "told")
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def interrupt_then_kill_child(worker):
    process = child(worker.pid)
    worker.send_signal(signal.SIGINT)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


@pytest.mark.ci
@pytest.mark.parametrize(
    "end",
    [
        kill_worker,
        kill_child,
        kill_child_then_worker,
        stop_then_kill_child,
        interrupt_then_kill_child,
    ],
)
def test_a_run_outlives_what_started_it_and_is_told_once(tmp_path, end):
    worker = start(tmp_path, COUNTING)
    end(worker)
    wait_for(tmp_path / "told")
    worker.wait()
    assert (tmp_path / "told").read_text() == "1"


def test_an_attempt_ends_after_the_run_though_its_starter_is_killed(job, tmp_path):
    status = []
    thread = threading.Thread(target=lambda: status.append(attempt(job(COUNTING))))
    thread.start()
    wait_for(tmp_path / "ready")
    os.kill(child(os.getpid(), thread.native_id), signal.SIGKILL)
    thread.join(30)
    assert status == [-signal.SIGKILL]
    assert (tmp_path / "told").exists()  # when the attempt ended


def test_a_core_is_held_once(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3})
    looks = iter([True, False])
    with hold_cores(1, lambda: True) as first, hold_cores(1, lambda: True) as second:
        assert (list(first), list(second)) == ([2], [3])
        with hold_cores(1, lambda: next(looks)) as none:
            assert none == {}
    with hold_cores(2, lambda: True) as both:
        assert list(both) == [2, 3]


def test_cores_that_others_hold_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3})
    assert cores_held() == (0, 2)
    with hold_cores(1, lambda: True):
        assert cores_held() == (1, 2)
        with hold_cores(1, lambda: True) as other:  # counting held none
            assert list(other) == [3]
    assert cores_held() == (0, 2)


def test_cores_are_taken_together_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3})
    looks = iter([True, False])
    with hold_cores(1, lambda: True):
        with hold_cores(2, lambda: next(looks)) as none:
            assert none == {}
        with hold_cores(1, lambda: True) as other:
            assert list(other) == [3]


@pytest.mark.ci
def test_runs_are_forked_from_one_process_that_has_imported_tensorflow(job, tmp_path):
    def run(name, *flags):
        flags = ["--flagfile=flags/digits.cfg", "--epochs=1", "--rounds=1", *flags]
        command = ("python", "-m", "lottery_tf.imp", *flags, f"--run_dir={tmp_path / name}")
        made = job("", command=command, directory=str(ROOT), run_dir=str(tmp_path / name))
        status = attempt(made)
        (idle,) = processes._IDLE
        return status, idle.process.pid

    (status, starter), (second, same) = run("first"), run("second", "--init_seed=1")
    assert (status, second, starter) == (0, 0, same)
    assert run("wrong", "--batch_size=0") == (1, starter)
    log = (tmp_path / "run.log").read_text()
    assert log.count("1 rounds are finished") == 2
    assert "Warning" not in log
    assert "--batch_size" in log.splitlines()[-1]
    # A run that was made without oneDNN imports TensorFlow anew.
    (tmp_path / "first" / "environment.json").write_text('{"oneDNN": "off"}')
    assert run("first", "--rounds=2") == (0, starter)
    assert '"off"' in (tmp_path / "first" / "environment.json").read_text()
