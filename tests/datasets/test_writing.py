"""Smaller images: the means of blocks of pixels, against loops."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from lottery_tf.datasets import prepare, raw, writing
from lottery_tf.errors import InputError
from tests.synthetic import write_mnist


def arrays_of(path, split):
    """The images and labels of a split, as TFDS reads them."""
    examples = [*tfds.as_numpy(tfds.builder_from_directory(path).as_dataset(split))]
    return [np.stack([example[key] for example in examples]) for key in ("image", "label")]


def test_shrinking_means_over_blocks_of_pixels(tmp_path, monkeypatch):
    monkeypatch.setitem(prepare.COUNTS, "mnist", {"train": 30, "test": 20})
    write_mnist(tmp_path / "raw")
    options = {"data_dir": tmp_path / "data", "raw_dir": tmp_path / "raw"}
    whole = prepare.prepare("mnist", "raw", **options)
    small = prepare.prepare("mnist", "raw", name="mnist_7", shrink=4, **options)
    for split in ("train", "test"):
        found = [arrays_of(path, split) for path in (whole, small)]
        by_eye = np.empty((len(found[0][0]), 7, 7, 1))
        for n, y, x in np.ndindex(by_eye.shape[:3]):
            block = found[0][0][n, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
            by_eye[n, y, x] = np.rint(block.mean())
        np.testing.assert_array_equal(found[1][0], by_eye)
        np.testing.assert_array_equal(found[1][1], found[0][1])
    with pytest.raises(InputError, match=r"--shrink=3 .*28 x 28"):
        prepare.prepare("mnist", "raw", name="mnist_9", shrink=3, **options)
    assert not (tmp_path / "data" / "mnist_9").exists()


def test_a_block_keeps_its_type_and_does_not_overflow():
    image = np.full((2, 4, 1), 65535, np.uint16)
    assert writing.block_means(image, 2).dtype == np.uint16
    np.testing.assert_array_equal(writing.block_means(image, 2), image[:1, :2])
    halves = np.arange(4, dtype=np.float32).reshape(2, 2, 1) / 2
    assert writing.block_means(halves, 2).tolist() == [[[0.75]]]


def test_images_that_are_files_are_not_shrunk():
    source = raw.Source(1, lambda: iter([(0, b"file", 0)]), ("a",))
    with pytest.raises(InputError, match=r"--shrink=2 .*train split"):
        writing.smaller({"train": source}, 2)
