"""One device, two logical devices, and two processes on loopback compute the same."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from lottery_tf import cluster, datasets, imp, masking
from lottery_tf.cluster import connect
from lottery_tf.datasets import Split, tfrecords
from lottery_tf.datasets.order import Noise
from lottery_tf.errors import InputError
from lottery_tf.rundir import RunDir
from tests import workers
from tests.conftest import ROOT

KINDS = ("one_device", "mirrored", "multi_worker")
NETWORKS = {
    "lenet": {"optimizer": "adam"},
    "resnet20": {"optimizer": "momentum", "learning_rate": 0.05, "bn_affine": True},
}


def arguments(run_dir, kind, **flags):
    flags = {"batch_size": 64, "epochs": 1, "rounds": 2, "weight_decay": 0.1} | flags
    flags |= {"run_dir": run_dir, "data_dir": ROOT / "data", "strategy": kind}
    if kind == "mirrored":
        flags["cpu_devices"] = 2
    return [f"--{name}={value}" for name, value in flags.items()]


def run(directory, kind, module="lottery_tf.imp", **flags):
    """Runs an experiment in a directory of its own; returns its RunDir."""
    directory.mkdir(parents=True, exist_ok=True)
    given = arguments(directory / "run", kind, **flags)
    if kind == "multi_worker":
        results = workers.finish(workers.start(given, module=module), timeout=300)
    else:
        command = [sys.executable, "-m", module, *given]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        results = [(result.returncode, result.stdout, result.stderr)]
    assert [status for status, _, _ in results] == [0] * len(results), results
    assert sum("rounds are finished" in out for _, out, _ in results) <= 1  # the chief alone
    return RunDir(directory / "run")


@pytest.fixture(scope="module", params=NETWORKS)
def trained(request, tmp_path_factory):
    """20 steps of a network under each strategy, twice: with dense masks, and pruned.

    In float32 the rounding of ResNet-20's sums flips a ReLU every few steps, which BatchNorm and
    momentum blow up: 20 steps of one device with two forms of BatchNorm end as far apart.
    """
    base = tmp_path_factory.mktemp(request.param)
    monkeypatch = pytest.MonkeyPatch()
    if request.param == "resnet20":
        monkeypatch.setenv("FLOAT64", "1")
    flags = NETWORKS[request.param] | {"model": request.param, "train_examples": 1280}
    runs = {kind: run(base / kind, kind, "tests.dump_replicas", **flags) for kind in KINDS}
    monkeypatch.undo()
    return request.param, base, runs


@pytest.mark.parametrize("kind", KINDS[1:])
def test_every_strategy_gives_the_same_losses_and_weights(trained, kind):
    network, _, runs = trained
    one, other = runs["one_device"], runs[kind]
    largest = 0.0
    for path, expected in one.final(0).items():
        found = other.final(0)[path]
        scale = np.linalg.norm(expected)
        largest = max(largest, np.linalg.norm(found - expected) / scale)
        assert np.linalg.norm(found - one.initial(0)[path]) > 0, path
    print(f"{network}, {kind}: largest |dw|/|w| {largest:.1e}")
    assert largest <= {"lenet": 1e-5, "resnet20": 1e-10}[network]
    for column in ("train_loss", "test_loss", "train_accuracy"):
        assert other.history(0)[0][column] == pytest.approx(one.history(0)[0][column], rel=1e-4)
    assert other.history(0)[0]["step"] == 20


@pytest.mark.parametrize("kind", KINDS[1:])
def test_masks_differ_only_at_the_threshold(trained, kind):
    network, _, runs = trained
    one, other = runs["one_device"].masks(1), runs[kind].masks(1)
    threshold = runs["one_device"].metrics()[0]["threshold"]
    differing = 0
    for path, mask in one.items():
        expected, found = (runs[name].final(0)[path] for name in ("one_device", kind))
        where = mask != other[path]
        differing += where.sum()
        near = np.abs(np.abs(expected[where]) - threshold)
        assert (near <= 2 * np.abs(found - expected).max()).all()
    print(f"{network}, {kind}: {differing} mask bits differ")


@pytest.mark.parametrize("kind", KINDS[1:])
def test_masks_and_weights_are_identical_on_every_replica(trained, kind):
    _, base, runs = trained
    replicas = [dict(np.load(base / kind / f"replica_{index}.npz")) for index in (0, 1)]
    for name, array in replicas[0].items():
        assert np.array_equal(array, replicas[1][name]), name
    for path, mask in runs[kind].masks(1).items():
        assert np.array_equal(replicas[1][f"masks/{path}"], mask)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_three_rounds_on_the_digits(kind, tmp_path):
    digits = {"rounds": 3, "epochs": 10, "batch_size": 32, "weight_decay": 0}
    finished = run(tmp_path, kind, initializer="kaiming_uniform", **digits)
    metrics = finished.metrics()
    assert [row["density"] for row in metrics] == pytest.approx([1, 0.8, 0.64], abs=2e-5)
    assert all(row["test_accuracy"] > 0.95 for row in metrics)
    w0 = finished.initial(0)
    for path, mask in finished.masks(2).items():
        assert np.array_equal(finished.initial(2)[path], np.where(mask, w0[path], 0))


def mirrored(config, **flags):
    config = config(strategy="mirrored", cpu_devices=2, **flags)
    engine, initialization = imp.prepare(config, datasets.find(config), connect(config))
    return engine, initialization(0)


def local_values(engine, variable):
    return [
        value.numpy()
        for value in engine.cluster.strategy.experimental_local_results(variable.value)
    ]


@pytest.mark.parametrize("sync_bn", [True, False])
def test_batch_norm_statistics(config, sync_bn):
    flags = {"model": "resnet20", "epochs": 1, "train_examples": 128, "sync_bn": sync_bn}
    engine, weights = mirrored(config, **flags)
    trained, _ = engine.train(weights, engine.dense_masks(), Noise(0, 0), last=1)
    one_config = config(strategy="one_device", **flags)
    one, _ = imp.prepare(one_config, datasets.find(one_config), connect(one_config))
    expected, _ = one.train(weights, one.dense_masks(), Noise(0, 0), last=1)
    path = "stem_bn/moving_variance"
    variable = masking.variables(engine.network)[path]
    assert np.array_equal(*local_values(engine, variable))
    synchronous = np.allclose(trained[path], expected[path], rtol=1e-5)
    assert synchronous == sync_bn
    # The mean of the halves' variances lacks the variance between the halves' means.
    assert sync_bn or (trained[path] < expected[path] + 1e-6).all()


def test_replicas_drop_other_units(config):
    engine, weights = mirrored(config, model="tests.networks:dropout", epochs=1)
    masks = engine.dense_masks()
    finals = [engine.train(weights, masks, Noise(0, 0), last=5)[0] for _ in range(2)]
    for path in finals[0]:
        assert np.array_equal(finals[0][path], finals[1][path])
    states = local_values(engine, engine.dropout_states[0])
    assert not np.array_equal(*states)


@pytest.mark.parametrize("mixed_precision", ["bfloat16", "float16"])
def test_mixed_precision_on_two_replicas(config, mixed_precision):
    engine, weights = mirrored(config, mixed_precision=mixed_precision, epochs=3)
    _, history = engine.train(weights, engine.dense_masks(), Noise(0, 0))
    assert history[-1]["test_accuracy"] > 0.9


def test_accumulated_micro_batches_on_two_replicas(config):
    flags = {"optimizer": "momentum", "learning_rate": 0.05, "weight_decay": 0.1, "epochs": 1}
    finals = []
    for accumulate_steps in (1, 4):
        engine, weights = mirrored(config, accumulate_steps=accumulate_steps, **flags)
        finals.append(engine.train(weights, engine.dense_masks(), Noise(0, 0), last=10)[0])
    for path, whole in finals[0].items():
        assert np.linalg.norm(finals[1][path] - whole) <= 1e-5 * np.linalg.norm(whole)


def test_evaluation_is_exact_on_two_replicas(config, monkeypatch):
    monkeypatch.setattr("lottery_tf.feeds.EVALUATION_BATCH", 7)  # does not divide by 2
    engine, weights = mirrored(config)
    masking.set_weights(engine.network, weights, engine.dense_masks())
    images, labels = tfrecords.read(engine.directory, "test")
    logits = engine.network(engine.normalise(images)).numpy()
    assert engine.evaluate()[1] == np.mean(logits.argmax(-1) == labels)


def test_workers_decode_the_rows_of_the_whole_between_them(config, sharded):
    directory = datasets.find(config(data_dir=str(sharded)))
    split = directory.splits["train"]

    def batches(part, steps=(0, None)):
        stream = tfrecords.stream(
            directory, split, Noise(3, 1), epoch=2, window=16, batch_size=8, part=part, steps=steps
        )
        return [tuple(array.numpy() for array in batch) for batch in stream]

    whole = batches((0, 1))
    assert len(whole) == 6
    for steps in ((0, None), (4, 6)):
        halves = [batches((index, 2), steps) for index in (0, 1)]
        for expected, *parts in zip(whole[steps[0] :], *halves, strict=True):
            for arrays in zip(expected, *parts, strict=True):
                assert np.array_equal(arrays[0], np.concatenate(arrays[1:]))


@pytest.mark.slow
def test_streamed_workers_equal_a_resident_device(tmp_path):
    flags = {"batch_size": 32, "rounds": 1, "shuffle_window": 100}
    one = run(tmp_path / "one", "one_device", **flags)
    two = run(tmp_path / "two", "multi_worker", resident="off", **flags)
    for path, expected in one.final(0).items():
        assert np.linalg.norm(two.final(0)[path] - expected) <= 1e-4 * np.linalg.norm(expected)
    assert two.metrics()[0]["test_accuracy"] == one.metrics()[0]["test_accuracy"]


def test_shard_files_gives_each_worker_its_own(config, sharded):
    class TwoWorkers:
        def __init__(self, worker):
            self.worker, self.workers, self.replicas_here = worker, 2, 1
            self.replica_here = 0

    from lottery_tf.feeds import Streamed

    config = config(data_dir=str(sharded), batch_size=8, resident="off", shard_files=True)
    directory = datasets.find(config)
    seen = []
    for worker in (0, 1):
        feed = Streamed(config, directory, TwoWorkers(worker))
        assert feed.steps_per_epoch == 3  # the second one has 13 examples, 4 for each batch
        batches = [labels.numpy() for _, labels, _ in feed.epoch(Noise(0, 0), 0, 0)]
        assert [len(labels) for labels in batches] == [4] * 3
        seen.append([np.bincount(labels, minlength=10).sum() for labels in batches])
        assert isinstance(feed.split, Split)
    assert [len(s.shards) for s in (feed.split,)] == [1]
    config = config.__class__(**(vars(config) | {"data_dir": str(ROOT / "data")}))
    with pytest.raises(InputError, match=r"--shard_files expects.*2 workers. Found: 1"):
        Streamed(config, datasets.find(config), TwoWorkers(0))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"batch_size": 33}, r"multiple of 2, as 32 or 34. Received: 33"),
        ({"batch_size": 30, "accumulate_steps": 5}, r"multiple of 10, as .*30|Received"),
        ({"batch_size": 36, "accumulate_steps": 4}, r"multiple of 8, as 32 or 40. Received: 36"),
        ({"jit_compile": "on"}, "--jit_compile=on expects one replica"),
    ],
)
def test_what_several_replicas_cannot_do(config, flags, message):
    if flags.get("accumulate_steps") == 5:
        mirrored(config, **flags)  # 30 divides by 10
        return
    with pytest.raises(InputError, match=message):
        mirrored(config, **flags)


def test_a_strategy_without_its_devices_says_what_to_do(config, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(InputError, match="expects two or more workers in TF_CONFIG"):
        connect(config(strategy="multi_worker"))
    monkeypatch.setenv("TF_CONFIG", "{nonsense")
    with pytest.raises(InputError, match="TF_CONFIG is not as TensorFlow expects"):
        connect(config(strategy="multi_worker"))
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [
        device for device in [tf.config.LogicalDevice("/device:CPU:0", "CPU")]
        if kind == "CPU"
    ])  # fmt: skip
    monkeypatch.delenv("TF_CONFIG")
    with pytest.raises(InputError, match=r"expects two or more devices.*--cpu_devices=2"):
        connect(config(strategy="mirrored"))


def test_a_worker_that_hangs_is_named_by_what_tensorflow_waited_for():
    ports = workers.free_ports(3)
    addresses = [f"localhost:{port}" for port in ports]
    with (
        socket.create_server(("localhost", ports[1])),
        socket.create_server(("localhost", ports[2])),
    ):
        message = cluster._lost(addresses, 0, "Deadline\nwaited for /job:worker/task:2 in vain")
        assert message.startswith(f"Lost worker 2 ({addresses[2]}), which does not answer.")
        assert message.endswith("TensorFlow says: waited for /job:worker/task:2 in vain")
        both = cluster._lost(addresses, 0, "Deadline")
        assert f"worker 1 ({addresses[1]}) or worker 2 ({addresses[2]})" in both
    gone = cluster._lost(addresses, 0, "")
    assert "which is not there" in gone
    assert "TensorFlow" not in gone


@pytest.mark.slow
def test_slurms_environment_makes_a_cluster(tmp_path):
    slurm = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost",
             "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_LOCALID": "0"}  # fmt: skip
    given = arguments(tmp_path / "run", "auto", rounds=1)
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "lottery_tf.imp", *given],
            cwd=ROOT,
            env=os.environ | slurm | {"SLURM_PROCID": str(index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in (0, 1)
    ]
    assert [status for status, _, _ in workers.finish(processes)] == [0, 0]
    assert "2 replicas on 2 workers" in (tmp_path / "run" / "log.txt").read_text()


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


def test_a_worker_that_does_not_come_is_named(tmp_path):
    given = arguments(tmp_path / "run", "multi_worker", worker_timeout=3)
    processes = workers.start(given)
    processes[1].kill()
    status, _, error = workers.finish(processes)[0]
    assert status == 74
    assert "Error: Lost worker 1 (localhost:" in error


def test_sigterm_on_one_worker_stops_all_with_a_checkpoint(tmp_path):
    given = arguments(tmp_path / "run", "multi_worker", rounds=200, epochs=20)
    processes = workers.start(given)
    wait_for(tmp_path / "run" / "round_01")
    processes[1].send_signal(signal.SIGTERM)
    results = workers.finish(processes)
    assert [status for status, _, _ in results] == [75, 75]
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 1
