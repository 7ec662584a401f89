"""A study from its command: what is refused, listed, made, stopped, and made again."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from lottery_tf import imp
from lottery_tf.config import Config
from lottery_tf.sweeps import grid
from tests.conftest import ROOT
from tests.launching import npz_bytes
from tests.made_runs import make_run

TINY = "--dataset=digits\n--batch_size=32\n--initializer=kaiming_uniform\n--epochs=2\n--rounds=2\n"


@pytest.fixture
def command(tmp_path, monkeypatch):
    """A function of lines of a study, and arguments -> the command that makes it in tmp_path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "base.cfg").write_text(f"{TINY}--data_dir={ROOT}/data\n")

    def make(lines, *arguments):
        (tmp_path / "my.cfg").write_text("\n".join(["--flagfile=base.cfg", *lines]))
        return [sys.executable, "-m", "tools.sweep", "--flagfile=my.cfg", *arguments]

    return make


def run(command):
    return subprocess.run(command, capture_output=True, text=True)


def begin(command, **options):
    """A process of a command."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **pipes, text=True, **options)


def test_bad_input_is_listed_before_anything_starts(command, tmp_path):
    result = run(command(["--grid=batch_size=0,8", "--grid=reset=init,initt"]))
    assert result.returncode == 1
    assert "--batch_size: " in result.stderr
    assert "--reset: " in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "runs").exists()


def test_data_and_directories_are_checked_before_anything_starts(command, tmp_path):
    lines = ["--grid=seed=0,1,2", "--grid=batch_size=32,2000"]
    study_command = command(lines)
    points = {point.name: point for point in grid.read("my.cfg").points}
    make_run(points["seed=1_batch_size=32"].config, rounds=1)
    path = tmp_path / "runs" / "my" / "seed=1_batch_size=32" / "config.json"
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 7'))
    (tmp_path / "runs" / "my" / "seed=2_batch_size=32").write_text("a file")
    lines = run(study_command).stderr.splitlines()
    assert lines[0].startswith("Error: my.cfg ")
    assert "seed=0_batch_size=2000: --batch_size: " in lines[1]
    assert " 1347," in lines[1]
    assert "  seed=1_batch_size=32: " in lines[2]
    assert "--seed: 7 " in lines[3]
    assert any("seed=2_batch_size=32: --run_dir=" in line for line in lines)
    assert len([line for line in lines if "batch_size=2000: " in line]) == 3


def test_runs_inside_a_run_are_refused(command, tmp_path):
    make_run(Config(run_dir=str(tmp_path / "there")), rounds=1)
    result = run(command(["--grid=seed=0"], "--runs=there"))
    assert (result.returncode, result.stdout) == (1, "")
    assert "--runs=there: " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--flagfile=other.cfg"], "Received: my.cfg other.cfg"),
        (["--address=auto", "--cluster=none"], "--address .*--cluster=none"),
        (["--run_dir=x"], "--run_dir=x: .* --runs"),
        (["--seed=3"], "--seed=3: "),
        (["--gridd=seed=0"], "gridd"),
        (["--cpus_per_run=0"], "cpus_per_run"),
    ],
)
def test_a_command_line_that_is_wrong(command, arguments, words):
    result = run(command(["--grid=seed=0,1"], *arguments))
    assert (result.returncode, result.stdout) == (1, "")
    assert re.search(words, result.stderr, re.S), result.stderr


@pytest.mark.ci
def test_no_cluster_at_the_address(command):
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    result = run(command(["--grid=seed=0,1"], f"--address=127.0.0.1:{port}"))
    assert result.returncode == 1
    assert f"--address=127.0.0.1:{port}: no Ray cluster answers (" in result.stderr
    assert "RAY_AUTH" not in result.stderr
    assert "Traceback" not in result.stderr


CLUSTER = """
import sys, ray
print(ray.init(address="local", num_cpus=1, include_dashboard=False).address_info["gcs_address"])
sys.stdout.flush()
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def guarded_cluster(tmp_path_factory):
    """The address of a Ray cluster that expects the token "right" * 16."""
    pytest.importorskip("ray")
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "right" * 16,
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    yield process.stdout.readline().strip()
    process.communicate()


@pytest.mark.ci
@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"RAY_AUTH_TOKEN": "right" * 16},  # which Ray takes only where the mode says so
        {"RAY_AUTH_MODE": "token"},
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "wrong" * 16},
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "nowhere"},
    ],
)
def test_a_cluster_that_expects_a_token_is_told_apart(
    command, guarded_cluster, tmp_path, monkeypatch, variables
):
    monkeypatch.setenv("HOME", str(tmp_path))  # without ~/.ray/auth_token
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    result = run(command(["--grid=seed=0,1"], f"--address={guarded_cluster}"))
    assert result.returncode == 1
    assert f"--address={guarded_cluster}: " in result.stderr
    for name in ("RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        assert name in result.stderr
    assert "no Ray cluster answers" not in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.ci
def test_a_cluster_takes_the_right_token(command, guarded_cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right" * 16)
    result = run(command(["--grid=seed=0,1"], f"--address={guarded_cluster}", "--cpus_per_run=3"))
    assert "--cpus_per_run=3: " in result.stderr


@pytest.mark.ci
def test_ray_that_cannot_start_here_is_one_line(command, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("HOME", "/dev/null/home")  # Ray keeps its token there
    result = run(command(["--grid=seed=0,1"], "--cluster=ray"))
    assert result.returncode == 1
    assert "/dev/null/home" in result.stderr
    assert "--cluster=none" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.ci
def test_dry_run_lists_the_runs_and_estimates_by_what_is_finished(command, tmp_path):
    study_command = command(["--rounds=4", "--grid=reset=init,reinit", "--grid=seed=0,1"])
    result = run([*study_command, "--dry_run"])
    assert result.returncode == 0, result.stderr
    assert "4 of 4 runs are to be made: 16 rounds." in result.stdout
    assert result.stdout.count("round 0 of another run") == 2
    assert not (tmp_path / "runs").exists()
    (first, *_) = grid.read("my.cfg").points
    make_run(first.config, rounds=4, seconds=60)
    result = run([*study_command, "--dry_run", "--cluster=none"])
    assert "reset=init_seed=0  4 of 4" in result.stdout
    assert "3 of 4 runs are to be made: 12 rounds." in result.stdout
    assert "about 12:00 for 1 at once" in result.stdout
    assert "alone: python -m lottery_tf.imp --flagfile=base.cfg --rounds=4" in result.stdout


def parent(process):
    """The process that started a process."""
    with open(f"/proc/{process}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def worker(process):
    """Ray's worker that attempts a run; starter.py is between them."""
    return parent(parent(process))


def in_the_middle(run_dir, sweep):
    """The process of a run, once it has a checkpoint inside a round."""
    while not list(run_dir.glob("checkpoints/round_*/SHA256SUMS")) and sweep.poll() is None:
        time.sleep(0.005)
    return int((run_dir / ".lock").read_text())


def assert_as_alone(point, run_dir):
    """The run of a point has the bits of one that was made alone."""
    alone = Config(**{**vars(point.config), "run_dir": str(run_dir)})
    assert imp.main(alone) == 0
    assert npz_bytes(point.directory) == npz_bytes(run_dir)
    assert (point.directory / "config.json").read_text() == alone.to_json()


@pytest.mark.ci
def test_a_sweep_survives_kills_and_makes_the_bits_of_runs_done_alone(command, tmp_path):
    pytest.importorskip("ray")
    lines = [
        "--epochs=30",
        "--checkpoint_minutes=1e-9",
        "--jit_compile=off",
        "--grid=seed=0,1",
        "--grid=batch_size=32,64",
        "--grid=reset=init,reinit",
    ]
    study_command = command(lines, "--cluster=ray")
    points = grid.read("my.cfg").points
    sweep = begin(study_command)
    os.kill(in_the_middle(points[0].directory, sweep), signal.SIGKILL)
    os.kill(worker(in_the_middle(points[2].directory, sweep)), signal.SIGKILL)
    _, error = sweep.communicate()
    assert sweep.returncode == 0, error
    assert f"{points[0].name}: killed by SIGKILL" in error
    assert f"{points[2].name}: its worker" in error
    assert error.count("round 0 is that of") == 4
    assert all(point.is_finished() for point in points)
    for point in points:
        assert_as_alone(point, tmp_path / "alone" / point.name)

    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/my/**/*")}
    again = run(study_command)
    assert again.returncode == 0
    assert "8 of 8 runs are finished" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/my/**/*")} == before


@pytest.mark.parametrize(
    "cluster",
    [
        pytest.param("none", marks=pytest.mark.ci),
        pytest.param("ray", marks=pytest.mark.slow),  # CI kills one whose runs Ray starts
    ],
)
def test_ctrl_c_stops_all_with_checkpoints_and_the_same_command_goes_on(command, tmp_path, cluster):
    if cluster == "ray":
        pytest.importorskip("ray")
    lines = ["--epochs=150", "--jit_compile=off", "--grid=seed=0"]
    study_command = command(lines, f"--cluster={cluster}")
    sweep = begin(study_command, start_new_session=True)
    (point,) = grid.read("my.cfg").points
    while not list(point.directory.glob("tensorboard/epochs/*")) and sweep.poll() is None:
        time.sleep(0.01)
    os.killpg(sweep.pid, signal.SIGINT)  # as a terminal does
    _, error = sweep.communicate()
    assert sweep.returncode == 130, error
    assert "Stopping 1 " in error
    assert "python -m tools.sweep --flagfile=my.cfg" in error
    assert "stopped by SIGTERM" in (point.directory / "log.txt").read_text()
    assert len(list(point.directory.glob("checkpoints/*"))) == 1
    assert not list(tmp_path.glob("runs/my/.sweep_*"))
    again = run(study_command)
    assert again.returncode == 0, again.stderr
    assert "round 0 continues at step" in (point.directory / "log.txt").read_text()
    assert point.is_finished()


def in_training(point, sweep):
    """The process of a run, once it has finished an epoch of a round."""
    while sweep.poll() is None:
        curves = point.directory.glob("tensorboard/epochs/*")
        if any(path.stat().st_size > 200 for path in curves):  # more than its beginning
            break
        time.sleep(0.01)
    return int((point.directory / ".lock").read_text())


def wait_for_end(process):
    while os.path.exists(f"/proc/{process}"):
        time.sleep(0.05)


@pytest.mark.ci
@pytest.mark.parametrize("cluster", ["none", "ray"])
def test_a_killed_sweep_leaves_checkpoints_of_all_that_was_trained(command, tmp_path, cluster):
    if cluster == "ray":
        pytest.importorskip("ray")
    # Long enough to be killed while it trains, and after it continues.
    lines = ["--epochs=250", "--rounds=1", "--jit_compile=off", "--grid=seed=0"]
    study_command = command(lines, f"--cluster={cluster}")
    (point,) = grid.read("my.cfg").points
    log = point.directory / "log.txt"

    sweep = subprocess.Popen(study_command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process = in_training(point, sweep)
    now = time.time()
    sweep.kill()
    sweep.wait()
    wait_for_end(process)
    assert "stopped by SIGTERM" in log.read_text()
    (checkpoint,) = point.directory.glob("checkpoints/round_*")  # --checkpoint_minutes is 5
    assert checkpoint.stat().st_mtime > now
    assert not list(tmp_path.glob("runs/my/.sweep_*"))
    stop_file = tmp_path / "runs/my/.sweep_of_another"
    stop_file.touch()  # as a sweep leaves it that was killed while it stopped its runs
    os.utime(stop_file, (now - 9999, now - 9999))

    sweep = begin(study_command)
    if cluster == "ray":
        while log.read_text().count("continues at step") < 1 and sweep.poll() is None:
            time.sleep(0.01)
        os.kill(worker(int((point.directory / ".lock").read_text())), signal.SIGKILL)
    _, error = sweep.communicate()
    assert sweep.returncode == 0, error
    assert log.read_text().count("continues at step") == (2 if cluster == "ray" else 1)
    assert not list(tmp_path.glob("runs/my/.sweep_*"))
    assert_as_alone(point, tmp_path / "alone")
