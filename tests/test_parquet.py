"""Datasets from Parquet files of encoded images and labels, as the Hugging Face hub has them."""

import shlex

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from lottery_tf import datasets, imp
from lottery_tf.datasets import prepare, tfrecords, usage
from lottery_tf.errors import InputError
from lottery_tf.store.rundir import RunDir
from tests.parquet_files import encoded, make, save, write_hub
from tests.synthetic import shaded


@pytest.fixture
def hub(tmp_path):
    return write_hub(tmp_path)


def pairs(images, labels):
    """What is independent of the order."""
    return sorted(
        (image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)
    )


def found(path, split, config, **flags):
    """(images, labels) of a split, as a run reads them."""
    return tfrecords.read(datasets.find(config(dataset=str(path), **flags)), split)


def test_the_files_of_the_hub_become_a_dataset(tmp_path, hub, config):
    path = make(tmp_path, hub)
    for split, count in (("train", 45), ("test", 12)):
        images, labels = shaded(count)
        assert pairs(*found(path, split, config)) == pairs(images[..., None], labels)
    line = usage.describe(path, "own")[0]
    assert line == (
        "train 45, test 12 examples; images 6 x 5 x 1 uint8; 3 classes: dark, gray, light."
    )


@pytest.mark.ci
def test_the_command_that_is_said_trains_on_it(tmp_path, hub, config):
    path = make(tmp_path, hub)
    words = shlex.split(usage.describe(path, "own")[-1])[6:]
    assert words == [f"--dataset={tmp_path / 'data' / 'own'}"]
    settings = config(dataset=str(path.parent), rounds=2, epochs=6, batch_size=9)
    imp.main(settings)
    rows = RunDir(settings.run_dir).metrics()
    assert len(rows) == 2
    assert rows[0]["train_accuracy"] > 0.8


@pytest.mark.parametrize("where", ["any.parquet", "any.parquet,test.parquet", "train/0.parquet"])
def test_files_by_name(tmp_path, config, where):
    for name in where.split(","):
        save(tmp_path / name, *shaded(12 if "test" in name else 45))
    places = ",".join(str(tmp_path / name) for name in where.split(","))
    if "," in where:
        with pytest.raises(InputError, match=r"any\.parquet: expected the name of its split"):
            make(tmp_path, places)
        return
    lines = usage.describe(make(tmp_path, places), "own")
    assert lines[0].startswith("train 45 examples")
    assert lines[-1].endswith("--test_fraction=0.1")


def test_folders_of_splits_and_lists(tmp_path):
    save(tmp_path / "hub" / "train" / "0000.parquet", *shaded(45))
    save(tmp_path / "hub" / "validation" / "0000.parquet", *shaded(12))
    save(tmp_path / "hub" / "extra-00000-of-00001.parquet", *shaded(9))
    line = usage.describe(make(tmp_path, tmp_path / "hub"), "own")[0]
    assert "train 45" in line
    assert "validation 12" in line
    assert "extra 9" in line
    files = [tmp_path / "hub" / split / "0000.parquet" for split in ("train", "validation")]
    path = make(tmp_path, ",".join(map(str, files)), overwrite=True)
    assert usage.describe(path, "own")[0].startswith("train 45, validation 12 examples")


def test_files_without_the_metadata_of_the_hub(tmp_path, config):
    images, labels = shaded(45)
    save(tmp_path / "train.parquet", images, labels.astype(np.uint8), names=None,
         keys=("img", "fine"))  # fmt: skip
    path = make(tmp_path, tmp_path / "train.parquet")
    assert usage.describe(path, "own")[0].endswith("3 classes: 0, 1, 2.")
    raw = pyarrow.table({"image": [encoded(image) for image in images], "label": labels})
    pyarrow.parquet.write_table(raw, tmp_path / "train.parquet")
    path = make(tmp_path, tmp_path / "train.parquet", overwrite=True)
    assert pairs(*found(path, "train", config, test_fraction=0.5))


def test_columns_to_choose(tmp_path):
    coarse = {"coarse": pyarrow.array(np.zeros(45, int))}
    file = save(tmp_path / "train.parquet", *shaded(45), names=None, keys=("img", "fine"), **coarse)
    with pytest.raises(InputError, match=r"labels: fine, coarse\. Add --label_key=fine"):
        make(tmp_path, file)
    assert make(tmp_path, file, label_key="fine", image_key="img").exists()
    with pytest.raises(InputError, match=r"column finer of whole numbers.*fine \(int64\)"):
        make(tmp_path, file, label_key="finer", overwrite=True)
    with pytest.raises(InputError, match=r"column fine of bytes of images.*img \(struct"):
        make(tmp_path, file, image_key="fine", overwrite=True)


def test_images_of_varying_size_keep_their_bytes(tmp_path, config):
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (20 + row, 30, 3), np.uint8) for row in range(12)]
    save(tmp_path / "hub" / "train.parquet", [encoded(image, "JPEG") for image in images],
         np.arange(12) % 3)  # fmt: skip
    save(tmp_path / "hub" / "test.parquet", images[:3], [0, 1, 2])
    path = make(tmp_path, tmp_path / "hub")
    assert "images any x any x 3 uint8" in usage.describe(path, "own")[0]
    assert datasets.find(config(dataset=str(path), image_size=16)).input_shape == (16, 16, 3)
    stored = b"".join(file.read_bytes() for file in path.glob("*-train.tfrecord*"))
    assert all(encoded(image, "JPEG") in stored for image in images)


def test_colours_stay_colours(tmp_path, config):
    gray, labels = shaded(12)
    images = [*gray[:-1], np.stack([gray[-1]] * 3, -1)]
    path = make(tmp_path, save(tmp_path / "train.parquet", images, labels))
    assert datasets.find(config(dataset=str(path), test_fraction=0.2)).image_shape == (6, 5, 3)


def test_a_split_without_labels_is_left_out(tmp_path, hub, capsys):
    save(hub / "data" / "test-00000-of-00001.parquet", shaded(12)[0], np.full(12, -1))
    line = usage.describe(make(tmp_path, hub), "own")[0]
    assert line.startswith("train 45 examples")
    assert "left out the test split, which has no labels" in capsys.readouterr().err


def test_a_known_dataset_in_parquet_files(tmp_path, monkeypatch, config):
    monkeypatch.setitem(prepare.COUNTS, "mnist", {"train": 9, "test": 6})
    digits = [np.full((28, 28), 20 * row, np.uint8) for row in range(9)]
    names = [str(digit) for digit in range(10)]
    save(tmp_path / "hub" / "train.parquet", digits, range(9), names=names)
    save(tmp_path / "hub" / "test.parquet", digits[:6], range(6), names=names)
    make(tmp_path, tmp_path / "hub", "mnist")
    found = datasets.find(config(dataset="mnist", data_dir=str(tmp_path / "data")))
    assert (found.image_shape, found.classes) == ((28, 28, 1), 10)
    save(tmp_path / "hub" / "test.parquet", digits[:6], range(6), names=names[:9])
    save(tmp_path / "hub" / "train.parquet", digits, range(9), names=names[:9])
    with pytest.raises(InputError, match="the 10 classes of mnist"):
        make(tmp_path, tmp_path / "hub", "mnist", overwrite=True)
