"""The scripts of examples/ and the notebooks run from beginning to end."""

import importlib.util
import os
import subprocess

import pytest

from tests import forked
from tests.conftest import ROOT

# What each prints at its end, if all went well.
EXAMPLES = {
    "custom_loop": "accuracy 9",
    "gradual_pruning": "test accuracy at 20% of the weights",
    "time_series": "the noise alone has an error of 0.0100",
    "transformer_one_shot": "2:4 by sparsegpt",
    "unet_channels": "multiply-adds became",
}
NOTEBOOKS = ("find_a_ticket", "prune_my_model", "study_over_seeds")

pytestmark = [pytest.mark.slow, pytest.mark.ci]


def test_every_example_and_notebook_is_run():
    scripts = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert scripts == EXAMPLES.keys() | {"imp_in_150_lines"}  # see test_oracle.py
    assert {path.stem for path in (ROOT / "docs" / "tutorials").glob("*.ipynb")} == set(NOTEBOOKS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name, tmp_path):
    if name == "transformer_one_shot" and not importlib.util.find_spec("keras_hub"):
        pytest.skip("keras_hub is an extra")
    result = subprocess.run(
        [forked.python(), ROOT / "examples" / f"{name}.py"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert EXAMPLES[name] in result.stdout


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(name, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # pictures go into the notebook
    notebook = nbformat.read(ROOT / "docs" / "tutorials" / f"{name}.ipynb", as_version=4)
    resources = {"metadata": {"path": str(ROOT)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    images = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    stored = nbformat.read(ROOT / "docs" / "tutorials" / f"{name}.ipynb", as_version=4)
    assert len(images) == str(stored).count("'image/png'")
