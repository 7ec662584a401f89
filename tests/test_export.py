"""Whole exports of a run of the digits, each loaded in a process without this package."""

import json
import math
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking
from lottery_tf.errors import InputError
from lottery_tf.export import exporting, fresh, measuring, reports, ticket
from lottery_tf.export.choices import Choices, check
from lottery_tf.rundir import RunDir
from lottery_tf.studies import verdicts
from tests.conftest import ROOT
from tests.launching import launch
from tests.made_runs import make_run, set_metrics

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


def files(directory):
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch):
    """Times are measured by the command alone: two processes more for each export."""
    monkeypatch.setattr(measuring, "milliseconds", lambda *arguments: {})


@pytest.mark.ci
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_saved_model_gives_what_the_masked_model_gives(sparse, tmp_path, way):
    report = exporting.export(sparse, tmp_path / "out", Choices(**way))
    assert report["other_predictions"] == 0
    assert report["largest_difference"] < 1e-5
    assert report["compared_examples"] == len(sparse.labels) == 450
    assert report["accuracy_after"] == report["accuracy_before"]
    found = fresh.run("saved_model", tmp_path / "out", sparse.test)
    assert found.keys() == {"logits", "probabilities"}
    assert np.allclose(found["probabilities"].sum(1), 1, atol=1e-5)
    # Two batch sizes: the last of 450 in steps of 256 is smaller.
    alone = fresh.run("saved_model", tmp_path / "out", {"images": sparse.test["images"][:1]})
    assert np.allclose(alone["logits"], found["logits"][:1], atol=1e-5)
    assert {"assets/classes.txt", "assets/provenance.json", "export.json"} <= files(
        tmp_path / "out"
    )
    assert not list(tmp_path.glob(".out*"))
    provenance = json.loads((tmp_path / "out/assets/provenance.json").read_text())
    assert provenance["round"] == 2
    assert provenance["flags"]["model"] == "lenet"
    if way.get("compact"):
        assert report["products"]["written"] < report["products"]["dense"]


@pytest.mark.ci
def test_the_weights_are_near_their_entropy_and_the_rest_is_small(sparse, tmp_path):
    report = exporting.export(sparse, tmp_path / "out", Choices())
    size = report["bytes"]
    assert size["weights"] <= 1.15 * size["entropy_bound"]
    assert size["export"] <= 1.15 * size["entropy_bound"] + 60_000
    assert size["dense"] > 200_000 > 5 * size["weights"]
    alive = sum(mask.sum() for mask in masking.get_masks(sparse.masked).values())
    assert sum(row["alive"] for row in report["layers"]) == alive
    assert report["products"]["alive"] == alive  # of a dense network each weight counts once


@pytest.mark.ci
def test_sparse_products_give_the_same(sparse, tmp_path, monkeypatch):
    from lottery_tf.export import sparse_products

    monkeypatch.setattr(sparse_products, "WINS", 1e9)  # each is chosen
    report = exporting.export(sparse, tmp_path / "out", Choices(sparse_matmul="auto"))
    assert [row["sparse"] for row in report["sparse_products"]] == [True] * 3
    assert report["other_predictions"] == 0
    assert report["largest_difference"] < 1e-5
    assert report["bytes"]["weights"] <= 1.15 * report["bytes"]["entropy_bound"]


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
def test_the_loader_of_tensorflow_serving_loads_it(sparse, tmp_path):
    import tensorflow as tf

    exporting.export(sparse, tmp_path / "out", Choices())
    expected = exporting.reference(sparse)["logits"]
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "out"))
        signature = loaded.signature_def["serving_default"]
        logits = session.run(
            signature.outputs["logits"].name,
            {signature.inputs["images"].name: sparse.test["images"]},
        )
    assert np.allclose(logits, expected, atol=1e-4)


@pytest.mark.ci
@pytest.mark.parametrize("format", ["keras", "npz"])
def test_other_formats_are_whole_exports_too(sparse, tmp_path, format):
    report = exporting.export(sparse, tmp_path / "out", Choices(format=format, compact=True))
    assert report["format"] == format
    assert report["other_predictions"] == 0


@pytest.mark.ci
@pytest.mark.parametrize("compact", [False, True])
def test_the_ticket_runs_in_numpy_from_the_readme_alone(sparse, tmp_path, compact):
    exporting.export(sparse, tmp_path / "out", Choices(format="npz", compact=compact))
    codes = re.findall(r"```python\n(.*?)```", (tmp_path / "out/README.md").read_text(), re.S)
    np.save(tmp_path / "images.npy", sparse.test["images"])
    ends = "np.save('../logits.npy', run({'images': np.load('../images.npy')}))"
    code = "\n".join([*codes, ends, "import sys; assert 'keras' not in sys.modules"])
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "out", check=True)
    logits, expected = np.load(tmp_path / "logits.npy"), exporting.reference(sparse)["logits"]
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert np.array_equal(logits.argmax(-1), expected.argmax(-1))


@pytest.mark.ci
def test_a_mismatch_leaves_nothing_behind(sparse, tmp_path, monkeypatch):
    expected = {name: array + 0.01 for name, array in exporting.reference(sparse).items()}
    monkeypatch.setattr(exporting, "reference", lambda ticket: expected)
    with pytest.raises(InputError, match="gives other outputs than the masked model"):
        exporting.export(sparse, tmp_path / "out", Choices())
    assert not list(tmp_path.iterdir())


@pytest.fixture
def measured(config):
    """A run whose rounds have these accuracies on 10,000 examples."""
    run = make_run(config(), rounds=5)
    for round, accuracy in enumerate([0.9, 0.92, 0.85, 0.9, 0.8975]):
        set_metrics(run, round, test_accuracy=accuracy)
    (run.path / "data.json").write_text(json.dumps({"test": {"examples": 10_000}}))
    return run


def test_the_best_round_is_the_sparsest_that_is_as_accurate(measured):
    assert ticket.best_round(measured, 0)[0] == 3
    assert ticket.best_round(measured, 0.011)[0] == 4
    with pytest.raises(InputError, match="--tolerance: expected at least 0"):
        ticket.best_round(measured, -0.1)


def test_the_best_round_is_by_default_the_sparsest_that_the_verdict_calls_matching(measured):
    # One standard deviation of 90% on 10,000 examples is 0.3 points.
    number, words = ticket.best_round(measured)
    rows = measured.metrics()
    assert number == 4
    assert verdicts.sparsest_match(rows, 10_000) == rows[number]["density"]
    assert "90.00%, less 0.3 points" in words
    set_metrics(measured, 4, collapse="one class for all test examples")
    assert ticket.best_round(measured)[0] == 3
    for round in (1, 3):
        set_metrics(measured, round, test_accuracy=0.5)
    number, words = ticket.best_round(measured)
    assert (number, words[:14]) == (0, "the dense one,")


def test_the_best_round_says_on_which_examples_it_was_chosen(measured, config):
    assert "chosen by accuracy on the test split" in ticket.best_round(measured)[1]
    path = measured.path / "config.json"
    path.write_text(config(test_split="validation").to_json())
    assert "accuracy on the split validation" in ticket.best_round(measured)[1]
    path.write_text(config(test_fraction=0.1).to_json())
    words = ticket.best_round(measured)[1]
    assert "chosen by accuracy on the part of the training split" in words
    assert "held out, --test_fraction=0.1, so its accuracy there is optimistic" in words


@pytest.mark.parametrize("gone", [{"test_accuracy": math.nan}, {"collapse": "one class"}])
def test_without_a_dense_accuracy_no_round_is_the_best(measured, gone):
    set_metrics(measured, 0, **gone)
    with pytest.raises(InputError, match="--round=best expects a dense round"):
        ticket.best_round(measured)


def two_inputs():
    first, second = keras.Input((6,), name="first"), keras.Input((4, 5), name="second")
    attention = keras.layers.MultiHeadAttention(2, 4)(second, second)
    pooled = keras.layers.GlobalAveragePooling1D()(attention)
    inner = keras.Sequential([keras.Input((6,)), keras.layers.Dense(64, "relu")], name="inner")
    features = keras.layers.Concatenate()([inner(first), pooled])
    heads = [keras.layers.Dense(40, name="class")(features), keras.layers.Dense(1, name="size")]
    return keras.Model([first, second], [heads[0], heads[1](features)])


@pytest.mark.ci
def test_a_model_of_the_users_own_is_exported_with_its_names(tmp_path):
    keras.utils.set_random_seed(0)
    model = lottery_tf.masked(two_inputs())
    lottery_tf.prune(model, 0.8)
    model.save(tmp_path / "own.keras")
    report = exporting.export(ticket.of_file(tmp_path / "own.keras"), tmp_path / "out", Choices())
    assert report["largest_difference"] < 1e-5
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


def test_models_and_inputs_that_do_not_fit_are_named(tmp_path):
    (tmp_path / "no.keras").write_text("nothing")
    with pytest.raises(InputError, match=r"--model=.*no.keras: cannot load it"):
        ticket.of_file(tmp_path / "no.keras")
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "plain.keras")
    with pytest.raises(InputError, match="nothing to prune"):
        ticket.of_file(tmp_path / "plain.keras")
    lottery_tf.masked(two_inputs()).save(tmp_path / "own.keras")
    np.savez(tmp_path / "given.npz", first=np.zeros((1, 6)))
    with pytest.raises(InputError, match=r"expected arrays called first, second\. Found: first"):
        ticket.of_file(tmp_path / "own.keras", inputs=tmp_path / "given.npz")
    for shape, words in {
        (1, 4): r"second of shape \(None, 4, 5\), examples first\. Found: \(1, 4\)",
        (1, 4, 6): r"second of shape \(None, 4, 5\), examples first\. Found: \(1, 4, 6\)",
        (0, 4, 5): r"second of shape \(None, 4, 5\), examples first\. Found: \(0, 4, 5\)",
        (2, 4, 5): r"as many examples of each\. Found: {'first': 1, 'second': 2}",
    }.items():
        np.savez(tmp_path / "given.npz", first=np.zeros((1, 6)), second=np.zeros(shape))
        with pytest.raises(InputError, match=words):
            ticket.of_file(tmp_path / "own.keras", inputs=tmp_path / "given.npz")


def export(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tools.export", *map(str, arguments)],
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
    assert result.stderr == ""
    for word in ("round 1, as saved_model", "entropy bound", "multiply-adds", "batch 128", "accur"):
        assert word in result.stdout
    shown = export(f"--info={out}")
    assert shown.stdout + f"Wrote {out}\n" == result.stdout
    before = files(out)
    result = export(*arguments)
    assert result.stderr == f"Error: --out={out} is there. Name another, or add --overwrite.\n"
    assert files(out) == before
    (out / "export.json").write_text("{")
    assert "is damaged" in export(f"--info={out}").stderr


NOWHERE = [  # said once TensorFlow is there
    (["--run_dir=nowhere", "--out=x"], "nowhere is not a run"),
    (["--model=nowhere.keras", "--out=x"], "--model=nowhere.keras: cannot load it"),
]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out=x"], "Expected --out and one of --run_dir and --model"),
        (["--run_dir=a", "--model=b", "--out=x"], "Expected --out and one of"),
        (["--info=nowhere"], "--info=nowhere: cannot read"),
        (["--run_dir=a", "--out=x", "--format=keras", "--sparse_matmul=auto"], "saved_model"),
        (["--run_dir=a", "--out=x", "--quantize=int8"], "--format=litert"),
        (["--run_dir=a", "--out=tests"], "--out=tests is there"),
        (["--run_dir=a", "--out=tests", "--overwrite"], "is no export, and is not overwritten"),
        *(pytest.param(*one, marks=pytest.mark.ci) for one in NOWHERE),
    ],
)
def test_bad_input_is_one_line(arguments, words):
    result = export(*arguments)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (ROOT / "x").exists()


@pytest.mark.ci
def test_rounds_that_are_not_there_are_named(run):
    for wrong in ("3", "-1", "latest"):
        with pytest.raises(InputError, match=r"--round: expected best, or a finished .*0 to 2"):
            ticket.of_run(run, wrong)


@pytest.mark.ci
def test_an_export_replaces_an_export(sparse, tmp_path):
    out = tmp_path / "out"
    exporting.export(sparse, out, Choices(dense=True))
    check(out, Choices(), overwrite=True)
    exporting.export(sparse, out, Choices())
    assert reports.read(out)["bytes"]["export"] < 200_000
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_where_nothing_can_be_written_is_said_first(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write there"):
        check(pathlib.Path("/proc/1/out"), Choices(), overwrite=False)


def test_what_is_not_counted_is_said(capsys):
    counts = {"written": 8, "alive": 4, "dense": 8, "not_counted": {"own": "Own is not known here"}}
    size = {"export": 10, "export_gzip": 5, "entropy_bound": 4, "dense": 20, "dense_gzip": 9}
    reports.show({"model": "mine", "format": "npz", "layers": [], "bytes": size, "products": counts,
                  "milliseconds": {}, "largest_difference": 0.0})  # fmt: skip
    assert "multiply-adds of own are not counted: Own is not known here" in capsys.readouterr().out
