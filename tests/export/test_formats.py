"""Every format gives what the model gives, for networks of several kinds."""

import dataclasses
import importlib.metadata
import json
import math
import os
import pkgutil
import re
import shutil
import sys
import warnings
from unittest import mock

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.export import (
    formats,
    fresh,
    keras_file,
    lite,
    npz,
    numpy_recipe,
    onnx_file,
    runner,
    signatures,
)
from lottery_tf.export.formats import FORMATS, Choices, Options
from lottery_tf.models import MODELS
from lottery_tf.models.layers import PadChannels
from lottery_tf.models.normalization import FusedBatchNormalization
from lottery_tf.structure.graph import graph_of
from tests.conftest import ROOT

pytestmark = pytest.mark.versions

OTHERS = [name for name in FORMATS if name != "saved_model"]  # tested with whole exports
IMAGES = Options(images=True, assets={"classes.txt": "zero\none\n"})


def raw(shape):
    image = keras.Input(shape, dtype="uint8", name="images")
    return image, keras.layers.Rescaling(1 / 80, -1.5)(image)


def dense():
    image, features = raw((8, 8, 1))
    features = keras.layers.Flatten()(features)
    features = keras.layers.Dense(60, activation="relu", name="hidden1")(features)
    features = keras.layers.Dense(30, activation="relu", name="hidden2")(features)
    return keras.Model(image, keras.layers.Dense(10, name="logits")(features)), IMAGES


def convolutions():
    """A nested network with the layers of the shipped ones, as a run's raw model holds it."""
    inner = keras.Input((8, 8, 3))
    features = keras.layers.Conv2D(16, 3, padding="same", use_bias=False)(inner)
    features = keras.layers.ReLU()(FusedBatchNormalization()(features))
    features = keras.layers.DepthwiseConv2D(3, strides=2)(features)
    other = PadChannels(20)(keras.layers.AveragePooling2D(1)(features))
    features = FusedBatchNormalization()(keras.layers.Conv2D(20, 1, use_bias=False)(features))
    features = keras.layers.Add()([features, other])
    features = keras.layers.GlobalAveragePooling2D()(features)
    network = keras.Model(inner, keras.layers.Dense(10, name="out")(features), name="network")
    image, scaled = raw((8, 8, 3))
    return keras.Model(image, network(scaled)), IMAGES


def two_inputs():
    left, right = keras.Input((12,), name="left"), keras.Input((6,), name="right")
    features = keras.layers.Dense(40, activation="relu")(keras.layers.Concatenate()([left, right]))
    first = keras.layers.Dense(5, name="first")(features)
    second = keras.layers.Dense(20, activation="tanh", name="second")(features)
    return keras.Model([left, right], [first, second]), Options()


def by_name():
    """Inputs and outputs in dictionaries, whose order is not that of their names."""
    one, other = keras.Input((12,), name="zeta"), keras.Input((3,), dtype="int64", name="alpha")
    features = keras.layers.Concatenate()([one, keras.ops.cast(other, "float32")])
    outputs = {"y": keras.layers.Dense(4)(features), "b": keras.layers.Dense(2)(features)}
    return keras.Model({"zeta": one, "alpha": other}, outputs), Options()


def sequential():
    """One that is built, and was never called."""
    layers = [keras.Input((12,), name="row"), keras.layers.Dense(9), keras.layers.Dense(4)]
    return keras.Sequential(layers), Options()


def transformer():
    tokens = keras.Input((10,), dtype="int32", name="tokens")
    features = keras.layers.Embedding(30, 16)(tokens)
    attended = keras.layers.MultiHeadAttention(2, 8)(features, features)
    features = keras.layers.LayerNormalization()(features + attended)
    features = keras.layers.Dense(32, activation="gelu")(features)
    features = keras.layers.GlobalAveragePooling1D()(keras.layers.Dropout(0.5)(features))
    return keras.Model(tokens, keras.layers.Dense(7)(features)), Options()


def pruned(make, density=0.1):
    """(model with random biases, statistics and pruned kernels, Options, inputs, outputs)."""
    keras.utils.set_random_seed(0)
    model, options = make()
    random = np.random.default_rng(0)
    for variable in model.weights:
        array = variable.numpy()
        if array.ndim >= 2:
            array = 3 * array * (random.random(array.shape) < density)
        else:
            array = array + random.uniform(0, 0.5, array.shape)
        variable.assign(array)
    inputs = signatures.random_inputs(model, 50)
    outputs = keras.tree.flatten(model.predict_on_batch(signatures.packed(model, inputs)))
    return model, options, inputs, outputs


@pytest.fixture
def in_process(monkeypatch):
    """Exports run in this process, which takes a second less each."""

    def run(name, directory, inputs, outputs=()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tf.lite.Interpreter is deprecated
            call = runner.load(fresh.source_of_load(name), str(directory), outputs)
        return runner.outputs(call, inputs, batch_size=20)

    monkeypatch.setattr(fresh, "run", run)


def require(name):
    for package in FORMATS[name].needs:
        pytest.importorskip(package)
    if FORMATS[name].compiles and shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    since = FORMATS[name].keras_since
    if tuple(map(int, keras.__version__.split(".")[:2])) < since:
        pytest.skip(f"Keras {keras.__version__} does not export to {name}")


@pytest.mark.parametrize(
    "make",
    [
        dense,
        convolutions,
        two_inputs,
        by_name,
        sequential,
        pytest.param(transformer, marks=pytest.mark.ci),
    ],
)
@pytest.mark.parametrize("name", OTHERS)
def test_an_export_gives_what_the_model_gives(name, make, tmp_path, in_process):
    require(name)
    model, options, inputs, outputs = pruned(make)
    if name == "c" and make in (by_name, transformer):
        with pytest.raises(InputError, match=r"^--format=c: .*(alpha, int64|MultiHeadAttention)"):
            formats.write(name, model, tmp_path, options)
        return
    formats.write(name, model, tmp_path, options)
    names = ["logits"] if options.images else signatures.output_names(model)
    found = fresh.run(name, tmp_path, inputs, names)
    for key, expected in zip(names, outputs, strict=True):
        np.testing.assert_allclose(found[key], expected, atol=1e-4)
        np.testing.assert_array_equal(found[key].argmax(-1), expected.argmax(-1))
    if options.images and name in ("litert", "onnx", "openvino", "c"):
        np.testing.assert_allclose(found["probabilities"].sum(-1), 1, atol=1e-5)
    assert options.images == (tmp_path / "classes.txt").exists()


@pytest.mark.ci
@pytest.mark.parametrize("name", OTHERS)
def test_an_export_runs_where_the_package_cannot_be_imported(name, tmp_path):
    require(name)
    model, options, inputs, (logits,) = pruned(convolutions)
    formats.write(name, model, tmp_path, options)
    found = fresh.run(name, tmp_path, inputs, ["logits"])
    np.testing.assert_allclose(found["logits"], logits, atol=1e-4)
    times = fresh.time(name, [tmp_path, tmp_path], {"images": inputs["images"][:1]})
    assert len(times) == 2
    assert 0 < min(times) < 1000


def test_the_package_cannot_be_imported_in_a_fresh_process(tmp_path, monkeypatch):
    (tmp_path / "onnxruntime.py").write_text("import lottery_tf\n")  # a runtime that asks for it
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    with pytest.raises(InputError, match=r"ModuleNotFoundError: .*lottery_tf"):
        fresh.run("onnx", tmp_path, {"images": np.zeros((1, 2))})


@pytest.mark.parametrize(
    ("choices", "named"),
    [
        (Choices("pickle"), "--format.* saved_model, keras, litert, npz, onnx.* pickle$"),
        (Choices("keras", quantize="int8"), "^--quantize=int8 .*--format=litert.*--format=keras$"),
        (Choices("litert", quantize="int4"), "^--quantize.* none, float16, int8.* int4$"),
        (
            Choices("onnx", dense=True),
            "^--dense .*--format=saved_model or litert or npz.*--format=onnx$",
        ),
        (Choices("keras", sparse_matmul="auto"), "^--sparse_matmul=auto .*=saved_model.*=keras$"),
    ],
)
def test_choices_that_a_format_does_not_take_are_refused(choices, named):
    with pytest.raises(InputError, match=named):
        formats.check_choices(choices)


@pytest.mark.parametrize("package", FORMATS["onnx"].needs)
def test_a_missing_package_is_named_with_the_line_that_installs_it(package, monkeypatch):
    for one in FORMATS["onnx"].needs:  # whatever is installed here
        monkeypatch.setitem(sys.modules, one, None if one == package else math)
    with pytest.raises(InputError, match=rf"--format=onnx .*{package}\b.*'lottery_tf\[onnx\]'"):
        formats.check_choices(Choices("onnx"))
    formats.check_choices(Choices("npz"))


def test_an_older_keras_is_named_with_the_one_that_a_format_needs(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: {"keras": "3.9.2"}[name])
    with pytest.raises(InputError, match=r"--format=litert.*3\.13.*3\.9\.2.*'keras>=3\.13'"):
        formats.check_choices(Choices("litert"))
    formats.check_choices(Choices("npz"))


def test_a_format_is_a_module_and_a_line(tmp_path, monkeypatch):
    """Its `load` runs where this package cannot be imported."""
    (tmp_path / "counting.py").write_text(
        "def write(model, directory, options):\n"
        "    (directory / 'count.txt').write_text(str(model.count_params()))\n"
        "def load(directory):\n"
        "    count = int(open(f'{directory}/count.txt').read())\n"
        "    return lambda inputs: {'count': inputs['row'] * 0 + count}\n"
    )
    monkeypatch.setattr(lottery_tf.export, "__path__", [*lottery_tf.export.__path__, str(tmp_path)])
    monkeypatch.setitem(FORMATS, "counting", formats.Format("counting"))
    model, options = sequential()
    formats.write("counting", model, tmp_path, options)
    found = fresh.run("counting", tmp_path, {"row": np.ones((3, 12))})
    assert (found["count"] == 12 * 9 + 9 + 9 * 4 + 4).all()


def test_a_process_that_is_started_serves_every_call_until_one_fails(tmp_path, monkeypatch):
    (tmp_path / "numbered.py").write_text(
        "def load(directory):\n"
        "    import os\n"
        "    return lambda inputs: {'process': inputs['row'][:, 0] * 0 + os.getpid()}\n"
    )
    monkeypatch.setattr(lottery_tf.export, "__path__", [*lottery_tf.export.__path__, str(tmp_path)])
    monkeypatch.setitem(FORMATS, "numbered", formats.Format("numbered"))

    def number():
        return fresh.run("numbered", tmp_path, {"row": np.ones((1, 1))})["process"][0]

    with fresh.started("numbered"):
        fresh.wait("numbered")
        first = number()
        assert len(fresh.time("numbered", [tmp_path] * 2, {"row": np.ones((1, 1))})) == 2
        assert number() == first != os.getpid()
        with pytest.raises(InputError, match="KeyError"):
            fresh.run("numbered", tmp_path, {"other": np.ones((1, 1))})
        assert number() != first
    assert number() != first


@pytest.mark.ci
def test_sparse_weights_make_a_litert_file_smaller(tmp_path, in_process):
    model, *_ = pruned(dense)
    sizes = {}
    for kept in (True, False):
        (tmp_path / str(kept)).mkdir()
        formats.write("litert", model, tmp_path / str(kept), Options(images=True, dense=kept))
        sizes[kept] = (tmp_path / str(kept) / lite.FILE).stat().st_size
    assert sizes[False] < 0.6 * sizes[True]


@pytest.mark.ci
@pytest.mark.parametrize("quantize", ["float16", "int8"])
def test_quantized_weights_are_smaller_and_answer_alike(quantize, tmp_path, in_process):
    model, _, inputs, (logits,) = pruned(dense)
    sizes = {}
    for kind in ("none", quantize):
        (tmp_path / kind).mkdir()
        how = Options(kind, dense=True, calibration=inputs, images=True)
        formats.write("litert", model, tmp_path / kind, how)
        sizes[kind] = (tmp_path / kind / lite.FILE).stat().st_size
    found = fresh.run("litert", tmp_path / quantize, inputs)["logits"]
    assert sizes[quantize] < 0.75 * sizes["none"]
    assert 0 < np.abs(found - logits).max() < 0.05 * np.abs(logits).max()


@pytest.mark.ci
def test_int8_answers_the_digits_as_well(tmp_path, in_process):
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8, 1) * 15).astype(np.uint8)
    keras.utils.set_random_seed(0)
    model, _ = dense()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.003), loss)
    model.fit(images[:1200], labels[:1200], epochs=30, verbose=0)
    for variable in model.trainable_variables:
        array = variable.numpy()
        variable.assign(
            array * (np.abs(array) > np.quantile(np.abs(array), 0.4 * (array.ndim > 1)))
        )
    how = Options("int8", dense=True, calibration={"images": images[:1200]}, images=True)
    formats.write("litert", model, tmp_path, how)
    logits = fresh.run("litert", tmp_path, {"images": images[1200:]})["logits"]
    before = np.mean(model.predict_on_batch(images[1200:]).argmax(-1) == labels[1200:])
    assert before > 0.85
    assert np.mean(logits.argmax(-1) == labels[1200:]) >= before - 0.005


def test_int8_without_inputs_to_calibrate_on_is_refused(tmp_path):
    model, *_ = pruned(dense)
    with pytest.raises(InputError, match="--quantize=int8"):
        formats.write("litert", model, tmp_path, Options("int8", images=True))


NAN = dict.fromkeys(("logits", "probabilities"), np.full((1, 10), np.nan))
REFUSED = InputError("XNNPACK failed to prepare.")
LACKING = InputError("Select TensorFlow op(s) are not supported by this interpreter.")


@pytest.mark.ci
@pytest.mark.parametrize(
    ("found", "words"),
    [
        (REFUSED, r"float16.* --dense.* XNNPACK failed to prepare"),
        (LACKING, r"^--format=litert((?!--dense).)*$"),
        (NAN, r"float16.* logits .* nan "),
    ],
)
def test_what_the_runtime_refuses_or_computes_wrongly_is_named(found, words, tmp_path, monkeypatch):
    monkeypatch.setattr(fresh, "run", mock.Mock(side_effect=[found]))
    model, *_ = pruned(dense)
    with pytest.raises(InputError, match=words):
        formats.write("litert", model, tmp_path, Options("float16", images=True))


def test_an_export_that_does_not_load_says_why_in_a_line(tmp_path):
    # Without a file or, where it is not installed, without its runtime.
    with pytest.raises(InputError, match=r"^.* onnx .*: \w+: .+$"):
        fresh.run("onnx", tmp_path, {"images": np.zeros((1, 2))})


def test_openvino_names_inputs_that_are_not_in_alphabetical_order(tmp_path):
    require("openvino")
    last, first = keras.Input((5,), name="z"), keras.Input((5,), name="a")
    model = keras.Model([last, first], keras.layers.Dense(3, name="out")(last - 2 * first))
    formats.write("openvino", model, tmp_path, Options())
    given = signatures.random_inputs(model, 4)
    found = fresh.run("openvino", tmp_path, dict(reversed(given.items())))
    np.testing.assert_allclose(found["out"], model([given["z"], given["a"]]), atol=1e-5)


@pytest.mark.ci
def test_a_keras_file_has_no_class_of_this_package(tmp_path):
    model, options, *_ = pruned(convolutions)
    formats.write("keras", model, tmp_path, options)
    config = json.dumps(keras.models.load_model(tmp_path / "model.keras").get_config())
    assert "lottery_tf" not in config
    assert "BatchNormalization" in config


def test_a_masked_model_is_not_written_as_a_plain_one(tmp_path):
    model, options, *_ = pruned(dense)
    for name in ("keras", "npz"):
        with pytest.raises(InputError, match=r"MaskedDense.* lottery_tf\.unmasked"):
            formats.write(name, lottery_tf.masked(model), tmp_path, options)


def as_the_readme_says(directory, monkeypatch, framework="NumPy"):
    """The names that the code of an export's README defines, for NumPy and for another framework.

    What another framework needs comes after the code for NumPy.
    """
    first, *others = (directory / "README.md").read_text().split("## Run it with JAX\n")
    if framework != "NumPy":
        of_jax, of_torch = others[0].split("## Run it with PyTorch\n")
        first += {"JAX": of_jax, "PyTorch": of_torch}[framework]
    codes = re.findall(r"```python\n(.*?)```", first, re.S)
    monkeypatch.chdir(directory)
    names = {}
    exec("\n".join(codes), names)
    return names


def branches():
    """A shared layer, two inputs, and kinds that the shipped networks lack."""
    left, right = keras.Input((6, 6, 2), name="left"), keras.Input((6, 6, 2), name="right")
    shared = keras.layers.Conv2D(3, 3, padding="same", strides=2, activation="tanh", name="twice")
    features = keras.layers.Concatenate()([shared(left), shared(right)])
    features = keras.layers.BatchNormalization(scale=False)(features)
    features = keras.layers.MaxPooling2D(2, 2, padding="same")(features)
    features = keras.layers.DepthwiseConv2D(2, depth_multiplier=2, activation="sigmoid")(features)
    features = keras.layers.Reshape((3, 4))(features)
    first = keras.layers.GlobalAveragePooling1D(name="first")(features)
    second = keras.layers.Dense(3, activation="softmax", use_bias=False, name="second")(features)
    return keras.Model([left, right], [first, second]), Options()


@pytest.mark.parametrize("make", [dense, convolutions, branches, sequential])
def test_numpy_alone_runs_the_network_as_the_readme_says(make, tmp_path, monkeypatch):
    model, options, inputs, outputs = pruned(make)
    formats.write("npz", model, tmp_path, options)
    found = as_the_readme_says(tmp_path, monkeypatch)["run"](inputs)
    for array, expected in zip(keras.tree.flatten(found), outputs, strict=True):
        assert np.ptp(expected) > 0.01
        np.testing.assert_allclose(array, expected, atol=1e-5)


@pytest.mark.parametrize("make", [dense, convolutions, branches, sequential])
def test_jax_runs_the_network_as_the_readme_says(make, tmp_path, monkeypatch):
    jax = pytest.importorskip("jax")
    model, options, inputs, outputs = pruned(make)
    formats.write("npz", model, tmp_path, options)
    names = as_the_readme_says(tmp_path, monkeypatch, "JAX")
    found = keras.tree.flatten(names["run_jax"](inputs))
    for array, expected in zip(found, outputs, strict=True):
        assert isinstance(array, jax.Array)
        np.testing.assert_allclose(array, expected, atol=1e-5)


@pytest.mark.parametrize("make", [dense, convolutions, branches, sequential])
def test_torch_runs_the_network_as_the_readme_says(make, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    model, options, inputs, outputs = pruned(make)
    formats.write("npz", model, tmp_path, options)
    names = as_the_readme_says(tmp_path, monkeypatch, "PyTorch")
    found = names["run"]({name: torch.from_numpy(array) for name, array in inputs.items()})
    for array, expected in zip(keras.tree.flatten(found), outputs, strict=True):
        assert isinstance(array, torch.Tensor)
        np.testing.assert_allclose(array, expected, atol=1e-5)
    with pytest.raises(ValueError, match=r"expected .*\. Received: float64 \(1,\)"):
        names["run"](dict.fromkeys(inputs, torch.zeros(1, dtype=torch.float64)))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (np.zeros((2, 9, 8, 1), np.uint8), r"uint8 \(2, 9, 8, 1\)$"),
        (np.zeros((2, 64), np.uint8), r"uint8 \(2, 64\)$"),
        (np.zeros((2, 8, 8, 1), np.float32), r"float32 \(2, 8, 8, 1\)$"),
    ],
)
def test_the_readme_names_what_it_expects_and_what_came(wrong, words, tmp_path, monkeypatch):
    model, options, *_ = pruned(dense)
    formats.write("npz", model, tmp_path, options)
    run = as_the_readme_says(tmp_path, monkeypatch)["run"]
    expected = r"^images: expected uint8 \(None, 8, 8, 1\)\. Received: "
    with pytest.raises(ValueError, match=expected + words):
        run({"images": wrong})


@pytest.mark.ci
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("conv4", {}),
        ("resnet20", {"shortcut": "identity", "bn_affine": False}),
        ("resnet20", {"shortcut": "projection", "bn_affine": True}),
        ("resnet18", {"shortcut": "projection", "bn_affine": True}),
        ("vgg16", {"bn_affine": True}),
    ],
)
def test_the_shipped_networks_are_written_in_numpy_whole(name, options, tmp_path, monkeypatch):
    make = pkgutil.resolve_name(MODELS[name])

    def shipped():
        network = make((16, 16, 3), 4, initializer="kaiming_normal", **options)
        image, scaled = raw((16, 16, 3))
        return keras.Model(image, masking.unmasked(network)(scaled)), IMAGES

    model, how, inputs, outputs = pruned(shipped, density=0.5)
    if name in ("conv4", "resnet20"):
        formats.write("npz", model, tmp_path, how)
        found = as_the_readme_says(tmp_path, monkeypatch)["run"](inputs)
        scale = np.abs(outputs[0]).max()
        np.testing.assert_allclose(found / scale, outputs[0] / scale, atol=1e-4)
    else:  # millions of weights: that nothing is unknown is enough
        plain = keras_file.of_keras(model, how)
        names = {id(variable): variable.path for variable in plain.weights}
        assert numpy_recipe.recipe(graph_of(plain), names).unknown == {}


def test_the_readme_lists_the_layers_as_they_are_executed(tmp_path):
    model, options, *_ = pruned(convolutions)
    formats.write("npz", model, tmp_path, options)
    text = (tmp_path / "README.md").read_text()
    table = text.partition("## Layers")[2].partition("## Weights")[0]
    rows = [row.strip("| ").split(" | ") for row in table.strip().splitlines()[4:]]
    kinds = [row[1] for row in rows]
    assert kinds[:4] == ["Rescaling", "Conv2D", "BatchNormalization", "ReLU"]
    assert kinds[-3:] == ["GlobalAveragePooling2D", "Dense", "Identity"]
    by_kind = {row[1]: row[4] for row in rows}
    assert "scale 0.0125" in by_kind["Rescaling"]
    assert [row[3] for row in rows][:2] == ["any x 8 x 8 x 3", "any x 8 x 8 x 16"]
    assert "activation linear" in by_kind["Dense"]
    assert "epsilon" in by_kind["BatchNormalization"]
    assert all(
        reads in {"images", *(row[0] for row in rows[:place])}
        for place, row in enumerate(rows)
        for reads in row[2].split(", ")
    )


def test_layers_that_the_readme_does_not_write_in_numpy_are_named(tmp_path):
    model, options, *_ = pruned(transformer)
    formats.write("npz", model, tmp_path, options)
    text = (tmp_path / "README.md").read_text()
    assert "(MultiHeadAttention)" in text
    assert "def run" not in text


def test_numpy_alone_rebuilds_the_arrays_as_the_readme_says(tmp_path, monkeypatch):
    model, options, *_ = pruned(transformer)
    formats.write("npz", model, tmp_path, options)
    names = as_the_readme_says(tmp_path, monkeypatch)
    assert list(names["arrays"]) == [variable.path for variable in model.weights]
    for variable in model.weights:
        np.testing.assert_array_equal(names["arrays"][variable.path], variable.numpy())


def test_places_are_flat_ascending_and_of_the_smallest_type():
    array = np.zeros((4, 100), np.float32)
    array[2, 7], array[3, 99], array[0, 1] = 1, -2, 3
    coded = npz.coded("a/kernel", array)
    assert list(coded) == ["a/kernel.values", "a/kernel.indices", "a/kernel.shape"]
    assert coded["a/kernel.indices"].dtype == np.uint16
    assert coded["a/kernel.indices"].tolist() == [1, 207, 399]
    assert coded["a/kernel.values"].tolist() == [3, 1, -2]
    assert npz.coded("a", array[0, :1] + 1)["a"].tolist() == [1]  # nothing to leave out
    empty = npz.coded("a", np.zeros((2, 3), np.float32))
    assert empty["a.values"].size == 0
    assert empty["a.shape"].tolist() == [2, 3]


def test_onnx_names_its_axes_and_says_where_it_comes_from(tmp_path, in_process):
    require("onnx")
    import onnx

    model, options, *_ = pruned(dense)
    formats.write("onnx", model, tmp_path, dataclasses.replace(options, normalisation="as it is"))
    written = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(written)
    for value in (*written.graph.input, *written.graph.output):
        first, *others = value.type.tensor_type.shape.dim
        assert first.dim_param == "batch"
        assert all(axis.dim_value for axis in others)
    found = {one.key: one.value for one in written.metadata_props}
    assert found["lottery_tf.classes.txt"] == "zero\none"
    assert found["lottery_tf.normalisation"] == "as it is"
    assert {one.domain: one.version for one in written.opset_import}[""] == onnx_file.newest_opset()
    assert onnx_file.newest_opset() > onnx_file.OPSET


def test_what_onnx_cannot_hold_is_named(tmp_path):
    require("onnx")
    values = keras.Input((4, 4), name="values")
    model = keras.Model(values, keras.ops.slogdet(values)[1])
    with pytest.raises(InputError, match=r"--format=onnx.*LogMatrixDeterminant"):
        formats.write("onnx", model, tmp_path, Options())
