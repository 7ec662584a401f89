"""Datasets from Parquet files of encoded images and labels, as the Hugging Face hub has them."""

import re

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from lottery_tf import datasets, imp
from lottery_tf.datasets import prepare
from lottery_tf.errors import InputError
from lottery_tf.runs.rundir import RunDir
from tests.datasets.conftest import flags_said, found
from tests.parquet_files import STRUCT, encoded, make, save, write_hub
from tests.synthetic import shaded

pytestmark = pytest.mark.versions


@pytest.fixture
def hub(tmp_path):
    return write_hub(tmp_path)


def pairs(images, labels):
    """What is independent of the order."""
    return sorted(
        (image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)
    )


def test_the_files_of_the_hub_become_a_dataset(tmp_path, hub, config):
    path = make(tmp_path, hub)
    for split, count in (("train", 45), ("test", 12)):
        images, labels = shaded(count)
        assert pairs(*found(path, split, config)) == pairs(images[..., None], labels)
    line = prepare.describe(path, "own")[0]
    assert line == (
        "train 45, test 12 examples; images 6 x 5 x 1 uint8; 3 classes: dark, gray, light."
    )


@pytest.mark.ci
def test_the_command_that_is_said_trains_on_it(tmp_path, hub, config):
    path = make(tmp_path, hub)
    words = flags_said(path, "own")
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
        with pytest.raises(InputError, match=r"any\.parquet: .*--raw_dir"):
            make(tmp_path, places)
        return
    lines = prepare.describe(make(tmp_path, places), "own")
    assert lines[0].startswith("train 45 examples")
    assert lines[-1].endswith("--test_fraction=0.1")


def test_folders_of_splits_and_lists(tmp_path):
    save(tmp_path / "hub" / "train" / "0000.parquet", *shaded(45))
    save(tmp_path / "hub" / "validation" / "0000.parquet", *shaded(12))
    save(tmp_path / "hub" / "extra-00000-of-00001.parquet", *shaded(9))
    line = prepare.describe(make(tmp_path, tmp_path / "hub"), "own")[0]
    assert "train 45" in line
    assert "validation 12" in line
    assert "extra 9" in line
    files = [tmp_path / "hub" / split / "0000.parquet" for split in ("train", "validation")]
    path = make(tmp_path, ",".join(map(str, files)), overwrite=True)
    assert prepare.describe(path, "own")[0].startswith("train 45, validation 12 examples")


def test_files_without_the_metadata_of_the_hub(tmp_path, config):
    images, labels = shaded(45)
    save(
        tmp_path / "train.parquet",
        images,
        labels.astype(np.uint8),
        names=None,
        keys=("img", "fine"),
    )
    with pytest.raises(InputError, match=r"column label .*fine \(uint8\).*--label_key"):
        make(tmp_path, tmp_path / "train.parquet")
    path = make(tmp_path, tmp_path / "train.parquet", label_key="fine")
    assert prepare.describe(path, "own")[0].endswith("3 classes: 0, 1, 2.")
    raw = pyarrow.table({"image": [encoded(image) for image in images], "label": labels})
    pyarrow.parquet.write_table(raw, tmp_path / "train.parquet")
    path = make(tmp_path, tmp_path / "train.parquet", overwrite=True)
    assert pairs(*found(path, "train", config, test_fraction=0.5))


def test_columns_to_choose(tmp_path):
    coarse = {"coarse": pyarrow.array(np.zeros(45, int))}
    file = save(tmp_path / "train.parquet", *shaded(45), names=None, keys=("img", "fine"), **coarse)
    with pytest.raises(InputError, match=r"column label .*fine \(int64\), coarse.*--label_key"):
        make(tmp_path, file)
    assert make(tmp_path, file, label_key="fine", image_key="img").exists()
    with pytest.raises(InputError, match=r"column finer .*fine \(int64\).*--label_key"):
        make(tmp_path, file, label_key="finer", overwrite=True)
    with pytest.raises(InputError, match=r"column fine .*img \(struct.*--image_key"):
        make(tmp_path, file, image_key="fine", overwrite=True)


def test_images_of_varying_size_keep_their_bytes(tmp_path, config):
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (20 + row, 30, 3), np.uint8) for row in range(12)]
    save(
        tmp_path / "hub" / "train.parquet",
        [encoded(image, "JPEG") for image in images],
        np.arange(12) % 3,
    )
    save(tmp_path / "hub" / "test.parquet", images[:3], [0, 1, 2])
    path = make(tmp_path, tmp_path / "hub")
    assert "images any x any x 3 uint8" in prepare.describe(path, "own")[0]
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
    line = prepare.describe(make(tmp_path, hub), "own")[0]
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
    with pytest.raises(InputError, match=r"10 classes of mnist.* 9"):
        make(tmp_path, tmp_path / "hub", "mnist", overwrite=True)


def save_columns(path, **columns):
    """A Parquet file of small pictures and these columns, without the metadata of the hub."""
    count = len(next(iter(columns.values())))
    pictures = [encoded(np.full((6, 5), 9 * row, np.uint8)) for row in range(count)]
    pyarrow.parquet.write_table(pyarrow.table({"image": pictures} | columns), path)
    return path


@pytest.mark.parametrize("key", ["label", "labels", "fine_label", "class", "target", "Category"])
def test_a_column_of_a_usual_name_is_the_label_whatever_its_type(tmp_path, capsys, key):
    file = save_columns(
        tmp_path / "train.parquet", image_id=range(20), **{key: ["cat", "dog"] * 10}
    )
    path = make(tmp_path, file)
    assert prepare.describe(path, "own")[0].endswith("2 classes: cat, dog.")
    assert f"labels of {key}" in capsys.readouterr().err


def test_two_columns_of_usual_names_are_to_choose_from(tmp_path):
    file = save_columns(
        tmp_path / "train.parquet", target=[0, 1] * 5, label=["a", "b", "c"] * 3 + ["a"]
    )
    with pytest.raises(InputError, match=r"target, label.*--label_key=target"):
        make(tmp_path, file)
    path = make(tmp_path, file, label_key="label")
    assert prepare.describe(path, "own")[0].endswith("3 classes: a, b, c.")


def test_nothing_is_guessed_from_the_columns_that_are_left(tmp_path):
    file = save_columns(tmp_path / "train.parquet", image_id=range(9))
    with pytest.raises(InputError, match=r"column label .*image_id \(int64\).*--label_key"):
        make(tmp_path, file)
    masks = [encoded(np.zeros((6, 5), np.uint8))] * 9
    table = {"image": ["http://a"] * 9, "mask": masks, "label": [0, 1, 2] * 3}
    pyarrow.parquet.write_table(pyarrow.table(table), file)
    with pytest.raises(InputError, match=r"column image .*image \(string\).*--image_key"):
        make(tmp_path, file)


@pytest.mark.parametrize(
    ("labels", "numbers", "classes"),
    [
        (pyarrow.array(["b", "a", "c", "a"] * 3).dictionary_encode(), [1, 0, 2, 0] * 3, "a, b, c"),
        (pyarrow.array(["10", "9", "2", "9"] * 3), [2, 1, 0, 1] * 3, "2, 9, 10"),
        (pyarrow.array(["b", "a"] * 6, pyarrow.large_string()), [1, 0] * 6, "a, b"),
        (pyarrow.array([0.0, 2.0, 1.0] * 4), [0, 2, 1] * 4, "0, 1, 2"),
        (pyarrow.array([True, False] * 6), [1, 0] * 6, "false, true"),
        (pyarrow.array([2, 0, 1] * 4, pyarrow.uint64()), [2, 0, 1] * 4, "0, 1, 2"),
    ],
)
def test_labels_of_every_type_become_classes(tmp_path, config, labels, numbers, classes):
    save_columns(tmp_path / "train.parquet", label=labels)
    save_columns(tmp_path / "test.parquet", label=labels[:4])
    path = make(tmp_path, f"{tmp_path / 'train.parquet'},{tmp_path / 'test.parquet'}")
    assert prepare.describe(path, "own")[0].endswith(f"classes: {classes}.")
    images, stored = found(path, "train", config)
    assert stored[np.argsort(images[:, 0, 0, 0])].tolist() == numbers


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([[0], [0, 1], [1]], r"column label .*label \(list.*--label_key"),
        ([0.0, 0.5, 1.0], r"train\.parquet: .*0\.5"),
        ([0.0, float("nan"), 1.0], "Row 1 "),
        (["a", None, "b"], "Row 1 "),
        ([None, 1, 0], "Row 0 "),
        (["a", " ", "b"], "' '"),
        ([b"a", b"b", b"a"], r"label \(binary\)"),
        (
            pyarrow.array([0, 1, 2**64 - 1], pyarrow.uint64()),
            r"train\.parquet: .*18446744073709551615",
        ),
        (pyarrow.nulls(3), "train split.*-1"),
    ],
)
def test_labels_that_are_no_classes_are_refused(tmp_path, labels, words):
    file = save_columns(tmp_path / "train.parquet", label=labels)
    with pytest.raises(InputError, match=words):
        make(tmp_path, file)


def test_text_labels_are_those_of_the_training_split(tmp_path, capsys):
    save_columns(tmp_path / "train.parquet", label=["cat", "dog"] * 5)
    save_columns(tmp_path / "test.parquet", label=["cat", "cow"])
    both = f"{tmp_path / 'train.parquet'},{tmp_path / 'test.parquet'}"
    with pytest.raises(InputError, match=r"test: .*cat, dog\. Row 1 .*'cow'"):
        make(tmp_path, both)
    save_columns(tmp_path / "test.parquet", label=[0, 1])
    with pytest.raises(InputError, match=f"^{both}: .*labels"):
        make(tmp_path, both)
    save_columns(tmp_path / "test.parquet", label=pyarrow.nulls(2, pyarrow.string()))
    path = make(tmp_path, both)
    assert prepare.describe(path, "own")[0].startswith("train 10 examples")
    assert "left out the test split" in capsys.readouterr().err
    save_columns(tmp_path / "test.parquet", target=["cat", "dog"])
    with pytest.raises(
        InputError, match=r"test\.parquet .* target.*train\.parquet in label.*--label_key"
    ):
        make(tmp_path, both, overwrite=True)


def test_hidden_files_beside_those_of_the_splits_are_not_read(tmp_path, hub):
    for name in (
        "._train-00000-of-00002.parquet",
        ".cache/huggingface/train.parquet",
        "__MACOSX/test.parquet",
    ):
        (hub / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (hub / "data" / name).write_bytes(b"no table")
    line = prepare.describe(make(tmp_path, hub), "own")[0]
    assert line.startswith("train 45, test 12 examples")


def test_splits_are_known_by_further_names(tmp_path):
    save(tmp_path / "hub" / "Training.parquet", *shaded(45))
    save(tmp_path / "hub" / "testing-00000-of-00001.parquet", *shaded(12))
    line = prepare.describe(make(tmp_path, tmp_path / "hub"), "own")[0]
    assert line.startswith("train 45, test 12 examples")


IMAGES, LABELS = shaded(9)
ROW = 7  # the one that is wrong
CUT = encoded(IMAGES[ROW])[: len(encoded(IMAGES[ROW])) // 2]


def but(values, value, row=ROW):
    """These values, with another one in a row."""
    return [*values[:row], value, *values[row + 1 :]]


WRONG = {
    "a damaged image": (
        {"images": but(IMAGES, b"no image")},
        rf"train\.parquet, row {ROW} .*--skip_bad",
    ),
    "a cut image": ({"images": but(IMAGES, CUT)}, rf"row {ROW} .*--skip_bad"),
    "a row without bytes": ({"images": but(IMAGES, None)}, rf"row {ROW} .*--skip_bad"),
    "labels out of range": ({"labels": but(LABELS, 3)}, rf"0 to 2\. Row {ROW} .* 3 "),
    "a label below zero": ({"labels": but(LABELS, -1)}, rf"0 to 2\. Row {ROW} .*-1"),
    "no label": ({"labels": but(LABELS.tolist(), None)}, f"Row {ROW} "),
    "a text that is no class": (
        {"labels": but(["dark"] * 9, "a")},
        rf"dark, gray, light.*Row {ROW} .*'a'",
    ),
    "no labels": ({"labels": [-1] * 9}, "train split.*-1"),
    "no rows": (
        {"images": [], "labels": pyarrow.array([], pyarrow.int64())},
        r"train\.parquet.* train ",
    ),
    "one class": ({"names": ["a"], "labels": [0] * 9}, "Found: 1"),
    "classes twice": ({"names": ["a", "b", "a"]}, "'a'"),
    "a class of no name": ({"names": ["a", "b\n", "c"]}, r"'b\\n'"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_rows_are_refused_by_name_and_leave_nothing(tmp_path, kind):
    changes, words = WRONG[kind]
    rows = {"images": list(IMAGES), "labels": LABELS} | changes
    file = save(tmp_path / "train.parquet", **rows)
    with pytest.raises(InputError, match=words) as error:
        make(tmp_path, file)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "data").iterdir()) == []


def test_skipped_rows_are_named_once(tmp_path, config, capsys):
    images = but(but(IMAGES, b"no image"), None, row=ROW + 1)
    path = make(tmp_path, save(tmp_path / "train.parquet", images, LABELS), skip_bad=True)
    said = capsys.readouterr().err
    assert said.count("Skipped: ") == 2
    assert re.search(f"Skipped: .*row {ROW} .*\n.*Skipped: .*row {ROW + 1} ", said)
    assert prepare.describe(path, "own")[0].startswith("train 7 examples")


def test_a_null_struct_is_a_row_without_bytes(tmp_path):
    rows = [{"bytes": encoded(image), "path": None} for image in IMAGES]
    table = {"image": pyarrow.array(but(rows, None), STRUCT), "label": LABELS}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "train.parquet")
    with pytest.raises(InputError, match=f"row {ROW} "):
        make(tmp_path, tmp_path / "train.parquet")


def test_files_that_are_no_parquet(tmp_path, hub):
    content = (hub / "data" / "train-00000-of-00002.parquet").read_bytes()
    for wrong in (b"", b"text", content[:-20], content[:30] + bytes(60) + content[90:]):
        (tmp_path / "train.parquet").write_bytes(wrong)
        with pytest.raises(InputError, match=r"train\.parquet") as error:
            make(tmp_path, tmp_path / "train.parquet")
        assert "\n" not in str(error.value)


def test_places_without_a_dataset(tmp_path, hub):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: .*\.parquet"):
        make(tmp_path, tmp_path / "empty")
    with pytest.raises(InputError, match=r"--raw_dir=.*nowhere"):
        make(tmp_path, tmp_path / "nowhere")
    with pytest.raises(InputError, match=f"--raw_dir={hub},{hub}:"):
        make(tmp_path, f"{hub},{hub}")
    save(hub / "other" / "train.parquet", *shaded(9))
    with pytest.raises(InputError, match=f"train split.*{hub}/data.*{hub}/other"):
        make(tmp_path, hub)
    with pytest.raises(InputError, match=r"train-00000-of-00001\.parquet\. Found: test"):
        make(tmp_path, hub / "data" / "test-00000-of-00001.parquet")


def test_files_of_other_classes(tmp_path, hub):
    save(hub / "data" / "test-00000-of-00001.parquet", *shaded(12), names=("a", "b", "c"))
    with pytest.raises(InputError, match=r"test-00000-of-00001.*classes.*train"):
        make(tmp_path, hub)
    save(hub / "data" / "train-00001-of-00002.parquet", *shaded(12), names=("a", "b", "c"))
    with pytest.raises(InputError, match=f"^{hub}: .*classes"):
        make(tmp_path, hub)
