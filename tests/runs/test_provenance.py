"""A run goes on, and is judged, with the data that it was trained on, wherever they lie."""

import json
import shutil

import numpy as np
import pytest

from lottery_tf import datasets, imp
from lottery_tf.analysis.runs import engine_of, open_runs
from lottery_tf.datasets import fingerprint as prints
from lottery_tf.datasets.fingerprint import fingerprint
from lottery_tf.errors import InputError
from lottery_tf.runs import provenance
from lottery_tf.runs.rundir import RunDir
from lottery_tf.training.checks import check_same_data
from tests.made_runs import make_run
from tests.synthetic import write_dataset


@pytest.fixture
def copied(config, sharded, tmp_path):
    """(config of a copy of the dataset in shards, with some flags; the copy's directory)."""
    shutil.copytree(sharded, tmp_path / "data")

    def make(**flags):
        return config(**{"data_dir": str(tmp_path / "data"), "batch_size": 10, "epochs": 1} | flags)

    return make, tmp_path / "data" / "digits" / "1.0.0"


def found(config):
    return fingerprint(datasets.find(config))


def flip(path, place):
    """Changes one byte of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_fingerprint_is_of_the_content_alone(copied, tmp_path):
    config, path = copied
    before = found(config())
    assert before["image"] == "Image 8 x 8 x 1 uint8 png"
    assert before["classes"] == 10
    assert [before[split]["examples"] for split in ("train", "test")] == [50, 25]
    shards = sorted(path.glob("*train*"))
    assert before["train"]["bytes"] == sum(shard.stat().st_size for shard in shards)

    shutil.copytree(tmp_path / "data", tmp_path / "elsewhere")
    assert found(config(data_dir=str(tmp_path / "elsewhere"))) == before

    for shard in shards:
        for place in (0, shard.stat().st_size // 2, -1):
            flip(shard, place)
            now = found(config())
            assert now["train"]["sha256"] != before["train"]["sha256"]
            assert now["test"] == before["test"]
            flip(shard, place)
    assert found(config()) == before


def test_the_order_of_the_files_counts(copied):
    config, path = copied
    shutil.copy(path / "digits-train.tfrecord-00001-of-00003", path / "aside")
    shard = path / "digits-train.tfrecord-00000-of-00003"
    for first, second in ((0, 1), (1, 0)):
        info = json.loads((path / "dataset_info.json").read_text())
        info["splits"][0]["shardLengths"] = [["20", "13"][first], ["20", "13"][second], "17"]
        (path / "dataset_info.json").write_text(json.dumps(info))
        if first == 0:
            before = found(config())
            other = path / "digits-train.tfrecord-00001-of-00003"
            shutil.move(shard, path / "zero")
            shutil.move(other, shard)
            shutil.move(path / "zero", other)
    assert found(config())["train"]["sha256"] != before["train"]["sha256"]
    assert found(config())["train"]["bytes"] == before["train"]["bytes"]


def test_large_files_are_read_in_blocks(copied, monkeypatch):
    config, path = copied
    monkeypatch.setattr(prints, "BLOCK", 64)
    monkeypatch.setattr(prints, "BLOCKS", 16)  # 4 of each of the 4 files
    before = found(config())
    shard = path / "digits-train.tfrecord-00000-of-00003"
    size = shard.stat().st_size
    seen = {}
    for place in range(0, size, 16):
        flip(shard, place)
        seen[place] = found(config()) != before
        flip(shard, place)
    assert seen[0]
    assert seen[max(seen)]  # the last block ends the file
    assert 12 <= sum(seen.values()) <= 20  # of 4 * 64 bytes, every 16th
    with open(shard, "ab") as file:
        file.write(b"x")
    assert found(config()) != before  # the size counts


@pytest.mark.ci
def test_a_run_does_not_go_on_with_other_data(copied, tmp_path):
    config, path = copied
    imp.main(config(rounds=1))
    run = RunDir(config().run_dir)
    assert provenance.recorded(run.path) == found(config())
    log = (run.path / "log.txt").read_text()
    assert provenance.DATA not in log

    # Elsewhere, with the same content.
    shutil.copytree(tmp_path / "data", tmp_path / "elsewhere")
    imp.main(config(rounds=2, data_dir=str(tmp_path / "elsewhere")))
    assert run.finished_rounds() == 2

    # The same counts and sizes, other images.
    shutil.rmtree(path)
    write_dataset(tmp_path / "other", shard_lengths=[17, 13, 20])
    shutil.move(tmp_path / "other" / "digits" / "1.0.0", path)
    words = (
        rf"{path} holds other data than {run.path} was trained on: train 50 examples, .* then, "
        rf"50 examples.* now\. .*remove {run.path}/data\.json"
    )
    with pytest.raises(InputError, match=words):
        imp.main(config(rounds=3))
    with pytest.raises(InputError, match=words):
        engine_of(run, data_dir=str(tmp_path / "data"))
    assert run.finished_rounds() == 2
    engine_of(run, data_dir=str(tmp_path / "elsewhere"))


@pytest.mark.ci
def test_a_run_of_an_older_version_gets_a_record_at_its_next_start(copied):
    config, _ = copied
    imp.main(config(rounds=1))
    run = RunDir(config().run_dir)
    (run.path / "data.json").unlink()
    engine_of(run)  # nothing to compare with
    assert not (run.path / "data.json").exists()
    imp.main(config(rounds=1))
    assert provenance.recorded(run.path) == found(config())
    (line,) = [x for x in (run.path / "log.txt").read_text().splitlines() if "data.json" in x]
    assert "its 1 finished rounds are taken to be of the data as they are now: 50 examples" in line


@pytest.mark.parametrize("content", ["", "[]", "3", "{" * 10**5, '{"train": ', "\xff"])
def test_a_damaged_record_is_named(copied, content):
    config, path = copied
    run = RunDir(config().run_dir).path
    run.mkdir()
    (run / "data.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=r"data\.json is damaged\. Restore it, or remove it"):
        provenance.check(run, found(config()), path)


@pytest.mark.parametrize("record", [{}, {"train": None}, {"train": {"sha256": 3}}, {"more": 1}])
def test_a_record_that_was_edited_is_a_difference(copied, record):
    config, path = copied
    run = RunDir(config().run_dir).path
    run.mkdir()
    (run / "data.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="holds other data than"):
        provenance.check(run, found(config()), path)


def test_runs_of_different_data_are_not_compared(config, sharded, tmp_path):
    write_dataset(tmp_path / "other", shard_lengths=[17, 13, 20])
    runs = []
    for data_dir in (sharded, tmp_path / "other"):
        settings = config(run_dir=str(tmp_path / data_dir.name / "run"), data_dir=str(data_dir))
        run = make_run(settings, rounds=1)
        provenance.record(run.path, found(settings))
        runs.append(run.path)
    with pytest.raises(InputError, match=r"Expected runs of the same data.*in the first.*second"):
        open_runs(runs)
    copied = json.loads((runs[0] / "config.json").read_text()) | {"seed": 5}
    (runs[1] / "config.json").write_text(json.dumps(copied))  # two of one seed are no replicates
    (tmp_path / "other" / "run" / "data.json").unlink()  # of an older version
    open_runs(runs)


def test_all_workers_have_the_data_of_the_chief(config, tmp_path):
    data = found(config())

    class Worker:
        """A worker of three, one of which says that its data are others."""

        workers = 3

        def __init__(self, chiefs, others):
            self.chiefs, self.others = chiefs, others

        def broadcast(self, function):
            return self.chiefs if self.chiefs else function()

        def sum(self, differs):
            return differs + self.others

    check_same_data(Worker(None, 0), data, tmp_path)
    with pytest.raises(InputError, match=r"1 of 3 workers have other data than the chief.*1347"):
        check_same_data(Worker(None, 1), data, tmp_path)
    with pytest.raises(InputError, match="1 of 3 workers"):
        check_same_data(Worker({"data": np.zeros(32, np.uint8)}, 0), data, tmp_path)
