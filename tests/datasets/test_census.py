"""Classes without images, images that a dataset holds twice, and classes that look the same."""

import itertools
import unicodedata

import numpy as np
import pytest
from PIL import Image

from lottery_tf.datasets import census, layout, prepare
from lottery_tf.errors import InputError
from tests.datasets.conftest import make, write_folders
from tests.parquet_files import encoded, save
from tests.synthetic import write_dataset


def pictures(count, start=0):
    """Images of which no two are the same."""
    images = np.zeros((count, 6, 5), np.uint8)
    images[:, 0, 0] = np.arange(start, start + count)
    return images


def from_arrays(tmp_path, y_train, y_test, **arrays):
    given = {"x_train": pictures(len(y_train)), "y_train": y_train}
    given |= {"x_test": pictures(len(y_test), 100), "y_test": y_test}
    np.savez(tmp_path / "file.npz", **(given | arrays))
    return make(tmp_path, "arrays", tmp_path / "file.npz", overwrite=True)


def from_parquet(tmp_path, y_train, y_test, **options):
    for split, labels, start in (("train", y_train, 0), ("test", y_test, 100)):
        images = pictures(len(labels), start)
        save(tmp_path / "hub" / f"{split}.parquet", images, labels, names=options.get("names"))
    return make(tmp_path, "parquet", tmp_path / "hub", overwrite=True)


@pytest.mark.parametrize("write", [from_arrays, from_parquet])
@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([1, 2, 3], "1 of the numbers 0 to 3"),
        ([0, 1, 900], "898 of the numbers 0 to 900"),
        ([5, 7, 5], "6 of the numbers 0 to 7"),
    ],
)
def test_numbers_of_no_image_are_no_classes(tmp_path, capsys, write, labels, words):
    names = [str(label) for label in sorted(set(labels))]
    path = write(tmp_path, labels * 4, labels)
    assert prepare.describe(path, "own")[0].endswith(f"{len(names)} classes: {', '.join(names)}.")
    told = capsys.readouterr().err
    assert words in told
    assert "in their order" in told
    fields = layout.read_fields(path, "image", "label")
    found = census.of_records(layout.read_splits(path), fields, names)
    counts = {names.index(str(label)): 4 * labels.count(label) for label in labels}
    assert dict(found.counts["train"]) == counts


@pytest.mark.parametrize("write", [from_arrays, from_parquet])
def test_a_number_of_the_test_split_alone_stays_a_class(tmp_path, capsys, write):
    path = write(tmp_path, [0, 1, 3] * 3, [0, 1, 2, 3])
    assert prepare.describe(path, "own")[0].endswith("4 classes: 0, 1, 2, 3.")
    told = capsys.readouterr().err
    assert "1 of the 4 classes have no image in the train split" in told
    assert told.strip().endswith(": 2.")


def test_classes_with_names_and_without_images_are_told(tmp_path, capsys):
    names = ["a", "b", "c", "d"]
    path = from_arrays(tmp_path, [0, 1, 3] * 3, [0, 1], classes=names)
    assert prepare.describe(path, "own")[0].endswith("4 classes: a, b, c, d.")
    told = capsys.readouterr().err
    assert "1 of the 4 classes have no image in the train split" in told
    assert "2 of the 4 classes have no image in the test split" in told
    from_parquet(tmp_path, [1, 2, 3] * 3, [1, 2, 3], names=names)
    told = capsys.readouterr().err
    assert "have no image in the train split" in told
    assert ": a." in told
    from_arrays(tmp_path, [0, 1, 2, 3] * 3, [0, 1, 2, 3], classes=names)
    assert "no image" not in capsys.readouterr().err


def test_what_is_downloaded_is_counted_too(tmp_path, capsys):
    path = write_dataset(tmp_path / "data", shard_lengths=[5, 4], name="few", classes=12)
    prepare._tell(path, "few")
    told = capsys.readouterr().err
    assert "3 of the 12 classes have no image in the train split" in told
    assert ": 9, 10, 11." in told


def test_the_same_image_in_two_classes_or_splits_is_told(tmp_path, capsys):
    x_train, x_test = pictures(9), pictures(6, 100)
    x_train[7] = x_train[0]  # of labels 0 and 1
    x_train[6] = x_train[0]  # of one label: no fault
    x_test[2] = x_train[5]
    from_arrays(tmp_path, [0, 1, 2] * 3, [0, 1, 2] * 2, x_train=x_train, x_test=x_test)
    told = capsys.readouterr().err
    assert "1 image is in more than one class: 0 (train) and 7 (train)." in told
    assert "1 image is in the test split and in another one too" in told
    assert "5 (train) and 2 (test)" in told


def test_images_that_are_twice_are_named_by_their_files(tmp_path, capsys):
    places = itertools.product(("train", "test"), ("cat", "dog"), range(3))
    top = write_folders(
        tmp_path / "raw",
        {
            f"{split}/{name}/{row}.png": encoded(np.full((6, 5, 3), bright, np.uint8))
            for bright, (split, name, row) in enumerate(places)
        },
    )
    (top / "train/dog/0.png").write_bytes((top / "train/cat/2.png").read_bytes())
    Image.open(top / "train/dog/1.png").save(top / "test/dog/1.bmp")  # other bytes, same pixels
    make(tmp_path, "raw", top, "image_folder")
    told = capsys.readouterr().err
    assert "cat/2.png (train) and dog/0.png (train)" in told
    assert "dog/1.png (train) and dog/1.bmp (test)" in told


ACCENTS = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]


def test_names_of_classes_that_look_the_same_are_refused(tmp_path):
    for names in (ACCENTS, ["cat", "cat "], ["a b", "a  b"]):
        with pytest.raises(InputError, match="Give them one name"):
            from_arrays(tmp_path, [0, 1] * 3, [0, 1], classes=names)
        save(tmp_path / "text" / "train.parquet", pictures(6), names * 3, names=None)
        with pytest.raises(InputError, match="Give them one name"):
            make(tmp_path, "parquet", tmp_path / "text")
        folders = {f"train/{name}/a.png": encoded(pictures(1)[0]) for name in names}
        with pytest.raises(InputError, match="Give them one name"):
            make(tmp_path, "raw", write_folders(tmp_path / names[0], folders), "image_folder")


def test_splits_whose_classes_look_the_same_are_told_apart(tmp_path):
    folders = [f"train/{ACCENTS[0]}", "train/dog", f"test/{ACCENTS[1]}", "test/dog"]
    write_folders(tmp_path / "raw", {f"{path}/a.png": encoded(pictures(1)[0]) for path in folders})
    with pytest.raises(InputError, match=r"train and test.*'cafe\\u0301', 'caf\\xe9'"):
        make(tmp_path, "raw", tmp_path / "raw", "image_folder")


def test_names_that_differ_in_capitals_are_told(tmp_path, capsys):
    from_arrays(tmp_path, [0, 1] * 3, [0, 1], classes=["Cat", "cat"])
    assert "Cat and cat are two classes" in capsys.readouterr().err


def test_pairs_are_counted_and_only_the_first_are_kept(capsys):
    found = census.Census(["a", "b"], 100)
    for place in range(50):
        found.add("train", place, b"same", place % 2)
    assert len(found.shown[census.IN_TWO_CLASSES]) == census.SHOWN
    found.tell("own")
    assert "25 images are in more than one class" in capsys.readouterr().err


def test_large_datasets_are_not_searched_for_equal_images(tmp_path, capsys, monkeypatch):
    path = write_dataset(tmp_path / "data", shard_lengths=[5, 4], name="few", classes=12)
    monkeypatch.setattr(census, "MOST", 5)
    prepare._tell(path, "few")
    told = capsys.readouterr().err
    assert "3 of the 12 classes have no image" in told
    assert "more than 5 examples" in told


def test_a_download_that_cannot_be_checked_is_kept(tmp_path, capsys, monkeypatch):
    def download(name, directory, *_, **__):
        write_dataset(directory, shard_lengths=[5, 4], name=name)

    def fail(*_):
        raise RuntimeError("no such field")

    monkeypatch.setattr(prepare.download, "check", lambda *_: None)
    monkeypatch.setattr(prepare.download, "download", download)
    monkeypatch.setattr(census, "of_records", fail)
    path = prepare.prepare("fashion_mnist", "tfds", data_dir=str(tmp_path / "data"))
    assert path.is_relative_to(tmp_path / "data" / "fashion_mnist")
    assert (path / "dataset_info.json").exists()
    assert "no such field" in capsys.readouterr().err
