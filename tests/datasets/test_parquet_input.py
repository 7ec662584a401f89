"""Parquet files that are damaged, or hold no images and labels, are refused by name and row."""

import re

import pyarrow
import pyarrow.parquet
import pytest

from lottery_tf.datasets import prepare
from lottery_tf.errors import InputError
from tests.parquet_files import STRUCT, encoded, make, save, write_hub
from tests.synthetic import shaded


@pytest.fixture
def hub(tmp_path):
    return write_hub(tmp_path)


IMAGES, LABELS = shaded(9)
SIZE = len(encoded(IMAGES[4]))
WRONG = {
    "a damaged image": (
        {"images": [*IMAGES[:4], b"no image", *IMAGES[5:]]},
        r"train\.parquet, row 4 .*--skip_bad",
    ),
    "a cut image": (
        {"images": [*IMAGES[:8], encoded(IMAGES[8])[: SIZE // 2]]},
        r"row 8 .*--skip_bad",
    ),
    "a row without bytes": (
        {"images": [*IMAGES[:2], None, *IMAGES[3:]]},
        r"row 2 .*--skip_bad",
    ),
    "labels out of range": ({"labels": [*LABELS[:7], 3, 0]}, r"0 to 2\. Row 7 .* 3 "),
    "a label below zero": ({"labels": [*LABELS[:7], -1, 0]}, r"0 to 2\. Row 7 .*-1"),
    "no label": ({"labels": [*LABELS[:7].tolist(), None, 0]}, "Row 7 "),
    "a text that is no class": ({"labels": [*["dark"] * 8, "a"]}, r"dark, gray, light.*Row 8.*'a'"),
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
    images = [*IMAGES[:4], b"no image", None, *IMAGES[6:]]
    path = make(tmp_path, save(tmp_path / "train.parquet", images, LABELS), skip_bad=True)
    said = capsys.readouterr().err
    assert said.count("Skipped: ") == 2
    assert re.search("Skipped: .*row 4 .*\n.*Skipped: .*row 5 ", said)
    assert prepare.describe(path, "own")[0].startswith("train 7 examples")


def test_a_null_struct_is_a_row_without_bytes(tmp_path):
    rows = [{"bytes": encoded(image), "path": None} for image in IMAGES]
    table = {"image": pyarrow.array([*rows[:3], None, *rows[4:]], STRUCT), "label": LABELS}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "train.parquet")
    with pytest.raises(InputError, match="row 3 "):
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
