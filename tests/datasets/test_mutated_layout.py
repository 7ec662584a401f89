"""A dataset whose JSON files were changed at random is read, or refused in one line."""

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lottery_tf import datasets
from lottery_tf.datasets import tfrecords
from lottery_tf.errors import InputError
from tests.synthetic import write_dataset

FILES = ("dataset_info.json", "features.json")
NUMBERS = st.integers() | st.sampled_from([-1, 0, 1, 2, 10**6, 2**31, 2**63, 10**30]) | st.floats()
ODD = "-1|0|1|1e3|uint16|float32|string|jpeg|zlib|test|..|/|{0}|{SPLIT.__class__}|array_record"
ODD += "|os.path.join|tensorflow_datasets.core.features.image_feature.Image|a.b.Tensor"
WORDS = st.text(max_size=8) | st.sampled_from(
    ["", "1" * 5000, "x" * 5000, "a\0b", "\ud800", "a\nb", *ODD.split("|")]
)
LEAVES = st.none() | st.booleans() | NUMBERS | WORDS
NAMES = "shape dimensions dtype image tensor encoding encodingFormat numClasses features name"
KEYS = st.sampled_from([*NAMES.split(), "pythonClassName", "shardLengths"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=6,
)
DELETE = object()


def places(value, path=()):
    """The path of each value inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items if isinstance(value, dict | list) else ():
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


@st.composite
def mutated(draw, content):
    """{file: value} with one to three values changed or left out."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        file = draw(st.sampled_from(FILES))
        found = list(places(content[file]))
        if not found:
            break
        *outer, last = draw(st.sampled_from(found))
        parent = content[file]
        for key in outer:
            parent = parent[key]
        value = draw(st.just(DELETE) | VALUES)
        if value is DELETE:
            del parent[last]
        else:
            parent[last] = value
    if draw(st.integers(0, 20)) == 0:
        content[draw(st.sampled_from(FILES))] = draw(VALUES)
    return content


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(path, {file: what it holds}) of a dataset."""
    path = write_dataset(tmp_path_factory.mktemp("mutated"), shard_lengths=[9, 4])
    return path, {file: json.loads((path / file).read_text()) for file in FILES}


LIMITS = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.ci
@LIMITS
@given(data=st.data())
def test_json_that_makes_no_sense_is_refused_in_one_line(written, config, data):
    path, content = written
    for file, value in data.draw(mutated(content)).items():
        (path / file).write_text(json.dumps(value))
    use(config(data_dir=str(path.parent.parent)))


@pytest.mark.ci
@LIMITS
@given(data=st.data(), file=st.sampled_from(FILES))
def test_files_that_are_no_json_are_refused_in_one_line(written, config, data, file):
    path, content = written
    for name, value in content.items():
        (path / name).write_text(json.dumps(value))
    original = (path / file).read_bytes()
    place = data.draw(st.integers(0, len(original)))
    inserted = data.draw(st.binary(max_size=3) | st.just(b"[" * 10**5))
    (path / file).write_bytes(original[:place] + inserted + original[place + 1 :])
    use(config(data_dir=str(path.parent.parent)))


def use(config):
    """Finds a dataset and decodes its first examples, or gets an InputError of one line."""
    refused = None
    try:
        directory = datasets.find(config)
        tfrecords.check_first(directory)
    except InputError as error:
        refused = str(error)
    if refused:
        assert "\n" not in refused
        assert len(refused) < 1500, refused[:300]
    else:
        assert directory.classes >= 2
        assert all(split.examples for split in directory.splits.values())


def test_a_dataset_that_was_not_changed_is_read(config, tmp_path):
    write_dataset(tmp_path, shard_lengths=[9, 4])
    tfrecords.check_first(datasets.find(config(data_dir=str(tmp_path))))
