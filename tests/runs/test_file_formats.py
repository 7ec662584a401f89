"""The formats of a run's files: the same bytes on every NumPy, and no more than is there."""

import io
import math
import zipfile

import numpy as np
import pytest

from lottery_tf.errors import InputError
from lottery_tf.rundir import RunDir
from lottery_tf.runs import contents, files
from lottery_tf.runs.rounds import FinishedRound
from tests.made_runs import make_run

pytestmark = pytest.mark.versions

ARRAYS = {
    "dense/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "mask": np.array([True, False]),
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "number": np.float64(3),
    "text": np.array(["a", "bc"]),
}


def savez_of_old_numpy(file, *args, **arrays):
    """np.savez before NumPy 2.2: it knows no argument allow_pickle, and so makes an array of it."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_bytes_are_those_of_numpy(save):
    buffer = io.BytesIO()
    save(buffer, **ARRAYS)
    compressed = save is np.savez_compressed
    assert files.format_npz(ARRAYS, compressed=compressed) == buffer.getvalue()


def test_no_name_of_an_array_is_an_argument():
    names = ("file", "allow_pickle", "args", "self", "compressed")
    arrays = {name: np.arange(index + 1) for index, name in enumerate(names)}
    found = files.parse_npz(files.format_npz(arrays))
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], arrays[name]) for name in names)


def test_an_old_numpy_stores_nothing_else(monkeypatch):
    monkeypatch.setattr(np, "savez", savez_of_old_numpy)
    expected = list(ARRAYS)
    assert list(files.parse_npz(files.format_npz(ARRAYS))) == expected
    with zipfile.ZipFile(io.BytesIO(files.format_npz(ARRAYS))) as archive:
        assert archive.namelist() == [f"{name}.npy" for name in expected]


@pytest.mark.parametrize("array", [np.array([{}]), np.array([None, 1.0]), [object()]])
def test_objects_are_not_written(array):
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        files.format_npz({"kernel": array})


def test_a_run_that_an_old_numpy_wrote_is_read(config):
    run = make_run(config(), rounds=2)
    expected = run.final(1)
    for round in (0, 1):
        written = {}
        for path in sorted(run.round_path(round).iterdir()):
            if path.suffix == ".npz":
                buffer = io.BytesIO()
                arrays = files.parse_npz(path.read_bytes())
                savez_of_old_numpy(buffer, allow_pickle=False, **arrays)
                written[path.name] = buffer.getvalue()
            elif path.name != files.SUMS:
                written[path.name] = path.read_bytes()
            path.unlink()
        run.round_path(round).rmdir()
        files.write_directory(run.round_path(round), written)
    with zipfile.ZipFile(run.round_path(1) / "final.npz") as archive:
        assert "allow_pickle.npy" in archive.namelist()
    found = RunDir(run.path).final(1)
    assert all(np.array_equal(found[path], expected[path]) for path in expected)
    assert found.keys() == expected.keys() == FinishedRound(run.path, 1).shapes("final").keys()
    assert run.masks(1).keys() == FinishedRound(run.path, 1).shapes().keys()
    FinishedRound(run.path, 1).check_layout()
    assert contents.read_layout(run.round_path(1) / "masks.npz").keys() == run.masks(1).keys()


def test_a_kernel_that_is_called_allow_pickle_stays():
    arrays = {"allow_pickle": np.zeros((2, 2), bool)}
    assert files.parse_npz(files.format_npz(arrays)).keys() == arrays.keys()


# Python takes each for a number.
TEXTS = ("1_000", "1_0.5", "1e5_0", "infinity", "Infinity", "-Infinity", "INF", "+inf", "NaN",
         "nan", "-nan", " 12 ", "12 ", "\t3", "\uff11\uff12", "\u0663", "+5", "007", "1.", ".5",
         "1E5", "0x10", "1e", "-", "--1", "1 000", "1,5")  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_text_that_we_never_write_of_a_number_stays_text(text):
    rows = [{"run": text, "round": 3}]
    found = files.parse_csv(files.format_csv(rows))
    assert found == rows
    assert type(found[0]["run"]) is str


NUMBERS = (0, 7, -3, 10**20, 0.0, -0.0, 0.1, 1e-5, -1e-300, 1.5e300, 1e22, 1 / 3, math.inf,
           -math.inf, np.float32(0.1), np.float64(1e-8), np.int64(5), np.float32(1e20))  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS)
def test_what_is_written_of_a_number_is_read_as_one(number):
    (row,) = files.parse_csv(files.format_csv([{"a": number, "b": 1}]))
    assert not isinstance(row["a"], str)
    assert type(number)(row["a"]) == number
    assert isinstance(row["a"], int) == isinstance(number, int | np.integer)


def test_a_nan_is_an_empty_cell():
    for nan in (math.nan, np.float32("nan")):
        (row,) = files.parse_csv(files.format_csv([{"a": nan, "b": 1}]))
        assert math.isnan(row["a"])


def tree(path):
    """{file: (bytes, when it was changed)} of all that a directory holds."""
    return {
        str(file.relative_to(path)): (file.is_file() and file.read_bytes(), file.stat().st_mtime_ns)
        for file in (path, *path.rglob("*"))
    }


def test_a_check_writes_nothing(config):
    config = config()
    run = make_run(config, rounds=2)
    assert not (run.path / ".lock").exists()
    before = tree(run.path)
    run.check(config)
    assert tree(run.path) == before
    with run.open(config):
        pass
    before = tree(run.path)
    run.check(config)
    assert tree(run.path) == before


def test_a_check_of_a_run_in_use_says_who_uses_it(config):
    config = config()
    run = make_run(config, rounds=1)
    with run.open(config):
        before = tree(run.path)
        with pytest.raises(InputError, match=r"in use by process [0-9]+"):
            RunDir(run.path).check(config)
        assert tree(run.path) == before
    run.check(config)


def test_reading_a_run_writes_nothing(config):
    run = make_run(config(), rounds=2)
    before = tree(run.path)
    run.config(), run.metrics(), run.history(0), run.masks(1), run.initial(1), run.final(1)
    FinishedRound(run.path, 1).check_layout()
    assert tree(run.path) == before
