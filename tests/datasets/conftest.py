"""A dataset that a test may damage, and the command that trains on a prepared one."""

import shlex
import shutil

import pytest

from lottery_tf.datasets import prepare


@pytest.fixture
def copy(config, sharded, tmp_path):
    """A config on a copy of the dataset in shards, and the copy's directory."""
    shutil.copytree(sharded, tmp_path / "data")
    return config(data_dir=str(tmp_path / "data")), tmp_path / "data" / "digits" / "1.0.0"


def flags_said(path, name):
    """The flags of the command that prepare.describe says to train with."""
    command = prepare.describe(path, name)[-1]
    return [word for word in shlex.split(command) if word.startswith("--")]
