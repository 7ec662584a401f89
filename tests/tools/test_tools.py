import functools
import importlib.util
import os
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest

from lottery_tf import analysis
from lottery_tf.benchmarks import fits, sparse_products, steps, sweep, turns
from lottery_tf.config import command
from lottery_tf.errors import InputError
from lottery_tf.models.lenet import lenet
from lottery_tf.plots import figures
from tests import forked
from tests.conftest import ROOT
from tests.made_runs import make_run


def rows(*points):
    return [{"density": density, "test_accuracy": accuracy} for density, accuracy in points]


def test_accuracy_against_density_is_drawn(tmp_path):
    runs = {"ticket": rows((1, 0.9), (0.8, 0.91)), "reinit": rows((1, 0.9), (0.8, 0.8))}
    pictures = []
    for curves in (runs, {"ticket": runs["ticket"]}):
        figures.accuracy_against_density(curves).savefig(tmp_path / "picture.png", dpi=150)
        pictures.append(matplotlib.image.imread(tmp_path / "picture.png"))
    both, one = pictures
    assert both.shape[:2] == (675, 1050)
    assert (both[..., 0] != one[..., 0]).any()


def of_ci(*values):
    """Parameters of a test that takes seconds, which CI runs."""
    return pytest.param(*values, marks=pytest.mark.ci)


def run_tool(name, *arguments):
    return subprocess.run(
        [forked.python(), "-m", f"tools.{name}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.mark.ci
def test_replicates_of_a_ticket_and_its_reinit_are_drawn_with_their_ends(config):
    made = {"ticket": (1, 2), "reinit": (3, 4, 5)}
    paths = {
        name: [str(make_run(config(run_dir=f"{config().run_dir}_{seed}", seed=seed),
                          seed=seed).path)
               for seed in seeds]
        for name, seeds in made.items()
    }  # fmt: skip
    result = run_tool("figures", f"--run_dir={','.join(paths['ticket'])}", "--labels=a,b",
                      f"--other_run={','.join(paths['reinit'])}")  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "accuracy.png" in result.stdout


@pytest.mark.parametrize(
    ("name", "arguments", "word"),
    [
        ("figures", ["--run_dir=nowhere"], "nowhere is not a run"),
        ("figures", ["--run_dir=a,b", "--labels=one"], "--labels: expected 2"),
        ("figures", ["--run_dir=nowhere", "--out=a.foo"], "Pictures are written as"),
        ("figures", ["--figure=24"], "--figure: expected 1 to 23, table1"),
        ("figures", ["--figure=1", "--runs=nowhere"], "nowhere has none of the 60 runs"),
        ("figures", ["--figure=1", "--run_dir=a"], "--figure with --runs, or --run_dir"),
        ("figures", ["--figure=1", "--other_run=a"], "--figure with --runs, or --run_dir"),
        ("figures", ["--runs=a"], "--runs expects --figure"),
        ("scaling", ["--gpus=0"], "--gpus: expected numbers above 0"),
        ("scaling", ["--batch_sizes=1024,x"], "--batch_sizes: expected numbers above 0"),
        ("scaling", ["--tflops=0"], "--tflops: expected a number from 1e-15"),
        ("scaling", ["--gpus_per_host=0"], "--gpus_per_host: expected a number from"),
        ("thresholds", ["--run_dir=a,,b"], "one is empty"),
        ("thresholds", ["--run_dir=\udcff"], "Expected arguments in UTF-8"),
        of_ci("prepare_data", ["--dataset=svhn"], "Names like it: svhn_cropped"),
        of_ci("prepare_data", ["--dataset=svhn", "--source=raw"], "one of mnist"),
        of_ci("prepare_data", [], "--source=tfds expects --dataset"),
        of_ci("prepare_data", ["--dataset=mnist", "--source=raw"], "--raw_dir"),
        ("benchmark", ["--dataset=mnist", "--data_dir=nowhere"], "nowhere/mnist"),
    ],
)
def test_tools_report_bad_input_in_one_line_and_fail(name, arguments, word):
    result = run_tool(name, *arguments)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: ")
    assert word in result.stderr
    assert "Traceback" not in result.stderr


def test_the_half_in_weight_space_needs_no_tensorflow():
    code = """
import sys
from lottery_tf import analysis
for name in analysis.MEASURES:
    analysis.find(name)
assert not {"tensorflow", "keras", "matplotlib", "scipy"} & sys.modules.keys()
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_analysis_knows_no_flags():
    for path in (ROOT / "lottery_tf" / "analysis").glob("*.py"):
        assert "absl" not in path.read_text(), path


def test_the_products_of_a_step_of_lenet():
    shapes = steps.product_shapes(lenet((28, 28, 1), 10, initializer="kaiming_uniform"), 60)
    assert shapes == [
        (60, 784, 300),
        (784, 60, 300),
        (60, 300, 100),
        (300, 60, 100),
        (60, 100, 300),
        (60, 100, 10),
        (100, 60, 10),
        (60, 10, 100),
    ]


def test_ways_take_turns_after_one_that_warms_up():
    order = []

    def way(name):
        order.append(name)
        return len(order)

    ways = {name: functools.partial(way, name) for name in "ab"}
    assert turns.take_turns(ways, repeats=2, what="") == {"a": [3, 5], "b": [4, 6]}
    assert order == list("ababab")


def test_the_steps_of_a_benchmark_follow_their_time():
    def taking(seconds):
        return lambda steps: seconds

    assert turns.steps_for(taking(0.2), most=1000) == 10
    assert turns.steps_for(taking(1e-4), most=1000) == 1000
    assert turns.steps_for(taking(30.0), most=1000) == 1  # not 8 minutes without a word


@pytest.mark.slow
def test_every_way_of_the_benchmark_is_measured(config):
    times = steps.step_times(config(), steps=5, repeats=2)
    assert list(times)[:4] == ["engine", "keras fit", "matrix products", "at peak rate"]
    assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in times.values())
    parts = steps.round_parts(config(epochs=1))
    assert list(parts) == [
        "training", "evaluation", "reset", "pruning", "saving", "TensorBoard", "rest",
    ]  # fmt: skip
    assert min(parts.values()) > 0
    # 42.1 steps of training, 14.1 of evaluation at half the price, in each of two rounds
    assert steps.seconds_of_rounds(config(epochs=1), 1.0) == pytest.approx(98.25)


@pytest.mark.slow
def test_the_benchmark_measures_the_peers_that_are_installed(tmp_path):
    few = ["--steps=2", "--repeats=1", "--noround_overhead", f"--out_dir={tmp_path}"]
    result = run_tool("benchmark", "--flagfile=flags/digits.cfg", *few)
    assert result.returncode == 0, result.stderr
    for library, way in {"jax": "jax scan", "torch": "pytorch"}.items():
        assert (f"\n{way} " in result.stdout) == bool(importlib.util.find_spec(library))


@pytest.mark.slow
def test_every_way_to_mask_is_measured():
    times = fits.step_times(steps=2, repeats=2)
    assert list(times) == list(fits.WAYS)
    assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in times.values())


@pytest.mark.slow
def test_every_sparse_product_is_measured(monkeypatch):
    monkeypatch.setattr(sparse_products, "LAYERS", {"small": (20, 10)})
    times = sparse_products.product_times(repeats=2)
    densities, batches = sparse_products.DENSITIES, sparse_products.BATCHES
    assert list(times) == [("small", one, batch) for one in densities for batch in batches]
    for ways in times.values():
        assert list(ways) == ["dense", "coo", "csr"]
        assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in ways.values())


def test_the_table_of_the_documentation_follows_the_registry():
    written = (ROOT / "docs" / "guides" / "analysis.md").read_text()
    table = "\n".join(analysis.documentation())
    assert f"|---|---|---|\n{table}\n" in written, f"docs/guides/analysis.md expects\n{table}"


def test_every_measure_has_the_name_of_its_file():
    for name in analysis.MEASURES:
        measure = analysis.find(name)
        assert measure.name == name
        assert f"python -m tools.{name} --run_dir=" in measure.__doc__


def test_commands_are_documented():
    readme = (ROOT / "README.md").read_text()
    documents = readme + "".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))
    tools = {path.stem for path in (ROOT / "tools").glob("*.py")} - {
        "__init__",
        "__main__",
        "make_digits",
        "shared",
    }
    assert len(tools) > 10
    for tool in tools:
        assert f"python -m tools.{tool}" in documents, tool
    assert command.default_run_dir(["flags/lenet.cfg"], {"reset": "reinit"}) in readme


def test_a_benchmark_of_sweeps_compares_all_runs_at_once_with_one(config, monkeypatch):
    begun = []

    def made(job):  # a run on all cores takes 1 s for an epoch, a pinned one 1.5 s
        begun.append(job.cores)
        flags = [part.removeprefix("--run_dir=") for part in job.command]
        add = make_run(config(run_dir=flags[-1]), rounds=0)
        rows = [{"train_seconds": seconds} for seconds in (9.0, *[1.0 + job.cores / 2] * 3)]
        row = {"round": 0, "density": 1.0, "threshold": 0.1, "test_accuracy": 0.9}
        arrays = {"a/kernel": np.ones((1, 1), np.float32)}
        masks = {"a/kernel": np.ones((1, 1), bool)}
        add.save_round(0, masks=masks, initial=arrays, final=arrays, history=rows, metrics=row)
        return 0

    monkeypatch.setattr(sweep, "attempt", made)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    rates = sweep.step_rates(config(), repeats=1)
    steps = 1347 // 32
    assert rates == {"one after another": [steps], "2 at once": [2 * steps / 1.5]}
    assert begun == [0, 1, 1] * 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    with pytest.raises(InputError, match="two cores or more"):
        sweep.step_rates(config(), repeats=1)
