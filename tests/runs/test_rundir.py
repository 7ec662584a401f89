import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from lottery_tf.analysis import distances
from lottery_tf.config import Config
from lottery_tf.errors import InputError
from lottery_tf.runs.rounds import check_files, damaged, finished
from lottery_tf.runs.rundir import RunDir
from tests.made_runs import make_run


def fill(run, rounds):
    """Writes rounds of a network of one weight."""
    for round in range(rounds):
        arrays = {
            "masks": {"layer/kernel": np.array([True, False])},
            "initial": {"layer/kernel": np.array([1, 0], np.float32)},
            "final": {"layer/kernel": np.array([round, 0], np.float32)},
        }
        metrics = {"round": round, "density": 0.8**round, "threshold": float("nan")}
        history = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]
        run.save_round(round, **arrays, history=history, metrics=metrics)


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path / "runs" / "test")


def test_a_round_comes_back(run):
    with run.open(Config()) as finished:
        assert finished == 0
        fill(run, 2)
    assert run.finished_rounds() == 2
    assert run.masks(1)["layer/kernel"].tolist() == [True, False]
    assert run.masks(1)["layer/kernel"].dtype == bool
    assert run.initial(0)["layer/kernel"].tolist() == [1, 0]
    assert run.final(1)["layer/kernel"].tolist() == [1, 0]
    assert run.final(1)["layer/kernel"].dtype == np.float32
    assert run.history(0) == [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]
    assert (run.path / "metrics.csv").read_text() == ("round,density,threshold\n0,1.0,\n1,0.8,\n")
    assert np.isnan(run.metrics()[1]["threshold"])


def test_sha256sum_agrees(run):
    with run.open(Config()):
        fill(run, 1)
    check = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=run.round_path(0), capture_output=True, text=True
    )
    assert check.returncode == 0
    assert check.stdout.count("OK") == 5


def test_guards_hold_under_python_O(tmp_path):  # noqa: N802
    save = (
        "import numpy as np; from lottery_tf.rundir import RunDir;"
        "assert False;"  # which -O takes out
        "masks, final = {'a': np.array([False])}, {'a': np.ones(1)};"
        f"RunDir({str(tmp_path)!r}).save_round(0, masks=masks, initial={{}}, final=final,"
        " history=[], metrics={})"
    )
    result = subprocess.run([sys.executable, "-O", "-c", save], capture_output=True, text=True)
    assert "RuntimeError: Pruned weights of a are not zero." in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["masks.npz", "initial.npz", "final.npz", "history.csv"])
def test_every_flipped_bit_is_noticed(run, name):
    with run.open(Config()):
        fill(run, 1)
    path = run.round_path(0) / name
    content = path.read_bytes()
    readers = [run.masks, run.initial, run.final, run.history]
    read = next(reader for reader in readers if name.startswith(reader.__name__))
    for bit in np.random.default_rng(0).integers(0, 8 * len(content), 30):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=f"{name} is damaged"):
            read(0)
    path.write_bytes(content)
    read(0)


def test_missing_files_and_rounds_are_named(run):
    with run.open(Config()):
        fill(run, 3)
    (run.round_path(0) / "masks.npz").unlink()
    with pytest.raises(InputError, match=r"round_00/masks\.npz"):
        run.masks(0)
    run.round_path(1).rename(run.path / "elsewhere")
    with pytest.raises(InputError, match="round_01 is missing"):
        run.finished_rounds()
    with pytest.raises(InputError, match=r"is not a run.*config\.json"):
        RunDir(run.path / "elsewhere").config()


def test_stray_names_of_rounds_are_told(run):
    with run.open(Config()):
        fill(run, 2)
    (run.path / "round_02.bak").mkdir()
    assert run.finished_rounds() == 2
    for name in ("round_001", "round_2", "round_002"):
        (run.path / name).mkdir()
        with pytest.raises(InputError, match=f"{name} is no round: .* Rename or remove it"):
            run.finished_rounds()
        (run.path / name).rmdir()
    (run.path / "round_02").touch()  # a round would be trained, and could not be saved
    with pytest.raises(InputError, match="round_02 is no round: those are directories"):
        run.finished_rounds()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", r"expected an object.*Received: \[\]"),
        ("{}", "it lacks model, dataset, seed"),
        ("[" * 100_000, "recursion"),
        (None, "utf-8"),
        (("learning_rate", "0.0012"), 'learning_rate: expected a number. Received: "0.0012"'),
        (("epochs", 25.5), "epochs: expected a whole number. Received: 25.5"),
        (("rounds", True), "rounds: expected a whole number. Received: true"),
        (("bn_affine", 0), "bn_affine: expected true or false. Received: 0"),
        (("model", None), "model: expected text. Received: null"),
        (("rounds", None), "rounds: expected a whole number. Received: null"),
        (("lr_drops", 5), "lr_drops: expected a list, each item a whole number. Received: 5"),
        (("lr_drops", [5, "6"]), r"lr_drops: .* Received: \[5"),
    ],
)
def test_a_record_of_the_wrong_kind_is_one_line_with_types(run, text, words):
    with run.open(Config()):
        path = run.path / "config.json"
    if text is None:
        path.write_bytes(b"\xff\xfe")
    elif isinstance(text, str):
        path.write_text(text)
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | dict([text])))
    for reads in (run.config, lambda: run.check(Config())):
        with pytest.raises(InputError, match=rf"config\.json is damaged: .*{words}") as error:
            reads()
        assert "\n" not in str(error.value)


def test_a_record_of_an_older_version_has_the_defaults_of_newer_flags(run):
    with run.open(Config(seed=3)):
        path = run.path / "config.json"
    record = json.loads(path.read_text())
    for name in ("repel", "lr_drops", "data_seed"):
        del record[name]
    path.write_text(json.dumps(record | {"learning_rate": 1, "train_examples": None}))
    found = run.config()
    assert (found["repel"], found["lr_drops"], found["data_seed"]) == (0.0, [], 3)
    assert "run_dir" not in found


def test_other_experiment_flags_are_refused_with_both_values(run):
    with run.open(Config(epochs=3, seed=1)):
        pass
    for refuses in (run.check, lambda config: run.open(config).__enter__()):
        with pytest.raises(InputError) as error:
            refuses(Config(epochs=4, seed=2))
        for line in ("--epochs: 3 there, 4 now", "--seed: 1 there, 2 now"):
            assert line in str(error.value)
        assert "--rounds" not in str(error.value)


def test_rounds_may_grow_but_not_shrink(run):
    with run.open(Config(rounds=3)):
        fill(run, 3)
    run.check(Config(rounds=5))
    with run.open(Config(rounds=5)) as finished:
        assert finished == 3
    assert run.config()["rounds"] == 5
    with pytest.raises(InputError, match="--rounds: 5 there, 4 now"):
        run.check(Config(rounds=4))


def test_flags_that_say_how_to_run_may_change_and_are_logged(run):
    with run.open(Config(data_dir="here")):
        pass
    with run.open(Config(data_dir="there", resident="off")):
        pass
    log = (run.path / "log.txt").read_text()
    assert "--data_dir was here, is now there" in log
    assert "--resident was auto, is now off" in log


def test_a_second_process_is_refused_while_the_first_lives(run):
    holder = (
        "import sys; from lottery_tf.config import Config; from lottery_tf.rundir import RunDir\n"
        "with RunDir(sys.argv[1]).open(Config()): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=f"in use by process {process.pid}"):
        run.check(Config())
    with pytest.raises(InputError, match=f"in use by process {process.pid}"):
        run.open(Config()).__enter__()
    process.kill()
    process.communicate()
    run.check(Config())  # a crash leaves no lock behind
    with run.open(Config()):
        pass


def test_what_a_killed_process_left_is_not_a_round(run):
    with run.open(Config()):
        fill(run, 2)
    aside = run.path / ".round_02.tmp"
    aside.mkdir()
    (aside / "masks.npz").write_bytes(b"half")
    (run.path / "metrics.csv").unlink()  # killed between the round and its row
    with run.open(Config()) as finished:
        assert finished == 2
        assert not aside.exists()
        assert len((run.path / "metrics.csv").read_text().splitlines()) == 3


def test_paths_that_cannot_be_a_run_are_refused_and_nothing_is_written(tmp_path):
    file = tmp_path / "file"
    file.write_text("a file")
    for path in (file, file / "below"):
        with pytest.raises(InputError, match="is a file"):
            RunDir(path).check(Config())
    with pytest.raises(InputError, match="/proc/none"):
        RunDir("/proc/none").open(Config()).__enter__()
    (tmp_path / "old" / "round_00").mkdir(parents=True)
    with pytest.raises(InputError, match=r"no config\.json"):
        RunDir(tmp_path / "old").check(Config())
    RunDir(tmp_path / "new" / "run").check(Config())
    assert not (tmp_path / "new").exists()


# Rounds of other runs ------------------------------------------------------------------------


def swap(run, other, round):
    """Puts a round of another run, with its own checksums, in place of a run's."""
    shutil.rmtree(run.round_path(round))
    shutil.copytree(other.round_path(round), run.round_path(round))


@pytest.fixture
def swapped(config, tmp_path):
    """A run whose round 2 is that of a run of another seed."""
    one, other = (
        make_run(config(run_dir=str(tmp_path / f"seed={seed}"), seed=seed), seed=seed)
        for seed in (0, 1)
    )
    swap(one, other, 2)
    return one


def test_a_round_of_another_run_is_refused(swapped, config):
    last = config(run_dir=str(swapped.path), rounds=9)
    shutil.move(swapped.round_path(3), swapped.path / "elsewhere")
    reads = (
        swapped.check_rounds,
        lambda: check_files(finished(swapped)),
        lambda: swapped.open(last).__enter__(),
        lambda: distances.between_rounds(swapped),
    )
    for read in reads:
        with pytest.raises(InputError, match=r"round_02 has weights of a/kernel .*round_01"):
            read()
    assert damaged(finished(swapped))[0].startswith(str(swapped.round_path(2)))
    swapped.check_rounds([0, 1])
    swapped.check_rounds([2])


def test_a_session_reads_the_masks_of_the_last_two_rounds(swapped, config, monkeypatch):
    again, read, masks = config(run_dir=str(swapped.path), rounds=9), [], RunDir.masks
    monkeypatch.setattr(
        RunDir, "masks", lambda self, round: read.append(round) or masks(self, round)
    )
    with pytest.raises(InputError, match=r"round_03 has weights of a/kernel .*round_02"):
        swapped.open(again).__enter__()
    assert read == [2, 3]


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"a/kernel": (20, 30), "b/kernel": (30, 9), "b/bias": (10,)}, "masks of other kernels"),
        ({"a/kernel": (20, 30), "b/kernel": (30, 10), "b/bias": (9,)}, "other names or shapes"),
        ({"a/kernel": (20, 30), "b/kernel": (30, 10)}, "other names or shapes"),
    ],
)
def test_a_round_of_another_network_is_refused(config, tmp_path, shapes, words):
    run = make_run(config())
    other = make_run(config(run_dir=str(tmp_path / "other")), shapes=shapes)
    swap(run, other, 3)
    with pytest.raises(InputError, match=f"round_03 has .*{words}"):
        run.check_rounds()
    with pytest.raises(InputError, match=f"round_03 has .*{words}"):
        run.check_rounds(read=0)  # by the headers alone


def test_masks_that_need_not_be_nested_are_not(swapped):
    path = swapped.path / "config.json"
    flags = json.loads(path.read_text())
    for free in ({"masks_from": "runs/other"}, {"prune_at": "init"}, {"prune_at": "train"}):
        path.write_text(json.dumps(flags | free))
        swapped.check_rounds()
    path.write_text(json.dumps(flags))
    with pytest.raises(InputError, match="round_02"):
        swapped.check_rounds()
