"""What every reset, criterion, network and masked layer keeps; the tables say which there are."""

import itertools
import signal

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import imp, masking, pruning
from lottery_tf.pruning import gradual
from lottery_tf.pruning.criteria import CRITERIA
from lottery_tf.pruning.gradual import CURVES
from lottery_tf.pruning.regrowth import REGROW
from lottery_tf.pruning.resets import RESETS
from lottery_tf.runs.rundir import RunDir
from lottery_tf.training import engine
from lottery_tf.training.engine import Evaluator
from tests.launching import npz_bytes
from tests.layers import CELLS, LAYERS, TABLES

FRACTION, ROUNDS = 0.3, 3
NETWORKS = ("linear", "dropout", "batch_norm", "every_layer")


def check_masks(masks, scope):
    """Each mask lies in the one before it, and exactly the fraction of what lived is gone.

    Args:
        masks: {kernel path: bool array} of each round.
    """
    for before, after in itertools.pairwise(masks):
        assert before.keys() == after.keys()
        assert not any((after[path] & ~before[path]).any() for path in after)
        groups = [list(before)] if scope == "global" else [[path] for path in before]
        for paths in groups:
            lived, lives = (
                sum(int(mask[path].sum()) for path in paths) for mask in (before, after)
            )
            assert lived - lives == round(lived * 3 / 10), paths  # FRACTION; half to even


def check_zeros(weights, masks):
    """No pruned weight is revived, and others live."""
    for path, mask in masks.items():
        assert not weights[path][~mask].any(), path
    assert any(weights[path][mask].any() for path, mask in masks.items())


@pytest.fixture(scope="module")
def engines():
    """{(network, epochs): Engine}: what has been compiled is used again."""
    return {}


@pytest.fixture
def experiment(config, sharded, tmp_path, engines, monkeypatch):
    """A function of the name of a run, and flags: its exit status, and its RunDir."""
    made = engine.Engine

    def prepare(config, directory, cluster):
        key = config.model, config.epochs
        if key not in engines:
            engines[key] = made(config, directory, cluster)
        engines[key].config = config
        vars(engines[key]).pop("policy", None)  # of the config before
        return engines[key]

    monkeypatch.setattr(engine, "Engine", prepare)

    def run(name, **flags):
        tiny = {
            "run_dir": str(tmp_path / name), "data_dir": str(sharded), "batch_size": 16,
            "optimizer": "momentum", "learning_rate": 0.01, "prune_fraction": FRACTION,
            "rounds": ROUNDS, "jit_compile": "off",
        }  # fmt: skip
        return imp.main(config(**(tiny | flags))), RunDir(tmp_path / name)

    return run


def combinations():
    """(network, criterion, reset): those that differ from the usual in one thing run by default."""
    usual = ("linear", "magnitude", "init")
    for one in itertools.product(NETWORKS, CRITERIA, RESETS):
        others = sum(a != b for a, b in zip(one, usual, strict=True))
        marks = () if others < 2 else (pytest.mark.slow,)
        yield pytest.param(
            *one, marks=pytest.mark.ci if others == 1 and "every_layer" in one else marks
        )


@pytest.mark.parametrize(("network", "criterion", "reset"), combinations())
def test_every_experiment_keeps_the_contract(network, criterion, reset, experiment, monkeypatch):
    flags = {"model": f"tests.networks:{network}", "reset": reset, "criterion": criterion}
    flags |= {"rewind_to": "3"} if reset == "rewind" else {}
    status, whole = experiment("whole", **flags)
    assert status == 0
    masks = [whole.masks(round) for round in range(ROUNDS)]
    check_masks(masks, "global")
    for round in range(ROUNDS):
        check_zeros(whole.initial(round), masks[round])
        check_zeros(whole.final(round), masks[round])
        start, end = whole.initial(round), whole.final(round)
        moved = {path for path in masks[round] if (end[path] != start[path]).any()}
        alive = {path for path, mask in masks[round].items() if mask.any()}
        # A criterion may leave nothing of a layer, or nothing behind it that it could act on.
        assert moved == alive if criterion == "magnitude" else moved and moved <= alive

    # A signal ends it after the first of two epochs of round 1; then it goes on.
    calls, evaluate = [], Evaluator.evaluate

    def interrupt(self):
        calls.append(self)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGTERM)
        return evaluate(self)

    monkeypatch.setattr(Evaluator, "evaluate", interrupt)
    status, parts = experiment("parts", **flags)
    assert (status, parts.finished_rounds()) == (75, 1)
    assert len(list(parts.path.glob("checkpoints/round_01_*"))) == 1
    assert experiment("parts", **flags)[0] == 0
    assert npz_bytes(parts.path) == npz_bytes(whole.path)


def test_every_masked_layer_has_a_line():
    assert {layer.__name__ for layer in masking.MASKED} == set(LAYERS) | CELLS | TABLES


def layer_combinations():
    """(layer, criterion, reset), as `combinations`; every layer runs with the usual two."""
    for one in itertools.product(LAYERS, CRITERIA, RESETS):
        others = sum(a != b for a, b in zip(one[1:], ("magnitude", "init"), strict=True))
        usual = others == 0 or (others == 1 and one[0] == "Conv2D")
        of_ci = usual and one[1] == "synflow"  # which rebuilds the network in float64
        marks = pytest.mark.ci if of_ci else (pytest.mark.slow,)
        yield pytest.param(*one, marks=() if usual and not of_ci else marks)


@pytest.mark.parametrize(("layer", "criterion", "reset"), layer_combinations())
def test_every_layer_keeps_the_contract_around_fit(layer, criterion, reset):
    shape, options = LAYERS[layer]
    images = np.random.default_rng(0).random((4, *shape)).astype(np.float32)
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    layers = [keras.Input(shape), getattr(keras.layers, layer)(**options, name="layer")]
    model = lottery_tf.masked(keras.Sequential(layers))
    model.compile(keras.optimizers.Adam(0.1), "mean_squared_error", run_eagerly=True)
    masks, options = [], {"reset": reset, "criterion": criterion, "scope": "layer"}
    options["data"] = images, np.ones(model(images).shape, np.float32)
    options |= {"rewind_to": 1} if reset == "rewind" else {}
    for round in lottery_tf.rounds(model, ROUNDS, FRACTION, **options):
        masks.append(masking.get_masks(model))
        start = masking.get_weights(model)
        check_zeros(start, masks[-1])
        model.fit(*options["data"], verbose=0, callbacks=round.callbacks)
        trained = masking.get_weights(model)
        check_zeros(trained, masks[-1])
        assert all((trained[path] != start[path]).any() for path in masks[-1])
    assert pruning.density(masks[0]) == 1
    check_masks(masks, "layer")
    lottery_tf.prune(model, FRACTION)  # now the slots of Adam hold what would revive the pruned
    model.train_on_batch(images, np.ones(model(images).shape))
    check_zeros(masking.get_weights(model), masking.get_masks(model))


def of_layers(table):
    """(layer, key): every layer is slow, but for the usual one."""
    for layer, key in itertools.product(LAYERS, table):
        marks = () if layer == "Conv2D" else (pytest.mark.slow,)
        yield pytest.param(layer, key, marks=marks)


class EveryUpdate(keras.callbacks.Callback):
    """The masks of a model before a fit and after each update; pruned weights are zero."""

    def on_train_begin(self, logs=None):
        self.masks = [masking.get_masks(self.model)]

    def on_train_batch_end(self, batch, logs=None):
        self.masks.append(masking.get_masks(self.model))
        check_zeros(masking.get_weights(self.model), self.masks[-1])


def train_with(callback, layer):
    """Train a model of one layer for ten updates; return its masks."""
    shape, options = LAYERS[layer]
    images = np.random.default_rng(0).random((4, *shape)).astype(np.float32)
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    layers = [keras.Input(shape), getattr(keras.layers, layer)(**options, name="layer")]
    model = lottery_tf.masked(keras.Sequential(layers))
    model.compile(keras.optimizers.Adam(0.1), "mean_squared_error", run_eagerly=True)
    data = images, np.ones(model(images).shape, np.float32)
    watch = EveryUpdate()
    model.fit(*data, epochs=5, batch_size=2, verbose=0, callbacks=[callback(data), watch])
    return watch.masks


@pytest.mark.parametrize(("layer", "schedule"), of_layers(CURVES))
def test_every_layer_keeps_the_contract_under_every_schedule(layer, schedule):
    options = {"end_step": 8, "frequency": 2, "schedule": schedule, "scope": "layer"}
    masks = train_with(lambda data: lottery_tf.GradualPruning(0.4, **options), layer)
    for before, after in itertools.pairwise(masks):
        assert not any((after[path] & ~before[path]).any() for path in after)
    size = sum(mask.size for mask in masks[0].values())
    left = [pruning.remaining(one) for one in masks]
    made = gradual.make(schedule, density=0.4, begin=0, end=8, frequency=2)
    due = [made.density_at(made.due(step)) for step in range(1, 11)]
    assert left[1:] == [round(size * density) for density in due]


@pytest.mark.parametrize(("layer", "regrow"), of_layers(REGROW))
def test_every_layer_keeps_the_contract_under_every_regrowth(layer, regrow):
    def callback(data):
        data = data if regrow == "gradient" else None
        return lottery_tf.SparseTraining(0.5, regrow=regrow, update_every=2, data=data)

    first, *others = train_with(callback, layer)[1:]
    for masks in others:
        assert {p: m.sum() for p, m in masks.items()} == {p: m.sum() for p, m in first.items()}
    size = sum(mask.size for mask in first.values())
    assert pruning.remaining(first) == round(size / 2)
    assert any((others[-1][path] != first[path]).any() for path in first)


CHANGING = {
    **{name: {"prune_at": "train", "prune_schedule": name} for name in CURVES},
    **{name: {"prune_at": "dynamic", "regrow": name, "scope": "erk"} for name in REGROW},
}


@pytest.mark.parametrize(
    ("network", "name"),
    [
        pytest.param(network, name, marks=() if network == "dropout" else (pytest.mark.slow,))
        for network in NETWORKS
        for name in CHANGING
    ],
)
def test_every_training_whose_masks_change_keeps_the_contract(
    network, name, experiment, monkeypatch
):
    flags = {"model": f"tests.networks:{network}", "epochs": 4, "prune_frequency": 2}
    flags |= {"densities": (0.5, 0.3), "rounds": 3, **CHANGING[name]}
    status, whole = experiment("whole", **flags)
    assert status == 0
    for number, density in enumerate((1, 0.5, 0.3)):
        masks = whole.masks(number)
        size = sum(mask.size for mask in masks.values())
        assert pruning.remaining(masks) == round(size * density)
        check_zeros(whole.final(number), masks)

    calls, evaluate = [], Evaluator.evaluate

    def interrupt(self):
        calls.append(self)
        if len(calls) == 6:  # after the second epoch of round 1
            signal.raise_signal(signal.SIGTERM)
        return evaluate(self)

    monkeypatch.setattr(Evaluator, "evaluate", interrupt)
    status, parts = experiment("parts", **flags)
    assert (status, parts.finished_rounds()) == (75, 1)
    assert experiment("parts", **flags)[0] == 0
    assert npz_bytes(parts.path) == npz_bytes(whole.path)


@pytest.mark.parametrize(
    ("repel", "compilations"), [(0.0, 1), pytest.param(2.0, 4, marks=pytest.mark.ci)]
)
def test_rounds_share_one_program_unless_they_are_repelled(
    repel, compilations, config, sharded, monkeypatch
):
    """With repulsion the optima have other shapes in each round, so each compiles once."""
    engines, dense_masks = [], engine.Engine.dense_masks
    monkeypatch.setattr(
        engine.Engine, "dense_masks", lambda self: engines.append(self) or dense_masks(self)
    )
    monkeypatch.setattr(engine, "PIECE_SECONDS", 1e-9)  # every step is a call
    flags = {"model": "tests.networks:linear", "data_dir": str(sharded), "batch_size": 16}
    imp.main(config(rounds=4, repel=repel, **flags))
    (only,) = set(engines)
    assert only.run_steps.experimental_get_tracing_count() == compilations
