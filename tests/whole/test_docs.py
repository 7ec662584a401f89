import os
import re
import subprocess
import sys

import pytest

from lottery_tf.runs.rundir import RunDir
from tests import forked
from tests.conftest import ROOT

EXAMPLES = [
    example
    for page in sorted((ROOT / "docs").rglob("*.md"))
    if page.name not in ("coming_from.md", "architecture.md")  # one program; a loop that is quoted
    for example in re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
]


def run(code, tmp_path, python=None):
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    code = code.replace("sys.executable", repr(forked.python()))
    command = [python or forked.python(), "-c", code]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)


def example(words):
    """The one example that has these words."""
    (found,) = (code for code in EXAMPLES if words in code)
    return found


@pytest.mark.ci
def test_the_page_for_users_of_other_toolkits_runs(tmp_path):
    page = (ROOT / "docs" / "guides" / "coming_from.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.S))
    result = run(code, tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "plain_model").is_dir()


def test_the_tests_that_the_table_of_tfmot_names_exist():
    page = (ROOT / "tests" / "tfmot.md").read_text()
    named = set(re.findall(r"`(test_\w+)` \|", page)) - {"test_docs"}
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 20
    assert not [name for name in named if f"def {name}(" not in sources]


def test_there_are_fourteen_examples():
    assert len(EXAMPLES) == 14


@pytest.mark.ci
def test_the_example_around_fit(tmp_path):
    result = run(example("SeparableConv2D"), tmp_path)
    assert result.returncode == 0, result.stderr
    rows = re.findall(r"^ +(\d+) +([\d.]+)%", result.stdout, re.M)
    assert [row[0] for row in rows] == ["0", "1", "2", "3"]
    densities = [float(row[1]) for row in rows]
    assert densities == pytest.approx([100, 80, 64, 51.2], abs=0.3)
    load = "import keras, lottery_tf; keras.models.load_model('pruned.keras')"
    again = run(load, tmp_path)
    assert again.returncode == 0, again.stderr


@pytest.mark.ci
def test_the_example_on_jax(tmp_path):
    # A forked process has imported Keras on TensorFlow.
    result = run(example('"KERAS_BACKEND"'), tmp_path, sys.executable)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].startswith("jax 0.")


@pytest.mark.ci
def test_the_example_of_recurrent_layers_and_embeddings(tmp_path):
    result = run(example("keras.layers.LSTM"), tmp_path)
    assert result.returncode == 0, result.stderr
    rows = result.stdout.splitlines()
    assert re.search(r"^ +2 +20\.00%", result.stdout, re.M)
    assert "the export differs by 0.0" in rows


@pytest.mark.ci
def test_the_example_of_a_whole_run(tmp_path):
    result = run(example("my_networks"), tmp_path)
    assert result.returncode == 0, result.stderr
    metrics = RunDir(tmp_path / "run").metrics()
    assert len(metrics) == 3
    assert metrics[0]["test_accuracy"] >= 0.8


@pytest.mark.ci
def test_the_example_of_a_transformer(tmp_path):
    result = run(example("transformer.keras"), tmp_path)
    assert result.returncode == 0, result.stderr
    # Of the loaded model: a quarter is left, of each kernel more or less.
    assert re.search(r"\n13 masks; density 0\.\d+ to [01]\.\d+\n$", result.stdout)


@pytest.mark.ci
@pytest.mark.parametrize(
    "words",
    [
        "check_masked_layer",
        "assign_sub",
        "snip",
        "best_{round",
        "Net(32)",
        "enable_lora",
        "channel",
        "SparseTraining(",
        "sparsegpt",
    ],
)
def test_the_examples_that_check_themselves(words, tmp_path):
    result = run(example(words), tmp_path)
    assert result.returncode == 0, result.stderr
