"""What results depend on beside flags and data: recorded, and said where it changed."""

import json
import os

import pytest

from lottery_tf import imp
from lottery_tf.runs.rundir import RunDir
from lottery_tf.training import environment

TINY = {"model": "tests.networks:linear", "epochs": 1, "jit_compile": "off"}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("TF_ENABLE_ONEDNN_OPTS", True),
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
    name = "TF_ENABLE_ONEDNN_OPTS"
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
