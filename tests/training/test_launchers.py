"""TF_CONFIG and Slurm's variables: workers, or one clear line."""

import json
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lottery_tf.errors import InputError
from lottery_tf.training import devices

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
        ("", "expected JSON.*Received:  "),
        ("{", "expected JSON"),
        ("[" * 100_000, "expected JSON"),
        ("null", "expected an object.*Received: null"),
        ('"worker"', "expected an object"),
        (tf_config([1]), 'jobs in "cluster"'),
        (tf_config({"worker": None}), "list of addresses for the job worker.*Received: null"),
        (tf_config({"worker": "localhost:1"}), "list of addresses"),
        (tf_config({"worker": {"0": "a:1", "1": "b:1"}}), "list of addresses"),
        (tf_config({"worker": ["localhost", "a:1"]}), "host:port.*Received: localhost"),
        (tf_config({"worker": ["a:0", "a:1"]}), "1 to 65535.*Received: a:0"),
        (tf_config({"worker": ["a:65536", "a:1"]}), "1 to 65535"),
        (tf_config({"worker": ["http://a:1", "a:1"]}), "host:port"),
        (tf_config({"worker": [None, "a:1"]}), "host:port.*Received: null"),
        (tf_config({"worker": ["a:1", "a:1"]}), r'address for each task.*Received: \["a:1"\]'),
        (tf_config(task=None), 'a type and an index in "task"'),
        (tf_config(task={"index": 0}), 'a type and an index in "task"'),
        (tf_config(task={"type": "chief", "index": 0}), "one of the jobs worker.*Received: chief"),
        (tf_config(task={"type": "worker"}), "an index from 0 to 1.*Received: null"),
        *(
            (tf_config(task={"type": "worker", "index": index}), "an index from 0 to 1")
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
        assert str(error.value).startswith("TF_CONFIG: expected ")


def test_jobs_beside_workers_are_refused(monkeypatch, config):
    cluster = {"chief": WORKERS[:1], "worker": WORKERS[1:]}
    for task in (TASK, {"type": "chief", "index": 0}):
        monkeypatch.setenv("TF_CONFIG", tf_config(cluster, task))
        with pytest.raises(InputError, match="expects a cluster of workers alone"):
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
    with pytest.raises(InputError, match=r"variables of a Slurm step.*Received: .*srun") as error:
        devices.connect(config())
    assert "\n" not in str(error.value)


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}"
        with pytest.raises(InputError, match=rf"{address}: .* Expected a free port"):
            devices.meet([address, "localhost:1"], 0, 1.0)
