"""What results depend on beside flags and data: recorded, and said where it changed."""

import json
import os
import subprocess
import sys

import pytest

from lottery_tf import imp
from lottery_tf.config.environment import uses_onednn
from lottery_tf.errors import InputError
from lottery_tf.runs.rundir import RunDir
from lottery_tf.training import environment
from tests.conftest import ROOT

TINY = {"model": "tests.networks:linear", "epochs": 1, "jit_compile": "off"}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("TF_ENABLE_ONEDNN_OPTS", False),  # recorded as what came of it
        ("NVIDIA_TF32_OVERRIDE", True),
        ("TF_FORCE_GPU_ALLOW_GROWTH", True),
        ("XLA_FLAGS", True),
        ("TF_XLA_FLAGS", True),
        ("KERAS_MAX_EPOCHS", True),
        ("OMP_NUM_THREADS", True),
        ("TF_NUM_INTRAOP_THREADS", True),
        ("TF_CPP_MIN_LOG_LEVEL", False),
        ("TF_CONFIG", False),
        ("TF_VAR_password", False),  # Terraform's
        ("TF_TOKEN_example_com", False),
        ("KERAS_BACKEND", False),
        ("PATH", False),
    ],
)
def test_variables_that_change_numbers_are_found(monkeypatch, name, changes):
    monkeypatch.setenv(name, "1")
    found = environment.found()
    assert (name in found) == changes
    assert {"Python", "TensorFlow", "Keras", "NumPy"} <= found.keys()


def test_a_resume_with_others_than_before_says_so(config, monkeypatch, capfd):
    name = "NVIDIA_TF32_OVERRIDE"
    monkeypatch.delenv(name, raising=False)
    run = RunDir(config().run_dir)

    def launch():
        """The lines of the whole log, and those now printed, that name the variable."""
        capfd.readouterr()
        assert imp.main(config(**TINY, rounds=1)) == 0
        texts = (run.path / "log.txt").read_text(), capfd.readouterr().err
        return [[line for line in text.splitlines() if name in line] for text in texts]

    assert launch() == [[], []]
    assert launch() == [[], []]
    assert "TensorFlow 2." in (run.path / "log.txt").read_text()
    monkeypatch.setenv(name, "0")
    logged, printed = launch()
    (line,) = printed
    assert len(logged) == 2
    assert f"{name}=0" in logged[0]  # the environment of each launch
    assert line in logged[1]
    assert json.loads((run.path / "environment.json").read_text())[name] == "0"
    logged, printed = launch()
    assert (len(logged), printed) == (3, [])


@pytest.mark.parametrize("content", [None, b"", b"[1]", b"{\xff", b'{"NumPy": 3}'])
def test_a_record_that_is_missing_or_damaged_is_written_anew(config, content):
    run = RunDir(config().run_dir)
    run.path.mkdir()
    if content is not None:
        (run.path / "environment.json").write_bytes(content)
    lines = environment.record(run)
    assert bool(lines) == (content == b'{"NumPy": 3}')
    assert json.loads((run.path / "environment.json").read_text()) == environment.found()
    assert environment.record(run) == []
    assert set(os.listdir(run.path)) == {"environment.json"}


def test_the_machine_is_told_with_its_cores():
    assert str(os.cpu_count()) in environment.machine().split()


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (None, None),  # an older version, which kept none
        ({"NumPy": "2.0"}, None),
        ({"oneDNN": "on"}, True),
        ({"oneDNN": "off"}, False),
        ({"TF_ENABLE_ONEDNN_OPTS": "0"}, False),  # as older versions wrote it
        ({"TF_ENABLE_ONEDNN_OPTS": "1"}, True),
        (["oneDNN"], None),
    ],
)
def test_a_run_keeps_the_arithmetic_that_it_was_made_with(tmp_path, record, expected):
    assert uses_onednn(tmp_path) is True  # a new run
    (tmp_path / "config.json").write_text("{}")
    if record is not None:
        (tmp_path / "environment.json").write_text(json.dumps(record))
    assert uses_onednn(tmp_path) is expected


@pytest.mark.ci
def test_convolutions_run_in_onednn_unless_the_user_says_otherwise(tmp_path):
    tiny = ["--flagfile=flags/digits.cfg", "--epochs=1", "--model=tests.networks:linear"]
    command = [sys.executable, "-m", "lottery_tf.imp", *tiny]

    def launch(run, rounds, **variables):
        """The recorded setting after a launch, and what it printed to standard error."""
        own = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
        path = tmp_path / run
        arguments = [*command, f"--rounds={rounds}", f"--run_dir={path}", "--jit_compile=off"]
        done = subprocess.run(
            arguments, env=own | variables, cwd=ROOT, capture_output=True, text=True, check=True
        )
        return json.loads((path / "environment.json").read_text())["oneDNN"], done.stderr

    assert launch("new", 1) == ("on", "")
    off = {"TF_ENABLE_ONEDNN_OPTS": "0"}
    assert launch("user", 1, **off) == ("off", "")
    assert launch("user", 2) == ("off", "")  # the run keeps it
    setting, printed = launch("new", 2, **off)  # the user wins, and is told
    assert setting == "off"
    assert "oneDNN was on, is now off" in printed


class Workers:
    """Two workers: this one, and a chief with another setting."""

    workers = 2

    def __init__(self, chiefs):
        self.chiefs = chiefs

    def broadcast(self, function):
        return {name: self.chiefs for name in function()}

    def sum(self, array):
        return array


def test_workers_with_another_arithmetic_than_the_chief_are_refused():
    own = environment.found()["oneDNN"] == "on"
    environment.check_workers(Workers(own))
    with pytest.raises(InputError, match=rf"1 of 2 .*TF_ENABLE_ONEDNN_OPTS={int(not own)}"):
        environment.check_workers(Workers(not own))
