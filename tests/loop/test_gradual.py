"""`GradualPruning`: exact densities at the steps of a schedule, inside the user's own `fit`."""

import os
import re
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import lottery_tf
from lottery_tf import masking, pruning
from lottery_tf.errors import InputError
from lottery_tf.masking import gradients, optimizer_state
from lottery_tf.pruning import gradual
from lottery_tf.training import devices
from lottery_tf.training.gradual import _toolkit
from tests import forked
from tests.conftest import ROOT

INPUTS = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 3, 32)
WEIGHTS = 6 * 10 + 10 * 3


@pytest.fixture(autouse=True)
def fresh():
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


def network(name="net"):
    image = keras.Input((6,))
    features = keras.layers.Dense(10, activation="relu", name="first")(image)
    features = keras.layers.BatchNormalization(name="norm")(features)
    return lottery_tf.masked(
        keras.Model(image, keras.layers.Dense(3, name="last")(features), name=name)
    )


def compiled(model=None, optimizer=None, **options):
    model = model or network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = optimizer or keras.optimizers.Adam(0.01)
    model.compile(**{"optimizer": optimizer, "loss": loss, "jit_compile": False} | options)
    return model


def fit(model, *callbacks, **options):
    """Eight batches of four an epoch."""
    options = {"epochs": 3, "batch_size": 4, "verbose": 0, "shuffle": False} | options
    return model.fit(INPUTS, LABELS, callbacks=list(callbacks), **options)


def updates(model):
    count = model.optimizer.iterations
    return int(count.numpy() if isinstance(count, keras.Variable) else count)


def count_gradients(monkeypatch):
    """A list that grows with each Gradients, which compiles functions of its own."""
    made, init = [], gradients.Gradients.__init__

    def counted(self, *args, **options):
        made.append(self)
        init(self, *args, **options)

    monkeypatch.setattr(gradients.Gradients, "__init__", counted)
    return made


class Watch(keras.callbacks.Callback):
    """The weights that live after each update; pruned ones are zero, and so are their slots."""

    def __init__(self):
        super().__init__()
        self.left, self.masks, self.densities = {}, None, []

    def on_train_batch_end(self, batch, logs=None):
        masks = masking.get_masks(self.model)
        if self.masks is not None:
            assert not any((masks[path] & ~self.masks[path]).any() for path in masks)
        self.masks = masks
        weights = masking.get_weights(self.model)
        for path, mask in masks.items():
            assert not weights[path][~mask].any()
        for optimizer in optimizer_state.find(self.model).values():
            for slot in optimizer.variables:
                for path, mask in masks.items():
                    if path.replace("/", "_") in slot.name and slot.shape == mask.shape:
                        assert not slot.numpy()[~mask].any()
        self.left[updates(self.model)] = pruning.remaining(masks)
        self.densities.append(logs["density"])


def gradual_pruning(density=0.2, **options):
    options = {"begin_step": 2, "end_step": 18, "frequency": 4} | options
    return lottery_tf.GradualPruning(density, **options)


def expected(steps, density=0.2, curve=gradual.polynomial):
    """The weights that live after each of some steps, in float64."""
    found = {}
    for step in steps:
        done = curve(min(max(step - 2, 0) // 4 * 4, 16) / 16) if step >= 2 else 0
        found[step] = round(WEIGHTS * (1 - (1 - density) * done))
    return found


# The schedule --------------------------------------------------------------------------------


MIDDLE = {"polynomial": 0.2 + 0.8 / 8, "cosine": 0.6, "one_cycle": 1 - 0.8 / (1 + np.exp(-1.0))}


@pytest.mark.parametrize("name", MIDDLE)
def test_a_curve_goes_from_nothing_to_all(name):
    made = gradual.make(name, density=0.2, begin=10, end=58, frequency=8)
    assert list(made.steps) == [10, 18, 26, 34, 42, 50, 58]
    densities = [made.density_at(step) for step in made.steps]
    assert densities == sorted(densities, reverse=True)
    assert densities[-1] == 0.2
    assert densities[0] == pytest.approx(1, abs=0.003)  # a logistic curve begins above 0
    assert densities[3] == pytest.approx(MIDDLE[name], abs=1e-3)


def test_what_is_due_at_a_step():
    made = gradual.make("cosine", density=0.5, begin=3, end=12, frequency=4)
    assert list(made.steps) == [3, 7, 11]
    assert [made.due(step) for step in (0, 2, 3, 6, 7, 11, 100)] == [
        None, None, 3, 3, 7, 11, 11,
    ]  # fmt: skip
    assert made.density_at(11) == 0.5
    assert gradual.make("constant", density=0.5, begin=3, end=3).densities() == {3: 0.5}


@pytest.mark.parametrize("final", [0.5, 0.107, 0.035])
def test_the_schedules_are_those_of_the_toolkit(final):
    with _toolkit() as toolkit:
        cubic = toolkit.PolynomialDecay(0.2, 1 - final, 10, 210, 3, 20)
        constant = toolkit.ConstantSparsity(1 - final, 10, 210, 20)
    ours = {
        "polynomial": gradual.make(
            "polynomial", density=final, begin=10, end=210, frequency=20, initial_density=0.8
        ),
        "constant": gradual.make("constant", density=final, begin=10, end=210, frequency=20),
    }
    for name, theirs in {"polynomial": cubic, "constant": constant}.items():
        for step in range(230):
            due, sparsity = theirs(step)
            if name == "polynomial":
                assert bool(due) == (step in ours[name].steps)
            if due:  # at further steps of a constant one, ours has nothing to do
                assert ours[name].density_at(step) == pytest.approx(1 - float(sparsity), abs=2e-7)


# In fit --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", gradual.CURVES)
def test_every_update_leaves_the_exact_count(name):
    watch, model = Watch(), compiled()
    history = fit(model, gradual_pruning(schedule=name), watch)
    assert watch.left == expected(range(1, 25), curve=gradual.CURVES[name])
    assert pruning.remaining(masking.get_masks(model)) == round(0.2 * WEIGHTS)
    assert history.history["density"] == [watch.left[step] / WEIGHTS for step in (8, 16, 24)]
    assert watch.densities == [left / WEIGHTS for left in watch.left.values()]


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.05, 0.9, nesterov=True, weight_decay=0.1),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, clipnorm=1.0),
    "averages": lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=2),
    "lion": lambda: keras.optimizers.Lion(0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_optimizer_revives_a_weight(name):
    watch, model = Watch(), compiled(optimizer=OPTIMIZERS[name]())
    fit(model, gradual_pruning(), watch)
    assert watch.left == expected(range(1, 25))
    for path, mask in masking.get_masks(model).items():  # averages may be written at the end
        assert not masking.get_weights(model)[path][~mask].any()


def test_the_masks_are_those_of_prune():
    model, other = compiled(network("one")), compiled(network("other"))
    other.set_weights(model.get_weights())
    fit(model, gradual_pruning(schedule="constant", begin_step=8, scope="erk"), epochs=1)
    fit(other, epochs=1)
    lottery_tf.prune(other, density=0.2, scope="erk")
    for one, same in zip(model.get_weights(), other.get_weights(), strict=True):
        assert np.array_equal(one, same)


def test_a_training_compiles_once():
    model = compiled(steps_per_execution=1)
    traces, call = [], type(model).call

    class Traced(type(model)):
        def call(self, *args, **options):
            traces.append(1)
            return call(self, *args, **options)

    model.__class__ = Traced
    fit(model, gradual_pruning(scope="layer"))
    assert len(traces) <= 2  # the symbolic build, and the step
    before = len(traces)
    fit(model, gradual_pruning(0.1, begin_step=26, end_step=42, scope="layer"))
    assert len(traces) == before


@pytest.mark.parametrize("execution", [3, 5, 8])
def test_what_is_due_inside_an_execution_happens_at_its_end(execution):
    watch, model = Watch(), compiled(steps_per_execution=execution)
    fit(model, gradual_pruning(frequency=2), watch)
    done = [gradual.polynomial(min(max(step - 2, 0) // 2 * 2, 16) / 16) for step in watch.left]
    assert list(watch.left.values()) == [round(WEIGHTS * (1 - 0.8 * part)) for part in done]
    assert len(watch.left) == 3 * -(-8 // execution)


def test_steps_are_updates_under_gradient_accumulation():
    optimizer = keras.optimizers.Adam(0.01, gradient_accumulation_steps=4)
    watch, model = Watch(), compiled(optimizer=optimizer)
    fit(model, gradual_pruning(begin_step=1, end_step=5, frequency=2), watch)  # 24 batches
    assert list(watch.left) == list(range(7))
    by_hand = [round(WEIGHTS * (1 - 0.8 * gradual.polynomial(part))) for part in (0, 0.5, 1)]
    assert list(watch.left.values()) == [by_hand[place] for place in (0, 0, 0, 1, 1, 2, 2)]
    with pytest.raises(InputError, match=r"ends with update 12.*Received: 16"):
        fit(model, gradual_pruning(begin_step=8))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    watch, model = Watch(), compiled(network())
    fit(model, gradual_pruning(end_step=10, frequency=2), watch)
    assert pruning.remaining(masking.get_masks(model)) == round(0.2 * WEIGHTS)


def test_train_on_batch_by_hand():
    model = compiled()
    callbacks = keras.callbacks.CallbackList([gradual_pruning()], model=model)
    left = {}
    for step in range(24):
        place = slice(step % 8 * 4, step % 8 * 4 + 4)
        model.train_on_batch(INPUTS[place], LABELS[place])
        callbacks.on_train_batch_end(step)
        left[step + 1] = pruning.remaining(masking.get_masks(model))
    assert left == expected(range(1, 25))
    other = compiled(network())
    whole = Watch()
    fit(other, gradual_pruning(), whole)
    assert whole.left == left


@pytest.mark.slow
def test_two_replicas_prune_alike(config):
    # A process has one MirroredStrategy: that of the engine.
    strategy = devices.connect(config(strategy="mirrored", cpu_devices=2)).strategy
    with strategy.scope():
        model = compiled(network("mirrored"))
        first = model.get_weights()
    watch = Watch()
    fit(model, gradual_pruning(criterion="magnitude"), watch)
    assert watch.left == expected(range(1, 25))
    for kernel in masking.kernels(model).values():
        for variable in (kernel.variable, kernel.mask):
            copies = strategy.experimental_local_results(variable.value)
            assert len(copies) == 2
            assert np.array_equal(*copies)
    assert any((a != b).any() for a, b in zip(first, model.get_weights(), strict=True))


PROGRAM = """
import os, sys
from tests.loop.test_gradual import *
keras.utils.set_random_seed(0)

class Killed(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == int(sys.argv[1]):
            os._exit(9)

backup = keras.callbacks.BackupAndRestore("backup", save_freq="epoch")
model = compiled()
callbacks = [gradual_pruning(end_step=30, frequency=2), backup]
if sys.argv[2] == "behind":
    callbacks.reverse()
fit(model, *callbacks, Killed(), epochs=5)
np.savez("out.npz", *model.get_weights())
"""


@pytest.mark.ci
@pytest.mark.parametrize("order", ["first", "behind"])
def test_a_fit_that_is_killed_goes_on_with_its_masks(order, tmp_path):
    def run(stop, name, **options):
        (tmp_path / name).mkdir(exist_ok=True)
        command = [forked.python(), "-c", PROGRAM, str(stop), order]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path / name, env=env, capture_output=True, text=True)

    assert run(-1, "whole").returncode == 0
    result = run(20, "parts")
    assert result.returncode == 9, result.stderr
    assert run(-1, "parts").returncode == 0
    with np.load(tmp_path / "whole/out.npz") as whole, np.load(tmp_path / "parts/out.npz") as parts:
        for name in whole.files:
            assert np.array_equal(whole[name], parts[name]), name


def test_callbacks_behind_it_see_the_density(tmp_path):
    seen = []
    behind = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(dict(logs))
    )
    log = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    board = keras.callbacks.TensorBoard(str(tmp_path / "board"))
    fit(compiled(), gradual_pruning(), behind, log, board, verbose=2)
    assert [round(logs["density"] * WEIGHTS) for logs in seen] == [
        expected([step])[step] for step in (8, 16, 24)
    ]
    assert "density" in (tmp_path / "log.csv").read_text().splitlines()[0]
    (path,) = (tmp_path / "board" / "train").glob("*")
    assert b"epoch_density" in path.read_bytes()


# What says when and how much -------------------------------------------------------------------


def test_a_function_of_the_step_says_the_density():
    watch, model = Watch(), compiled()
    fit(model, gradual_pruning(None, schedule=lambda step: 1 - step / 36), watch)
    assert watch.left[1] == WEIGHTS
    assert [watch.left[step] for step in (2, 6, 10, 14, 18, 24)] == [
        round(WEIGHTS * (1 - step / 36)) for step in (2, 6, 10, 14, 18, 18)
    ]
    with pytest.raises(InputError, match=r"a density in \(0, 1\] at step 2. Received: 0"):
        fit(compiled(network("b")), gradual_pruning(None, schedule=lambda step: 0))
    with pytest.raises(InputError, match="density: a schedule that is a function"):
        gradual_pruning(0.5, schedule=lambda step: 0.5)


def test_a_schedule_of_the_toolkit():
    with _toolkit() as toolkit:
        cubic = toolkit.PolynomialDecay(0.0, 0.8, 2, 18, 3, 4)
        constant = toolkit.ConstantSparsity(0.9, 4)
    watch = Watch()
    fit(compiled(), lottery_tf.GradualPruning(schedule=cubic), watch)
    assert watch.left == expected(range(1, 25))
    watch = Watch()
    fit(compiled(network("constant")), lottery_tf.GradualPruning(schedule=constant), watch)
    assert set(watch.left.values()) == {WEIGHTS, WEIGHTS // 10}
    assert watch.left[3] == WEIGHTS > watch.left[4]
    with pytest.raises(InputError, match="those of the schedule"):
        lottery_tf.GradualPruning(schedule=cubic, end_step=5)


@pytest.mark.parametrize("criterion", ["random", "taylor", "movement", "snip", "grasp", "synflow"])
def test_every_kind_of_criterion(criterion):
    watch, model = Watch(), compiled()
    options = {"data": (INPUTS, LABELS)} if criterion in ("taylor", "snip", "grasp") else {}
    if criterion not in ("random", "taylor"):
        options["initial"] = masking.get_weights(model)
    fit(model, gradual_pruning(criterion=criterion, scope="layer", **options), watch)
    assert pruning.remaining(masking.get_masks(model)) == round(0.2 * WEIGHTS)
    assert len(set(watch.left.values())) == 5
    for mask in masking.get_masks(model).values():
        assert mask.mean() == pytest.approx(0.2, abs=0.02)


def test_layers_that_are_kept_dense_stay_so():
    model = compiled()
    fit(model, gradual_pruning(0.5, keep_dense=["last"]))
    masks = masking.get_masks(model)
    assert masks["last/kernel"].all()
    assert pruning.remaining(masks) == WEIGHTS // 2


def test_gradients_are_compiled_once(monkeypatch):
    made = count_gradients(monkeypatch)
    fit(compiled(), gradual_pruning(criterion="taylor", data=(INPUTS, LABELS)))
    assert len(made) == 1


# A second fit ----------------------------------------------------------------------------------


def test_a_second_fit_continues():
    callback, model, watch = gradual_pruning(), compiled(), Watch()
    batches = ((INPUTS[i : i + 4], LABELS[i : i + 4]) for i in range(0, 32, 4))
    # TensorFlow may count the step that finds no batch.
    words = r"ended after [89] updates.*due at step 18: .* is 0.5333, and 0.2 was asked"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(batches, verbose=0, callbacks=[callback, watch])
    assert sum(bool(re.search(words, str(one.message))) for one in told) == 1
    fit(model, callback, watch, epochs=2)
    assert max(watch.left) >= 24
    assert watch.left == expected(watch.left)
    fit(model, callback, watch, epochs=1)  # all has been done
    assert watch.left == expected(watch.left)
    compiled(model)  # its optimizer begins at step 0
    watch.left.clear()
    fit(model, callback, watch)
    assert set(watch.left.values()) == {round(0.2 * WEIGHTS)}


def test_another_model_is_refused():
    callback = gradual_pruning()
    fit(compiled(), callback)
    with pytest.raises(InputError, match=r"this callback is of net.*another one for other"):
        fit(compiled(network("other")), callback)


def test_a_fit_that_is_stopped_early_says_so():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    with pytest.warns(UserWarning, match="ended after 8 updates"):
        fit(compiled(), gradual_pruning(), Stop())


def test_rounds_keep_their_masks():
    model = compiled()
    rounds = lottery_tf.rounds(model, 2, 0.5, verbose=0)
    next(rounds)
    with pytest.raises(InputError, match="round 0 of lottery_tf"):
        fit(model, gradual_pruning())
    assert masking.get_masks(model)["first/kernel"].all()
    rounds.close()


# Bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"begin_step": 20}, "begin_step and end_step: .*one after the other.* 20 and 18"),
        ({"begin_step": -1}, "begin_step"),
        ({"begin_step": 1.5}, "begin_step"),
        ({"end_step": None}, "end_step: expected the step of the last"),
        ({"frequency": 0}, "frequency"),
        ({"frequency": 17}, "frequency: expected at most 16.*Received: 17"),
        ({"schedule": "linear"}, "schedule: expected one of polynomial"),
        ({"schedule": 3}, "schedule: expected one of polynomial"),
        ({"density": 1.5}, "density"),
        ({"density": None}, "density: expected"),
        ({"initial_density": 0.1}, "initial_density"),
        ({"initial_density": 1.1}, "initial_density"),
        ({"scope": "all"}, "scope"),
        ({"seed": -1}, "seed"),
        ({"keep_dense": "last"}, "keep_dense"),
        ({"optimizer": "adam"}, "optimizers"),
        ({"data": (INPUTS, LABELS[:3])}, "data"),
    ],
)
def test_wrong_arguments_are_refused_at_once(options, words):
    with pytest.raises(InputError, match=words):
        gradual_pruning(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"keep_dense": ["nowhere"]}, "nowhere"),
        ({"density": 0.3, "keep_dense": ["first"]}, "cannot be reached"),
        ({"criterion": "snip"}, "pass data"),
        ({"criterion": "movement"}, "pass initial="),
        ({"criterion": "best"}, "criterion"),
        ({"criterion": "taylor", "data": (INPUTS[:, :2], LABELS)}, "data: .*cannot be computed"),
        ({"end_step": 25}, "ends with update 24.*Received: 25"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(options, words):
    model = compiled()
    before = model.get_weights()
    if "end_step" in options:
        options = options | {"frequency": 23}
    with pytest.raises(InputError, match=words):
        fit(model, gradual_pruning(**options))
    for one, same in zip(model.get_weights(), before, strict=True):
        assert np.array_equal(one, same)


def test_a_schedule_behind_the_optimizer_is_refused():
    model = compiled()
    fit(model)
    with pytest.raises(InputError, match=r"has made 24 updates.*due at step 18"):
        fit(model, gradual_pruning())


def test_a_density_above_the_models_is_refused():
    model = compiled()
    lottery_tf.prune(model, density=0.1)
    with pytest.raises(InputError, match=r"density: 0\.2 is above"):
        fit(model, gradual_pruning())


def test_models_without_masks_or_optimizers_are_refused():
    plain = lottery_tf.unmasked(network())
    with pytest.raises(InputError, match="nothing to prune"):
        fit(compiled(plain), gradual_pruning())

    class Own(keras.Model):
        def train_step(self, data):
            self.steps = keras.optimizers.SGD(0.1)
            return {}

    image = keras.Input((6,))
    model = lottery_tf.mask(Own(image, keras.layers.Dense(3)(image)))
    model.compile(loss="mse", optimizer=None)
    with pytest.raises(InputError, match="pass optimizer="):
        fit(model, gradual_pruning())


def test_the_optimizer_of_a_training_step_of_ones_own_counts():
    class Own(keras.Model):
        def compile(self, own):
            super().compile(loss="mse")
            self.own = own
            self.optimizer = None

        def train_step(self, data):
            inputs, _, _ = keras.utils.unpack_x_y_sample_weight(data)
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(self(inputs, training=True) ** 2)
            variables = self.trainable_variables
            self.own.apply(tape.gradient(loss, variables), variables)
            return {"loss": loss}

    image = keras.Input((6,))
    model = lottery_tf.mask(Own(image, keras.layers.Dense(15)(image)))
    own = keras.optimizers.Adam(0.01)
    model.compile(own)
    fit(model, gradual_pruning(optimizer=own))
    (mask,) = masking.get_masks(model).values()
    assert mask.sum() == 18
    assert int(own.iterations) == 24


def test_it_needs_no_toolkit():
    code = "import sys, lottery_tf; lottery_tf.GradualPruning(0.5, end_step=20); " \
        "print([one for one in sys.modules if 'model_optimization' in one])"  # fmt: skip
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "[]", result.stderr


@pytest.mark.parametrize("structure", ["1:2", (1, 2), "channel"])
def test_structures_hold_at_every_update(structure):
    model, watch = compiled(), Watch()
    history = fit(model, gradual_pruning(0.5, structure=structure), watch)
    first, last = masking.get_masks(model).values()
    assert len(set(watch.left.values())) > 1
    if structure == "channel":  # 5 of 10 hidden units, with what reads them
        units = first.any(0)
        assert units.sum() == 5
        assert (first == units).all()
        assert (last == units[:, None]).all()
        return
    pairs = [mask.reshape(-1, 2, mask.shape[1]) for mask in (first, last)]
    if structure == "1:2":
        assert all((pair.sum(1) == 1).all() for pair in pairs)
        assert set(history.history["density"]) <= {1.0, 0.5}
    else:
        assert all((pair.all(1) == pair.any(1)).all() for pair in pairs)
        assert pruning.remaining(masking.get_masks(model)) in (44, 46)  # 22.5 blocks


def test_a_pattern_says_the_density_of_its_end():
    model = compiled()
    fit(model, gradual_pruning(None, structure="1:2", schedule="cosine"))
    assert pruning.density(masking.get_masks(model)) == 0.5
    with pytest.raises(InputError, match="density"):
        fit(compiled(), gradual_pruning(0.3, structure="1:2"))
