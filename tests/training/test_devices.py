"""Who the workers are, by TF_CONFIG and Slurm's variables; and naming those that are lost."""

import json
import re
import signal
import socket
import time

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lottery_tf.errors import InputError
from lottery_tf.training import devices
from tests import workers
from tests.training.test_cluster import arguments, run

WORKERS = ["localhost:2222", "localhost:2223"]
TASK = {"type": "worker", "index": 0}
SLURM = {
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NODELIST": "n[1-2]",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in ("TF_CONFIG", *SLURM):
        monkeypatch.delenv(name, raising=False)


def tf_config(cluster=None, task=TASK):
    return json.dumps(
        {"cluster": {"worker": WORKERS} if cluster is None else cluster, "task": task}
    )


@pytest.mark.parametrize(
    ("text", "tasks"),
    [
        ("{}", 0),
        ('{"cluster": {}}', 0),
        ('{"task": 5}', 0),
        (tf_config({"chief": WORKERS[:1]}, {"type": "chief", "index": 0}), 1),
        (tf_config({"worker": WORKERS[:1], "ps": []}, None), 1),
        (tf_config(), 2),
        (tf_config(task={"type": "worker", "index": "1"}), 2),
        (tf_config({"worker": ["a-0.b.svc:1", "10.0.0.1:65535"]}), 2),
    ],
)
def test_tasks_are_counted(monkeypatch, text, tasks):
    assert devices.count_tasks(text) == tasks
    monkeypatch.setenv("TF_CONFIG", text)
    found = devices.find_workers()
    assert (found is not None) == (tasks > 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "JSON.*:  "),
        ("{", "JSON.*: { "),
        ("[" * 100_000, r"JSON.*: \[\["),
        ("null", ": null$"),
        ('"worker"', ': worker$|: "worker"$'),
        (tf_config([1]), r'"cluster".*: \[1\]$'),
        (tf_config({"worker": None}), " worker,.*: null$"),
        (tf_config({"worker": "localhost:1"}), " worker,.*: localhost:1$"),
        (tf_config({"worker": {"0": "a:1", "1": "b:1"}}), " worker,.*: {"),
        (tf_config({"worker": ["localhost", "a:1"]}), "host:port.*: localhost$"),
        (tf_config({"worker": ["a:0", "a:1"]}), "1 to 65535.*: a:0$"),
        (tf_config({"worker": ["a:65536", "a:1"]}), "1 to 65535.*: a:65536$"),
        (tf_config({"worker": ["http://a:1", "a:1"]}), "host:port.*: http://a:1$"),
        (tf_config({"worker": [None, "a:1"]}), "host:port.*: null$"),
        (tf_config({"worker": ["a:1", "a:1"]}), r': \["a:1"\]$'),
        (tf_config(task=None), '"task".*: null$'),
        (tf_config(task={"index": 0}), '"task".*: {"index": 0}$'),
        (tf_config(task={"type": "chief", "index": 0}), " worker .*: chief$"),
        (tf_config(task={"type": "worker"}), "0 to 1 .*: null$"),
        *(
            (tf_config(task={"type": "worker", "index": index}), "0 to 1 ")
            for index in (2, -1, 0.5, True, None, "x", "²", [0], "")
        ),
    ],
)
def test_an_odd_tf_config_is_one_line(monkeypatch, config, text, words):
    monkeypatch.setenv("TF_CONFIG", text)
    for strategy in ("auto", "one_device", "multi_worker"):
        with pytest.raises(InputError, match=words) as error:
            devices.connect(config(strategy=strategy))
        assert "\n" not in str(error.value)
        assert str(error.value).startswith("TF_CONFIG: ")


def test_jobs_beside_workers_are_refused(monkeypatch, config):
    cluster = {"chief": WORKERS[:1], "worker": WORKERS[1:]}
    for task in (TASK, {"type": "chief", "index": 0}):
        monkeypatch.setenv("TF_CONFIG", tf_config(cluster, task))
        with pytest.raises(InputError, match=r"--strategy=multi_worker .*chief"):
            devices.connect(config())


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["worker", "type", "index", "0"]), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def mutated(draw):
    """A TF_CONFIG in which something is replaced, left out or cut."""
    top = json.loads(tf_config())
    places = [(top, "cluster"), (top, "task"), (top["cluster"], "worker")]
    places += [(top["cluster"]["worker"], 0), (top["task"], "type"), (top["task"], "index")]
    for holder, key in draw(st.lists(st.sampled_from(places), min_size=1, max_size=2)):
        holder[key] = draw(ANY | st.sampled_from([1, "1", "worker", "a:1", ["a:1", "b:2"]]))
    text = json.dumps(top)
    return text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) else text


@pytest.mark.ci
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(mutated())
def test_a_mutated_tf_config_is_workers_or_one_line(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_CONFIG", text)
        try:
            found = devices.find_workers()
        except InputError as error:
            line = str(error)
        else:
            line = ""
            if found and found.task_type == "worker":
                addresses = found.cluster_spec().job_tasks("worker")
                assert 0 <= found.task_id < len(addresses)
                assert all(":" in address for address in addresses)
    assert "\n" not in line


def test_a_slurm_step_names_the_workers(monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    found = devices.find_workers()
    assert (found.cluster_spec().num_tasks("worker"), found.task_id) == (2, 1)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert devices.find_workers() is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLURM_STEP_NUM_TASKS", "two"),
        ("SLURM_STEP_NUM_TASKS", ""),
        ("SLURM_STEP_NUM_TASKS", "0"),
        ("SLURM_STEP_NUM_TASKS", "3"),
        ("SLURM_STEP_NODELIST", None),
        ("SLURM_STEP_NODELIST", "n[1-"),
        ("SLURM_STEP_TASKS_PER_NODE", None),
        ("SLURM_STEP_TASKS_PER_NODE", "x"),
        ("SLURM_PROCID", None),
        ("SLURM_PROCID", "one"),
        ("SLURM_PROCID", "2"),
        ("SLURM_PROCID", "-1"),
    ],
)
def test_odd_variables_of_slurm_are_one_line(monkeypatch, config, name, value):
    for variable, usual in SLURM.items():
        monkeypatch.setenv(variable, usual)
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=r"SLURM_STEP_NUM_TASKS.*srun") as error:
        devices.connect(config())
    assert "\n" not in str(error.value)


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}"
        with pytest.raises(InputError, match=f"{address}: .*TF_CONFIG"):
            devices.meet([address, "localhost:1"], 0, 1.0)


def test_a_strategy_without_its_devices_says_what_to_do(config, monkeypatch):
    with pytest.raises(InputError, match=r"--strategy=multi_worker .*TF_CONFIG=$"):
        devices.connect(config(strategy="multi_worker"))
    monkeypatch.setenv("TF_CONFIG", "{nonsense")
    with pytest.raises(InputError, match=r"TF_CONFIG: .*{nonsense"):
        devices.connect(config(strategy="multi_worker"))
    monkeypatch.delenv("TF_CONFIG")
    cpu = [tf.config.LogicalDevice("/device:CPU:0", "CPU")]
    one = {"CPU": cpu, "GPU": []}
    monkeypatch.setattr(tf.config, "list_logical_devices", one.__getitem__)
    with pytest.raises(InputError, match=r"--strategy=mirrored .*CPU:0.*--cpu_devices=2"):
        devices.connect(config(strategy="mirrored"))


def test_a_worker_that_hangs_is_named_by_what_tensorflow_waited_for():
    ports = workers.free_ports(3)
    addresses = [f"localhost:{port}" for port in ports]
    with (
        socket.create_server(("localhost", ports[1])),
        socket.create_server(("localhost", ports[2])),
    ):
        message = devices.describe_lost(
            addresses, 0, "Deadline\nwaited for /job:worker/task:2 in vain"
        )
        assert f"worker 2 ({addresses[2]})" in message
        assert addresses[1] not in message
        assert message.endswith("waited for /job:worker/task:2 in vain")
        both = devices.describe_lost(addresses, 0, "Deadline")
        assert f"worker 1 ({addresses[1]}) or worker 2 ({addresses[2]})" in both
    assert devices.describe_lost(addresses, 0) not in (message, both)


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
    assert re.search(rf"^Error: .*worker {victim} \(localhost:", other[2], re.MULTILINE)
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
    assert re.search(r"^Error: .*worker 1 \(localhost:", error, re.MULTILINE)


@pytest.mark.slow
def test_sigterm_on_one_worker_stops_all_with_a_checkpoint(tmp_path):
    given = arguments(tmp_path / "run", "multi_worker", rounds=200, epochs=20)
    processes = workers.start(given)
    wait_for(tmp_path / "run" / "round_01")
    processes[1].send_signal(signal.SIGTERM)
    results = workers.finish(processes)
    assert [status for status, _, _ in results] == [75, 75]
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 1
