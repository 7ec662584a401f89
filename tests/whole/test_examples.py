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
# Fewer examples, epochs and seeds than a reader gets: what a text says, and what it becomes here.
CUT = {
    "gradual_pruning": {"= draw(2000)": "= draw(512)", "63": "16"},
    "time_series": {"epochs=4": "epochs=1"},
    "unet_channels": {"= draw(100)": "= draw(50)", "= draw(500)": "= draw(100)"},
    "find_a_ticket": {
        '"--flagfile=flags/digits.cfg"': '"--flagfile=flags/digits.cfg", "--epochs=2"'
    },
    "prune_my_model": {"draw(3000), draw(2000)": "draw(640), draw(300)"},
    "study_over_seeds": {
        "--epochs=10": "--epochs=1",
        "--densities=0.5,0.25,0.1": "--densities=0.5,0.1",
        "seed=0,1,2,3,4": "seed=0,1",
        "range(5)": "range(2)",
    },
}

pytestmark = [pytest.mark.slow, pytest.mark.ci]


def test_every_example_and_notebook_is_run():
    scripts = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert scripts == EXAMPLES.keys() | {"imp_in_150_lines"}  # see test_oracle.py
    assert {path.stem for path in (ROOT / "docs" / "tutorials").glob("*.ipynb")} == set(NOTEBOOKS)


def cut(name, text):
    """Return the text of an example with the numbers of CUT; what it starts is forked."""
    for words, fewer in CUT.get(name, {}).items():
        assert words in text, words
        text = text.replace(words, fewer)
    return text.replace("sys.executable", repr(forked.python()))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name, tmp_path):
    if name == "transformer_one_shot" and not importlib.util.find_spec("keras_hub"):
        pytest.skip("keras_hub is an extra")
    (tmp_path / f"{name}.py").write_text(cut(name, (ROOT / "examples" / f"{name}.py").read_text()))
    result = subprocess.run(
        [forked.python(), tmp_path / f"{name}.py"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert EXAMPLES[name] in result.stdout


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(name, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # pictures go into the notebook
    text = (ROOT / "docs" / "tutorials" / f"{name}.ipynb").read_text()
    stored = nbformat.reads(text, as_version=4)
    notebook = nbformat.reads(text, as_version=4)
    code = "\0".join(cell.source for cell in notebook.cells)
    for cell, source in zip(notebook.cells, cut(name, code).split("\0"), strict=True):
        cell.source = source
    resources = {"metadata": {"path": str(ROOT)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    images = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(images) == str(stored).count("'image/png'")
