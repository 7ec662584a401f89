import dataclasses
import json
import shutil

import numpy as np
import pytest

from lottery_tf import datasets
from lottery_tf.datasets import tfrecords
from lottery_tf.errors import InputError


def test_the_embedded_digits(config):
    directory = datasets.find(config())
    assert directory.image_shape == (8, 8, 1)
    assert directory.classes == 10
    images, labels = tfrecords.read(directory, "train")
    assert images.shape == (1347, 8, 8, 1)
    constants = datasets.DATASETS["digits"]
    assert (images / 255).mean() == pytest.approx(constants.mean[0], abs=5e-5)
    assert (images / 255).std() == pytest.approx(constants.std[0], abs=5e-5)
    assert np.bincount(labels).min() > 100
    assert len(tfrecords.read(directory, "test")[1]) == 450


def test_the_embedded_digits_are_scikit_learns(config):
    sklearn = pytest.importorskip("sklearn.datasets")
    digits = sklearn.load_digits()
    expected = {
        (tuple(image.ravel().astype(int)), label)
        for image, label in zip(digits.images, digits.target, strict=True)
    }
    found = set()
    for split in ("train", "test"):
        images, labels = tfrecords.read(datasets.find(config()), split)
        levels = np.round(images / 255 * 16).astype(int)
        found |= {
            (tuple(image.ravel()), label) for image, label in zip(levels, labels, strict=True)
        }
    assert found == expected


def test_a_missing_dataset_names_the_directory_and_the_command(config, tmp_path):
    command = rf"prepare_data --dataset=mnist --source=tfds --data_dir={tmp_path}"
    with pytest.raises(InputError, match=rf"{tmp_path}/mnist(.|\n)*{command}"):
        datasets.find(config(dataset="mnist", data_dir=str(tmp_path)))


def test_the_embedded_digits_are_never_to_be_prepared(config, monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "packaged", lambda name: tmp_path / "gone" / name)
    with pytest.raises(InputError, match="digits") as caught:
        datasets.find(config(data_dir=str(tmp_path)))
    assert "prepare" not in str(caught.value)


def test_a_missing_shard_is_named(copy):
    config, path = copy
    (path / "digits-train.tfrecord-00001-of-00003").unlink()
    with pytest.raises(InputError, match=r"digits-train\.tfrecord-00001-of-00003"):
        datasets.find(config)


def test_what_is_not_a_dataset_is_an_error(copy):
    config, path = copy
    (path / "features.json").write_text("{}")
    with pytest.raises(InputError, match=f"^{path} .*features.json"):
        datasets.find(config)


@pytest.mark.parametrize(
    ("splits", "evaluated"),
    [
        (["train", "test"], "test"),
        (["train", "validation"], "validation"),
        (["train", "validation", "test"], "test"),
    ],
)
def test_the_split_to_evaluate_on(copy, splits, evaluated):
    config, path = copy
    assert found_evaluation(path, config, splits) == evaluated


def test_imagenet_is_evaluated_on_its_validation_split(copy, tmp_path):
    config, path = copy
    (tmp_path / "data" / "imagenet2012").mkdir()
    moved = path.rename(tmp_path / "data" / "imagenet2012" / "5.1.0")
    config = dataclasses.replace(config, dataset="imagenet2012")
    assert found_evaluation(moved, config, ["train", "validation", "test"]) == "validation"


def found_evaluation(path, config, splits):
    """The split whose files stand for "test", in a dataset of these splits."""
    info = json.loads((path / "dataset_info.json").read_text())
    small = info["splits"][1]
    info["splits"] = info["splits"][:1] + [small | {"name": name} for name in splits[1:]]
    (path / "dataset_info.json").write_text(json.dumps(info))
    source = path / "digits-test.tfrecord-00000-of-00001"
    for name in splits[1:]:
        target = path / f"digits-{name}.tfrecord-00000-of-00001"
        if target != source:
            shutil.copy(source, target)
    shard = datasets.find(config).splits["test"].shards[0]
    return shard.path.name.split("-")[1].split(".")[0]
