"""Every command of README.md and docs/ is run, on flag files and data cut to seconds."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests import documents, forked
from tests.conftest import ROOT

# What is not run here, and why.
NOT_RUN = {
    r"--source=tfds|prepare_data --dataset=(fashion_mnist|coco|fasion_mnist)|prepare_data$": (
        "asks a server; tests/datasets/test_names.py"
    ),
    "resnet50": "ImageNet and GPUs; tests/training/test_cluster.py runs workers and devices",
    r"--raw_dir=…": "not a whole command",
    "tools.benchmark": "measures for minutes; tests/tools/test_tools.py",
    r"--model=own\.keras": "a model of the reader; tests/export/test_exporting.py",
    "tools.make_digits": "writes what the repository holds",
}
TICKET = "python -m lottery_tf.imp --flagfile=flags/lenet.cfg"
SEED_1 = f"{TICKET} --seed=1"
# The runs that a document takes for granted, as an earlier page made them.
BEFORE = {
    "README.md": [SEED_1],
    "docs/guides/analysis.md": ["python -m lottery_tf.imp --flagfile=flags/digits.cfg"],
    "docs/guides/export_formats.md": [TICKET],
    "docs/guides/exports.md": [TICKET],
    "docs/guides/faq.md": [TICKET],
    "docs/explanation/methods.md": [TICKET],
}


def test_commands_of_a_text():
    text = (
        "Run `python -m tools.x --run_dir=a`, not `python -m tools.x`:\n\n"
        "    $ python -m tools.y --a=1 \\\n        --b=2   # why\n    Error: no.\n"
        "    python -m lottery_tf.imp --flagfile=z\n    round 1\n"
    )
    assert documents.commands(text) == [
        ("python -m tools.x --run_dir=a", None),
        ("python -m tools.y --a=1 --b=2", "Error: no."),
        ("python -m lottery_tf.imp --flagfile=z", None),
    ]


def shell(lines, place):
    """Runs lines of a shell, in which `python` is forked; (exit status, output)."""
    places = [os.path.dirname(python) for python in (forked.python(), sys.executable)]
    path = os.pathsep.join([*places, os.environ["PATH"]])
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": path}
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", "\n".join(lines)],
        cwd=place, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return result.returncode, result.stdout


# Their commands take minutes, which CI does not have: run them with -m slow after a change there.
LONG = {
    "docs/guides/exports.md",
    "docs/guides/export_formats.md",
    "docs/explanation/methods.md",
    "docs/explanation/repulsion.md",
    "docs/results/figures.md",
    "docs/results/stable_training.md",
    "docs/guides/faq.md",
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A function that runs the first command of a document, once for all that begin with it."""
    made = {}

    def run(command, place):
        if command not in made:
            status, output = shell([command], place)
            if status or not (place / "runs").exists():
                return status, output
            made[command] = tmp_path_factory.mktemp("begun") / "runs", output
            shutil.copytree(place / "runs", made[command][0])
            return status, output
        runs, output = made[command]
        shutil.copytree(runs, place / "runs")
        return 0, output

    return run


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(name, marks=pytest.mark.slow if name in LONG else pytest.mark.ci)
        for name in documents.DOCUMENTS
    ],
)
def test_every_command_of_a_document_runs(document, tmp_path, begun):
    place = documents.write_place(tmp_path / "place")
    found = [(command, None) for command in BEFORE.get(document, [])]
    found += documents.commands((ROOT / document).read_text())
    settings, done, wrong = [], set(), []
    for command, error in found:
        if re.match('[A-Z]="', command):  # M="--rounds=15", for the lines below it
            settings.append(documents.cut(command))
            continue
        if command in done or any(re.search(pattern, command) for pattern in NOT_RUN):
            continue
        first = not settings and not done
        done.add(command)
        words = documents.cut(command)
        status, output = begun(words, place) if first else shell([*settings, words], place)
        if error is None and status:
            wrong.append(f"{command}\n{output[-1500:]}")
        elif error and (status != 1 or error[:60] not in output):
            wrong.append(f"{command}\nexpected {error}\n{output[-1500:]}")
    assert not wrong, "\n\n".join(wrong)
