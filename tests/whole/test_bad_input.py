"""What a run does with input that it cannot use: nothing is written, nothing finished is lost."""

import subprocess

import numpy as np
import pytest

from lottery_tf import imp, pruning
from lottery_tf.config import constraints
from lottery_tf.errors import InputError
from lottery_tf.pruning import resets
from lottery_tf.runs.rundir import RunDir
from tests import networks
from tests.whole.test_imp import npz_bytes


@pytest.mark.ci
def test_bad_input_is_found_before_anything_is_written(config, sharded, tmp_path):
    shard = next((sharded / "digits" / "1.0.0").glob("*train*-00001-*"))
    damaged = tmp_path / "damaged" / "digits" / "1.0.0"
    damaged.parent.mkdir(parents=True)
    subprocess.run(["cp", "-r", shard.parent, damaged], check=True)
    (damaged / shard.name).write_bytes(shard.read_bytes()[:-1])
    for flags, words in (
        ({"batch_size": 2000}, "batch_size.*at most 1347"),
        ({"dataset": "mnist", "data_dir": str(tmp_path / "nowhere")}, "tools.prepare_data"),
        ({"data_dir": str(tmp_path / "damaged"), "batch_size": 5}, shard.name),
        ({"model": "no.such.module:network"}, "no.such.module"),
        ({"model": "lottery_tf.models.lenet:nothing"}, "nothing"),
        ({"model": "vgg19"}, "vgg19 does not fit images of 8 x 8 x 1 .* leave nothing of them"),
        ({"model": "os.path:join"}, "os.path:join fails when called with .* not tuple"),
        ({"model": "os.path:sep"}, "os.path:sep: expected a function.*Received: '/'"),
        ({"model": "builtins:int"}, "builtins:int: expected a function"),
        *(({"model": f"tests.networks:{name}"}, words) for name, words in networks.WRONG.items()),
        ({"train_examples": 1348}, "at most 1347"),
        ({"dataset": str(sharded)}, "dataset_info.json"),
    ):
        with pytest.raises(InputError, match=words):
            imp.main(config(**flags))
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "flag",
    ["epochs", "finetune_epochs", "short_epochs", "shuffle_window", "image_size", "cpu_devices"],
)
def test_numbers_beyond_all_use_are_refused_by_their_flag(config, flag):
    with pytest.raises(InputError, match=f"--{flag}: expected a number below .*Received: 1000"):
        config(**{flag: 10**20})


@pytest.mark.parametrize("flag", ["epochs", "finetune_epochs"])
def test_more_updates_than_can_be_planned_are_refused(config, flag):
    constraints.check_updates(config(**{flag: 2**22}), 64)
    for epochs in (2**22 + 1, 2_000_000_000):
        with pytest.raises(InputError, match=f"--{flag}={epochs}: .*268435456 updates.*4194304"):
            constraints.check_updates(config(**{flag: epochs}), 64)


@pytest.mark.ci
def test_too_many_epochs_are_refused_before_anything_is_written(config, tmp_path):
    with pytest.raises(InputError, match="--epochs=2000000000"):
        imp.main(config(epochs=2_000_000_000))
    assert not (tmp_path / "run").exists()


@pytest.mark.ci
def test_a_loss_that_is_not_finite_keeps_the_finished_rounds(config, monkeypatch):
    imp.main(config(rounds=1))
    run = RunDir(config().run_dir)
    before = npz_bytes(run.path)
    assert before

    def explode(sources, masks, round):
        initialization = sources.initialization(0)
        start = {path: np.full_like(array, np.inf) for path, array in initialization.items()}
        return pruning.apply_masks(start, masks), 0

    monkeypatch.setitem(resets.RESETS, "init", explode)
    with pytest.raises(InputError, match="Round 1, epoch 1, step 0"):
        imp.main(config(rounds=2))
    assert npz_bytes(run.path) == before
    assert "Round 1" in (run.path / "log.txt").read_text().splitlines()[-1]


def test_a_warmup_longer_than_training_is_refused_but_goes_on_where_it_is_old(config):
    flags = {"model": "tests.networks:linear", "epochs": 1, "jit_compile": "off"}
    with pytest.raises(InputError, match=r"--warmup_epochs: expected at most --epochs=1.* 1\.5"):
        imp.main(config(**flags, warmup_epochs=1.5))
    run = RunDir(config().run_dir)
    assert not run.path.exists()
    old = config(**flags, warmup_epochs=1.5, rounds=1)
    with run.open(old):  # as an older version did
        pass
    assert imp.main(old) == 0
    assert run.finished_rounds() == 1
    constraints.check_new(config(**flags, warmup_epochs=1.0))
