"""Paths on the command line: commas in them, ~, and where a run lies by default."""

import dataclasses
import os
import pathlib
import subprocess
import sys

import pytest
from absl import flags

from lottery_tf.config import Config, command
from lottery_tf.config.paths import split_paths
from tests.conftest import ROOT
from tests.made_runs import make_run


@pytest.fixture
def parse(tmp_path, monkeypatch):
    """A function of arguments -> Config, in an empty directory that is the home directory too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    def parse(*arguments):
        values = flags.FlagValues()
        command.define_config_flags(values)
        return command.parse_config(["imp", *arguments], values)

    return parse


def test_a_directory_that_is_there_is_one_path_with_its_commas(parse):
    for name in ("a", "b", "b=1,2", "x,y,z"):
        pathlib.Path(name).mkdir()
    for text, paths in (
        ("", []),
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ("b=1,2", ["b=1,2"]),
        ("a,b=1,2,b, x,y,z ,nowhere", ["a", "b=1,2", "b", "x,y,z", "nowhere"]),
        ("~/b=1,2,~/a", [os.path.abspath("b=1,2"), os.path.abspath("a")]),
    ):
        assert split_paths(text) == paths
    with pytest.raises(ValueError, match="a,,b"):
        split_paths("a,,b")
    assert parse("--repel=1", "--repel_runs=b=1,2,a").repel_runs == ("b=1,2", "a")


def test_no_default_name_has_a_comma(parse):
    given = ["--schedule=step", "--lr_drops=1,2"]
    assert parse(*given).run_dir == "runs/defaults_schedule=step_lr_drops=1+2"
    pathlib.Path("some,file.cfg").write_text("--epochs=3\n")
    assert parse("--flagfile=some,file.cfg").run_dir == "runs/some+file"


def test_a_run_of_an_older_version_with_a_comma_in_its_name_goes_on(parse):
    given = ["--schedule=step", "--lr_drops=1,2"]
    old = pathlib.Path("runs/defaults_schedule=step_lr_drops=1,2")
    old.mkdir(parents=True)
    assert parse(*given).run_dir != str(old)  # no run yet
    (old / "config.json").touch()
    assert parse(*given).run_dir == str(old)
    new = pathlib.Path("runs/defaults_schedule=step_lr_drops=1+2")
    new.mkdir()
    (new / "config.json").touch()
    assert parse(*given).run_dir == str(new)


def test_home_is_expanded_in_every_path_flag(parse, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dataset_info.json").touch()
    config = parse("--run_dir=~/r", "--dataset=~/set", "--repel=1", "--repel_runs=~/a,~/b")
    assert config.run_dir == str(tmp_path / "r")
    assert config.dataset == str(tmp_path / "set")
    assert config.repel_runs == (str(tmp_path / "a"), str(tmp_path / "b"))
    assert parse("--data_dir=~/data").data_dir == str(tmp_path / "data")
    paths = {field.name for field in dataclasses.fields(Config) if field.metadata["path"]}
    assert paths == {"run_dir", "dataset", "repel_runs", "data_dir"}


def test_a_tool_opens_a_run_with_a_comma_in_its_name(config, tmp_path):
    for name in ("one_lr_drops=1,2", "two"):
        make_run(config(run_dir=str(tmp_path / name)), rounds=2)
    arguments = ["--run_dir=~/one_lr_drops=1,2", "--other_run=~/two", "--out_dir=~/out"]
    result = subprocess.run(
        [sys.executable, "-m", "tools.thresholds", *arguments],
        cwd=ROOT,
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "one_lr_drops=1,2" in result.stdout
    assert f"Wrote into {tmp_path / 'out'}: thresholds.csv, thresholds.png\n" in result.stdout
