"""Whatever a file or a flag holds, a command finishes or says one clear line: mutated input."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import zipfile

import numpy as np
import pytest
from absl import flags
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lottery_tf.analysis import (
    barriers,
    distances,
    histograms,
    masks,
    paths,
    retraining,
    stability,
    thresholds,
)
from lottery_tf.analysis.cache import Cache
from lottery_tf.analysis.runs import config_of, open_runs
from lottery_tf.config import Config, command
from lottery_tf.errors import InputError
from lottery_tf.runs import files
from lottery_tf.runs.rundir import RunDir
from tests.made_runs import make_run

MANY = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,  # the same inputs each time: a failure is a change of the code
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
BYTES = st.binary(max_size=40)


@contextlib.contextmanager
def one_clear_line():
    """Accepts success, and an InputError or a flag error of one line; anything else fails."""
    try:
        yield
    except (InputError, flags.Error) as error:
        text = str(error)
        assert len(text) > 20, text
        assert "Traceback" not in text


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A finished run of three rounds, not to be changed."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    return make_run(Config(run_dir=str(run_dir)), rounds=3)


@pytest.fixture
def run(whole_run, tmp_path):
    """A copy of it."""
    return RunDir(shutil.copytree(whole_run.path, tmp_path / "run"))


def read_all(run):
    """Everything that reads a run without its network and data."""
    for look in (
        lambda: run.check(Config(run_dir=str(run.path))),
        lambda: open_runs([run.path]),
        lambda: thresholds.of_rounds(run),
        lambda: distances.successive(run),
        lambda: histograms.of_rounds(run, at_rounds=[1]),
        lambda: masks.of_layers(run),
        lambda: [run.initial(1), run.history(1)],
        lambda: retraining.check_resets(run),
        lambda: config_of(run),
    ):
        with one_clear_line():
            look()


@pytest.mark.ci
@MANY
@given(data=st.data())
def test_config_json(run, data):
    path = run.path / "config.json"
    content = path.read_bytes()
    record = json.loads(content)
    kind = data.draw(st.sampled_from(["value", "key", "whole", "bytes", "cut"]))
    if kind == "value":
        record[data.draw(st.sampled_from(sorted(record)))] = data.draw(JSON)
    elif kind == "key":
        del record[data.draw(st.sampled_from(sorted(record)))]
    elif kind == "whole":
        record = data.draw(JSON)
    path.write_bytes(json.dumps(record).encode())
    if kind == "bytes":
        path.write_bytes(data.draw(BYTES))
    elif kind == "cut":
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        read_all(run)
    finally:
        path.write_bytes(content)


@contextlib.contextmanager
def changed(run, name, content):
    """Round 1 with another file, which comes back afterwards."""
    before = (run.round_path(1) / name).read_bytes()
    change(run, name, content)
    try:
        yield
    finally:
        change(run, name, before)


def change(run, name, content):
    """Puts a file into round 1, with the checksum that belongs to it."""
    directory = run.round_path(1)
    (directory / name).write_bytes(content)
    lines = (directory / files.SUMS).read_text().splitlines()
    others = [line for line in lines if not line.endswith(f"  {name}")]
    lines = [*others, f"{hashlib.sha256(content).hexdigest()}  {name}"]
    (directory / files.SUMS).write_text("\n".join(lines) + "\n")


FLOATS = np.zeros((20, 30), np.float32)
ODD = (np.zeros(3), np.array(True), np.array(["text"]), np.array([{}], object), FLOATS[:0])
LIKE_OURS = (FLOATS, FLOATS > -1, FLOATS * np.nan, np.asfortranarray(FLOATS), FLOATS.T.astype(int))
ARRAYS = st.sampled_from([*ODD, *LIKE_OURS])


@MANY
@given(data=st.data())
@pytest.mark.parametrize("name", ["masks.npz", "initial.npz", "final.npz"])
def test_npz_of_a_round(run, data, name):
    content = (run.round_path(1) / name).read_bytes()
    kind = data.draw(st.sampled_from(["array", "gone", "other", "bytes", "npy", "zip", "flip"]))
    arrays, buffer = files.parse_npz(content), io.BytesIO()
    if kind in ("array", "gone", "other"):
        path = data.draw(st.sampled_from(sorted(arrays)))
        if kind == "gone":
            del arrays[path]
        elif kind == "array":
            arrays[path] = data.draw(ARRAYS)
        else:
            arrays = {data.draw(st.text("ab/.", min_size=1, max_size=5)): data.draw(ARRAYS)}
        np.savez(buffer, **arrays)
    elif kind == "bytes":
        buffer.write(data.draw(BYTES))
    elif kind == "npy":
        np.save(buffer, data.draw(ARRAYS))
    elif kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("a/kernel.npy", data.draw(BYTES))
    else:
        flipped = bytearray(content)
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=9)):
            flipped[place] ^= 0xFF
        buffer.write(flipped)
    with changed(run, name, buffer.getvalue()):
        read_all(run)


def npz(**arrays):
    return files.format_npz({name.replace("_", "/"): array for name, array in arrays.items()})


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("masks.npz", npz(a_kernel=np.ones((20, 30), np.float32)), "expected masks, of type bool"),
        ("final.npz", npz(a_kernel=np.ones((20, 30), bool)), "a/kernel in floating point.*bool"),
        ("final.npz", npz(a_kernel=np.ones((2, 3))), r"shape \(20, 30\), as its mask.*\(2, 3\)"),
        ("final.npz", npz(b_bias=np.ones(10)), "a/kernel of shape .*Received: none"),
        ("final.npz", b"no zip", "expected an npz file of arrays"),
        ("metrics.csv", b"round,density\n2,0.8\n", "expected one row, of round 1"),
        ("metrics.csv", b"round,density\n1,0.8\n1,0.8\n", "expected one row, of round 1"),
        ("metrics.csv", b"round,density\n1,lots\n", "expected a number as density.*lots"),
        ("metrics.csv", b"round,density\n1,7\n", "expected a density in 0 to 1.*7"),
        ("metrics.csv", b"round,density\n1\n", "as many cells in each row as in the header"),
    ],
)
def test_a_file_of_the_wrong_kind_says_what_was_expected(run, name, content, words):
    change(run, name, content)
    read = {"masks.npz": run.masks, "final.npz": run.final, "metrics.csv": lambda _: run.metrics()}
    with pytest.raises(InputError, match=rf"round_01/{name} is no file of a round: .*{words}"):
        read[name](1)


CELLS = st.text(",\n\"'-0123456789.einfa\0²é", max_size=12)


@MANY
@given(data=st.data())
@pytest.mark.parametrize("name", ["metrics.csv", "history.csv"])
def test_csv_of_a_round(run, data, name):
    content = (run.round_path(1) / name).read_bytes()
    text = content.decode()
    if data.draw(st.booleans()):
        cut = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(cut, len(text)))
        mutated = (text[:cut] + data.draw(CELLS) + text[end:]).encode()
    else:
        mutated = data.draw(BYTES)
    with changed(run, name, mutated):
        read_all(run)


@MANY
@given(data=st.data())
def test_a_cache_of_the_wrong_kind_is_computed_anew(run, data):
    path = run.path / "cache.json"
    expected = distances.matrices(run, None, ["angular"], Cache(path))["angular"]
    whole = json.loads(path.read_text())
    if data.draw(st.booleans()):
        broken = {key: data.draw(JSON) for key in whole}
        path.write_text(json.dumps(broken))
    else:
        path.write_text(json.dumps(data.draw(JSON)))
    found = distances.matrices(run, None, ["angular"], Cache(path))["angular"]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.ci
@MANY
@given(JSON)
def test_a_cached_path_of_the_wrong_kind_is_evaluated_anew(run, value):
    point = {"alpha": 0.0, "loss": 1.0, "error": 0.5, "collapsed": 0}
    cache, evaluated = Cache(), []

    def evaluate(ends):
        evaluated.append(list(ends))
        return [point, point | {"alpha": 1.0}]

    for wrong in (value, [value, value], [point], [point, point | {"error": "no"}]):
        barriers.along_paths(run, evaluate=evaluate, cache=cache, points=2)
        cache.known = dict.fromkeys(cache.known, wrong)
    barriers.along_paths(run, evaluate=evaluate, cache=cache, points=2)
    assert len(evaluated) == 2 * 5
    assert not paths.fits(2)([point, {}])
    assert not stability._fits([point] * 4)


VALUES = st.one_of(
    st.text(max_size=10),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["", "-1", "1e400", "0", "nan", "~", "~nobody", "a,b", "/", "\0", "1,,2", "é"]),
)
NAMES = st.sampled_from(sorted(Config.__dataclass_fields__)) | st.text(max_size=6)


@MANY
@given(st.lists(st.tuples(NAMES, VALUES), max_size=4), st.binary(max_size=30) | st.none())
def test_flags(tmp_path, pairs, flag_file):
    arguments = ["imp", *(f"--{name}={value}" for name, value in pairs)]
    if flag_file is not None:
        (tmp_path / "some.cfg").write_bytes(flag_file)
        arguments.append(f"--flagfile={tmp_path / 'some.cfg'}")
    values = flags.FlagValues()
    command.define_config_flags(values)
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        with one_clear_line():
            RunDir(command.parse_config(arguments, values).run_dir).check(Config())
    finally:
        os.chdir(here)
