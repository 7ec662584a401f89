import errno
import functools
import gzip
import http.server
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.image_classification import mnist

from lottery_tf import datasets
from lottery_tf.datasets import prepare, raw
from lottery_tf.errors import InputError
from tests.synthetic import idx, write_mnist


@pytest.fixture
def small_mnist(monkeypatch):
    monkeypatch.setitem(prepare.COUNTS, "mnist", {"train": 30, "test": 20})


def prepare_raw(tmp_path):
    return prepare.prepare("mnist", "raw", data_dir=tmp_path / "data", raw_dir=tmp_path / "raw")


@pytest.mark.parametrize("compress", [True, False])
def test_raw_mnist_becomes_a_dataset_that_tfds_loads(tmp_path, small_mnist, compress):
    arrays = write_mnist(tmp_path / "raw", compress=compress)
    path = prepare_raw(tmp_path)
    assert path == tmp_path / "data" / "mnist" / "3.0.1"
    loaded = tfds.load("mnist", split="train", data_dir=tmp_path / "data", download=False)
    images = np.stack([example["image"] for example in tfds.as_numpy(loaded)])
    labels = np.stack([example["label"] for example in tfds.as_numpy(loaded)])
    assert np.array_equal(images[..., 0], arrays["train-images-idx3-ubyte"])
    assert np.array_equal(labels, arrays["train-labels-idx1-ubyte"])
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == ["mnist"]


def write(name, content):
    """A function that puts packed bytes, or those that a function makes of the old ones, there."""

    def damage(raw_dir):
        file = raw_dir / name
        changed = content(gzip.decompress(file.read_bytes())) if callable(content) else content
        file.write_bytes(gzip.compress(changed))

    return damage


def copy(source, target):
    return lambda raw_dir: shutil.copy(raw_dir / source, raw_dir / target)


def swap_splits(raw_dir):
    for kind in ("images-idx3", "labels-idx1"):
        train, test = (raw_dir / f"{prefix}-{kind}-ubyte.gz" for prefix in ("train", "t10k"))
        train.rename(raw_dir / "aside")
        test.rename(train)
        (raw_dir / "aside").rename(test)


TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
# {what is damaged: (how, what the error says)}
DAMAGE = {
    "truncated": (write(TRAIN_IMAGES, lambda old: old[:-100]), TRAIN_IMAGES),
    "a cut gzip": (
        lambda raw_dir: os.truncate(file := raw_dir / TEST_IMAGES, file.stat().st_size - 200),
        TEST_IMAGES,
    ),
    "no gzip": (
        lambda raw_dir: (raw_dir / TRAIN_LABELS).write_bytes(b"<html>not found</html>"),
        TRAIN_LABELS,
    ),
    "empty": (write(TRAIN_LABELS, b""), TRAIN_LABELS),
    "a short header": (write(TRAIN_IMAGES, bytes((0, 0, 8, 3, 0, 0))), TRAIN_IMAGES),
    "missing": (lambda raw_dir: (raw_dir / TEST_LABELS).unlink(), TEST_LABELS),
    "labels of the other split": (copy(TEST_LABELS, TRAIN_LABELS), "30 .*20 "),
    "images for labels": (
        copy(TRAIN_IMAGES, TRAIN_LABELS),
        f"{TRAIN_LABELS}.*00000801.*00000803",
    ),
    "swapped splits": (swap_splits, "30 examples in the train split.*20"),
    "a label out of range": (
        write(TEST_LABELS, idx(np.full(20, 10))),
        f"{TEST_LABELS}.*0 to 9.*10",
    ),
    "the size of images": (
        write(TEST_IMAGES, idx(np.zeros((20, 32, 32)))),
        f"{TEST_IMAGES}.*28 x 28",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_raw_files_are_named_and_leave_nothing(tmp_path, small_mnist, kind):
    write_mnist(tmp_path / "raw")
    damage, words = DAMAGE[kind]
    damage(tmp_path / "raw")
    with pytest.raises(InputError, match=words):
        prepare_raw(tmp_path)
    assert list((tmp_path / "data").iterdir()) == []


def age(directory):
    """Makes a directory older than what another preparation may have made just now."""
    (directory / ".lock").touch()
    old = time.time() - 2 * prepare.YOUNG
    os.utime(directory, (old, old))


def test_a_preparation_leaves_alone_what_another_one_is_about_to_lock(tmp_path):
    new, old = (tmp_path / f".mnist.{name}.tmp" for name in ("new", "old"))
    for path in (new, old):
        path.mkdir()
    age(old)
    with prepare._aside(tmp_path / "mnist"):
        assert new.exists()
        assert not old.exists()


def test_a_preparation_that_dies_leaves_nothing_half_made(tmp_path, small_mnist, monkeypatch):
    write_mnist(tmp_path / "raw")
    leftover = tmp_path / "data" / ".mnist.killed.tmp"  # as SIGKILL leaves it
    leftover.mkdir(parents=True)
    age(leftover)
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "write", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare_raw(tmp_path)
    assert list((tmp_path / "data").iterdir()) == []
    prepare_raw(tmp_path)
    with pytest.raises(InputError, match="--overwrite"):
        prepare_raw(tmp_path)


def test_a_preparation_leaves_alone_what_another_one_is_writing(tmp_path, small_mnist):
    write_mnist(tmp_path / "raw")
    with prepare._aside(tmp_path / "data" / "mnist") as other:
        (other / "half").touch()
        prepare_raw(tmp_path)
        assert (other / "half").exists()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mnist"]


@pytest.fixture
def small_disk(tmp_path):
    """A directory on a disk of 200 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs more rights")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_leaves_nothing_half_made(tmp_path, small_disk, monkeypatch):
    monkeypatch.setitem(prepare.COUNTS, "mnist", {"train": 1000, "test": 20})
    write_mnist(tmp_path / "raw", train=1000)
    with pytest.raises(InputError, match=os.strerror(errno.ENOSPC)):
        prepare.prepare("mnist", "raw", data_dir=small_disk / "data", raw_dir=tmp_path / "raw")
    assert list((small_disk / "data").iterdir()) == []


def _interrupt(*_, **__):
    raise KeyboardInterrupt


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def mnist_server(tmp_path, monkeypatch):
    """A directory that a server on loopback serves; TFDS's MNIST builder downloads from there."""
    served = tmp_path / "served"
    served.mkdir()
    handler = functools.partial(_Silent, directory=str(served))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(mnist.MNIST, "URL", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setattr(mnist.MNIST, "url_infos", {})  # sizes and checksums of the real files
    monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", 30)
    monkeypatch.setattr(mnist, "_TEST_EXAMPLES", 20)
    yield served
    server.shutdown()
    server.server_close()


def test_tfds_downloads_mnist(tmp_path, mnist_server):
    arrays = write_mnist(mnist_server)
    path = prepare.prepare("mnist", "tfds", data_dir=tmp_path / "data")
    assert [entry.name for entry in (tmp_path / "data" / "mnist").iterdir()] == ["3.0.1"]
    loaded = tfds.as_numpy(tfds.builder_from_directory(path).as_dataset(split="test"))
    found = sorted(example["image"].tobytes() for example in loaded)
    images = arrays["t10k-images-idx3-ubyte"].astype(np.uint8)
    assert found == sorted(image.tobytes() for image in images)


def test_a_download_keeps_its_name(tmp_path):
    with pytest.raises(InputError, match=r"--name=digits.*--source=raw"):
        prepare.prepare("mnist", "tfds", data_dir=tmp_path, name="digits")


def test_without_a_network_a_download_fails_at_once(tmp_path, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # closed again, so nobody listens there
    monkeypatch.setattr(mnist.MNIST, "url_infos", {f"http://127.0.0.1:{port}/images.gz": None})
    started = time.monotonic()
    words = rf"127\.0\.0\.1:{port} .*refused.*--source=raw"
    with pytest.raises(InputError, match=words) as error:
        prepare.prepare("mnist", "tfds", data_dir=tmp_path / "data")
    assert "\n" not in str(error.value)
    assert time.monotonic() - started < 5
    assert capsys.readouterr() == ("", "")  # no progress bars


def test_a_preparation_leaves_nothing_among_temporary_files(tmp_path, small_mnist, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    write_mnist(tmp_path / "raw")
    prepare_raw(tmp_path)
    assert list((tmp_path / "temporary").iterdir()) == []
    assert tempfile.tempdir == str(tmp_path / "temporary")


def test_a_failed_download_suggests_raw_files(tmp_path, mnist_server):
    with pytest.raises(InputError, match=r"mnist.*--source=raw"):
        prepare.prepare("mnist", "tfds", data_dir=tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"name": "a/b"}, "--name: .*a/b"),
        ({"name": "../a"}, "--name: "),
        ({"name": ".a"}, "--name: "),
        ({"name": "a b"}, "--name: "),
        ({"name": "a" * 101}, "--name: "),
        ({"name": "cifar10"}, "--name: cifar10 "),
        ({"name": "digits"}, "--name: digits "),
        ({"raw_dir": "nowhere"}, "--raw_dir=nowhere "),
        ({"raw_dir": __file__}, r"--raw_dir=\S*test_prepare\.py .*Unpack"),
        ({"source": "tfds"}, "--raw_dir .*mnist.*--source=raw"),
        ({"source": "tfds", "raw_dir": None, "skip_bad": True}, "--skip_bad .*--source=tfds"),
        ({"source": "tfds", "raw_dir": None, "shrink": 2}, "--shrink .*--source=tfds"),
        ({"shrink": 0, "name": "a"}, "--shrink: .*1.* 0"),
        ({"shrink": 2}, "--shrink=2 .*--name, as mnist_small"),
        ({"shrink": 2, "name": "mnist"}, "--shrink=2 .*--name"),
    ],
)
def test_flags_of_a_preparation_are_checked_first(tmp_path, flags, words):
    flags = {"source": "raw", "raw_dir": str(tmp_path), **flags}
    with pytest.raises(InputError, match=words):
        prepare.prepare("mnist", flags.pop("source"), data_dir=tmp_path / "data", **flags)
    assert not (tmp_path / "data").exists()


def test_overwriting_replaces_a_prepared_dataset_and_nothing_else(tmp_path, small_mnist):
    write_mnist(tmp_path / "raw")
    own = tmp_path / "data" / "mnist" / "train" / "own.png"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"an image of the user's")
    options = {"data_dir": tmp_path / "data", "raw_dir": tmp_path / "raw", "overwrite": True}
    with pytest.raises(InputError, match=f"^{own.parent.parent} .*--name"):
        prepare.prepare("mnist", "raw", **options)
    assert own.exists()
    shutil.rmtree(tmp_path / "data" / "mnist")
    path = prepare_raw(tmp_path)
    prepare.prepare("mnist", "raw", **options)
    (tmp_path / "raw").rename(path / "raw")
    with pytest.raises(InputError, match=r"--overwrite .*--raw_dir=.*mnist"):
        prepare.prepare("mnist", "raw", **options | {"raw_dir": path / "raw"})


def test_skipping_does_not_hide_swapped_splits(tmp_path, small_mnist):
    write_mnist(tmp_path / "raw")
    swap_splits(tmp_path / "raw")
    with pytest.raises(InputError, match=r"20 examples in the test split.*30"):
        prepare.prepare("mnist", "raw", data_dir=tmp_path, raw_dir=tmp_path / "raw", skip_bad=True)


def test_real_mnist(raw_data):
    sources = raw.mnist(raw_data / "mnist")
    images, labels = (
        np.stack(column) for column in list(zip(*sources["train"].examples(), strict=True))[1:]
    )
    assert images.shape == (60_000, 28, 28, 1)
    assert images.mean() == pytest.approx(33.318, abs=1e-3)
    assert sources["test"].count == 10_000
    counts = "5923 6742 5958 6131 5842 5421 5918 6265 5851 5949"
    assert " ".join(map(str, np.bincount(labels))) == counts
    constants = datasets.DATASETS["mnist"]
    assert (images / 255).mean() == pytest.approx(constants.mean[0], abs=5e-5)
    assert (images / 255).std() == pytest.approx(constants.std[0], abs=5e-5)
