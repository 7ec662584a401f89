"""Datasets from an npz file of arrays, as Keras names them."""

import subprocess

import numpy as np
import pytest
import tensorflow_datasets as tfds

from lottery_tf import datasets, imp
from lottery_tf.datasets import prepare
from lottery_tf.errors import InputError
from lottery_tf.runs.rundir import RunDir
from tests import forked
from tests.conftest import ROOT
from tests.datasets import conftest
from tests.datasets.conftest import flags_said, found
from tests.synthetic import shaded


def save(tmp_path, **changes):
    """An npz file of three shades of gray; a change of None leaves an array out."""
    (x_train, y_train), (x_test, y_test) = shaded(45), shaded(12)
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    arrays = {key: value for key, value in (arrays | changes).items() if value is not None}
    np.savez(tmp_path / "file.npz", **arrays)
    return arrays


def make(tmp_path, dataset=None, **options):
    raw_dir = options.pop("raw_dir", tmp_path / "file.npz")
    return conftest.make(tmp_path, "arrays", raw_dir, dataset, **options)


@pytest.mark.parametrize(
    ("kind", "channels"),
    [
        *(("uint8", channels) for channels in (0, 1, 3, 7)),
        *(("uint16", channels) for channels in (2, 3)),
        *(("float32", channels) for channels in (0, 4)),
        *((">u2", 1), (">f4", 1)),
    ],
)
def test_arrays_are_stored_as_they_are(tmp_path, config, kind, channels):
    shape = (6, 5, *([channels] if channels else []))
    generator = np.random.default_rng(0)
    images = {
        f"x_{split}": generator.integers(0, 60_000 if "2" in kind else 256, (count, *shape)).astype(
            kind
        )
        for split, count in (("train", 45), ("test", 12))
    }
    arrays = save(tmp_path, **images)
    path = make(tmp_path)
    for split in ("train", "test"):
        pixels, labels = found(path, split, config)
        expected = arrays[f"x_{split}"].reshape(-1, 6, 5, channels or 1)
        if np.dtype(kind).newbyteorder("=") == np.uint16:
            expected = (expected / 65535).astype(np.float32)
        assert np.allclose(pixels, expected, rtol=1e-6)
        assert np.array_equal(labels, arrays[f"y_{split}"])


def test_names_of_classes_and_columns_of_labels(tmp_path):
    (_, y_train), (_, y_test) = shaded(45), shaded(12)
    save(
        tmp_path,
        y_train=y_train[:, None].astype(np.uint8),
        y_test=y_test[:, None],
        classes=["dark", "gray", "light"],
    )
    line = prepare.describe(make(tmp_path), "own")[0]
    assert line.startswith("train 45, test 12 examples")
    assert line.endswith("3 classes: dark, gray, light.")
    builder = tfds.builder_from_directory(tmp_path / "data" / "own" / "1.0.0")
    assert builder.info.features["label"].names == ["dark", "gray", "light"]


@pytest.mark.ci
@pytest.mark.parametrize("test", [True, False])
def test_the_command_that_is_said_trains_on_arrays(tmp_path, config, test):
    save(tmp_path, **({} if test else {"x_test": None, "y_test": None}))
    path = make(tmp_path)
    lines = prepare.describe(path, "own")
    words = flags_said(path, "own")
    assert words == [f"--dataset={tmp_path / 'data' / 'own'}"] + (
        [] if test else ["--test_fraction=0.1"]
    )
    assert any("no test split" in line for line in lines) == (not test)
    flags = {} if test else {"test_fraction": 0.1}
    settings = config(dataset=str(path.parent), rounds=2, epochs=6, batch_size=9, **flags)
    imp.main(settings)
    rows = RunDir(settings.run_dir).metrics()
    assert len(rows) == 2
    assert rows[0]["train_accuracy"] > 0.8


def test_further_splits_and_arrays(tmp_path, config, capsys):
    images, labels = shaded(9)
    save(tmp_path, x_val=images, y_val=labels, weights=np.ones(3))
    path = make(tmp_path)
    assert "ignored arrays: weights" in capsys.readouterr().err
    assert np.array_equal(found(path, "test", config, test_split="validation")[1], labels)


def test_arrays_that_come_class_by_class_are_mixed(tmp_path, config, capsys):
    images, labels = shaded(45)
    order = np.argsort(labels, kind="stable")
    save(tmp_path, x_train=images[order], y_train=labels[order])
    mixed, found_labels = found(make(tmp_path), "train", config)
    assert "class by class" in capsys.readouterr().err
    assert len(set(found_labels[:15].tolist())) == 3
    assert sorted(image.tobytes() for image in mixed) == sorted(image.tobytes() for image in images)


def test_a_known_dataset_in_an_npz_file_is_that_dataset(tmp_path, config, monkeypatch):
    monkeypatch.setitem(prepare.COUNTS, "mnist", {"train": 45, "test": 12})
    images = {
        f"x_{split}": np.zeros((count, 28, 28), np.uint8)
        for split, count in (("train", 45), ("test", 12))
    }
    save(tmp_path, **images)
    path = make(tmp_path, "mnist")
    assert path == tmp_path / "data" / "mnist" / "3.0.1"
    directory = datasets.find(config(dataset="mnist", data_dir=str(tmp_path / "data")))
    assert directory.classes == 10
    for wrong, words in (
        (
            {"x_train": np.zeros((44, 28, 28), np.uint8), "y_train": shaded(44)[1]},
            "45 examples in the train split",
        ),
        ({"x_test": None, "y_test": None}, "12 examples in the test split"),
        (
            {key: np.zeros((len(value), 9, 9), np.uint8) for key, value in images.items()},
            r"\(28, 28, 1\).*mnist",
        ),
    ):
        save(tmp_path, **images | wrong)
        with pytest.raises(InputError, match=words):
            make(tmp_path, "mnist", overwrite=True)


FINITE = np.ones((45, 6, 5), np.float32)
INFINITE = 8  # the row with a pixel that is not finite
WRONG = {
    "no training images": ({"x_train": None}, "x_train. Found: y_train"),
    "no arrays": ({"x_train": None, "y_train": None}, "x_train and y_train.*Found: x_test, y_test"),
    "no labels": ({"y_test": None}, "y_test. Found: x_train, y_train, x_test"),
    "lengths": ({"y_train": shaded(44)[1]}, "x_train .*45 .*y_train 44"),
    "one-hot": ({"y_train": np.eye(3)[shaded(45)[1]]}, r"y_train: .*y.argmax\(1\)"),
    "float labels": ({"y_train": np.zeros(45)}, "y_train: .*float64"),
    "a negative label": ({"y_train": np.r_[0, -1, shaded(43)[1]]}, "Row 1 .*-1"),
    "a huge label": ({"y_train": np.r_[0, 2**62, shaded(43)[1]]}, "Row 1 .*4611686018427387904"),
    "a label of the test": ({"y_test": np.r_[np.zeros(11, int), 7]}, "y_test: .* 0 to 2. Row 11"),
    "a label without a name": ({"classes": ["a", "b"]}, r"y_train: .*0 to 1. Row \d+ .* 2"),
    "classes twice": ({"classes": ["a", "b", "a"]}, "'a'"),
    "classes of numbers": ({"classes": np.arange(3)}, r"classes .*\(3,\) int64"),
    "one class": ({"y_train": np.zeros(45, int)}, "y_train: .*Found: 1"),
    "float64": ({"x_train": np.ones((45, 6, 5))}, "x_train: .*uint8, uint16, float32.*float64"),
    "vectors": ({"x_train": np.ones((45, 30), np.uint8)}, r"Found: \(45, 30\)"),
    "channels first": ({"x_train": np.ones((45, 3, 6, 5), np.uint8)}, r"transpose\(0, 2, 3, 1\)"),
    "other sizes": ({"x_test": np.ones((12, 7, 5), np.uint8)}, r"x_test .*\(7, 5, 1\)"),
    "other types": ({"x_test": np.ones((12, 6, 5), np.uint16)}, "uint16, x_train .* uint8"),
    "no images": ({"x_test": FINITE[:0], "y_test": np.zeros(0, int)}, "x_test"),
    "objects": ({"x_train": np.array([{}, None])}, "x_train .*numpy.stack"),
    "infinite": (
        {"x_train": np.where(np.arange(45)[:, None, None] == INFINITE, np.float32(np.inf), FINITE)},
        rf"x_train: .*Row {INFINITE} .*--skip_bad",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_arrays_are_refused_by_name_and_leave_nothing(tmp_path, kind):
    changes, words = WRONG[kind]
    if kind == "infinite":
        changes = changes | {"x_test": FINITE[:12]}
    save(tmp_path, **changes)
    with pytest.raises(InputError, match=words) as error:
        make(tmp_path)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "data").iterdir()) == []


def test_a_damaged_or_other_file_is_one_line(tmp_path):
    save(tmp_path)
    whole = (tmp_path / "file.npz").read_bytes()
    damaged = whole[:300] + b"0123456789" + whole[310:]
    for content in (damaged, b"", b"PK\x03\x04 cut", b"text", b"\x93NUMPY"):
        (tmp_path / "file.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"file\.npz .*numpy\.savez"):
            make(tmp_path)
    np.save(tmp_path / "file.npy", np.ones(3))
    (tmp_path / "file.npy").rename(tmp_path / "file.npz")
    with pytest.raises(InputError, match=r"file\.npz .*numpy\.save "):
        make(tmp_path)
    (tmp_path / "file.npz").unlink()
    with pytest.raises(InputError, match=r"--raw_dir=\S*file\.npz "):
        make(tmp_path)


def test_skipped_arrays_are_named(tmp_path, config, capsys):
    changes, _ = WRONG["infinite"]
    save(tmp_path, **changes, x_test=FINITE[:12])
    path = make(tmp_path, skip_bad=True)
    assert f"x_train: row {INFINITE} " in capsys.readouterr().err
    assert len(found(path, "train", config)[1]) == 44


@pytest.mark.parametrize(
    ("dataset", "flags", "words"),
    [
        (None, {"name": None}, "--source=arrays .*--name"),
        ("fashion", {}, "mnist, cifar10, cifar100.* fashion"),
        (None, {"name": "mnist"}, "--name: mnist .*--dataset=mnist"),
        (None, {"name": "own", "raw_dir": None}, "--source=arrays .*--raw_dir"),
        (None, {"name": "own", "label_key": "fine"}, "--label_key .*--source=arrays"),
    ],
)
def test_flags_of_arrays(tmp_path, dataset, flags, words):
    flags = {"raw_dir": "file.npz"} | flags
    with pytest.raises(InputError, match=words):
        make(tmp_path, dataset, **flags)
    assert not (tmp_path / "data").exists()


@pytest.mark.ci
def test_the_command_says_what_it_made(tmp_path):
    save(tmp_path)
    raw_dir, data_dir = tmp_path / "file.npz", tmp_path / "data"
    command = [forked.python(), "-m", "tools.prepare_data", "--source=arrays", "--name=own"]
    result = subprocess.run(
        [*command, f"--raw_dir={raw_dir}", f"--data_dir={data_dir}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"own is ready in {data_dir}/own/1.0.0.",
        "train 45, test 12 examples; images 6 x 5 x 1 uint8; 3 classes: 0, 1, 2.",
        f"Train on it: python -m lottery_tf.imp --dataset={data_dir}/own",
    ]


@pytest.mark.parametrize("kind", ["MedMNIST", "capitals"])
def test_arrays_of_further_names(tmp_path, config, capsys, kind):
    arrays = {split: shaded(count) for split, count in (("train", 45), ("val", 9), ("test", 12))}
    given = {}
    for split, (images, labels) in arrays.items():
        if kind == "MedMNIST":
            given |= {
                f"{split}_images": images,
                f"{split}_labels": labels[:, None].astype(np.uint8),
            }
        else:
            given |= {f"X_{split}": images, f"Y_{split}": labels}
    np.savez(tmp_path / "file.npz", **given)
    path = make(tmp_path)
    for split, (_, labels) in arrays.items():
        stored = found(
            path,
            "test",
            config,
            test_split=split.replace("val", "validation"),
            train_split="test" if split == "train" else "train",
        )[1]
        assert np.array_equal(stored, labels)
    assert "ignored" not in capsys.readouterr().err


def test_several_labels_for_an_image_are_no_classes(tmp_path):
    several = np.zeros((45, 14), np.uint8)
    several[:, :2] = 1
    several[3] = 0
    save(tmp_path, y_train=several)
    with pytest.raises(InputError, match=r"y_train: .*\(45, 14\)"):
        make(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("file.csv", b"label,pixel0\n0,255\n"),
        ("file.npz", b"label,pixel0\n"),
        ("file.pkl", b"\x80\4."),
        ("file.mat", b"MATLAB 5.0 MAT-file"),
        ("file.h5", b"\x89HDF\r\n"),
        ("file.parquet", b"PAR1"),
    ],
)
def test_files_of_other_kinds_get_no_advice_to_load_them_unsafely(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"numpy\.savez") as error:
        make(tmp_path, raw_dir=str(tmp_path / name))
    assert "pickle" not in str(error.value)
    if name != "file.npz":
        assert f"its ending is {name[4:]}" in str(error.value)
    assert ("--source=parquet" in str(error.value)) == name.endswith("parquet")
