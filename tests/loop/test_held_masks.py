"""The masks of a round stay those of the round, whatever callbacks and files do meanwhile."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import lottery_tf
from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.rundir import RunDir

INPUTS = np.random.default_rng(0).normal(size=(24, 6)).astype(np.float32)
LABELS = (INPUTS[:, 0] > 0).astype(int)
OTHER_MASKS = "ignore:set_weights or load_weights tried to change the masks"


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    monkeypatch.chdir(tmp_path)


def masked_model(**optimizer):
    layers = [keras.Input((6,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(2)]
    model = lottery_tf.masked(keras.Sequential(layers))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2, **optimizer), loss, run_eagerly=True)
    return model


def fit(model, round, *callbacks, epochs=1):
    options = {"batch_size": 12, "verbose": 0, "callbacks": [*round.callbacks, *callbacks]}
    model.fit(INPUTS, LABELS, epochs=epochs, **options)


def plain_fit(model, round, kept):
    fit(model, round)


def best_of_the_round(model, round, kept):
    path = f"best_{round.index}.weights.h5"
    options = {"monitor": "loss", "save_best_only": True, "save_weights_only": True}
    fit(model, round, keras.callbacks.ModelCheckpoint(path, **options), epochs=2)
    model.load_weights(path)


def whole_model_of_the_round(model, round, kept):
    fit(model, round, keras.callbacks.ModelCheckpoint(f"{round.index}.keras"))
    model.set_weights(keras.models.load_model(f"{round.index}.keras").get_weights())


def best_of_all_rounds(model, round, kept):
    options = {"monitor": "loss", "save_best_only": True, "save_weights_only": True}
    best = kept.setdefault("best", keras.callbacks.ModelCheckpoint("best.weights.h5", **options))
    fit(model, round, best, epochs=4 if round.index == 0 else 1)
    model.load_weights("best.weights.h5")


def whole_best_of_all_rounds(model, round, kept):
    options = {"monitor": "loss", "save_best_only": True}
    best = kept.setdefault("best", keras.callbacks.ModelCheckpoint("best.keras", **options))
    fit(model, round, best, epochs=4 if round.index == 0 else 1)
    model.set_weights(keras.models.load_model("best.keras").get_weights())


def backup_and_restore(model, round, kept):
    fit(model, round, keras.callbacks.BackupAndRestore("backup"), epochs=2)


def early_stopping(model, round, kept):
    stop = keras.callbacks.EarlyStopping("loss", patience=0, restore_best_weights=True)
    fit(model, round, kept.setdefault("stop", stop), epochs=3)


def swap_averages(model, round, kept):
    fit(model, round, keras.callbacks.SwapEMAWeights(swap_on_epoch=True), epochs=2)


def set_the_first_weights(model, round, kept):
    model.set_weights(kept.setdefault("first", model.get_weights()))
    fit(model, round)


def set_the_first_weights_after_fit(model, round, kept):
    first = kept.setdefault("first", model.get_weights())
    fit(model, round)
    model.set_weights(first)


def load_the_first_weights(model, round, kept):
    if not round.index:
        model.save_weights("first.weights.h5")
    model.load_weights("first.weights.h5")
    fit(model, round)


def save_and_load(model, round, kept):
    fit(model, round)
    model.save_weights("now.weights.h5")
    fit(model, round)
    model.load_weights("now.weights.h5")


def clone(model, round, kept):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    fit(model, round)
    model.set_weights(copy.get_weights())


def clone_after_fit(model, round, kept):
    fit(model, round)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    model.set_weights(copy.get_weights())


def average_with_the_first(model, round, kept):
    first = kept.setdefault("first", model.get_weights())
    fit(model, round)
    pairs = zip(first, model.get_weights(), strict=True)
    model.set_weights([0.1 * old + 0.9 * new for old, new in pairs])


def prune_inside(model, round, kept):
    fit(model, round)
    lottery_tf.prune(model, 0.5)


def restore_a_checkpoint(model, round, kept):
    checkpoint = tf.train.Checkpoint(model=model)
    path = kept.setdefault("checkpoint", None) or checkpoint.write("tf")
    kept["checkpoint"] = path
    fit(model, round)
    checkpoint.read(path)


# What each comes to: the round it ends in with an error, or None.
HABITS = {
    plain_fit: None,
    best_of_the_round: None,
    whole_model_of_the_round: None,
    best_of_all_rounds: 1,
    whole_best_of_all_rounds: 1,
    backup_and_restore: None,
    early_stopping: None,
    swap_averages: None,
    set_the_first_weights: None,
    set_the_first_weights_after_fit: 1,
    load_the_first_weights: None,
    save_and_load: None,
    clone: None,
    clone_after_fit: None,
    average_with_the_first: 1,
    prune_inside: 0,
    restore_a_checkpoint: 1,
}
# These run by default. CI runs the others too, but for those of "rewind".
DEFAULT = {best_of_all_rounds, set_the_first_weights, average_with_the_first, prune_inside}
RESETS = {"init": {}, "reinit": {}, "rewind": {"rewind_to": 2}}


def marks(reset, habit):
    if reset == "init" and habit in DEFAULT:
        return ()
    return pytest.mark.slow if reset == "rewind" else pytest.mark.ci


@pytest.mark.filterwarnings(OTHER_MASKS)
@pytest.mark.parametrize(
    ("reset", "habit"),
    [pytest.param(reset, habit, marks=marks(reset, habit)) for reset in RESETS for habit in HABITS],
)
def test_each_round_ends_with_its_masks_or_in_an_error(reset, habit):
    model = masked_model(use_ema=habit is swap_averages)
    rounds = lottery_tf.rounds(model, 3, 0.5, reset=reset, **RESETS[reset])
    kept, at, alive = {}, -1, []
    try:
        for round in rounds:
            at, expected = round.index, masking.get_masks(model)
            habit(model, round, kept)
            if HABITS[habit] is None:
                found = masking.get_masks(model)
                assert all(np.array_equal(found[path], expected[path]) for path in expected)
            alive.append(np.concatenate([mask.ravel() for mask in expected.values()]).mean())
    except InputError:
        ended = at
    else:
        ended = None
        assert alive == pytest.approx([1.0, 0.5, 0.25])
    assert ended == HABITS[habit]


@pytest.mark.ci
@pytest.mark.filterwarnings(OTHER_MASKS)
def test_first_weights_that_are_set_again_are_the_ticket_that_rounds_makes(tmp_path):
    ends = []
    for habit in (plain_fit, set_the_first_weights, load_the_first_weights):
        keras.utils.set_random_seed(0)
        model, kept = masked_model(), {}
        directory = tmp_path / habit.__name__
        for round in lottery_tf.rounds(model, 3, 0.5, directory=directory):
            habit(model, round, kept)
        ends.append([v.numpy() for v in masking.variables(model).values()])
        final = RunDir(directory).final(2)
        assert all(np.array_equal(final[p], w) for p, w in masking.get_weights(model).items())
    for other in ends[1:]:
        assert all(np.array_equal(*pair) for pair in zip(ends[0], other, strict=True))


def test_an_error_names_what_keeps_the_best_of_each_round_and_loses_no_round(tmp_path):
    def train():
        model, kept = masked_model(), {}
        for round in lottery_tf.rounds(model, 3, 0.5, directory=tmp_path / "run"):
            best_of_all_rounds(model, round, kept)

    words = r"(?s)round 1.*ModelCheckpoint\(f\"best_\{round.index\}"
    with pytest.warns(UserWarning, match="round 1"), pytest.raises(InputError, match=words):
        train()
    assert RunDir(tmp_path / "run").finished_rounds() == 1


def test_masks_are_held_for_as_long_as_the_round():
    model = masked_model()
    first = model.get_weights()
    for round in lottery_tf.rounds(model, 2, 0.5):
        fit(model, round)
    model.set_weights(first)  # outside of the loop masks are weights like any other
    assert all(mask.all() for mask in masking.get_masks(model).values())
    for _ in lottery_tf.rounds(model, 2, 0.5):
        break
    lottery_tf.prune(model, 0.5)
    model.set_weights(first)
    assert all(mask.all() for mask in masking.get_masks(model).values())


def test_what_is_no_mask_is_refused():
    model, target = masked_model(), masked_model()
    lottery_tf.prune(model, 0.5)
    pairs = list(zip(model.get_weights(), target.get_weights(), strict=True))
    with pytest.raises(InputError, match=r"get_weights.*set_weights"):
        target.set_weights([0.3 * new + 0.7 * old for new, old in pairs])
    kernel = target.layers[0].kernels[0]
    with pytest.raises(InputError, match=r"kernel|mask"):
        kernel.mask.assign(np.full(kernel.mask.shape, np.nan))
    compiled = tf.function(kernel.mask.assign, autograph=False)
    with pytest.raises(InputError, match="float32"):
        compiled(tf.ones(kernel.mask.shape))
    # Averages of equal masks are those masks, in spite of rounding.
    lottery_tf.prune(target, 0.5)
    same = [0.1 * one + 0.9 * one for one in target.get_weights()]
    before = masking.get_masks(target)
    target.set_weights(same)
    assert all(np.array_equal(m, before[p]) for p, m in masking.get_masks(target).items())


def test_the_way_that_the_error_names_averages_weights():
    model, target = masked_model(), masked_model()
    lottery_tf.prune(model, 0.5)
    new, old = masking.get_weights(model), masking.get_weights(target)
    masks = dict(zip(masking.get_masks(target), masking.get_masks(model).values(), strict=True))
    mixed = {
        path: (0.3 * one + 0.7 * old[path]) * masks.get(path, 1)
        for path, one in zip(old, new.values(), strict=True)
    }
    masking.set_weights(target, mixed, masks)
    assert np.mean(np.concatenate([m.ravel() for m in masking.get_masks(target).values()])) == 0.5


def test_a_plain_file_that_is_loaded_in_a_round_leaves_its_masks():
    layers = [keras.Input((6,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(2)]
    plain = keras.Sequential(layers)
    plain.save_weights("plain.weights.h5")
    model = lottery_tf.masked(plain)
    for round in lottery_tf.rounds(model, 2, 0.5):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.load_weights("plain.weights.h5")
        for path, mask in masking.get_masks(model).items():
            assert not masking.get_weights(model)[path][~mask].any()
            assert mask.mean() < 1 or not round.index


@pytest.mark.filterwarnings("ignore:rounds. .* has been through rounds before")
def test_a_loop_that_was_left_early_does_not_disturb_the_next_one():
    model = masked_model()
    left = lottery_tf.rounds(model, 3, 0.5, verbose=0)
    next(left)
    following = lottery_tf.rounds(model, 3, 0.5, verbose=0)
    fit(model, next(following))
    left.close()
    first = model.get_weights()
    fit(model, next(following))
    held = masking.get_masks(model)
    with pytest.warns(UserWarning, match="round 1"):
        model.set_weights(first)
    assert all(np.array_equal(mask, held[p]) for p, mask in masking.get_masks(model).items())
    following.close()
    assert "compile" not in vars(model)
    model.set_weights(first)
    assert all(mask.all() for mask in masking.get_masks(model).values())


@pytest.mark.filterwarnings(OTHER_MASKS)
def test_weights_that_are_set_under_the_same_masks_end_no_hold():
    model = masked_model()
    first = model.get_weights()
    for round in lottery_tf.rounds(model, 2, 0.5):
        masks = masking.get_masks(model)
        masking.set_weights(model, masking.get_weights(model), masks)
        model.set_weights(first)
        assert all(np.array_equal(m, masks[p]) for p, m in masking.get_masks(model).items())
        fit(model, round)
