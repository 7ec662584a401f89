"""The wheel outside the checkout: its commands, flag files and embedded digits."""

import configparser
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time

import pytest

import tools
from lottery_tf.analysis import MEASURES
from lottery_tf.runs.rundir import RunDir
from tests.conftest import ROOT


def test_every_package_and_every_tool_is_in_the_wheel():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    packages = set(setup["options"]["packages"].split())
    found = sorted(ROOT.glob("lottery_tf/*/**/__init__.py"))
    rooms = {".".join(path.parent.relative_to(ROOT).parts) for path in found}
    assert packages == {
        "lottery_tf",
        *rooms,
        *(f"lottery_tf.{d}" for d in ("data", "flags", "tools")),
    }
    (script,) = setup["options.entry_points"]["console_scripts"].split("\n")[1:]
    assert script == "lottery = lottery_tf.tools:main"
    files = {path.stem for path in ROOT.glob("tools/[!_]*.py")}
    files -= {"shared", "make_results_pages"}  # no commands of the wheel
    assert files | {"imp"} == tools.COMMANDS.keys() | MEASURES.keys()


@pytest.fixture(scope="module")
def bin(tmp_path_factory):
    """The commands of a wheel that is installed beside this environment's other packages."""
    pytest.importorskip("wheel")
    place = tmp_path_factory.mktemp("wheel")
    for name in ("lottery_tf", "tools", "flags", "data/digits"):
        shutil.copytree(ROOT / name, place / "source" / name)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "data/README.md"):
        shutil.copy(ROOT / name, place / "source" / name)
    pip = [sys.executable, "-m", "pip", "-q"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "-w", place, place / "source"]
    subprocess.run([*pip, *build], check=True)
    shutil.rmtree(place / "source")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "venv"], check=True)
    (packages,) = place.glob("venv/lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    python, (wheel,) = place / "venv" / "bin" / "python", place.glob("*.whl")
    install = ["--python", python, "install", "--no-deps", "--no-index", wheel]
    subprocess.run([*pip, *install], check=True)
    return place / "venv" / "bin"


@pytest.mark.ci
def test_the_commands_of_a_wheel_run_outside_the_checkout(bin, tmp_path):
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    options = {"cwd": tmp_path, "env": environment, "text": True}

    def run(*arguments):
        return subprocess.run([bin / "lottery", *arguments], capture_output=True, **options)

    digits = "--flagfile=flags/digits.cfg"
    first = run("imp", digits, "--rounds=3")
    assert first.returncode == 0, first.stderr
    metrics = RunDir(tmp_path / "runs" / "digits").metrics()
    assert len(metrics) == 3
    assert metrics[2]["test_accuracy"] > 0.95
    table = run("distances", "--run_dir=runs/digits")
    assert table.returncode == 0, table.stderr
    assert (tmp_path / "runs" / "digits" / "analysis").is_dir()
    assert "flags/no.cfg here, nor" in run("imp", "--flagfile=flags/no.cfg").stderr
    assert "--raw_dir" in run("prepare-data", "--help").stdout

    long = [digits, "--epochs=2000", "--run_dir=long"]
    process = subprocess.Popen([bin / "lottery", "imp", *long], stderr=subprocess.PIPE, **options)
    while not (tmp_path / "long" / "log.txt").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate()
    assert process.returncode == 75
    assert f"To resume: lottery imp {' '.join(long)}" in error
