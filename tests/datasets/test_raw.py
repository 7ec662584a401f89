"""CIFAR's published archives, and the real images."""

import io
import pickle
import tarfile

import numpy as np
import pytest

from lottery_tf import datasets, imp
from lottery_tf.datasets import prepare, raw, tfrecords
from lottery_tf.errors import InputError
from lottery_tf.runs.rundir import RunDir


def cifar_arrays():
    generator = np.random.default_rng(0)
    return {
        stem: (generator.integers(0, 256, (4, 3072), np.uint8), generator.integers(0, 10, 4))
        for stem in [f"data_batch_{index}" for index in range(1, 6)] + ["test_batch"]
    }


def python_batch(images, labels):
    return pickle.dumps({b"data": images, b"labels": labels.tolist()}, protocol=2)


def binary_batch(images, labels):
    return np.concatenate([labels[:, np.newaxis].astype(np.uint8), images], 1).tobytes()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("batch", "end"), [(python_batch, ""), (binary_batch, ".bin")])
def test_cifar_archives(config, tmp_path, monkeypatch, batch, end, packed):
    monkeypatch.setitem(prepare.COUNTS, "cifar10", {"train": 20, "test": 4})
    arrays = cifar_arrays()
    folder = tmp_path / "raw" / "cifar-10-batches"
    folder.mkdir(parents=True)
    for stem, (images, labels) in arrays.items():
        (folder / f"{stem}{end}").write_bytes(batch(images, labels))
    if packed:
        with tarfile.open(tmp_path / "raw" / "cifar-10.tar.gz", "w:gz") as archive:
            archive.add(folder, folder.name)
        folder.rename(tmp_path / "packed")
    prepare.prepare("cifar10", "raw", data_dir=tmp_path / "data", raw_dir=tmp_path / "raw")
    directory = datasets.find(config(dataset="cifar10", data_dir=str(tmp_path / "data")))
    images, labels = tfrecords.read(directory, "train")
    expected = np.concatenate([arrays[f"data_batch_{index}"][0] for index in range(1, 6)])
    assert np.array_equal(images, expected.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    assert np.array_equal(
        labels, np.concatenate([arrays[f"data_batch_{i}"][1] for i in range(1, 6)])
    )


def test_cifar_archives_that_are_damaged_or_dangerous_are_refused(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="data_batch_1 "):
        raw.cifar_archives("cifar10", tmp_path)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(io.BytesIO))
    with pytest.raises(InputError, match=r"data_batch_1 .*_io\.BytesIO"):
        raw.cifar_archives("cifar10", tmp_path)
    (tmp_path / "data_batch_1").write_bytes(python_batch(*cifar_arrays()["test_batch"]))
    with pytest.raises(InputError, match="data_batch_2"):
        raw.cifar_archives("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (np.zeros((2, 3072), np.float32), np.array([0, 1]), "data_batch_1 .*float32"),
        (np.zeros((2, 3072), np.uint16), np.array([0, 1]), "data_batch_1 .*uint16"),
        (np.zeros((2, 3072), np.uint8), np.array([0.0, 1.0]), "data_batch_1 .*float64"),
        (np.zeros((2, 3072), np.uint8), np.array([0, -1]), "0 to 9 in train"),
        (np.zeros((2, 3072), np.uint8), np.array([0, 10]), "0 to 9 in train"),
        (np.zeros((2, 3072), np.uint8), np.array([0]), r"\(2, 3072\) for 1 "),
        (np.zeros((1, 6144), np.uint8), np.array([0, 1]), r"\(1, 6144\) for 2 "),
        (np.zeros((0, 3072), np.uint8), np.zeros(0, int), "data_batch_1 "),
    ],
)
def test_cifar_pixels_and_labels_that_are_none_are_refused(tmp_path, images, labels, words):
    for stem in cifar_arrays():
        (tmp_path / stem).write_bytes(python_batch(images, labels))
    with pytest.raises(InputError, match=words):
        raw.cifar_archives("cifar10", tmp_path)


@pytest.mark.slow
def test_real_cifar10(config, raw_data, tmp_path):
    """Prepared by one call; three rounds of two networks on 5,000 images."""
    prepare.prepare("cifar10", "raw", data_dir=tmp_path, raw_dir=raw_data / "cifar10")
    directory = datasets.find(config(dataset="cifar10", data_dir=str(tmp_path)))
    images, labels = tfrecords.read(directory, "train")
    assert np.bincount(labels).tolist() == [5000] * 10
    constants = datasets.DATASETS["cifar10"]
    assert (images / 255).mean((0, 1, 2)) == pytest.approx(constants.mean, abs=2e-3)
    assert (images / 255).std((0, 1, 2)) == pytest.approx(constants.std, abs=2e-3)
    for model, rate in (("resnet20", 0.1), ("conv4", 0.01)):
        flags = {"run_dir": str(tmp_path / model), "dataset": "cifar10", "data_dir": str(tmp_path)}
        flags |= {"model": model, "initializer": "kaiming_normal", "optimizer": "momentum"}
        flags |= {"learning_rate": rate, "train_examples": 5000, "batch_size": 128}
        settings = config(**flags, epochs=2, rounds=3)
        imp.main(settings)
        metrics = RunDir(settings.run_dir).metrics()
        assert [row["density"] for row in metrics] == pytest.approx([1, 0.8, 0.64], abs=1e-5)
        assert max(row["test_accuracy"] for row in metrics) > 0.25
