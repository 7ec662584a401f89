"""`SparseTraining`: RigL and SET inside the user's own `fit`."""

import itertools
import os
import subprocess

import keras
import numpy as np
import pytest
import tensorflow as tf

import lottery_tf
from lottery_tf import masking, pruning
from lottery_tf.errors import InputError
from lottery_tf.loop import scoring
from lottery_tf.masking import optimizer_state
from lottery_tf.pruning import regrowth, streams
from lottery_tf.pruning.allocation import SparsityTarget, allocate
from lottery_tf.training import devices
from tests import forked
from tests.conftest import ROOT
from tests.loop.test_gradual import (
    INPUTS,
    LABELS,
    WEIGHTS,
    compiled,
    count_gradients,
    fit,
    network,
    updates,
)

DATA = (INPUTS, LABELS)
DENSITY = 0.3


@pytest.fixture(autouse=True)
def fresh():
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


def sparse_training(regrow="gradient", **options):
    data = DATA if regrow == "gradient" else None
    return lottery_tf.SparseTraining(
        **({"density": DENSITY, "regrow": regrow, "update_every": 4, "data": data} | options)
    )


class Watch(keras.callbacks.Callback):
    """The masks after each update; what grows begins with zeros, weights and slots."""

    def __init__(self):
        super().__init__()
        self.masks, self.before = {}, None

    def on_epoch_begin(self, epoch, logs=None):
        self.before = masking.get_masks(self.model)

    def on_train_batch_end(self, batch, logs=None):
        masks, weights = masking.get_masks(self.model), masking.get_weights(self.model)
        for path, mask in masks.items():
            assert not weights[path][~mask].any()
            assert not weights[path][mask & ~self.before[path]].any()
            assert mask.sum() == self.before[path].sum()
            for optimizer in optimizer_state.find(self.model).values():
                for slot in optimizer.variables:
                    if path.replace("/", "_") in slot.name and slot.shape == mask.shape:
                        assert not slot.numpy()[~(mask & self.before[path])].any()
        assert logs["density"] == pytest.approx(DENSITY, abs=0.01)
        self.masks[updates(self.model)] = self.before = masks


def changed(watch):
    """The updates after which masks changed."""
    steps = sorted(watch.masks)
    return [
        step
        for before, step in itertools.pairwise(steps)
        if any((watch.masks[before][p] != watch.masks[step][p]).any() for p in watch.masks[step])
    ]


def check_changed(watch, steps):
    """Masks change at no other steps; the last ones may drop nothing, or grow what they dropped."""
    found = changed(watch)
    assert found[:2] == steps[:2]
    assert set(found) <= set(steps)


@pytest.mark.parametrize("regrow", regrowth.REGROW)
def test_masks_change_at_their_steps(regrow):
    watch, model = Watch(), compiled()
    fit(model, sparse_training(regrow), watch, epochs=4)  # 32 updates, of which 24 may change
    check_changed(watch, [4, 8, 12, 16, 20])
    target = SparsityTarget(density=DENSITY, scope="erk")
    dense = {path: np.ones_like(mask) for path, mask in masking.get_masks(model).items()}
    for group in allocate(target, dense):
        assert masking.get_masks(model)[group.paths[0]].sum() == group.left
    assert pruning.remaining(masking.get_masks(model)) == round(DENSITY * WEIGHTS)
    # What grew has trained since.
    last, path = masking.get_masks(model), "first/kernel"
    grown = last[path] & ~watch.masks[1][path]
    assert grown.any()
    assert masking.get_weights(model)[path][grown].any()


class Expected(keras.callbacks.Callback):
    """Before each change, the masks that should come, from weights and gradients by another way."""

    def __init__(self, regrow):
        super().__init__()
        self.regrow, self.found = regrow, {}

    def on_train_batch_end(self, batch, logs=None):
        step = updates(self.model)
        if step not in (4, 8, 12, 16, 20):
            return
        masks, weights = masking.get_masks(self.model), masking.get_weights(self.model)
        if self.regrow == "gradient":
            scores = dense_gradients(self.model, masks)
        else:
            scores = streams.growth(0, 0, step, masks)
        fraction = 0.15 * (1 + np.cos(np.pi * step / 24))
        self.found[step] = {}
        for path, mask in masks.items():
            kept = mask.copy()
            alive = np.flatnonzero(mask)
            drop = mask.sum() - max(1, round((1 - fraction) * mask.sum()))
            kept.flat[alive[np.argsort(np.abs(weights[path]).flat[alive])[:drop]]] = False
            free = np.flatnonzero(~kept)
            kept.flat[free[np.argsort(-np.abs(scores[path]).flat[free])[:drop]]] = True
            self.found[step][path] = kept


def dense_gradients(model, masks):
    """Gradients of the loss by each weight of a plain copy, in which pruned weights are zeros."""
    plain = lottery_tf.unmasked(model)
    with tf.GradientTape() as tape:
        losses = keras.ops.categorical_crossentropy(
            keras.ops.one_hot(LABELS, 3), plain(INPUTS, training=True), from_logits=True
        )
        loss = tf.reduce_mean(losses)
    paths = {variable.path: variable for variable in plain.trainable_variables}
    found = tape.gradient(loss, [paths[path].value for path in masks])
    return dict(zip(masks, [one.numpy() for one in found], strict=True))


@pytest.mark.parametrize("regrow", regrowth.REGROW)
def test_what_is_dropped_and_grows_is_as_in_the_papers(regrow):
    expected, watch = Expected(regrow), Watch()
    fit(compiled(), expected, sparse_training(regrow), watch, epochs=4)
    for step, masks in expected.found.items():
        for path, mask in masks.items():
            assert np.array_equal(watch.masks[step][path], mask), (step, path)
    assert len(expected.found) == 5


def test_a_model_that_is_pruned_keeps_its_masks():
    model = compiled()
    lottery_tf.prune(model, density=DENSITY, criterion="snip", data=DATA)
    first, watch = masking.get_masks(model), Watch()
    fit(model, sparse_training(), watch, epochs=4)
    assert all(np.array_equal(first[path], mask) for path, mask in watch.masks[1].items())
    assert changed(watch)


def test_the_first_masks_are_of_the_seed_and_change_with_it():
    found = []
    for seed in (0, 0, 1):
        keras.utils.set_random_seed(0)
        keras.utils.clear_session()
        model = compiled(network())
        fit(model, sparse_training("random", seed=seed), epochs=4)
        found.append(masking.get_masks(model)["first/kernel"])
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_nothing_is_compiled_again(monkeypatch):
    made = count_gradients(monkeypatch)
    model, traces = compiled(), []
    call = type(model).call

    class Traced(type(model)):
        def call(self, *args, **options):
            traces.append(1)
            return call(self, *args, **options)

    model.__class__ = Traced
    fit(model, sparse_training(), epochs=4)
    assert len(made) == 1
    assert len(traces) <= 3  # the symbolic build, the step, and the gradient


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.05, 0.9, nesterov=True, weight_decay=0.1),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, clipnorm=1.0),
    "averages": lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=3),
    "accumulated": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("regrow", regrowth.REGROW)
def test_every_optimizer_starts_what_grows_at_zero(name, regrow):
    watch = Watch()
    options = {"update_every": 2} if name == "accumulated" else {}
    fit(compiled(optimizer=OPTIMIZERS[name]()), sparse_training(regrow, **options), watch, epochs=4)
    check_changed(watch, [2, 4, 6, 8, 10] if options else [4, 8, 12, 16, 20])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    watch = Watch()
    fit(compiled(network()), sparse_training(), watch, epochs=4)
    assert len(changed(watch)) >= 2  # of float16 the first steps may overflow


def test_an_execution_changes_the_masks_once_at_its_end():
    watch = Watch()
    fit(compiled(steps_per_execution=3), sparse_training(), watch, epochs=4)
    assert sorted(watch.masks)[:4] == [3, 6, 8, 11]
    check_changed(watch, [6, 8, 14, 16, 22])


@pytest.mark.slow
def test_two_replicas_grow_alike(config):
    # A process has one MirroredStrategy: that of the engine.
    strategy = devices.connect(config(strategy="mirrored", cpu_devices=2)).strategy
    with strategy.scope():
        model = compiled(network("mirrored"))
    watch = Watch()
    fit(model, sparse_training(), watch, epochs=4)
    check_changed(watch, [4, 8, 12, 16, 20])
    for kernel in masking.kernels(model).values():
        for variable in (kernel.variable, kernel.mask):
            assert np.array_equal(*strategy.experimental_local_results(variable.value))


DATASETS = {
    "dataset": lambda: tf.data.Dataset.from_tensor_slices(DATA).batch(8),
    "generator": lambda: ((INPUTS[i : i + 8], LABELS[i : i + 8]) for i in range(0, 32, 8)),
    "weighted": lambda: (INPUTS, LABELS, np.ones(32, np.float32)),
    "tensors": lambda: (keras.ops.convert_to_tensor(INPUTS), LABELS),
}


@pytest.mark.parametrize("form", DATASETS)
def test_data_in_every_form(form):
    watch = Watch()
    fit(compiled(), sparse_training(data=DATASETS[form]()), watch, epochs=4)
    check_changed(watch, [4, 8, 12, 16, 20])


def test_batches_of_arrays_are_drawn_and_those_of_datasets_take_turns(monkeypatch):
    monkeypatch.setattr(scoring, "BATCH_SIZE", 5)
    sample = scoring.Sample((INPUTS, LABELS))
    first, again, other = (
        sample.draw(streams.growth_examples(0, 0, step), 0)[0] for step in (4, 4, 8)
    )
    assert first.shape == (5, 6)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    inputs, labels, weights = sample.draw(streams.growth_examples(0, 0, 4), 0)
    assert weights is None
    places = [int(np.flatnonzero((row == INPUTS).all(1))[0]) for row in inputs]
    assert np.array_equal(LABELS[places], labels)
    turns = scoring.Sample(DATASETS["dataset"]())
    seen = [np.asarray(turns.draw(None, turn)[0]) for turn in range(5)]
    assert np.array_equal(np.concatenate(seen[:4]), INPUTS)
    assert np.array_equal(seen[4], seen[0])


PROGRAM = """
import os, sys
from tests.loop.test_sparse_training import *
keras.utils.set_random_seed(0)

class Killed(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if updates(self.model) == int(sys.argv[1]):
            os._exit(9)

model = compiled()
callbacks = [sparse_training(sys.argv[2]), keras.callbacks.BackupAndRestore("backup"), Killed()]
fit(model, *callbacks, epochs=4)
np.savez("out.npz", *model.get_weights())
"""


@pytest.mark.ci
@pytest.mark.parametrize("regrow", regrowth.REGROW)
def test_a_fit_that_is_killed_goes_on_with_its_masks(regrow, tmp_path):
    def run(stop, name):
        (tmp_path / name).mkdir(exist_ok=True)
        command = [forked.python(), "-c", PROGRAM, str(stop), regrow]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path / name, env=env, capture_output=True, text=True)

    result = run(-1, "whole")
    assert result.returncode == 0, result.stderr
    assert run(18, "parts").returncode == 9
    assert run(-1, "parts").returncode == 0
    with np.load(tmp_path / "whole/out.npz") as whole, np.load(tmp_path / "parts/out.npz") as parts:
        for name in whole.files:
            assert np.array_equal(whole[name], parts[name]), name


# Bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"density": 0}, "density"),
        ({"update_every": 0}, "update_every"),
        ({"update_every": 10, "update_until": 10}, "update_every: expected fewer than 10"),
        ({"drop_fraction": 0.0}, "drop_fraction"),
        ({"drop_fraction": 1}, "drop_fraction"),
        ({"drop_fraction": "half"}, "drop_fraction"),
        ({"regrow": "magnitude"}, "regrow: .*cannot revive"),
        ({"regrow": np.abs}, "regrow: .*cannot revive"),
        ({"regrow": "most"}, "regrow: expected one of gradient, random. Received: 'most'"),
        ({"data": None}, "regrow=gradient: .*pass data"),
        ({"regrow": "random", "data": DATA}, "regrow=random does without"),
        ({"scope": "everywhere"}, "scope"),
        ({"seed": 2**32}, "seed"),
    ],
)
def test_wrong_arguments_are_refused_at_once(options, words):
    with pytest.raises(InputError, match=words):
        sparse_training(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"keep_dense": ["nowhere"]}, "nowhere"),
        ({"update_until": 30}, "ends with update 24.*Received: 28"),
        ({"update_every": 18}, "update_every: expected fewer than 18"),
        ({"data": (INPUTS[:, :2], LABELS)}, r"data: .*cannot be computed"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(options, words):
    model = compiled()
    before = model.get_weights()
    with pytest.raises(InputError, match=words):
        fit(model, sparse_training(**options))
    for one, same in zip(model.get_weights(), before, strict=True):
        assert np.array_equal(one, same)


def test_a_fit_of_unknown_length_asks_for_the_end():
    model = compiled()
    with pytest.raises(InputError, match="pass update_until="):
        model.fit(DATASETS["generator"](), verbose=0, shuffle=False, callbacks=[sparse_training()])


def test_a_density_above_the_models_is_refused():
    model = compiled()
    lottery_tf.prune(model, density=0.1)
    with pytest.raises(InputError, match=r"density: 0\.3 is above"):
        fit(model, sparse_training())


def test_rounds_keep_their_masks():
    model = compiled()
    rounds = lottery_tf.rounds(model, 2, 0.5, verbose=0)
    next(rounds)
    with pytest.raises(InputError, match="SparseTraining: round 0 of lottery_tf"):
        fit(model, sparse_training())
    rounds.close()


def test_another_model_is_refused_and_a_second_fit_continues():
    callback, model, watch = sparse_training(), compiled(), Watch()
    fit(model, callback, watch, epochs=2)  # its changes end at step 12
    masks = masking.get_masks(model)
    fit(model, callback, watch, epochs=1)
    assert changed(watch) == [4, 8]
    assert all(np.array_equal(masks[path], one) for path, one in masking.get_masks(model).items())
    with pytest.raises(InputError, match="this callback is of net"):
        fit(compiled(network("other")), callback)
