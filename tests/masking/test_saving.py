"""Files of masked models: masks hold, plain models read them, older files load."""

import contextlib
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.masking import layers, mask_variable, optimizer_state
from lottery_tf.models.normalization import FusedBatchNormalization
from lottery_tf.testing import check_zero
from tests import forked
from tests.conftest import ROOT
from tests.masking.comparing import equal, same_masks, same_weights
from tests.networks import every_layer

pytestmark = pytest.mark.versions


def inputs():
    return np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)


def dense(units=8):
    return keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(units, activation="relu"), keras.layers.Dense(3)]
    )


def pruned(model, fraction=0.6):
    masked = lottery_tf.masked(model)
    lottery_tf.prune(masked, fraction)
    return masked


def same(some, other):
    """Whether two networks have the same masks and the same weights, zero where masked."""
    check_zero(other)
    return same_masks(some, other) and same_weights(some, other)


@pytest.mark.parametrize("way", ["at_the_end", "every_step", "swap"])
def test_averages_of_weights_do_not_revive_the_pruned(way, tmp_path):
    model = lottery_tf.masked(dense())
    frequency = {"ema_overwrite_frequency": 1} if way == "every_step" else {}
    optimizer = keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9, **frequency)
    model.compile(optimizer, "mean_squared_error", run_eagerly=True)
    targets = np.ones((16, 3))
    callbacks = []
    if way == "swap":
        path = tmp_path / "best.keras"
        callbacks = [
            keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
            keras.callbacks.ModelCheckpoint(path),
        ]
    model.fit(inputs(), targets, epochs=2, verbose=0)  # fills slots and averages
    lottery_tf.prune(model, 0.6)
    options = {"epochs": 2, "verbose": 0, "callbacks": callbacks}
    model.fit(inputs(), targets, validation_data=(inputs(), targets), **options)
    expected = model.predict(inputs(), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    lottery_tf.apply_masks(model)  # averages lie in the place of pruned weights
    assert same(model, loaded)
    assert np.allclose(loaded.predict(inputs(), verbose=0), expected, atol=1e-6)
    if way == "swap":
        assert next(iter(masking.get_masks(keras.models.load_model(path)).values())).mean() < 1


def test_forgetting_clears_slots_and_averages_of_pruned_weights():
    model = lottery_tf.masked(dense())
    optimizer = keras.optimizers.Adam(0.01, use_ema=True)
    model.compile(optimizer, "mean_squared_error", run_eagerly=True)
    optimizer_state.forget_pruned(model)  # nothing is built yet
    model.fit(inputs(), np.ones((16, 3)), verbose=0)
    lottery_tf.prune(model, 0.6)
    optimizer_state.forget_pruned(model)
    (path, mask), *_ = masking.get_masks(model).items()
    slots = [v for v in optimizer.variables if v.name.startswith(path.replace("/", "_"))]
    assert len(slots) == 3  # two moments and the average
    for slot in slots:
        assert not slot.numpy()[~mask].any()
        assert slot.numpy()[mask].any()


def test_raw_updates_are_masked_by_apply_masks():
    model = pruned(dense())
    for kernel in masking.kernels(model).values():
        kernel.variable.assign_sub(np.full(kernel.variable.shape, 0.1))
    before = np.asarray(model(inputs()))
    lottery_tf.apply_masks(model)
    check_zero(model)
    assert np.array_equal(np.asarray(model(inputs())), before)


NETWORKS = {
    "dense": dense,
    "every_layer": lambda: every_layer((4, 4, 1), 3),
    "attention": lambda: attention(),
}


def attention():
    image = keras.Input((6, 4))
    mixed = keras.layers.MultiHeadAttention(2, 2)(image, image)
    mlp = keras.Sequential([keras.layers.Dense(8), keras.layers.Dense(4)])
    return keras.Model(image, keras.layers.Dense(3)(mlp(mixed)))


@pytest.mark.parametrize("network", NETWORKS)
def test_weights_files_go_from_plain_to_masked_and_back(network, tmp_path):
    model = NETWORKS[network]()
    model.save_weights(tmp_path / "plain.weights.h5")
    masked = pruned(NETWORKS[network]())  # of the names that Keras gives in another session
    masked.save_weights(tmp_path / "masked.weights.h5")
    found = [array.copy() for array in masking.get_weights(masked).values()]
    masks = masking.get_masks(masked)
    masked.load_weights(tmp_path / "plain.weights.h5")  # without masks: loads as dense
    assert all(mask.all() for mask in masking.get_masks(masked).values())
    assert equal(masking.get_weights(masked).values(), model.get_weights())

    masked.load_weights(tmp_path / "masked.weights.h5")
    assert equal(masking.get_masks(masked).values(), masks.values())
    lottery_tf.unmasked(masked).save_weights(tmp_path / "back.weights.h5")
    model.load_weights(tmp_path / "back.weights.h5")
    assert equal(model.get_weights(), found)


def test_weights_of_another_layer_are_refused(tmp_path):
    def model(*names):
        layers = [keras.layers.Dense(6, name=name) for name in names]
        return keras.Sequential([keras.Input((6,)), *layers])

    model("first", "second").save_weights(tmp_path / "plain.weights.h5")
    with pytest.raises(ValueError, match=r"second.*first"):
        lottery_tf.masked(model("second", "first")).load_weights(tmp_path / "plain.weights.h5")
    lottery_tf.masked(model("first", "second")).load_weights(tmp_path / "plain.weights.h5")
    masked = lottery_tf.masked(model("first", "second", "third"))
    with pytest.raises(ValueError, match=r"third: .*lottery_tf\.masked"):
        masked.load_weights(tmp_path / "plain.weights.h5")


@contextlib.contextmanager
def as_earlier_versions_saved(monkeypatch):
    """Masks of bools among the weights of a layer, or beside them where it saves its own way."""

    def save_own_variables(self, store):
        super(layers.Masked, self).save_own_variables(store)
        for kernel in self.kernels if self.saves_kernels_alone else ():
            store[kernel.mask.name] = kernel.mask

    with monkeypatch.context() as patch:
        patch.setattr(layers.Masked, "save_own_variables", save_own_variables)
        patch.setattr(mask_variable.SavedMasks, "save_own_variables", lambda self, store: None)
        yield


@pytest.mark.ci
def test_files_of_earlier_versions_load(monkeypatch, tmp_path):
    masked = pruned(every_layer((4, 4, 1), 3))
    with as_earlier_versions_saved(monkeypatch):
        masked.save(tmp_path / "old.keras")
        masked.save_weights(tmp_path / "old.weights.h5")
    assert same(masked, keras.models.load_model(tmp_path / "old.keras"))
    other = lottery_tf.masked(every_layer((4, 4, 1), 3))
    other.load_weights(tmp_path / "old.weights.h5")
    assert same(masked, other)


def test_saved_models_find_their_layers_by_the_names_that_they_have():
    names = "Dense EinsumDense Conv2D SeparableConv2D MultiHeadAttention GroupQueryAttention"
    for name in (f"Masked{name}" for name in names.split()):
        found = keras.saving.get_registered_object(f"lottery_tf>{name}")
        assert found is getattr(masking, name)
        assert keras.saving.get_registered_name(found) == f"lottery_tf>{name}"


def test_a_masked_file_is_little_larger_than_a_dense_one(tmp_path):
    model = dense(units=4000)
    model.save(tmp_path / "plain.keras")
    pruned(model).save(tmp_path / "masked.keras")
    sizes = [(tmp_path / f"{name}.keras").stat().st_size for name in ("plain", "masked")]
    assert sizes[1] < 1.05 * sizes[0] + 10_000  # a 32nd, where bools were a quarter


@pytest.mark.parametrize("network", ["dense", "convolution"])
def test_low_rank_adaptation_of_masked_layers_is_saved_and_loaded(network, tmp_path):
    model = dense()
    if network == "convolution":
        model = keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Reshape((6, 1)),
                keras.layers.Conv1D(4, 2),
                keras.layers.Flatten(),
                keras.layers.Dense(3),
            ]
        )
    masked = pruned(model)
    adapted = next(x for x in masked.layers if hasattr(x, "enable_lora"))
    adapted.enable_lora(2)
    masked.compile("adam", "mean_squared_error", run_eagerly=True)
    masked.fit(inputs(), np.ones((16, 3)), epochs=2, verbose=0)
    expected = np.asarray(masked(inputs()))
    masked.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert np.allclose(np.asarray(loaded(inputs())), expected, atol=1e-6)
    assert same_masks(masked, loaded)


def run(code, directory):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    # Where Keras comes first, it may be there already.
    python = forked.python() if code.startswith("import keras") else sys.executable
    return subprocess.run(
        [python, "-c", code], cwd=directory, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The directory of a masked model with layers of both kinds that are registered."""
    directory = tmp_path_factory.mktemp("saved")
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), FusedBatchNormalization(), keras.layers.Conv2D(4, 3)]
    )
    pruned(model).save(directory / "model.keras")
    return directory


IMPORTS = {
    "keras_first": "import keras, lottery_tf",
    "from_the_package": "from lottery_tf import masked; import keras",
    "a_used_attribute": "import lottery_tf, keras; lottery_tf.unmasked",
    "the_modules_themselves": "import lottery_tf.models.layers, keras",
}


@pytest.mark.ci
@pytest.mark.parametrize("imports", IMPORTS)
def test_another_process_loads_a_model_after_importing_the_package(imports, saved):
    load = "keras.models.load_model('model.keras').layers"
    code = f"{IMPORTS[imports]}; print([type(layer).__name__ for layer in {load}])"
    found = run(code, saved)
    assert found.stdout == "['FusedBatchNormalization', 'MaskedConv2D']\n", found.stderr


@pytest.mark.ci
@pytest.mark.parametrize("imports", ["import keras", "import lottery_tf, keras"])
def test_the_error_of_keras_names_the_import_that_is_missing(imports, tmp_path):
    pruned(dense()).save(tmp_path / "model.keras")
    load = "keras.models.load_model('model.keras')"
    without = run(f"{imports}; {load}", tmp_path)
    assert "'before load_model': 'import lottery_tf.masking'" in without.stderr.rstrip()[-400:]
    found = run(f"{imports}; import lottery_tf.masking; {load}", tmp_path)
    assert found.returncode == 0, found.stderr


STATE = """
import random, sys
import numpy as np
def state():
    keras = sys.modules.get("keras")
    found = [list(sys.meta_path), list(sys.path_hooks), random.getstate()]
    found += [[str(part) for part in np.random.get_state()]]
    if keras:
        from keras.src.backend.common import global_state
        from keras.src.random import seed_generator
        generator = seed_generator.global_seed_generator()
        found += [id(generator), generator.state.numpy().tolist(), keras.config.dtype_policy().name]
        found += [dict(global_state.get_global_attribute("object_name_uids") or {})]
        found += [keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format()]
    return found
"""


@pytest.mark.parametrize("imports", ["", pytest.param("import keras", marks=pytest.mark.ci)])
def test_importing_the_package_changes_nothing_in_the_process(imports):
    code = f"""{imports}{STATE}
state()  # makes Keras's generator
before, modules = state(), set(sys.modules)
import lottery_tf
assert state() == before, [pair for pair in zip(before, state()) if pair[0] != pair[1]]
added = {{name.partition(".")[0] for name in set(sys.modules) - modules}}
assert "keras" in modules or not {{"keras", "tensorflow"}} & added
print("done")
"""
    found = run(code, ROOT)
    assert found.stdout == "done\n", found.stderr


def test_masks_need_a_backend_that_holds_them(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    with pytest.raises(InputError, match=r"tensorflow.*torch.*Received: openvino.*KERAS_BACKEND"):
        lottery_tf.masked(dense())
