"""One device, two logical devices, and two processes on loopback compute the same."""

import os
import re
import subprocess

import numpy as np
import pytest

from lottery_tf.runs.rundir import RunDir
from tests import forked, workers
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
    """Runs an experiment in a directory of its own, of which the chief alone prints; its RunDir."""
    directory.mkdir(parents=True, exist_ok=True)
    given = arguments(directory / "run", kind, **flags)
    if kind == "multi_worker":
        results = workers.finish(workers.start(given, module=module), timeout=300)
    else:
        command = [forked.python(), "-m", module, *given]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        results = [(result.returncode, result.stdout, result.stderr)]
    assert [status for status, _, _ in results] == [0] * len(results), results
    assert [bool(out) for _, out, _ in results] == [True] + [False] * (len(results) - 1)
    return RunDir(directory / "run")


@pytest.fixture(
    scope="module",
    params=["lenet", "resnet20"],
)
def trained(request, tmp_path_factory):
    """20 steps of a network under each strategy, twice: with dense masks, and pruned.

    ResNet-20 in float64: in float32 rounding grows. After these 20 steps one device with Keras's
    BatchNorm and one with the fused form differ by 14% of the weights' norm, by 0.1% at learning
    rate 0.001.
    """
    base = tmp_path_factory.mktemp(request.param)
    monkeypatch = pytest.MonkeyPatch()
    if request.param == "resnet20":
        monkeypatch.setenv("FLOAT64", "1")
    flags = NETWORKS[request.param] | {"model": request.param, "train_examples": 1280}
    runs = {kind: run(base / kind, kind, "tests.dump_replicas", **flags) for kind in KINDS}
    monkeypatch.undo()
    return request.param, base, runs


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS[1:])
def test_masks_and_weights_are_identical_on_every_replica(trained, kind):
    _, base, runs = trained
    replicas = [dict(np.load(base / kind / f"replica_{index}.npz")) for index in (0, 1)]
    for name, array in replicas[0].items():
        assert np.array_equal(array, replicas[1][name]), name
    for path, mask in runs[kind].masks(1).items():
        assert np.array_equal(replicas[1][f"masks/{path}"], mask)


@pytest.mark.ci
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


@pytest.mark.slow
def test_streamed_workers_equal_a_resident_device(tmp_path):
    flags = {"batch_size": 32, "rounds": 1, "shuffle_window": 100}
    one = run(tmp_path / "one", "one_device", **flags)
    two = run(tmp_path / "two", "multi_worker", resident="off", **flags)
    for path, expected in one.final(0).items():
        assert np.linalg.norm(two.final(0)[path] - expected) <= 1e-4 * np.linalg.norm(expected)
    assert two.metrics()[0]["test_accuracy"] == one.metrics()[0]["test_accuracy"]


@pytest.mark.slow
def test_slurms_environment_makes_a_cluster(tmp_path):
    slurm = {
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_TASKS_PER_NODE": "2",
        "SLURM_LOCALID": "0",
    }
    given = arguments(tmp_path / "run", "auto", rounds=1)
    processes = [
        subprocess.Popen(
            [forked.python(), "-m", "lottery_tf.imp", *given],
            cwd=ROOT,
            env=os.environ | slurm | {"SLURM_PROCID": str(index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in (0, 1)
    ]
    assert [status for status, _, _ in workers.finish(processes)] == [0, 0]
    assert re.search(r"\b2 replicas .*\b2 workers", (tmp_path / "run" / "log.txt").read_text())


@pytest.mark.ci
@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_run_that_cannot_be_pruned_ends_on_all_workers(kind, tmp_path):
    flags = {"model": "tests.networks:linear", "prune_fraction": 0.9, "rounds": 9}
    rows = run(tmp_path, kind, **flags).metrics()
    assert [row["remaining"] for row in rows] == [640, 64, 6, 1, 0]
    assert "one class for all test examples" in rows[-1]["collapse"]
    assert rows[-1]["test_largest_class"] == 1
    assert rows[0]["test_largest_class"] < 0.5
