"""What every masked layer keeps, by `check_masked_layer`; its tables say which layers there are."""

import json
import os
import subprocess

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking
from lottery_tf.export.compaction import compact
from lottery_tf.structure import structure_of
from lottery_tf.testing import check_masked_layer, check_optimizer
from tests import forked
from tests.conftest import ROOT
from tests.layers import AVERAGES, KINDS, OPTIMIZERS, ROWS, TABLES, case, optimizer
from tests.versions import since

pytestmark = [pytest.mark.versions, pytest.mark.filterwarnings("ignore:Left dense")]


# One kernel, several, a number of axes; all others run in CI.
USUAL = {"Dense", "Embedding", "Conv2D", "SeparableConv1D"}
NAMES = [pytest.param(name, marks=() if name in USUAL else pytest.mark.ci) for name in ROWS]

# Those that older versions of Keras lack, or cannot run on TensorFlow, without masks either.
NEW = {
    "Muon": since("keras", "3.13", "it asks a tf.Variable for its path"),
    "ScheduleFreeAdamW": since("keras", "3.14", "it has none"),
}


def test_every_masked_layer_of_keras_has_a_row():
    assert set(KINDS) == set(ROWS)


def test_every_optimizer_of_keras_has_a_row():
    found = {
        name
        for name, kind in vars(keras.optimizers).items()
        if isinstance(kind, type) and issubclass(kind, keras.optimizers.Optimizer)
    }
    old = {name for name in NEW if not hasattr(keras.optimizers, name)}
    assert found - {"Optimizer", "MultiOptimizer"} == set(OPTIMIZERS) - old


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_keeps_what_its_masks_promise(name):
    options, data = ROWS[name]
    check_masked_layer(KINDS[name], options, input_data=data)


@pytest.mark.ci
@pytest.mark.parametrize("name", sorted(ROWS.keys() - TABLES - {"EinsumDense"}))
def test_a_layer_without_a_bias_does_too(name):
    options, data = ROWS[name]
    options = options | {"use_bias": False}
    layer = KINDS[name]
    check_masked_layer(layer, options, input_data=data, optimizers={}, policies=())


@pytest.mark.filterwarnings("ignore:prune. Channels stay")
@pytest.mark.parametrize("name", NAMES)
def test_the_channels_of_a_layer_are_pruned_or_named(name):
    alone = case(name).plain()
    hidden = keras.layers.Dense(4, name="head")(alone.output)  # of any rank
    outputs = keras.layers.Dense(2, name="logits")(hidden)
    model = masking.masked(keras.Model(alone.input, outputs))
    own = len(masking.kernels(model)) - 2  # the last two are of the layers behind it
    generator = np.random.default_rng(0)
    for kernel in masking.kernels(model).values():
        kernel.variable.assign(generator.normal(0, 0.5, kernel.variable.shape))
    left = structure_of(model, "channel").left
    lottery_tf.prune(model, 0.5, structure="channel", scope="layer")
    for path, mask in list(masking.get_masks(model).items())[:own]:
        assert mask.all() != (path not in left and "depthwise" not in path.lower())
    outputs = case(name).outputs(model)
    case(name).check_close(masking.unmasked(model), outputs, "unmasked")
    case(name).check_close(compact(masking.unmasked(model))[0], outputs, "compacted", 1e-4)


@pytest.fixture(scope="module")
def built():
    """{layer: a masked model of it, its weights}."""
    return {}


@pytest.mark.parametrize("averages", AVERAGES)
@pytest.mark.parametrize("name", [pytest.param(n, marks=NEW.get(n, ())) for n in OPTIMIZERS])
@pytest.mark.parametrize("layer", ["Dense", "Conv2D"])
def test_no_update_revives_a_pruned_weight(layer, name, averages, built):
    if layer not in built:
        built[layer] = case(layer).masked()
    model, generator = built[layer], np.random.default_rng(0)
    weights, masks = masking.get_weights(model), masking.get_masks(model)
    for mask in masks.values():
        mask[...] = True
    masking.set_weights(model, {path: array + 0.5 for path, array in weights.items()}, masks)
    moving, one = model.trainable_variables, optimizer(name, averages)
    one.build(moving)
    gradients = [generator.normal(0, 0.01, variable.shape) for variable in moving]
    for pruned in (False, True):
        if pruned:
            weights = masking.get_weights(model)
            for path, mask in masks.items():
                mask[..., 0] = False
                weights[path][..., 0] = 0
            masking.set_weights(model, weights, masks)
        one.apply([keras.ops.convert_to_tensor(g, "float32") for g in gradients])
    for path, kernel in masking.kernels(model).items():
        array = kernel.variable.numpy()
        masking.check_masked(path, array, kernel.mask.numpy())
        assert (array[..., 1:] != weights[path][..., 1:]).any()


# To an optimizer layers differ by the shapes of their kernels, and by gradients of tables. The test
# of the promises trains each layer with three optimizers.
KERNELS_OF_EACH_KIND = {"Dense", "Conv2D", "DepthwiseConv2D", "LSTM", "Embedding"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=pytest.mark.ci if name in KERNELS_OF_EACH_KIND else pytest.mark.slow
        )
        for name in ROWS
    ],
)
def test_every_optimizer_trains_every_layer_under_its_masks(name):
    for one in [one for one in OPTIMIZERS if one not in NEW or not NEW[one].args[0]]:
        for averages in AVERAGES:
            keras.utils.clear_session(free_memory=False)
            check_optimizer(case(name), one, lambda: optimizer(one, averages))  # noqa: B023


LOAD = """
import json, pathlib, sys
import keras, lottery_tf, numpy as np
found = {}
for path in sorted(pathlib.Path(".").glob("*.keras")):
    model = keras.models.load_model(path)
    data = dict(np.load(path.with_suffix(".npz")))
    expected, masks = data.pop("expected"), [data.pop(n) for n in list(data) if n[:4] == "mask"]
    outputs = np.asarray(model(data.pop("only") if "only" in data else data, training=False))
    loaded = lottery_tf.masking.get_masks(model).values()
    same = [np.array_equal(*pair) for pair in zip(loaded, masks, strict=True)]
    found[path.stem] = [bool(np.allclose(outputs, expected, atol=1e-5)), all(same), len(same)]
print(json.dumps(found))
"""


@pytest.mark.ci
def test_every_layer_is_loaded_in_another_process(tmp_path):
    kernels = {}
    for name, (_, data) in ROWS.items():
        model = case(name).pruned()
        model.save(tmp_path / f"{name}.keras")
        arrays = data if isinstance(data, dict) else {"only": data}
        masks = list(masking.get_masks(model).values())
        arrays = arrays | {f"mask_{index}": mask for index, mask in enumerate(masks)}
        np.savez(tmp_path / f"{name}.npz", **arrays, expected=case(name).outputs(model))
        kernels[name] = len(masks)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    run = [forked.python(), "-c", LOAD]
    found = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout) == {name: [True, True, n] for name, n in kernels.items()}
