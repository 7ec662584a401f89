"""J_r against a float64 reference, its memory, and runs that are repelled."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from lottery_tf import datasets, imp
from lottery_tf.benchmarks import repulsion
from lottery_tf.errors import InputError
from lottery_tf.pruning.streams import Noise
from lottery_tf.repulsion import loss, optima
from lottery_tf.runs.checkpoints import Checkpoint
from lottery_tf.runs.rundir import RunDir
from lottery_tf.training.devices import connect
from lottery_tf.training.engine import Engine
from lottery_tf.training.training import Training

SHAPES = {"a/kernel": (7, 5), "b/kernel": (3, 3, 2, 4), "c/kernel": (30,)}


def problem(count, seed=0, density=0.4):
    generator = np.random.default_rng(seed)
    masks = {path: generator.random(shape) < density for path, shape in SHAPES.items()}
    networks, importances = (
        [{p: draw(s).astype(np.float32) for p, s in SHAPES.items()} for _ in range(of)]
        for of, draw in ((count + 1, generator.standard_normal), (count, generator.random))
    )
    weights = {path: array * masks[path] for path, array in networks.pop().items()}
    return weights, masks, networks, importances


def reference(weights, masks, networks, importances, strength, scope):
    """J_r and its gradient, by its definition on dense float64 vectors."""
    groups = [list(SHAPES)] if scope == "global" else [[path] for path in SHAPES]
    value, gradients = 0.0, {}
    for group in groups:

        def vector(arrays, group=group):
            return np.concatenate([(arrays[p] * masks[p]).ravel() for p in group]).astype(float)

        v, total = vector(weights), 0.0
        for network, importance in zip(networks, importances, strict=True):
            u = vector(network)
            f = vector(importance) if importance else np.ones_like(u)
            dot, vv, uu = f * u @ v, f * v @ v, f * u @ u
            if not uu or not vv:
                continue
            value += strength * dot**2 / (vv * uu) / len(networks) / len(groups)
            # d (dot^2 / (vv uu)) / dv
            total += 2 * dot * f * u / (vv * uu) - 2 * dot**2 * f * v / (vv**2 * uu)
        total = strength * total / len(networks) / len(groups) * np.ones_like(v)
        for path in group:
            size = np.prod(SHAPES[path])
            gradients[path], total = total[:size].reshape(SHAPES[path]) * masks[path], total[size:]
    return value, gradients


def on_mask(networks, masks, scope):
    """The Optima of networks without importance, called by their place."""
    sources = [(str(index), network, None) for index, network in enumerate(networks)]
    return optima.on_mask(sources, masks, scope=scope)


def compute(weights, held, strength, scope, jit_compile):
    arrays = {
        path: {"index": held.index[path], "directions": held.directions[path]}
        | ({"importance": held.importance[path]} if held.importance else {})
        for path in held.index
    }
    kernels = {path: tf.constant(array) for path, array in weights.items()}
    call = tf.function(loss.value_and_gradients, jit_compile=jit_compile)
    constants = tf.nest.map_structure(tf.constant, arrays)
    value, gradients = call(kernels, constants, strength=strength, scope=scope)
    return float(value), {path: gradient.numpy() for path, gradient in gradients.items()}


@pytest.mark.parametrize("count", [1, 5, pytest.param(24, marks=pytest.mark.ci)])
@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_value_and_gradient_are_those_of_the_definition(count, scope, weighted, jit_compile):
    weights, masks, networks, importances = problem(count, seed=count)
    if not weighted:
        importances = [None] * count
    names = [f"round {index}" for index in range(count)]
    sources = zip(names, networks, importances, strict=True)
    held = optima.on_mask(sources, masks, scope=scope)
    expected, gradient = reference(weights, masks, networks, importances, 2.0, scope)
    found, gradients = compute(weights, held, 2.0, scope, jit_compile)
    assert found == pytest.approx(expected, rel=1e-5)
    whole = np.sqrt(sum(np.sum(array**2) for array in gradient.values()))
    for path in SHAPES:
        assert np.linalg.norm(gradients[path] - gradient[path]) <= 1e-5 * whole
        assert not gradients[path][~masks[path]].any()
    row = optima.repulsion_metrics(weights, held, strength=2.0, scope=scope)
    assert row["repel_loss"] == pytest.approx(expected, rel=1e-5)
    cosines = [
        sum(np.sum(weights[p] * n[p]) for p in SHAPES)
        / np.sqrt(sum(np.sum(weights[p] ** 2) for p in SHAPES))
        / np.sqrt(sum(np.sum((n[p] * masks[p]) ** 2) for p in SHAPES))
        for n in networks
    ]
    assert row["cosine_nearest"] == pytest.approx(max(cosines), abs=1e-6)
    assert row["cosine_mean"] == pytest.approx(np.mean(cosines), abs=1e-6)


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("strength", [2.0, -1.0])
def test_a_step_against_the_gradient_repels_or_attracts(scope, strength):
    weights, masks, networks, _ = problem(3)
    held = on_mask(networks, masks, scope)
    before = optima.repulsion_metrics(weights, held, strength=1.0, scope=scope)["repel_loss"]
    _, gradients = compute(weights, held, strength, scope, False)
    moved = {path: weights[path] - 0.1 * gradients[path] for path in weights}
    after = optima.repulsion_metrics(moved, held, strength=1.0, scope=scope)["repel_loss"]
    assert (after < before) == (strength > 0)


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_zeros_divide_nothing(scope):
    weights, masks, networks, _ = problem(2)
    networks[0] = {path: 0 * array for path, array in networks[0].items()}
    masks["c/kernel"][:] = False  # a layer without survivors
    weights["c/kernel"][:] = 0
    held = on_mask(networks, masks, scope)
    value, gradients = compute(weights, held, 2.0, scope, True)
    assert np.isfinite(value)
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    zero = {path: 0 * array for path, array in weights.items()}
    value, gradients = compute(zero, held, 2.0, scope, True)
    assert value == 0
    assert not any(gradient.any() for gradient in gradients.values())


def test_the_values_take_what_the_survivors_take():
    _, masks, networks, _ = problem(4)
    held = on_mask(networks, masks, "global")
    alive = sum(mask.sum() for mask in masks.values())
    assert held.bytes() == (4 * 4 * alive, 4 * alive)
    again = optima.Optima.unpack(held.pack())
    assert again.names == held.names
    for part in ("index", "directions", "norms"):
        for path, array in getattr(held, part).items():
            assert np.array_equal(getattr(again, part)[path], array)


def test_describe_names_what_was_repelled():
    weights, masks, networks, _ = problem(1)
    held = on_mask(networks, masks, "layer")
    rows = {row["kernel"]: row for row in optima.compare_with_optima(weights, held)}
    assert list(rows) == [*SHAPES, "all"]
    for path, mask in masks.items():
        now, then = weights[path][mask], networks[0][path][mask]
        cosine = now @ then / np.linalg.norm(now) / np.linalg.norm(then)
        assert rows[path]["cosine"] == pytest.approx(cosine, abs=1e-6)
        assert rows[path]["sign_agreement"] == np.mean(np.sign(now) == np.sign(then))
    assert sum(rows[path]["norm_share"] for path in SHAPES) == pytest.approx(1)


def test_repel_from_chooses_rounds():
    for count, words, expected in (
        (5, "all", [0, 1, 2, 3, 4]), (5, "previous", [4]), (5, "3", [2, 3, 4]), (2, "3", [0, 1]),
        (0, "all", []),
    ):  # fmt: skip
        assert list(optima.select_rounds(range(count), words)) == expected


def cosine(some, other, masks):
    some, other = (
        np.concatenate([array[path][mask] for path, mask in masks.items()])
        for array in (some, other)
    )
    return some @ other / np.linalg.norm(some) / np.linalg.norm(other)


def nearest(run, round):
    finals = [run.final(earlier) for earlier in range(round)]
    return max(cosine(run.final(round), final, run.masks(round)) for final in finals)


SLOW = [
    {"resident": "off", "shuffle_window": 100, "mixed_precision": "bfloat16"},
    {"jit_compile": "off", "optimizer": "momentum", "learning_rate": 0.1},
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"strategy": "mirrored", "cpu_devices": 2},
        *(pytest.param(flags, marks=pytest.mark.slow) for flags in SLOW),
    ],
)
def test_repelled_runs_leave_their_optima_and_attracted_ones_do_not(config, tmp_path, flags):
    cosines = {}
    for repel in (2.0, 0.0, -1.0):
        run_dir = str(tmp_path / str(repel))
        imp.main(config(epochs=8, repel=repel, run_dir=run_dir, **flags))
        cosines[repel] = nearest(RunDir(run_dir), 2)
    assert cosines[2.0] < cosines[0.0] - 0.05
    assert 1 - cosines[-1.0] < 0.7 * (1 - cosines[0.0])
    run = RunDir(tmp_path / "2.0")
    assert run.metrics()[2]["cosine_nearest"] == pytest.approx(cosines[2.0], abs=1e-5)
    assert "cosine_nearest" not in run.metrics()[0]
    assert "repel_loss" in run.history(1)[0]
    names = [row["optimum"] for row in run.table(2, "repulsion.csv")]
    assert sorted(set(names)) == ["round 0", "round 1"]


@pytest.mark.slow
def test_a_repelled_reinit_is_as_far_as_it_was(config):
    imp.main(config(epochs=8, repel=2.0, reset="reinit"))
    run = RunDir(config().run_dir)
    assert abs(nearest(run, 2)) < 0.1
    assert run.metrics()[2]["repel_loss"] < 0.01


@pytest.mark.slow
def test_enough_steps_make_the_optima_orthogonal(config):
    imp.main(config(epochs=60, repel=2.0))
    run = RunDir(config().run_dir)
    finals = [run.final(earlier) for earlier in (0, 1)]
    for final in finals:
        assert abs(cosine(run.final(2), final, run.masks(2))) < 0.1


@pytest.mark.slow
def test_another_runs_optima_repel_too(config, tmp_path):
    other = str(tmp_path / "other")
    imp.main(config(run_dir=other, seed=7, rounds=2))
    imp.main(config(repel=2.0, repel_runs=(other,), repel_from="1", rounds=2))
    run = RunDir(config().run_dir)
    names = {row["optimum"] for row in run.table(1, "repulsion.csv")}
    assert names == {"round 0", f"{other}, round 1"}
    assert run.table(0, "repulsion.csv")[0]["optimum"] == f"{other}, round 1"


@pytest.mark.slow
@pytest.mark.parametrize("flags", [{}, {"resident": "off"}, {"jit_compile": "off"}])
def test_a_repelled_round_goes_on_from_its_middle_bit_for_bit(config, monkeypatch, flags):
    monkeypatch.setattr("lottery_tf.training.engine.PIECE_SECONDS", 1e-9)
    config = config(repel=2.0, epochs=2, **flags)
    first = Engine(config, datasets.find(config), connect(config))
    initialization = first.initialization
    weights, masks = initialization(0), first.dense_masks()
    held = optima.on_mask([("round 0", initialization(1), None)], masks, scope="global")
    taken = []

    def take(progress):
        if progress.step == 30:
            taken.append(Checkpoint(progress, first.state()))

    training = Training(weights, masks, Noise(0, 1), held)
    expected, history = first.train(training, on_piece=take)
    plain, _ = first.train(dataclasses.replace(training, optima=None))
    assert not np.array_equal(plain["logits/kernel"], expected["logits/kernel"])
    again = Engine(config, datasets.find(config), connect(config))
    found, resumed = again.train(dataclasses.replace(training, start=taken[0]))
    for path in expected:
        assert np.array_equal(found[path], expected[path]), path
    for column in ("repel_loss", "cosine_nearest", "train_loss", "test_loss"):
        assert resumed[-1][column] == history[-1][column]


@pytest.mark.ci
def test_a_25_round_lenet_holds_at_most_1_7_times_its_weights(config):
    series = repulsion.held_bytes(config(repel=2.0), rounds=25)
    assert max(values / dense for values, _, dense in series.values()) <= 1.7
    assert max(index / dense for _, index, dense in series.values()) <= 0.81
    for round, (values, _, dense) in series.items():
        alive = values // (4 * round)
        assert abs(alive - 0.8**round * dense / 4) <= 3  # what rounding every round leaves


@pytest.mark.slow
def test_bad_repulsion_is_named(config, tmp_path):
    for value in ("some", "0", "-1"):
        with pytest.raises(InputError, match=rf"--repel_from: .* {value}$"):
            config(repel_from=value)
    with pytest.raises(InputError, match=r"--repel: .* nan$"):
        config(repel=float("nan"))
    with pytest.raises(InputError, match="nowhere"):
        imp.main(config(repel=1.0, repel_runs=("nowhere",)))
    other = str(tmp_path / "other")
    imp.main(config(run_dir=other, rounds=1, epochs=1, model="tests.networks:dropout"))
    with pytest.raises(
        InputError, match=r"--repel_runs=.*other: .*--model=lenet.* tests\.networks:dropout"
    ):
        imp.main(config(repel=1.0, repel_runs=(other,)))


@pytest.mark.slow
def test_saliency_is_saved_and_weighs(config, tmp_path):
    losses = {}
    for repel in (1e-6, 2.0):
        run = RunDir(tmp_path / str(repel))
        imp.main(config(repel=repel, repel_weighting="saliency", epochs=20, run_dir=str(run.path)))
        losses[repel] = run.metrics()[2]["repel_loss"] / repel
    assert losses[2.0] < losses[1e-6] - 0.05
    saliency = run.squared_gradients(1)
    assert saliency.keys() == run.masks(1).keys()
    for path, array in saliency.items():
        assert array.shape == run.masks(1)[path].shape
        assert (array >= 0).all()
        assert array.any()
