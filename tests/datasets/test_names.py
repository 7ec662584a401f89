"""Names in files of data never lead out of the directory that is written or read."""

import io
import json
import os
import pathlib
import re
import tarfile
import zipfile

import numpy as np
import pytest

from lottery_tf import datasets
from lottery_tf.datasets import folders, layout, names
from lottery_tf.errors import InputError
from lottery_tf.runs import files
from tests.datasets.conftest import make, write_folders
from tests.parquet_files import encoded, save
from tests.synthetic import shaded, write_dataset

EVIL = (
    "../evil",
    "../../victim/evil",
    "/tmp/evil",
    "..",
    ".",
    "a/b",
    "a\\..\\b",
    "a\0b",
    "",
    " ",
    "a\nb",
    "é" * 200,
)


@pytest.mark.parametrize("name", EVIL)
def test_names_that_lead_elsewhere_are_told_from_others(name):
    assert not names.is_file_name(name)
    assert names.is_file_name(f"own{len(name)}-test.tfrecord-00000-of-00001")


def tree(top):
    """All files below a directory."""
    return {path for path in pathlib.Path(top).rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["../../victim/evil", "/tmp/x/evil", "..", "a\\b", "all", "ALL"])
@pytest.mark.parametrize("keys", [("x_{}", "y_{}"), ("{}_images", "{}_labels")])
def test_an_array_does_not_choose_where_it_is_written(tmp_path, name, keys):
    images, labels = shaded(9)
    given = {"x_train": images, "y_train": labels}
    given |= {keys[0].format(name): images, keys[1].format(name): labels}
    with zipfile.ZipFile(tmp_path / "file.npz", "w") as archive:  # NumPy would not write all names
        for key, array in given.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            archive.writestr(f"{key}.npy", buffer.getvalue())
    before = tree(tmp_path)
    given = tmp_path / "a", "arrays", tmp_path / "file.npz"
    if keys[0].startswith("{") and name.lower() != "all":  # no name that MedMNIST gives: ignored
        path = make(*given)
        assert tree(tmp_path) - before == tree(path)
        return
    with pytest.raises(InputError, match=r"file\.npz: .*Received: "):
        make(*given)
    assert tree(tmp_path) == before


def test_two_arrays_of_one_split_are_refused(tmp_path):
    images, labels = shaded(9)
    for further in (("x_val", "y_val", "x_valid", "y_valid"), ("X_train", "Y_train")):
        given = {"x_train": images, "y_train": labels}
        given |= {key: images if key[0] in "xX" else labels for key in further}
        np.savez(tmp_path / "file.npz", **given)
        with pytest.raises(InputError, match=r"(x_val and x_valid|x_train and X_train)"):
            make(tmp_path, "arrays", tmp_path / "file.npz")


@pytest.mark.parametrize("stem", ["x..-00000-of-00001", "all-00000-of-00001", "a b-0-of-1"])
def test_a_parquet_file_does_not_choose_where_it_is_written(tmp_path, stem):
    save(tmp_path / "hub" / "train.parquet", *shaded(9))
    save(tmp_path / "hub" / f"{stem}.parquet", *shaded(9))
    with pytest.raises(InputError, match=re.escape(f"{stem}.parquet: ")):
        make(tmp_path, "parquet", tmp_path / "hub")
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("name", ["../own", "a/b", "..", "/tmp/own", ".hidden", "own\n"])
def test_a_name_of_a_dataset_stays_below_its_directory(tmp_path, name):
    save(tmp_path / "train.parquet", *shaded(9))
    with pytest.raises(InputError, match="--name"):
        make(tmp_path, "parquet", tmp_path / "train.parquet", name=name)
    assert not (tmp_path / "data").exists()


MEMBERS = ("../../evil/a.png", "/abs/cat/a.png", "cat/../../dog/a.png", "./cat/a.png")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_members_of_archives_are_never_written(tmp_path, kind):
    raw = tmp_path / "a" / "raw"
    raw.mkdir(parents=True)
    picture = encoded(np.zeros((6, 5), np.uint8))
    for split in ("train", "test"):
        members = {name: picture for name in (*MEMBERS, "cat/b.png", "dog/c.png")}
        if kind == "zip":
            with zipfile.ZipFile(raw / f"{split}.zip", "w") as archive:
                for name, content in members.items():
                    archive.writestr(name, content)
        else:
            with tarfile.open(raw / f"{split}.tar", "w") as archive:
                for name, content in members.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    before = tree(tmp_path)
    path = make(tmp_path / "a", "raw", raw, "image_folder")
    assert tree(tmp_path) - before == tree(path)
    assert not any(".." in name for name in folders.find(raw, "train")[0].images)


@pytest.mark.parametrize("classes", [("..a", "dog"), ("a; b", "$(c)"), ("a%2f..", "b\\c")])
def test_names_of_classes_are_only_names(tmp_path, classes):
    picture = encoded(np.zeros((4, 4), np.uint8))
    places = [f"{split}/{name}" for split in ("train", "test") for name in classes]
    raw = write_folders(tmp_path / "raw", {f"{place}/a.png": picture for place in places})
    before = tree(tmp_path)
    if classes[0].startswith("."):  # hidden
        with pytest.raises(InputError, match=r"raw: .*train.*Found: dog"):
            make(tmp_path, "raw", raw, "image_folder")
        return
    path = make(tmp_path, "raw", raw, "image_folder")
    assert tree(tmp_path) - before == tree(path)
    assert layout.read_class_names(path, "label") == sorted(classes)


@pytest.mark.parametrize("where", ["split", "template", "dataset"])
def test_dataset_info_does_not_name_files_elsewhere(tmp_path, config, where):
    path = write_dataset(tmp_path / "data", shard_lengths=[20])
    outside = tmp_path / "data" / "digits" / "train.tfrecord"
    os.link(path / "digits-train.tfrecord-00000-of-00001", outside)
    info = json.loads((path / "dataset_info.json").read_text())
    if where == "split":
        info["splits"][0] |= {"name": "../train", "filepathTemplate": "{SPLIT}.tfrecord"}
    elif where == "template":
        info["splits"][0]["filepathTemplate"] = "../{SPLIT}.tfrecord"
    else:
        info["name"] = ".."
        info["splits"][0]["filepathTemplate"] = "{DATASET}/train.tfrecord"
    (path / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match=f"^{path} .*Found: .*\\.\\."):
        datasets.find(config(data_dir=str(tmp_path / "data")))


def test_a_field_does_not_name_a_file_elsewhere(tmp_path):
    (tmp_path / "secret.labels.txt").write_text("one\ntwo\n")
    (tmp_path / "data").mkdir()
    assert layout.read_class_names(tmp_path, "secret") == ["one", "two"]
    assert layout.read_class_names(tmp_path / "data", "../secret") == []
    assert layout.read_class_names(tmp_path / "data", str(tmp_path / "secret")) == []
    assert layout.read_class_names(tmp_path / "data", "none") == []


def test_checksums_do_not_name_files_elsewhere(tmp_path):
    files.write_directory(tmp_path / "round_00", {"a.npz": b"content"})
    assert files.names(tmp_path / "round_00") == ["a.npz"]
    sums = tmp_path / "round_00" / files.SUMS
    sums.write_text(sums.read_text().replace("a.npz", "../../a.npz"))
    with pytest.raises(InputError, match=r"SHA256SUMS.*'\.\./\.\./a\.npz'"):
        files.names(tmp_path / "round_00")
