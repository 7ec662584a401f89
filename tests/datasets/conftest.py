"""A dataset that a test may damage, and the command that trains on a prepared one."""

import shlex
import shutil

import pytest


@pytest.fixture
def copy(config, sharded, tmp_path):
    """A config on a copy of the dataset in shards, and the copy's directory."""
    shutil.copytree(sharded, tmp_path / "data")
    return config(data_dir=str(tmp_path / "data")), tmp_path / "data" / "digits" / "1.0.0"


def make(tmp_path, source, raw_dir, dataset=None, **options):
    """Prepare a dataset of the files in raw_dir; one that is not known is called own."""
    from lottery_tf.datasets import prepare

    if dataset in (None, "image_folder"):
        options = {"name": "own"} | options
    options = {"data_dir": tmp_path / "data", "raw_dir": raw_dir and str(raw_dir)} | options
    return prepare.prepare(dataset, source, **options)


def write_folders(top, pictures):
    """Write {path: bytes of a file} below a directory."""
    for path, content in pictures.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(content)
    return top


def found(path, split, config, **flags):
    """(images, labels) of a split, as a run reads them."""
    from lottery_tf import datasets
    from lottery_tf.datasets import tfrecords

    return tfrecords.read(datasets.find(config(dataset=str(path), **flags)), split)


def flags_said(path, name):
    """The flags of the command that prepare.describe says to train with."""
    from lottery_tf.datasets import prepare

    command = prepare.describe(path, name)[-1]
    return [word for word in shlex.split(command) if word.startswith("--")]
