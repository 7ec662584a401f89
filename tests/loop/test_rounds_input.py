"""What `prune` and `rounds` refuse, before anything trains, and what they warn of."""

import subprocess

import keras
import numpy as np
import pytest
import tensorflow as tf

import lottery_tf
from lottery_tf import masking, pruning
from lottery_tf.errors import InputError
from lottery_tf.loop import callbacks
from lottery_tf.pruning import criteria, dead_units
from lottery_tf.pruning.streams import uniform
from tests import forked


def network(*, sizes=(8, 3), frozen=()):
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(size, name=f"dense{size}") for size in sizes]
    model = lottery_tf.masked(keras.Sequential([keras.Input((4,)), *layers], name="net"))
    for name in frozen:
        model.get_layer(name).trainable = False
    return model


@pytest.fixture(scope="module")
def model():
    return network()


class Unbuildable(keras.Model):
    """No get_config that knows its argument, and a weight that is in no layer."""

    def __init__(self, size):
        super().__init__()
        self.dense = masking.MaskedDense(size)
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, images):
        return self.scale * self.dense(images)


IMAGES, LABELS = np.ones((5, 4), np.float32), np.zeros(5, int)
REFUSED = {
    "fraction 1": ((3, 1.0), {}, r"fraction: expected a number in \(0, 1\)"),
    "fraction as text": ((3, "0.2"), {}, r"fraction: expected a number in.*'0.2'"),
    "no amount": ((3,), {}, "fraction to prune or a density"),
    "two amounts": ((3, 0.2), {"densities": [0.5, 0.2]}, "one of them"),
    "rounds as text": (("3", 0.2), {}, "rounds: expected a whole number, at least 1.*'3'"),
    "an epoch to rewind to": (
        (3, 0.2), {"reset": "rewind", "rewind_to": "4ep"}, "rewind_to: .* updates.*'4ep'"),
    "no rounds": ((0, 0.2), {}, "rounds: expected a whole number"),
    "half a round": ((2.5, 0.2), {}, "rounds: expected a whole number"),
    "seed": ((3, 0.2), {"seed": -1}, "seed: expected a whole number"),
    "densities a number": ((3,), {"densities": 0.5}, "densities: expected a list"),
    "too few densities": ((3,), {"densities": [0.5]}, "densities: expected 2"),
    "too many densities": ((3,), {"densities": [0.5, 0.4, 0.3]}, "densities: expected 2"),
    "densities that rise": ((3,), {"densities": [0.2, 0.5]}, "numbers that fall"),
    "densities as text": ((3,), {"densities": ["a", "b"]}, "density: expected a number"),
    "target": ((3,), {"target_density": 1.5}, "density: expected a number"),
    "target of one round": ((1,), {"target_density": 0.5}, "at least two rounds"),
    "target and fraction": ((3, 0.2), {"target_density": 0.5}, "excludes fraction and densities"),
    "reset": ((3, 0.2), {"reset": "never"}, "reset: expected one of init, rewind"),
    "reset a list": ((3, 0.2), {"reset": ["init"]}, "reset: expected one of init, rewind"),
    "rewind nowhere": ((3, 0.2), {"reset": "rewind"}, "rewind_to: expected a step"),
    "rewind for nothing": ((3, 0.2), {"rewind_to": 3}, "reset=init does without"),
    "criterion": ((3, 0.2), {"criterion": "size"}, "criterion: expected one of"),
    "criterion a number": ((3, 0.2), {"criterion": 3}, "criterion: expected one of"),
    "criterion of what is not there": (
        (3, 0.2), {"criterion": lambda weights: weights}, "parameters are among trained, initial"
    ),
    "no data": ((3, 0.2), {"criterion": "snip"}, "pass data="),
    "data of two lengths": (
        (3, 0.2), {"criterion": "snip", "data": (IMAGES, LABELS[:3])}, "5 examples, 3 examples"
    ),
    "data without labels": (
        (3, 0.2), {"criterion": "snip", "data": tf.data.Dataset.from_tensors(IMAGES)}, "data: "
    ),
    "iterations": ((3, 0.2), {"iterations": 0}, "iterations: expected a whole number"),
    "unknown layer": ((3, 0.2), {"keep_dense": ("conv",)}, "There is no layer conv"),
    "one name as text": ((3, 0.2), {"keep_dense": "dense8"}, "names in a tuple"),
    "layer fractions": ((3, 0.2), {"scope": "layer", "layer_fractions": ["a:1"]}, "as {'logits'"),
    "layer fractions of 1": (
        (3, 0.2), {"scope": "layer", "layer_fractions": {"dense8": 1}}, r"dense8: expected a number"
    ),
    "unknown layer's fraction": (
        (3, 0.2), {"scope": "layer", "layer_fractions": {"conv": 0.1}}, "There is no layer conv"
    ),
    "least weights": ((3, 0.2), {"min_layer_weights": 1.5}, "min_layer_weights: expected a whole"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_the_call_refuses(name, model):
    arguments, options, words = REFUSED[name]
    with pytest.raises(InputError, match=words):
        lottery_tf.rounds(model, *arguments, **options)


def test_no_model_no_weights_and_no_mask_are_refused():
    unbuilt = keras.Sequential([masking.MaskedDense(3)])
    for wrong, words in (
        ("a path", "expected a Keras 3 model"),
        (unbuilt, "has no weights yet"),
        (keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), "has nothing to prune"),
        (network(frozen=["dense8", "dense3"]), "all of its 2 masked kernels are frozen"),
    ):
        with pytest.raises(InputError, match=words):
            lottery_tf.rounds(wrong, 3, 0.2)
        with pytest.raises(InputError, match=words):
            lottery_tf.prune(wrong, 0.2)


@pytest.mark.parametrize("reset", ["reinit", "signs", "trained_signs"])
def test_a_model_that_cannot_be_drawn_anew_is_refused_before_turn_0(reset):
    model = Unbuildable(3)
    model(IMAGES)
    with pytest.raises(InputError, match=r"reset: fresh weights.*cannot be rebuilt"):
        lottery_tf.rounds(model, 3, 0.2, reset=reset)
    assert [round.index for round in lottery_tf.rounds(model, 2, 0.2)] == [0, 1]


def test_one_round_is_dense_and_needs_no_amount(model):
    assert [round.density for round in lottery_tf.rounds(model, 1)] == [1.0]


def test_a_target_density_is_that_of_the_last_turn():
    densities = [turn.density for turn in lottery_tf.rounds(network(), 4, target_density=0.1)]
    assert densities == pytest.approx([1, 0.1 ** (1 / 3), 0.1 ** (2 / 3), 0.1], abs=0.01)


def test_a_function_is_a_criterion():
    def farthest_from_chance(trained, uniform, power=2):
        return np.abs(trained - uniform) ** power

    model = network()
    kernels = {path: kernel.variable.numpy() for path, kernel in masking.kernels(model).items()}
    drawn = uniform(7, 0, masking.get_masks(model))
    lottery_tf.prune(model, 0.5, criterion=farthest_from_chance, seed=7)
    pairs = [
        (np.abs(kernels[path] - drawn[path]), m) for path, m in masking.get_masks(model).items()
    ]
    kept = np.concatenate([scores[mask] for scores, mask in pairs])
    gone = np.concatenate([scores[~mask] for scores, mask in pairs])
    assert kept.size == gone.size == 28
    assert kept.min() > gone.max()


@pytest.mark.parametrize(
    ("scores", "words"),
    [(lambda trained: trained[0], "the shape"), (lambda trained: 0 * trained / 0, "NaN")],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_scores_that_are_none_are_refused(scores, words, model):
    with pytest.raises(InputError, match=f"criterion: expected numbers of the shape.*{words}"):
        lottery_tf.prune(model, 0.5, criterion=scores)


def test_the_evidence_has_the_names_of_the_parameters_of_all_criteria():
    assert set.union(*map(criteria.needs, criteria.CRITERIA)) == set(criteria.INPUTS)


# Frozen layers, and layers that die ---------------------------------------------------------


@pytest.mark.parametrize(
    "criterion",
    ["magnitude", "snip", pytest.param("synflow", marks=pytest.mark.ci)],
)
def test_frozen_layers_are_not_pruned(criterion):
    model = network(frozen=["dense3"])
    data = (IMAGES, LABELS) if criterion == "snip" else None
    density = lottery_tf.prune(model, 0.5, criterion=criterion, data=data)
    masks = masking.get_masks(model)
    assert masks["dense3/kernel" if "dense3/kernel" in masks else "net/dense3/kernel"].all()
    assert density == pruning.remaining(masks) / 32 - 24 / 32 == 0.5


def test_a_round_says_its_density_of_all_kernels():
    model = network(frozen=["dense3"])
    turns = list(lottery_tf.rounds(model, 2, 0.5))
    assert [turn.density for turn in turns] == [1, 0.5]
    assert [turn.kernel_density for turn in turns] == [1, (16 + 24) / 56]


def test_masks_of_a_small_part_are_said():
    model = network(sizes=(20, 3), frozen=["dense20"])
    with pytest.warns(UserWarning, match=r"masks cover 42\.9% .* not pruned: .*dense20/kernel"):
        lottery_tf.prune(model, 0.2)


def test_a_layer_that_dies_is_named():
    model = network()
    kernels = masking.kernels(model)
    small = next(path for path in kernels if "dense3" in path)
    kernels[small].variable.assign(1e-3 * kernels[small].variable)
    with pytest.warns(UserWarning, match=f"{small} has no weight left"):
        lottery_tf.prune(model, 0.5)


def test_a_layer_that_is_about_to_die_is_named_while_it_lives():
    masks = {"a": np.ones(40, bool), "b": np.ones(40, bool), "c": np.arange(40) < 1}
    after = {"a": np.arange(40) < 3, "b": np.arange(40) < 20, "c": masks["c"]}
    assert dead_units.dying(masks, after) == ["a"]
    assert dead_units.died(masks, after) == []
    assert dead_units.died(masks, after | {"c": np.zeros(40, bool)}) == ["c"]
    model = network(sizes=(64, 3))
    turns = lottery_tf.rounds(model, 3, 0.9, scope="layer", layer_fractions={"dense3": 0.99})
    next(turns)
    with pytest.warns(UserWarning, match=r"dense3/kernel has 2 weights left, and would lose them"):
        next(turns)
    with pytest.warns(UserWarning, match=r"dense3/kernel has no weight left"):
        next(turns)


# A strategy --------------------------------------------------------------------------------


MIRRORED = """
import keras
import numpy as np
import tensorflow as tf

import lottery_tf
from lottery_tf import masking
from lottery_tf import pruning

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = lottery_tf.masked(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]))
    model.compile(keras.optimizers.Adam(0.1), "mean_squared_error")
for _ in lottery_tf.rounds(model, 2, 0.5):
    assert not model.optimizer.iterations.numpy()
    model.fit(np.ones((4, 4)), np.ones((4, 3)), batch_size=4, verbose=0)
assert pruning.density(masking.get_masks(model)) == 0.5
"""


@pytest.mark.ci
def test_rounds_outside_of_the_scope_of_a_strategy():
    # A process can have one such strategy.
    result = subprocess.run([forked.python(), "-c", MIRRORED], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_a_rewind_point_of_a_fit_of_unknown_length_is_not_kept_at_a_wrong_step():
    point = callbacks.RewindPoint(5, continues=True)
    point.set_params({"steps": None})
    point.on_epoch_begin(0)
    with pytest.raises(InputError, match=r"fit goes on with epoch 1, but .* steps_per_epoch"):
        point.on_epoch_begin(1)
    point.set_params({"steps": 4})
    point.on_epoch_begin(1)
    assert point.steps == 4
