"""`rounds` that keeps its turns in a run directory, and goes on after the last finished one."""

import functools
import json
import math
import os
import pathlib
import re
import subprocess

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking, pruning
from lottery_tf.analysis import distances, histograms, masks, thresholds
from lottery_tf.analysis.runs import load
from lottery_tf.errors import InputError
from lottery_tf.rundir import RunDir
from lottery_tf.runs.files import SUMS
from tests import forked
from tests.conftest import ROOT

GENERATOR = np.random.default_rng(0)
DATA = GENERATOR.random((12, 4)).astype(np.float32), GENERATOR.integers(0, 3, 12)


def network(*, seed=0, width=8, clear=True):
    if clear:
        keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    normalization = keras.layers.Normalization()
    normalization.adapt(DATA[0])
    features = keras.layers.Dense(width, activation="relu")(normalization(inputs))
    outputs = keras.layers.Dense(3)(keras.layers.BatchNormalization()(features))
    plain = keras.Model(inputs, outputs)
    model = lottery_tf.masked(plain)
    model.set_weights(masked_weights(plain, model))
    model.get_layer(normalization.name).finalize_state()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return model


def masked_weights(plain, model):
    """The weights of a model, and the masks of its masked copy."""
    values = iter(plain.get_weights())
    held = {id(kernel.mask) for kernel in masking.kernels(model).values()}
    return [v.numpy() if id(v) in held else next(values) for v in model.weights]


def train(model, round, *, epochs=2, callbacks=()):
    model.fit(*DATA, epochs=epochs, batch_size=4, shuffle=False, verbose=0,
              validation_data=DATA, callbacks=[*round.callbacks, *callbacks])  # fmt: skip


def whole(directory, count=3, model=None, **options):
    model = model or network()
    options = {"fraction": 0.3} | options
    for round in lottery_tf.rounds(model, count, directory=directory, **options):
        train(model, round)
    return model


def sums(directory):
    """The checksums of all arrays of a run: equal where every bit is."""
    return {
        (path.parent.name, line)
        for path in directory.glob(f"round_*/{SUMS}")
        for line in path.read_text().splitlines()
        if line.endswith(".npz")
    }


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    directory = tmp_path_factory.mktemp("kept") / "rounds"
    whole(directory)
    return directory


@pytest.mark.ci
def test_a_directory_holds_what_each_turn_was(tmp_path):
    model, starts, ends, found = network(), [], [], []
    for round in lottery_tf.rounds(model, 3, 0.3, directory=tmp_path / "run"):
        starts.append((masking.get_weights(model), masking.get_masks(model)))
        train(model, round)
        ends.append(masking.get_weights(model))
        found.append((round.density, model.evaluate(*DATA, verbose=0)))
    run = RunDir(tmp_path / "run")
    assert run.finished_rounds() == 3
    for turn in range(3):
        for held, expected in ((run.initial(turn), starts[turn][0]), (run.final(turn), ends[turn])):
            kept = {path for path in expected if "count" not in path}
            assert held.keys() == kept
            assert all(np.array_equal(held[path], expected[path]) for path in held)
        assert all(np.array_equal(mask, starts[turn][1][p]) for p, mask in run.masks(turn).items())
        row, (density, (loss, accuracy)) = run.metrics()[turn], found[turn]
        assert row["density"] == density
        assert row["test_loss"] == pytest.approx(loss, abs=1e-5)
        assert row["test_accuracy"] == pytest.approx(accuracy)
        assert [epoch["epoch"] for epoch in run.history(turn)] == [1, 2]
        cut = np.concatenate([np.abs(run.final(turn)[p][m]) for p, m in run.masks(turn).items()])
        assert row["threshold"] < row["smallest_kept"]
        assert {row["threshold"], row["smallest_kept"]} <= set(cut.tolist())
    assert [row["density"] for row in round.history] == [row[0] for row in found]
    assert len(list((tmp_path / "run" / "tensorboard").glob("events.*"))) == 3
    assert not (tmp_path / "run" / "backups").exists()
    assert not (tmp_path / "run" / "flags.cfg").exists()


@pytest.mark.ci
def test_the_tools_on_weights_read_it(kept):
    run = RunDir(kept)
    assert len(distances.between_rounds(run)) == 4
    assert len(distances.successive(run)) == 3
    assert masks.of_layers(run)[-1]["network_density"] == run.metrics()[2]["density"]
    assert [row["threshold"] > 0 for row in thresholds.of_rounds(run)] == [True] * 3
    assert histograms.of_rounds(run, at_rounds=[2])
    assert json.loads((kept / "config.json").read_text())["made_by"] == "lottery_tf.rounds"
    with pytest.raises(InputError, match=r"around a fit of your own.*distances, histograms"):
        load(kept, 1)


TOOLS = ["distances", "masks", "thresholds", "histograms", "successive", "learning"]


@pytest.mark.ci
@pytest.mark.parametrize("tool", TOOLS)
def test_the_commands_read_it(kept, tool, tmp_path):
    command = [forked.python(), "-m", f"tools.{tool}", f"--run_dir={kept}", f"--out_dir={tmp_path}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.ci
@pytest.mark.parametrize("reset", ["init", "rewind", "reinit", "lr_rewind", "shuffle"])
def test_another_call_goes_on_after_the_last_finished_turn(reset, tmp_path, kept):
    options = {"reset": reset} | ({"rewind_to": 2} if reset == "rewind" else {})
    if reset != "init":
        kept = tmp_path / "whole"
        whole(kept, **options)
    turns = []
    for call in range(4):
        model = network(seed=call)  # as in a process of its own, that has drawn something else
        for round in lottery_tf.rounds(model, 3, 0.3, directory=tmp_path / "parts", **options):
            train(model, round)
            turns.append(round.index)
            if (call, round.index) in ((0, 1), (1, 2)):
                break  # a turn is finished when the next one is asked for
    assert turns == [0, 1, 1, 2, 2]
    assert sums(tmp_path / "parts") == sums(kept)
    assert len(round.history) == 3
    final = RunDir(kept).final(2)
    assert all(np.array_equal(masking.get_weights(model)[path], final[path]) for path in final)
    assert masking.get_masks(model).keys() == RunDir(kept).masks(2).keys()
    assert pruning.density(masking.get_masks(model)) == RunDir(kept).metrics()[2]["density"]


class Stop(keras.callbacks.Callback):
    """Stops as a kill does: inside the fit, after some epochs."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.after:
            raise KeyboardInterrupt


@pytest.mark.ci
@pytest.mark.parametrize("reset", ["init", "rewind"])
def test_a_turn_that_was_stopped_goes_on_at_its_last_epoch(reset, tmp_path):
    options = {"reset": reset} | ({"rewind_to": 7} if reset == "rewind" else {})
    for name, stopped in (("whole", None), ("parts", 0), ("parts", 1), ("parts", None)):
        model = network(seed=0 if name == "whole" or stopped == 0 else 3)
        begun = []

        def note(epoch, _, begun=begun):
            begun.append(epoch)

        watch = keras.callbacks.LambdaCallback(on_epoch_begin=note)
        try:
            for round in lottery_tf.rounds(model, 2, 0.3, directory=tmp_path / name, **options):
                stop = [Stop(2)] if round.index == stopped else []
                train(model, round, epochs=3, callbacks=[watch, *stop])
        except KeyboardInterrupt:
            pass
        if stopped == 1:
            assert begun == [2, 0, 1, 2]  # the third epoch of turn 0, then turn 1
    assert begun == [2]
    # The model of seed 3 has other weights: where turn 0 began is in the directory.
    whole_run, parts = RunDir(tmp_path / "whole"), RunDir(tmp_path / "parts")
    for turn in range(2):
        for which in (RunDir.initial, RunDir.final):
            for path, array in which(whole_run, turn).items():
                assert np.array_equal(array, which(parts, turn)[path]), (turn, path)
        losses = [[row["train_loss"] for row in run.history(turn)] for run in (whole_run, parts)]
        assert losses[0] == losses[1]
        assert [row["epoch"] for row in parts.history(turn)] == [1, 2, 3]


@pytest.mark.ci
@pytest.mark.parametrize("written", ["half of the weights", "the weights alone"])
def test_a_kill_while_an_epoch_is_kept_leaves_the_one_before(written, tmp_path, monkeypatch):
    whole(tmp_path / "whole", 1)
    save = keras.Model.save_weights

    def killed(model, filepath, **options):
        save(model, filepath, **options)
        if model.optimizer.iterations == 6:  # the second epoch has ended
            if written == "half of the weights":
                content = pathlib.Path(filepath).read_bytes()
                pathlib.Path(filepath).write_bytes(content[: len(content) // 2])
            raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "save_weights", killed)
    with pytest.raises(KeyboardInterrupt):
        whole(tmp_path / "parts", 1)
    monkeypatch.setattr(keras.Model, "save_weights", save)
    whole(tmp_path / "parts", 1, network(seed=3))
    assert sums(tmp_path / "parts") == sums(tmp_path / "whole")
    history = RunDir(tmp_path / "parts").history(0)
    assert [row["epoch"] for row in history] == [1, 2]
    losses = [row["train_loss"] for row in RunDir(tmp_path / "whole").history(0)]
    assert [row["train_loss"] for row in history] == losses


@pytest.mark.ci
def test_a_fit_that_was_stopped_behind_its_last_epoch_is_finished(tmp_path):
    model = network()
    turns = lottery_tf.rounds(model, 1, directory=tmp_path)
    end = keras.callbacks.LambdaCallback(on_train_end=lambda _: (_ for _ in ()).throw(KeyError))
    with pytest.raises(KeyError):
        model.fit(*DATA, epochs=2, verbose=0, callbacks=[end, *next(turns).callbacks])
    turns.close()
    trained, model = masking.get_weights(model), network(seed=2)
    for round in lottery_tf.rounds(model, 1, directory=tmp_path):
        train(model, round)
    assert all(np.array_equal(trained[p], array) for p, array in RunDir(tmp_path).final(0).items())
    assert len(RunDir(tmp_path).history(0)) == 2


@pytest.mark.ci
def test_a_turn_0_that_begins_again_begins_with_the_model_as_it_is(tmp_path):
    for seed in (0, 1):
        turns = lottery_tf.rounds(network(seed=seed), 2, 0.3, directory=tmp_path)
        next(turns)
        if seed:
            next(turns)
        turns.close()
    expected = masking.get_weights(network(seed=1))
    assert np.array_equal(RunDir(tmp_path).initial(0)["dense/kernel"], expected["dense/kernel"])


def test_a_model_whose_layers_are_numbered_otherwise_goes_on(tmp_path):
    turns = lottery_tf.rounds(network(), 2, 0.3, directory=tmp_path)
    next(turns), next(turns)
    turns.close()
    (turn,) = lottery_tf.rounds(network(clear=False), 2, 0.3, directory=tmp_path)
    assert turn.index == 1
    run = RunDir(tmp_path)
    assert run.final(0).keys() == run.final(1).keys()


@pytest.mark.ci
def test_more_rounds_go_on_where_the_last_ended(kept, tmp_path):
    directory = tmp_path / "grown"
    whole(directory, 2)
    whole(directory, 3, network(seed=4))
    assert sums(directory) == sums(kept)


def by_size(trained):
    return {path: abs(values) for path, values in trained.items()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fraction": 0.4}, "prune_fraction 0.3 there, 0.4 now"),
        ({"reset": "reinit"}, "reset 'init' there, 'reinit' now"),
        ({"seed": 3}, "seed 0 there, 3 now"),
        ({"keep_dense": ("dense",)}, "keep_dense"),
        ({"scope": "layer", "layer_fractions": {"dense": 0.1}}, "layer_fractions"),
        ({"criterion": by_size}, "criterion 'magnitude' there, 'tests.*by_size' now"),
        ({"model": lambda: network(width=9)}, "model .* 2 kernels of 56 weights' there"),
        ({"rounds": 2}, "rounds 3 there, 2 now"),
    ],
)
def test_other_rounds_are_refused(change, words, kept):
    options = {"model": network, "rounds": 3, "fraction": 0.3} | change
    before = sums(kept)
    with pytest.raises(InputError, match=f"holds other rounds: .*{words}"):
        lottery_tf.rounds(options.pop("model")(), directory=kept, **options)
    assert sums(kept) == before


@pytest.mark.ci
def test_what_is_no_directory_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path, words in ((tmp_path / "file", "is a file"), (3, "expected a path"), ("", "a path")):
        with pytest.raises(InputError, match=words):
            lottery_tf.rounds(network(), 3, 0.3, directory=path)
    for criterion in (lambda trained: abs(trained), functools.partial(by_size)):
        options = {"criterion": criterion, "directory": tmp_path / "run"}
        with pytest.raises(InputError, match="a function made by def, by which a later call knows"):
            lottery_tf.rounds(network(), 3, 0.3, **options)
    turns = lottery_tf.rounds(network(), 3, 0.3, directory=tmp_path / "run")
    next(turns)
    with pytest.raises(InputError, match="in use by process"):
        next(lottery_tf.rounds(network(), 3, 0.3, directory=tmp_path / "run"))


@pytest.mark.ci
def test_a_fit_without_the_callbacks_is_kept_too(tmp_path):
    model = network()
    for _ in lottery_tf.rounds(model, 2, densities=[0.5], directory=tmp_path):
        model.fit(*DATA, epochs=3, verbose=0)
    run = RunDir(tmp_path)
    assert [row["epoch"] for row in run.history(1)] == [1, 2, 3]
    first, last = run.metrics()
    assert not math.isnan(first["threshold"])
    assert math.isnan(last["threshold"])  # nothing says how much would be pruned after it
    assert math.isnan(last["test_accuracy"])
    assert last["train_accuracy"] == run.history(1)[2]["train_accuracy"]


@pytest.mark.ci
def test_the_rows_of_several_fits_of_a_turn_are_one_history():
    model = network()
    for round in lottery_tf.rounds(model, 2, 0.3):
        train(model, round, epochs=1)
        train(model, round, epochs=2)
    assert [row["epochs"] for row in round.history] == [3, 3]


@pytest.mark.ci
def test_the_example_of_the_docs(tmp_path):
    text = (ROOT / "docs" / "guides" / "saving.md").read_text()
    (example,) = re.findall(r"```py\n(.*?)```", text, re.S)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run([forked.python(), "-c", example], cwd=tmp_path, env=environment,
                            capture_output=True, text=True)  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert RunDir(tmp_path / "runs" / "own").finished_rounds() == 4
    assert (tmp_path / "runs" / "own" / "analysis" / "distances_angular.png").exists()
