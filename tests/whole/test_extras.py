"""What not everyone needs is in extras: all else does without, and errors name the line for pip."""

import configparser
import importlib
import re
import subprocess
import sys

import pytest

from lottery_tf import errors
from lottery_tf.config import command
from lottery_tf.sweeps import clusters
from tests.conftest import ROOT

pytestmark = pytest.mark.versions


def packages(text):
    """The names at the beginnings of the lines of requirements."""
    return {re.split(r"[^\w-]", line)[0].replace("-", "_") for line in text.split("\n") if line}


@pytest.fixture(scope="module")
def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


@pytest.mark.parametrize("package", errors.EXTRAS)
def test_the_extra_that_an_error_names_has_the_package(package, setup):
    assert package in packages(setup["options.extras_require"][errors.EXTRAS[package]])
    assert package not in packages(setup["options"]["install_requires"])


@pytest.mark.parametrize("package", errors.EXTRAS)
def test_a_command_names_the_line_that_installs_what_it_lacks(package, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit) as ended:
        command._guarded(lambda _: importlib.import_module(package))(None)
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert f" {package}, " in error
    assert error.endswith(f"pip install 'lottery_tf[{errors.EXTRAS[package]}]'\n")


def test_a_module_that_is_in_no_extra_is_an_error_of_ours():
    with pytest.raises(ModuleNotFoundError):
        command._guarded(lambda _: importlib.import_module("no_such_module"))(None)


@pytest.mark.parametrize(("address", "flag"), [("", "--cluster=ray"), ("auto", "--address")])
def test_a_cluster_without_ray_says_what_installs_it(address, flag, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(errors.InputError, match=rf"{flag} .*\bray\b.*'lottery_tf\[sweep\]'"),
        clusters.on_ray(address, cpus_per_run=1, gpus_per_run=0),
    ):
        pass


WITHOUT = """
import runpy, sys
sys.modules.update(dict.fromkeys(EXTRAS))
sys.argv = ["imp", "--flagfile=flags/digits.cfg", "--rounds=2", "--epochs=1", "--run_dir=RUN_DIR"]
try:
    runpy.run_module("lottery_tf.imp", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
import lottery_tf
from lottery_tf.datasets import prepare
from lottery_tf.export import exporting
from lottery_tf.sweeps import sweep
lottery_tf.load("RUN_DIR", 1)
lottery_tf.rounds
"""


@pytest.mark.ci
def test_the_first_run_and_the_library_need_no_extra(tmp_path):
    program = WITHOUT.replace("EXTRAS", str(list(errors.EXTRAS)))
    program = program.replace("RUN_DIR", str(tmp_path / "run"))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
