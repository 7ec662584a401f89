"""What a round starts from and under which masks: on whole runs of a tiny dataset."""

import signal

import numpy as np
import pytest

from lottery_tf import datasets, imp, pruning
from lottery_tf.errors import InputError
from lottery_tf.loop.pruning_rounds import shuffle_masks
from lottery_tf.masking import optimizer_state
from lottery_tf.masking.gradients import Gradients
from lottery_tf.pruning import resets, streams
from lottery_tf.runs import rewind_points
from lottery_tf.runs.rundir import RunDir
from lottery_tf.training import engine, gradual
from lottery_tf.training.devices import connect
from lottery_tf.training.engine import Engine, Evaluator
from lottery_tf.training.training import Training
from tests.launching import npz_bytes

STEPS_PER_EPOCH = 3  # 50 examples in batches of 16


@pytest.fixture
def experiment(config, sharded, tmp_path):
    """A function of the name of a run, and flags: its exit status, and its RunDir."""

    def run(name, **flags):
        tiny = {
            "run_dir": str(tmp_path / name), "data_dir": str(sharded), "batch_size": 16,
            "model": "tests.networks:linear", "optimizer": "momentum", "learning_rate": 0.01,
            "prune_fraction": 0.3, "jit_compile": "off",
        }  # fmt: skip
        return imp.main(config(**(tiny | flags))), RunDir(tmp_path / name)

    return run


def same(ours, expected):
    assert ours.keys() == expected.keys()
    for path in ours:
        np.testing.assert_array_equal(ours[path], expected[path], err_msg=path)


BATCH_NORM = {"model": "tests.networks:batch_norm", "schedule": "cosine", "reset": "rewind",
              "rewind_to": "4"}  # fmt: skip


@pytest.mark.ci
@pytest.mark.parametrize("resident", ["on", "off"])
def test_a_rewound_round_starts_from_the_whole_state_of_round_0(
    resident, experiment, config, monkeypatch
):
    trainings, train = [], engine.Engine.train
    monkeypatch.setattr(
        engine.Engine, "train",
        lambda self, training, **on: trainings.append(training) or train(self, training, **on),
    )  # fmt: skip
    _, run = experiment("run", resident=resident, **BATCH_NORM)
    # The state of round 0 at step 4, trained apart.
    made, weights = prepared(run, config)
    state, _ = train(made, Training(weights, made.dense_masks(), streams.Noise(0, 0), last=4))
    assert [training.first for training in trainings[:3]] == [0, 4, 4]
    for round in (1, 2):
        start = run.initial(round)
        same(start, pruning.apply_masks(state, run.masks(round)))
        moving = [path for path in start if "moving" in path]
        assert moving
        assert all((start[path] != run.initial(0)[path]).any() for path in moving)
        assert run.history(round)[-1]["step"] == 2 * STEPS_PER_EPOCH
        assert run.history(round)[-1]["learning_rate"] == run.history(0)[-1]["learning_rate"]


def prepared(run, config):
    recorded = config().recorded(run.config(), run_dir=str(run.path))
    made = Engine(recorded, datasets.find(recorded), connect(recorded))
    initialization = made.initialization
    return made, initialization(0)


@pytest.mark.ci
def test_a_rewind_point_that_is_gone_is_made_again_with_the_same_bits(experiment):
    _, whole = experiment("whole", **BATCH_NORM)
    _, parts = experiment("parts", **BATCH_NORM, rounds=1)
    assert rewind_points.steps(parts.path) == [4]
    stored = rewind_points.read(parts.path, 4)
    rewind_points.forget(parts.path)
    experiment("parts", **BATCH_NORM)
    same(rewind_points.read(parts.path, 4), stored)
    assert npz_bytes(parts.path) == npz_bytes(whole.path)


@pytest.mark.ci
def test_a_rewind_point_that_could_not_be_stored_is_made_again(experiment, monkeypatch):
    _, whole = experiment("whole", **BATCH_NORM)
    save, failed = rewind_points.save, []

    def fail_once(path, step, weights):
        if failed:
            return save(path, step, weights)
        failed.append(step)
        raise InputError("the disk is full")

    monkeypatch.setattr(rewind_points, "save", fail_once)
    _, run = experiment("run", **BATCH_NORM)
    assert "No rewind point at step 4: the disk is full" in (run.path / "log.txt").read_text()
    assert npz_bytes(run.path) == npz_bytes(whole.path)


@pytest.mark.ci
@pytest.mark.parametrize("evaluations", [1, 3])
def test_a_rewound_run_that_is_stopped_goes_on_bit_for_bit(evaluations, experiment, monkeypatch):
    """In round 0 before the rewind point at step 4, and inside a rewound round."""
    flags = BATCH_NORM | {"rounds": 2}
    _, whole = experiment("whole", **flags)
    calls, evaluate = [], Evaluator.evaluate

    def interrupt(self):
        calls.append(self)
        if len(calls) == evaluations:
            signal.raise_signal(signal.SIGTERM)
        return evaluate(self)

    monkeypatch.setattr(Evaluator, "evaluate", interrupt)
    monkeypatch.setattr(engine, "PIECE_SECONDS", 1e-9)
    assert experiment("parts", **flags)[0] == 75
    _, parts = experiment("parts", **flags)
    assert npz_bytes(parts.path) == npz_bytes(whole.path)
    same(rewind_points.read(parts.path, 4), rewind_points.read(whole.path, 4))


def test_fine_tuning_goes_on_behind_the_schedule_at_its_last_rate(experiment):
    flags = {"reset": "finetune", "finetune_epochs": 3, "rounds": 2}
    _, run = experiment("run", schedule="step", lr_drops=(1,), **flags)
    same(run.initial(1), pruning.apply_masks(run.final(0), run.masks(1)))
    rows = run.history(1)
    assert [row["epoch"] for row in rows] == [3, 4, 5]
    assert {row["learning_rate"] for row in rows} == {run.history(0)[-1]["learning_rate"]}
    assert run.history(0)[0]["learning_rate"] != rows[0]["learning_rate"]


def test_learning_rates_are_rewound_to_a_step(experiment):
    _, run = experiment("run", reset="lr_rewind", rewind_to="1ep", rounds=2)
    same(run.initial(1), pruning.apply_masks(run.final(0), run.masks(1)))
    assert [row["epoch"] for row in run.history(1)] == [2]


MASKS = {"a": np.array([True, False, True, True, True])}


class TestStarts:
    """Resets on arrays."""

    def reset(self, name, round=3):
        drawn = {0: [1.0, 2.0, -3.0, -4.0, 5.0], 3: [-0.1, 0.2, 0.3, -0.4, -0.5]}
        sources = resets.RewindContext(
            lambda index: {"a": np.array(drawn[index]), "bias": np.array([float(index)])},
            trained=lambda: {"a": np.array([-7.0, 0.0, 7.0, -7.0, 7.0]), "bias": np.ones(1)},
            rewind_point=dict,
            rewind_step=5,
            schedule_steps=9,
            generator=lambda: np.random.default_rng(0),
        )
        weights, first = resets.RESETS[name](sources, MASKS, round)
        assert first == 0
        return weights["a"].tolist(), weights["bias"].tolist()

    def test_signs_are_those_of_the_initialization(self):
        assert self.reset("signs") == ([0.1, 0, -0.3, -0.4, 0.5], [3])

    def test_trained_signs_are_those_of_the_trained_weights(self):
        assert self.reset("trained_signs") == ([-0.1, 0, 0.3, -0.4, 0.5], [3])

    def test_shuffle_keeps_the_surviving_values(self):
        values, bias = self.reset("shuffle")
        assert sorted(values) == sorted([1, 0, -3, -4, 5])
        assert values[1] == 0
        assert values != [1, 0, -3, -4, 5]
        assert bias == [0]


@pytest.mark.ci
def test_masks_are_those_of_another_run(experiment):
    _, other = experiment("other")
    _, run = experiment("run", masks_from=str(other.path), reset="reinit")
    for round in range(3):
        same(run.masks(round), other.masks(round))
    assert np.isnan([row["threshold"] for row in run.metrics()]).all()
    (path,) = run.masks(1)
    alive = run.masks(1)[path] & (other.initial(1)[path] != 0)
    assert (run.initial(1)[path][alive] != other.initial(1)[path][alive]).all()


@pytest.mark.ci
def test_masks_from_waits_for_its_rounds_and_keeps_the_finished_ones(experiment):
    _, other = experiment("other", rounds=2)
    with pytest.raises(InputError, match=r"masks_from.*round 2 is not finished"):
        experiment("run", masks_from=str(other.path))
    run = RunDir(other.path.parent / "run")
    assert run.finished_rounds() == 2
    experiment("other", rounds=3)
    experiment("run", masks_from=str(other.path))
    assert run.finished_rounds() == 3


def test_masks_of_another_shape_are_refused(experiment, monkeypatch):
    _, other = experiment("other", model="tests.networks:dropout")
    config = RunDir.config
    monkeypatch.setattr(
        RunDir, "config", lambda self: config(self) | {"model": "tests.networks:linear"}
    )
    with pytest.raises(InputError, match=r"masks_from.*kernels of this network"):
        experiment("run", masks_from=str(other.path))


@pytest.mark.parametrize("where", ["layer", "global"])
def test_shuffled_masks_have_as_many_weights_and_lie_in_one_another(where):
    generator = np.random.default_rng(0)
    dense = {"a": np.ones((30, 10), bool), "b": np.ones((50,), bool)}
    first = {path: generator.random(mask.shape) < 0.5 for path, mask in dense.items()}
    second = {path: mask & (generator.random(mask.shape) < 0.5) for path, mask in first.items()}
    one, two = (shuffle_masks(masks, where, 7) for masks in (first, second))
    assert not any((two[path] & ~one[path]).any() for path in dense)
    for masks, shuffled in ((first, one), (second, two)):
        assert pruning.remaining(shuffled) == pruning.remaining(masks)
        counts = {path: mask.sum() == shuffled[path].sum() for path, mask in masks.items()}
        assert all(counts.values()) == (where == "layer")
        assert (shuffled["a"] != masks["a"]).any()
    other = shuffle_masks(first, where, 8)
    assert (other["a"] != one["a"]).any()


@pytest.mark.ci
def test_round_0_is_taken_from_another_run(experiment):
    _, other = experiment("other", **BATCH_NORM)
    flags = BATCH_NORM | {"criterion": "random"}
    _, run = experiment("run", round_0_from=str(other.path), **flags)
    _, trained = experiment("trained", **flags)
    assert npz_bytes(run.path) == npz_bytes(trained.path)
    assert "was taken from" in (run.path / "log.txt").read_text()
    first, expected = (r.metrics()[0] for r in (run, trained))
    assert first["threshold"] == expected["threshold"]


def test_another_round_0_is_refused(experiment):
    _, other = experiment("other", rounds=1)
    with pytest.raises(InputError, match=r"round_0_from.*learning_rate: 0.01 there, 0.02 here"):
        experiment("run", round_0_from=str(other.path), learning_rate=0.02)


def test_densities_before_training_come_from_the_dense_start(experiment):
    flags = {"prune_at": "init", "criterion": "snip", "densities": (0.5, 0.2)}
    _, run = experiment("run", **flags)
    assert run.finished_rounds() == 3
    (path,) = run.masks(0)
    assert run.masks(0)[path].all()
    for round, density in ((1, 0.5), (2, 0.2)):
        mask = run.masks(round)[path]
        assert mask.sum() == round_half_even(density * mask.size)
        same(run.initial(round), pruning.apply_masks(run.initial(0), run.masks(round)))


@pytest.mark.ci
@pytest.mark.parametrize("criterion", ["snip", "grasp"])
def test_evidence_bn_chooses_the_statistics_of_batch_norm(criterion, experiment, monkeypatch):
    seen = []

    def spied(name):
        method = getattr(Gradients, name)

        def spy(self, *args, training):
            seen.append(training)
            return method(self, *args, training=training)

        monkeypatch.setattr(Gradients, name, spy)

    spied("mean" if criterion == "snip" else "hessian_product")
    masks = {}
    for statistics in ("batch", "running"):
        flags = {"prune_at": "init", "criterion": criterion, "density": 0.3, "epochs": 1}
        model = {"model": "tests.networks:batch_norm", "evidence_bn": statistics}
        _, run = experiment(statistics, **flags, **model)
        masks[statistics] = run.masks(1)
    assert seen == [True, False]
    assert any((masks["batch"][path] != mask).any() for path, mask in masks["running"].items())


def round_half_even(value):
    return round(value)


def test_densities_after_training_are_reached_exactly(experiment):
    _, run = experiment("run", densities=(0.5, 0.05))
    assert [row["remaining"] for row in run.metrics()] == [640, 320, 32]


GRADUAL = {"prune_at": "train", "density": 0.25, "prune_frequency": 2, "epochs": 4,
           "optimizer": "adam"}  # fmt: skip


@pytest.mark.ci
def test_gradual_pruning_follows_the_toolkits_schedule(experiment, config, monkeypatch):
    seen, clear = {}, optimizer_state.clear_pruned

    def cleared(optimizer, variables, masks):
        clear(optimizer, variables, masks)
        step = int(optimizer.iterations.numpy())
        seen[step] = pruning.remaining(masks)
        slots = [v.numpy() for v in optimizer.variables if "kernel" in v.path]
        (mask,) = masks.values()
        assert len(slots) == 2
        for slot in slots:
            assert not slot[~mask].any()
            assert not step or slot[mask].any()

    monkeypatch.setattr(optimizer_state, "clear_pruned", cleared)
    _, run = experiment("run", **GRADUAL)
    # Twelve steps: pruned at 0, 2, … 8, along 1 - 0.75 * (1 - (1 - step / 8) ** 3).
    expected = {s: 640 * (1 - 0.75 * (1 - (1 - s / 8) ** 3)) for s in (2, 4, 6, 8)}
    assert seen == {step: round(left) for step, left in expected.items()}
    assert run.metrics()[1]["remaining"] == 160
    assert run.metrics()[1]["density"] == 0.25
    for path, mask in run.masks(1).items():
        assert not run.final(1)[path][~mask].any()
    same(run.initial(1), run.initial(0))


@pytest.mark.parametrize("stop", [1, 4, 5, 11])
def test_gradual_pruning_goes_on_bit_for_bit(stop, experiment, config, monkeypatch):
    _, run = experiment("run", **GRADUAL)
    made, weights = prepared(run, config)
    training = Training(weights, made.dense_masks(), streams.Noise(0, 1), density=0.25)
    states = {}
    monkeypatch.setattr(engine, "PIECE_SECONDS", 1e-9)

    def keep(progress):
        states[progress.step] = engine.Checkpoint(progress, made.state())

    expected, _ = made.train(training, on_piece=keep)
    masks = made.masks()
    same(expected, run.final(1))
    again, _ = made.train(
        Training(states[stop], made.dense_masks(), streams.Noise(0, 1), density=0.25)
    )
    same(again, expected)
    same(made.masks(), masks)


def test_a_gradual_training_compiles_once(experiment, config):
    _, run = experiment("run", **GRADUAL, rounds=1)
    made, weights = prepared(run, config)
    training = Training(weights, made.dense_masks(), streams.Noise(0, 1), density=0.25)
    made.train(training)
    assert made.run_steps.experimental_get_tracing_count() == 1


@pytest.mark.ci
@pytest.mark.parametrize(
    "flags", [{"resident": "off"}, {"strategy": "mirrored", "cpu_devices": 2}], ids=str
)
def test_the_same_weights_grow_however_data_come(flags, experiment):
    dynamic = {"prune_at": "dynamic", "density": 0.25, "scope": "erk", "prune_frequency": 2}
    dynamic |= {"epochs": 4, "optimizer": "momentum"}
    _, run = experiment("run", **dynamic)
    _, other = experiment("other", **dynamic, **flags)
    start, end, masks = run.initial(1), run.final(1), run.masks(1)
    for path, mask in masks.items():
        assert mask.sum() == mask.size // 4
        assert not end[path][~mask].any()
        assert (mask & (start[path] == 0)).any()  # these have grown
        assert end[path][mask & (start[path] == 0)].any()
        assert np.mean(mask == other.masks(1)[path]) > (0.98 if "strategy" in flags else 0.9999)


def test_a_constant_schedule_prunes_at_its_begin(config):
    flags = {"prune_at": "train", "density": 0.1, "prune_schedule": "constant"}
    flags["prune_frequency"] = 100
    events = gradual.schedule(config(epochs=4, prune_begin="1ep", **flags), 0.1, 10)
    assert events == {10: 0.1}
    with pytest.raises(InputError, match="prune_begin and --prune_end"):
        gradual.schedule(config(epochs=4, prune_begin="4ep", **flags), 0.1, 10)


def test_a_round_after_two_that_are_connected_is_short(experiment, monkeypatch):
    monkeypatch.setattr("lottery_tf.pruning.collapse.chance", lambda *_: -1.0)  # images are noise
    flags = {"early_stop": "connected", "epochs": 3, "short_epochs": 1, "rounds": 4,
             "validation_fraction": 0.2}  # fmt: skip
    _, run = experiment("run", **flags, connected_error=0.99)
    assert [len(run.history(round)) for round in range(4)] == [3, 3, 1, 1]
    assert "round 2 is short: rounds 0 and 1 are connected" in (run.path / "log.txt").read_text()
    barriers = [row["barrier"] for row in run.metrics()[1:]]
    assert len(barriers) == 3
    assert all(0 <= barrier < 1 for barrier in barriers)
    _, full = experiment("full", **flags, connected_error=0.99, full_rounds=(3,))
    assert [len(full.history(round)) for round in range(4)] == [3, 3, 1, 3]
    same(full.initial(3), run.initial(3))  # the ticket is the same, trained to the end
    assert full.history(3)[0] == run.history(3)[0] | {
        name: full.history(3)[0][name] for name in ("seconds", "train_seconds")
    }


BAD = {
    "rewind without a point": ({"reset": "rewind"}, "rewind_to"),
    "no step": ({"reset": "rewind", "rewind_to": "x"}, "4ep"),
    "behind the end": ({"reset": "rewind", "rewind_to": "2ep"}, "before the end of training, 6"),
    "two targets": ({"density": 0.1, "densities": (0.2,)}, "not both"),
    "rising": ({"densities": (0.1, 0.2)}, "fall"),
    "no target": ({"prune_at": "init"}, "density"),
    "trained before": ({"prune_at": "init", "density": 0.1, "reset": "lr_rewind"}, "prune_at=init"),
    "no training": (
        {"prune_at": "init", "density": 0.1, "criterion": "movement"},
        "--criterion=movement",
    ),
    "data in training": ({"prune_at": "train", "density": 0.1, "criterion": "snip"}, "magnitude"),
    "rarely": ({"prune_at": "train", "density": 0.1, "prune_frequency": 5}, "at most 4"),
    "repelled": ({"prune_at": "train", "density": 0.1, "repel": 2.0}, "repel"),
    "fractions": ({"layer_fractions": ("logits:0.1",)}, "scope=layer"),
    "no fraction": ({"scope": "layer", "layer_fractions": ("logits",)}, "logits:0.1"),
    "short": ({"early_stop": "connected", "short_epochs": 2}, "short_epochs"),
    "no layer": ({"keep_dense": ("nothing",)}, "logits/kernel"),
    "no run": ({"masks_from": "nowhere"}, "nowhere is not a run"),
    "no round 0": ({"round_0_from": "nowhere"}, "nowhere is not a run"),
    "a repelled round 0": (
        {"round_0_from": "nowhere", "repel": 2.0, "repel_runs": ("nowhere",)},
        "round 0 of this run is repelled",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_what_makes_no_method_is_said_before_training(what, experiment, monkeypatch):
    monkeypatch.setattr(engine.Engine, "train", lambda *_, **__: pytest.fail("It trained."))
    flags, words = BAD[what]
    with pytest.raises(InputError, match=words):
        experiment("run", **flags)


@pytest.mark.ci
def test_a_copy_of_a_rewound_round_starts_where_the_round_did(experiment, config, monkeypatch):
    from lottery_tf.analysis.retraining import Retrainings

    _, run = experiment("run", **BATCH_NORM)
    made, _ = prepared(run, config)
    monkeypatch.setattr(Retrainings, "_is_own", lambda *_: False)  # it trains
    for start in ("init", f"rewind:{made.rewind_step}"):
        retrainings = Retrainings(run, start)
        retrainings.engine = made
        weights, _ = retrainings.under(run.masks(2), 2, 0, "round_02")
        same(weights, run.final(2))
