"""Whole exports of a run of the digits, each loaded in a process without this package."""

import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import types

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.export import exporting, fresh, published, report, sparse_products, ticket
from lottery_tf.export.formats import FORMATS, Choices, check, date_of
from lottery_tf.rundir import RunDir
from tests import forked
from tests.conftest import ROOT
from tests.export import networks
from tests.launching import launch

pytestmark = pytest.mark.versions

WAYS = ({}, {"dense": True}, {"compact": True})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The directory of a run of LeNet on the digits, at density 100, 40 and 16%."""
    run_dir = tmp_path_factory.mktemp("run") / "digits"
    result = launch(run_dir, rounds=3, epochs=8, prune_fraction=0.6, jit_compile="off")
    assert result.returncode == 0, result.stderr
    assert RunDir(run_dir).metrics()[2]["test_accuracy"] > 0.5  # the outputs tell something
    return run_dir


@pytest.fixture(scope="module")
def sparse(run):
    return ticket.of_run(run, "2")


@pytest.fixture(autouse=True)
def forked_processes(monkeypatch):
    """Exports are tried in processes that are forked; test_formats starts some anew."""
    monkeypatch.setattr(fresh, "sys", types.SimpleNamespace(executable=forked.python()))


def files(directory):
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch):
    """Times are measured by the command alone."""
    monkeypatch.setattr(exporting, "milliseconds", lambda *arguments: {})


@pytest.fixture(scope="module")
def exports():
    """{choices: what `exported` made of them}."""
    return {}


@pytest.fixture
def exported(sparse, exports, tmp_path_factory):
    """A function of choices: (the directory of an export that tests only read, its report)."""

    def make(format="saved_model", **way):
        choices = Choices(format, **way)
        if choices not in exports:
            out = tmp_path_factory.mktemp(format) / "out"
            exports[choices] = out, exporting.export(sparse, out, choices)
        return exports[choices]

    return make


@pytest.mark.ci
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_saved_model_gives_what_the_masked_model_gives(sparse, exported, way):
    out, written = exported(**way)
    assert written["other_predictions"] == 0
    assert written["largest_difference"] < 1e-5
    assert written["compared_examples"] == len(sparse.labels) == 450
    assert written["accuracy_after"] == written["accuracy_before"]
    found = fresh.run("saved_model", out, sparse.test)
    assert found.keys() == {"logits", "probabilities"}
    assert np.allclose(found["probabilities"].sum(1), 1, atol=1e-5)
    # Two batch sizes: the last of 450 in steps of 256 is smaller.
    alone = fresh.run("saved_model", out, {"images": sparse.test["images"][:1]})
    assert np.allclose(alone["logits"], found["logits"][:1], atol=1e-5)
    assert {"assets/classes.txt", "assets/provenance.json", "export.json"} <= files(out)
    assert not list(out.parent.glob(".out*"))
    provenance = json.loads((out / "assets/provenance.json").read_text())
    assert provenance["round"] == 2
    assert provenance["flags"]["model"] == "lenet"
    if way.get("compact"):
        assert written["products"]["written"] < written["products"]["dense"]


@pytest.mark.ci
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_ticket_in_c_gives_what_the_masked_model_gives(sparse, tmp_path, way, capsys):
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    written = exporting.export(sparse, tmp_path / "out", Choices("c", **way))
    assert written["other_predictions"] == 0
    assert written["largest_difference"] < 1e-5
    assert {"model.c", "model.h", "README.md", "export.json"} <= files(tmp_path / "out")
    report.show(report.read(tmp_path / "out"))
    assert re.search(
        r"compiled: [\d,]+ bytes of text, .* of scratch; .*-std=c99", capsys.readouterr().out
    )


@pytest.mark.ci
def test_a_ticket_in_c_of_int8_is_half_as_large_and_as_accurate(sparse, tmp_path):
    if shutil.which("cc") is None or shutil.which("size") is None:
        pytest.skip("there is no C compiler")
    text = {}
    for quantize in ("none", "int8"):
        written = exporting.export(sparse, tmp_path / quantize, Choices("c", quantize=quantize))
        text[quantize] = written["compiled"]["text"]
        lost = written["accuracy_before"] - written["accuracy_after"]
        assert abs(round(450 * lost)) <= 1
    assert 0 < written["largest_difference"] < 0.05
    assert text["int8"] < 0.65 * text["none"]
    assert written["compiled"]["flags"].startswith("-std=c99 -O3 -ffp-contract=off")


@pytest.mark.ci
@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_a_model_of_the_users_own_without_half_of_its_channels_is_written_in_c(quantize, tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    keras.utils.set_random_seed(0)
    given = keras.Input((10, 10, 3), name="pixels")
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(given)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.MaxPooling2D()(keras.layers.Conv2D(24, 3, activation="relu")(x))
    grade = keras.layers.Dense(5, name="grade")(keras.layers.Flatten()(x))
    size = keras.layers.Dense(1, name="size")(keras.layers.GlobalAveragePooling2D()(x))
    model = lottery_tf.masked(keras.Model(given, [grade, size]))
    for weight in model.non_trainable_variables:
        if weight.name.startswith("moving"):
            weight.assign(weight + keras.random.uniform(weight.shape, 0, 0.5, seed=1))
    lottery_tf.prune(model, density=0.5, structure="channel", scope="layer")
    model.save(tmp_path / "own.keras")
    own, choices = ticket.of_file(tmp_path / "own.keras"), Choices("c", True, quantize=quantize)
    written = exporting.export(own, tmp_path / "out", choices)
    assert written["largest_difference"] < {"none": 1e-5, "int8": 0.05}[quantize]
    assert written["products"]["written"] < 0.4 * written["products"]["dense"]
    kept = {name: change["units"][1] for name, change in written["compaction"]["layers"].items()}
    assert list(kept.values())[:2] == [8, 12]
    header = (tmp_path / "out" / "model.h").read_text()
    assert "model_run(const float pixels[300], float grade[5], float size[1])" in header


@pytest.mark.ci
def test_the_weights_are_near_their_entropy_and_the_rest_is_small(sparse, exported):
    _, written = exported()
    size = written["bytes"]
    assert size["weights"] <= 1.15 * size["entropy_bound"]
    assert size["export"] <= 1.15 * size["entropy_bound"] + 60_000
    assert size["dense"] > 200_000 > 5 * size["weights"]
    alive = sum(mask.sum() for mask in masking.get_masks(sparse.masked).values())
    assert sum(row["alive"] for row in written["layers"]) == alive
    assert written["products"]["alive"] == alive  # of a dense network each weight counts once


@pytest.mark.ci
@pytest.mark.parametrize("kernel", sparse_products.KERNELS)
def test_sparse_products_give_the_same(kernel, sparse, tmp_path, monkeypatch):
    monkeypatch.setattr(sparse_products, "WINS", 1e9)  # each is chosen
    monkeypatch.setattr(sparse_products, "KERNELS", (kernel,))
    written = exporting.export(sparse, tmp_path / "out", Choices(sparse_matmul="auto"))
    assert [row["product"] for row in written["sparse_products"]] == [kernel] * 3
    assert written["other_predictions"] == 0
    assert written["largest_difference"] < 1e-5
    assert written["bytes"]["weights"] <= 1.15 * written["bytes"]["entropy_bound"]


@pytest.mark.ci
def test_two_exports_in_one_process_do_not_share_weights(run, tmp_path):
    import tensorflow as tf

    images, serve = None, []
    for round in ("0", "2"):
        of_round = ticket.of_run(run, round)
        exporting.export(of_round, tmp_path / round, Choices())
        images = of_round.test["images"][:100]
        serve.append((tf.saved_model.load(str(tmp_path / round)), exporting.reference(of_round)))
    for loaded, expected in serve:
        found = loaded.signatures["serving_default"](images=tf.constant(images))
        assert np.allclose(found["logits"], expected["logits"][:100], atol=1e-4)


@pytest.mark.ci
def test_the_loader_of_tensorflow_serving_loads_it(sparse, exported):
    import tensorflow as tf

    out, _ = exported()
    expected = exporting.reference(sparse)["logits"]
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(out))
        signature = loaded.signature_def["serving_default"]
        logits = session.run(
            signature.outputs["logits"].name,
            {signature.inputs["images"].name: sparse.test["images"]},
        )
    assert np.allclose(logits, expected, atol=1e-4)


@pytest.mark.ci
@pytest.mark.parametrize("format", ["keras", "npz"])
def test_other_formats_are_whole_exports_too(exported, format):
    _, written = exported(format, compact=True)
    assert written["format"] == format
    assert written["other_predictions"] == 0


@pytest.mark.ci
@pytest.mark.parametrize("compact", [False, True])
def test_the_ticket_runs_in_numpy_from_the_readme_alone(sparse, exported, tmp_path, compact):
    out, _ = exported("npz", compact=compact)
    text, _, _ = (out / "README.md").read_text().partition("## Run it with JAX")
    codes = re.findall(r"```python\n(.*?)```", text, re.S)
    np.save(tmp_path / "images.npy", sparse.test["images"])
    ends = f"np.save('{tmp_path}/logits.npy', run({{'images': np.load('{tmp_path}/images.npy')}}))"
    code = "\n".join([*codes, ends, "import sys; assert 'keras' not in sys.modules"])
    subprocess.run([sys.executable, "-c", code], cwd=out, check=True)
    logits, expected = np.load(tmp_path / "logits.npy"), exporting.reference(sparse)["logits"]
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert np.array_equal(logits.argmax(-1), expected.argmax(-1))


def test_the_report_says_where_the_ticket_comes_from(run, sparse, tmp_path):
    choices = Choices(
        "npz", card=True, date="2026-11-30", license="mit", intended_use='Tests: "quoted".'
    )
    exporting.export(sparse, tmp_path / "out", choices)
    found = json.loads((tmp_path / "out/export.json").read_text())
    data = json.loads((run / "data.json").read_text())
    assert found["data"]["fingerprint"] == data
    assert found["normalisation"]["mean"] == pytest.approx([0.3052])
    assert found["class_names"] == [str(digit) for digit in range(10)]
    assert (found["date"], found["license"]) == ("2026-11-30", "mit")
    assert found["seeds"] == {"seed": 0, "init_seed": 0, "data_seed": 0}
    right = found["test_accuracy"]
    assert found["test_accuracy_error"] == pytest.approx((right * (1 - right) / 450) ** 0.5)
    assert found["weights_sha256"] == published.digest(masking.get_weights(sparse.masked))
    assert found["exported_with"]["lottery_tf"] == lottery_tf.__version__
    assert "data_dir" not in found["flags"]
    card = (tmp_path / "out/README.md").read_text()
    assert data["train"]["sha256"] in card
    assert 'Tests: "quoted".' in card
    assert "## Run it with NumPy" in card  # what the format's own README says comes after


def test_the_front_matter_of_a_card_is_yaml(sparse, tmp_path):
    yaml = pytest.importorskip("yaml")
    choices = Choices("keras", card=True, license='cc-by-4.0: "x"')
    exporting.export(sparse, tmp_path / "out", choices)
    _, front, _ = (tmp_path / "out/README.md").read_text().split("---\n", 2)
    found = yaml.safe_load(front)
    assert found["license"] == 'cc-by-4.0: "x"'
    assert found["library_name"] == "keras"
    (result,) = found["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == sparse.provenance["test_accuracy"]


def test_the_card_of_a_model_of_the_users_own_has_what_is_known(tmp_path):
    model = lottery_tf.masked(networks.two_inputs())
    model.save(tmp_path / "own.keras")
    found = ticket.of_file(tmp_path / "own.keras")
    exporting.export(found, tmp_path / "out", Choices("keras", card=True))
    assert "own.keras" in (tmp_path / "out/README.md").read_text()
    again = lottery_tf.load_ticket(tmp_path / "out")
    assert again.initial_weights is None
    assert again.masks.keys() == masking.get_masks(model).keys()
    with pytest.raises(InputError, match="without a run"):
        again.train()


# Exports a run in each format, each in a process of its own that is forked behind the imports.
EXPORTS = """
import os, runpy, sys, types
from lottery_tf.terminal import quiet
quiet.import_tensorflow()
from lottery_tf.export import exporting, fresh
fresh.sys = types.SimpleNamespace(executable=sys.argv[1])
for format in sys.argv[3:]:
    if not os.fork():
        more = [f"--format={format}", f"--out={format}", "--card", "--date=2026-11-30", "--notime"]
        sys.argv[1:] = [f"--run_dir={sys.argv[2]}", "--round=2", *more]
        runpy.run_module("tools.export", run_name="__main__", alter_sys=True)
        sys.exit()
    os.wait()
"""


@pytest.fixture(scope="module")
def exported_twice(run, tmp_path_factory):
    """Two directories of exports, and what was printed of errors, under two seeds of hashes."""
    there = [name for name in FORMATS if all(map(importlib.util.find_spec, FORMATS[name].needs))]
    found = []
    for seed in ("1", "2"):  # sets are in the order of hashes
        place = tmp_path_factory.mktemp(f"seed_{seed}")
        result = subprocess.run(
            [sys.executable, "-c", EXPORTS, forked.python(), run, *there],
            cwd=place,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        found.append((place, result.stderr))
    return found


@pytest.mark.ci
@pytest.mark.parametrize("format", FORMATS)
def test_two_exports_of_a_round_are_the_same_bytes(format, exported_twice):
    for package in FORMATS[format].needs:
        pytest.importorskip(package)
    contents = []
    for place, error in exported_twice:
        assert (place / format / "export.json").exists(), error
        contents.append({n: (place / format / n).read_bytes() for n in files(place / format)})
    one, other = contents
    assert "timing.json" not in one
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []


def test_the_date_of_an_export_is_that_of_the_environment(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert date_of("") == "1970-01-02"
    assert date_of("2026-11-30") == "2026-11-30"
    with pytest.raises(InputError, match=r"^--date=30\.11\..* 2026-11-30"):
        date_of("30.11.")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "now")
    with pytest.raises(InputError, match=r"^SOURCE_DATE_EPOCH=now"):
        date_of("")


WRONG = {"size": np.zeros((2, 9, 9, 1), np.uint8), "rank": np.zeros((2, 64), np.uint8)}
WRONG["type"] = np.zeros((2, 8, 8, 1), np.float32)
# What of each format's own words names what was expected, and what came.
SAID = {
    ("saved_model", "size"): r"\[2,9,9,1\].*\[\?,8,8,1\]",
    ("saved_model", "rank"): r"\[2,64\].*\[\?,8,8,1\]",
    ("saved_model", "type"): r"uint8.*float",
    ("keras", "size"): r"\(None, 8, 8, 1\).*\(2, 9, 9",
    ("keras", "rank"): r"\(None, 8, 8, 1\).*\(2, 64\)",
    ("litert", "type"): r"FLOAT32.*UINT8",
    ("onnx", "size"): r"Got: 9 Expected: 8",
    ("onnx", "rank"): r"Got: 2 Expected: 4",
    ("onnx", "type"): r"float.*uint8",
}


@pytest.mark.ci
@pytest.mark.parametrize("format", ["saved_model", "keras", "litert", "onnx"])
def test_images_of_another_size_or_type_are_named(format, exported):
    for package in FORMATS[format].needs:
        pytest.importorskip(package)
    out, _ = exported(format)
    for of, words in SAID.items():
        if of[0] == format:
            with pytest.raises(InputError, match=words):
                fresh.run(format, out, {"images": WRONG[of[1]]}, ["logits"])


@pytest.mark.ci
def test_a_mismatch_leaves_nothing_behind(sparse, tmp_path, monkeypatch):
    expected = {name: array + 0.01 for name, array in exporting.reference(sparse).items()}
    monkeypatch.setattr(exporting, "reference", lambda ticket: expected)
    with pytest.raises(InputError, match=r"\b0\.0001\b"):
        exporting.export(sparse, tmp_path / "out", Choices())
    assert not list(tmp_path.iterdir())


@pytest.mark.ci
def test_a_model_of_the_users_own_is_exported_with_its_names(tmp_path):
    keras.utils.set_random_seed(0)
    model = lottery_tf.masked(networks.two_inputs())
    lottery_tf.prune(model, 0.8)
    model.save(tmp_path / "own.keras")
    written = exporting.export(ticket.of_file(tmp_path / "own.keras"), tmp_path / "out", Choices())
    assert written["largest_difference"] < 1e-5
    generator = np.random.default_rng(0)
    given = {"first": generator.random((3, 6)), "second": generator.random((3, 4, 5))}
    given = {name: array.astype(np.float32) for name, array in given.items()}
    np.savez(tmp_path / "given.npz", **given)
    found = fresh.run("saved_model", tmp_path / "out", given)
    expected = model([given["first"], given["second"]])
    assert np.allclose(found["class"], expected[0], atol=1e-5)
    assert np.allclose(found["size"], expected[1], atol=1e-5)
    asked = ticket.of_file(tmp_path / "own.keras", inputs=tmp_path / "given.npz")
    assert {name: len(array) for name, array in asked.test.items()} == {"first": 3, "second": 3}


def export(*arguments):
    return subprocess.run(
        [forked.python(), "-m", "tools.export", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.mark.ci
def test_the_command_writes_reports_and_refuses_to_overwrite(run, tmp_path):
    out = tmp_path / "out"
    arguments = [f"--run_dir={run}", "--round=1", f"--out={out}"]
    result = export(*arguments)
    assert result.returncode == 0, result.stderr
    stages = re.findall(r"^(\w+) .* \.\.\. \d+\.\d s$", result.stderr, re.M)
    assert stages == ["Loading", "Writing", "Comparing", "Timing"]
    assert result.stderr.count("\n") == 4
    for word in ("saved_model", "entropy", "multiply-adds", "batch 128", "accuracy"):
        assert word in result.stdout
    shown = export(f"--info={out}")
    assert shown.stdout + f"Wrote {out}\n" == result.stdout
    before = files(out)
    result = export(*arguments)
    assert result.stderr.startswith(f"Error: --out={out} ")
    assert result.stderr.endswith(" --overwrite.\n")
    assert files(out) == before
    (out / "export.json").write_text("{")
    assert re.match(f"Error: --info={out}: .*export.json ", export(f"--info={out}").stderr)


@pytest.mark.ci
def test_the_command_writes_a_model_of_the_users_own_in_c(tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    keras.utils.set_random_seed(0)
    given = keras.Input((12,), name="row")
    x = keras.layers.Dense(30, activation="tanh")(given)
    model = lottery_tf.masked(keras.Model(given, keras.layers.Dense(4, name="out")(x)))
    lottery_tf.prune(model, density=0.2)
    model.save(tmp_path / "own.keras")
    out = tmp_path / "out"
    arguments = [f"--model={tmp_path / 'own.keras'}", "--format=c", f"--out={out}", "--notime"]
    for more in ([], ["--quantize=int8", "--overwrite"]):
        result = export(*arguments, *more)
        assert result.returncode == 0, result.stderr
        assert re.search(r"^compiled: [\d,]+ bytes of text", result.stdout, re.M)
    assert "sparse_int8" in (out / "model.c").read_text()
    result = export(*arguments, "--quantize=float16")
    assert result.stderr.startswith("Error: --quantize=float16 expects --format=litert.")


NOWHERE = [  # said once TensorFlow is there
    (["--run_dir=nowhere", "--out=x"], ["nowhere"]),
    (["--model=nowhere.keras", "--out=x"], ["--model=nowhere.keras"]),
]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--out=x"], ["--out", "--run_dir", "--model"]),
        (["--run_dir=a", "--model=b", "--out=x"], ["--run_dir=a", "--model=b"]),
        (["--info=nowhere"], ["--info=nowhere"]),
        (["--run_dir=a", "--out=x", "--quantize=int8"], ["--quantize=int8", "--format=litert"]),
        (["--run_dir=a", "--out=tests"], ["--out=tests", "--overwrite"]),
        (["--run_dir=a", "--out=tests", "--overwrite"], ["--out=tests", "export.json"]),
        *(pytest.param(*one, marks=pytest.mark.ci) for one in NOWHERE),
    ],
)
def test_bad_input_is_one_line(arguments, named):
    result = export(*arguments)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: ")
    assert all(name in result.stderr for name in named)
    assert result.stderr.count("\n") == 1
    assert not (ROOT / "x").exists()


@pytest.mark.ci
def test_an_export_replaces_an_export(sparse, tmp_path):
    out = tmp_path / "out"
    exporting.export(sparse, out, Choices(dense=True))
    check(out, Choices(), overwrite=True)
    exporting.export(sparse, out, Choices())
    assert report.read(out)["bytes"]["export"] < 200_000
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_where_nothing_can_be_written_is_said_first():
    with pytest.raises(InputError, match=r"^--out=/proc/1/out"):
        check(pathlib.Path("/proc/1/out"), Choices(), overwrite=False)


def test_what_is_not_counted_is_said(capsys):
    counts = {"written": 8, "alive": 4, "dense": 8, "not_counted": {"own": "Own is not known here"}}
    size = {"export": 10, "export_gzip": 5, "entropy_bound": 4, "dense": 20, "dense_gzip": 9}
    report.show(
        {
            "model": "mine",
            "format": "npz",
            "layers": [],
            "bytes": size,
            "products": counts,
            "milliseconds": {},
            "largest_difference": 0.0,
        }
    )
    assert re.search("own .*: Own is not known here", capsys.readouterr().out)
