import dataclasses
import gzip
import json
import shutil
import zlib

import numpy as np
import pytest

from lottery_tf import datasets
from lottery_tf.datasets import damage, tfrecords
from lottery_tf.errors import InputError
from lottery_tf.method.streams import Noise

pytestmark = pytest.mark.versions


@pytest.fixture
def copy(config, sharded, tmp_path):
    """A config on a copy of the dataset in shards, and the copy's directory."""
    shutil.copytree(sharded, tmp_path / "data")
    return config(data_dir=str(tmp_path / "data")), tmp_path / "data" / "digits" / "1.0.0"


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
    with pytest.raises(InputError, match=r"comes with the package.* install it again") as caught:
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
    with pytest.raises(InputError, match="not a dataset of images and labels"):
        datasets.find(config)


@pytest.mark.parametrize("reader", [tfrecords.read, damage.check])
def test_damaged_shards_are_named(copy, reader):
    config, path = copy
    shard = path / "digits-train.tfrecord-00001-of-00003"
    content = shard.read_bytes()
    directory = datasets.find(config)

    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    shard.write_bytes(flipped)
    with pytest.raises(InputError, match=f"{shard} is damaged"):
        reader(directory, "train")

    shard.write_bytes(content[:-3])
    with pytest.raises(InputError, match=f"{shard} is damaged"):
        reader(directory, "train")

    length = int.from_bytes(content[:8], "little") + 16  # of the first record, with its checksums
    for kept, found in ((content[length:], 12), (content + content[:length], 14)):
        shard.write_bytes(kept)
        with pytest.raises(InputError, match=f"{shard} has {found} examples.* says 13"):
            reader(directory, "train")

    shard.write_bytes(content)
    reader(directory, "train")


def test_cut_shards_are_found_by_their_lengths_alone(copy):
    config, path = copy
    shard = path / "digits-train.tfrecord-00001-of-00003"
    content = shard.read_bytes()
    directory = datasets.find(config)
    damage.check_lengths(directory, "train")
    length = int.from_bytes(content[:8], "little") + 16
    for damaged, words in (
        (content[:-3], "is damaged"),
        (content + b"123", "is damaged"),
        (content[length:], "has 12 examples.* says 13"),
        (bytes([content[0] ^ 1]) + content[1:], "is damaged|has"),
    ):
        shard.write_bytes(damaged)
        with pytest.raises(InputError, match=f"{shard} ({words})"):
            damage.check_lengths(directory, "train")


@pytest.mark.parametrize("reader", [tfrecords.read, damage.check])
def test_labels_out_of_range_are_named(copy, reader):
    config, path = copy
    features = json.loads((path / "features.json").read_text())
    features["featuresDict"]["features"]["label"]["classLabel"]["numClasses"] = "5"
    (path / "features.json").write_text(json.dumps(features))
    with pytest.raises(InputError, match=r"labels 0 to 4\. Example 5 of the train split has 5"):
        reader(datasets.find(config), "train")


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


@pytest.mark.parametrize("packing", ["gzip", "zlib", "renamed", "small"])
def test_compressed_shards_are_named_as_such(copy, packing):
    config, path = copy
    shard = path / "digits-train.tfrecord-00001-of-00003"
    content = shard.read_bytes()
    if packing == "zlib":
        shard.write_bytes(zlib.compress(content))
    elif packing == "small":  # fewer bytes than its examples can have
        shard.write_bytes(gzip.compress(bytes(10_000)))
    else:
        shard.write_bytes(gzip.compress(content))
    if packing == "renamed":
        shard.rename(f"{shard}.gz")
    with pytest.raises(InputError, match=rf"{shard}(\.gz)? is compressed by gzip or zlib"):
        damage.check(datasets.find(config), "train")


def test_a_damaged_shard_is_not_called_compressed(copy):
    config, path = copy
    shard = path / "digits-train.tfrecord-00001-of-00003"
    content = shard.read_bytes()
    shard.write_bytes(b"\x78\x01" + content[2:])  # a length of 376 bytes, as zlib's first two
    with pytest.raises(InputError, match=f"{shard} is damaged"):
        damage.check(datasets.find(config), "train")


def test_the_largest_window_is_one_of_all_records(copy):
    config, _ = copy
    directory = datasets.find(config)
    epochs = []
    for window in (50, 2**63 - 1):
        stream = tfrecords.stream(
            directory, directory.splits["train"], Noise(0, 0), epoch=0, window=window, batch_size=10
        )
        epochs.append(np.concatenate([labels for _, labels, _ in stream.as_numpy_iterator()]))
    assert len(epochs[0]) == 50
    assert np.array_equal(*epochs)
