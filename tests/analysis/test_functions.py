"""What networks compute: predictions, classes, untrained tickets and gradient noise, by hand."""

import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from lottery_tf import imp, masking
from lottery_tf.analysis import classes, distances, noise_scale, predictions, untrained
from lottery_tf.analysis.cache import Cache
from lottery_tf.analysis.measure import Output
from lottery_tf.analysis.retraining import Retrainings
from lottery_tf.analysis.runs import engine_of, network_of
from lottery_tf.errors import InputError
from lottery_tf.pruning.top_k import apply_masks
from lottery_tf.reports import run_report
from lottery_tf.runs import files
from lottery_tf.runs.rundir import RunDir
from tests.made_runs import make_run

# Arrays --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "other", "classes"), [(0.9, 0.7, 3), (0.2, 0.5, 4), (1, 0.8, 2)])
def test_the_disagreement_of_independent_errors_is_that_of_their_distribution(one, other, classes):
    def shares(accuracy):  # of each class, where class 0 is right
        return [accuracy] + [(1 - accuracy) / (classes - 1)] * (classes - 1)

    pairs = itertools.product(enumerate(shares(one)), enumerate(shares(other)))
    expected = sum(p * q for (i, p), (j, q) in pairs if i != j)
    assert predictions.independent_disagreement(one, other, classes) == pytest.approx(expected)


def test_two_networks_are_compared_example_by_example():
    one = np.eye(3)[[0, 1, 2, 0]]
    other = np.eye(3)[[0, 2, 2, 1]]  # another class for the second and the last one
    row = predictions.compare(one, other, np.array([0, 1, 1, 1]))
    assert (row["test_accuracy"], row["other_accuracy"], row["disagreement"]) == (0.5, 0.5, 0.5)
    assert row["independent"] == pytest.approx(1 - 0.25 - 0.25 / 2)
    assert row["ratio"] == pytest.approx(0.5 / 0.625)
    assert row["divergence"] == pytest.approx(0.5)  # a bit for each that is another class
    perfect = predictions.compare(one, one, np.array([0, 1, 2, 0]))
    assert (perfect["disagreement"], perfect["ratio"], perfect["divergence"]) == (0, 0, 0)


def test_the_divergence_is_scipys():
    from scipy.spatial.distance import jensenshannon

    one, other = np.random.default_rng(1).dirichlet(np.ones(5), (2, 20))
    expected = (jensenshannon(one, other, base=2, axis=1) ** 2).mean()
    assert predictions.divergence(one, other) == pytest.approx(expected)


def test_what_pruning_costs_a_class():
    labels = np.array([0, 0, 0, 0, 1, 1])
    dense = np.array([0, 0, 0, 1, 1, 0])
    pruned = np.array([0, 0, 1, 1, 1, 1])  # loses one of class 0, gains one of class 1
    whole, first, second, third = classes.of_predictions(dense, pruned, labels, 3)
    assert [row["class"] for row in (whole, first)] == ["all classes", "class 0"]
    assert (whole["test_accuracy"], whole["over_dense"]) == (pytest.approx(4 / 6), 0)
    assert whole["deviation"] == pytest.approx(np.sqrt(2) / 6)
    assert (first["over_dense"], second["over_dense"]) == (-0.25, 0.5)
    assert first["deviation"] == pytest.approx(np.std([-1, 0, 0, 0]) / np.sqrt(4))
    assert second["beyond_mean"] == 0.5
    assert third["examples"] == 0
    assert np.isnan(third["over_dense"])
    rows = [row | {"round": 1, "density": 0.8} for row in (whole, first, second, third)]
    assert classes.losing_most(rows) == ["class 0", "class 1"]
    assert "class 0 changes by -25.00%" in classes.MEASURE.verdict(rows)


def test_the_noise_scale_is_without_bias():
    # Over all ways to part six gradients into three batches of two.
    gradients = np.random.default_rng(2).normal(1, 2, (6, 3))
    from lottery_tf.analysis.gradient_noise import estimate

    mean = gradients.mean(0)
    found = [
        estimate(
            np.mean([batch @ batch for batch in gradients[list(o)].reshape(3, 2, 3).mean(1)]),
            mean @ mean,
            2,
            3,
        )
        for o in itertools.permutations(range(6))
    ]
    variance = np.cov(gradients.T).trace()
    assert np.mean([row["variance"] for row in found]) == pytest.approx(variance)
    squared = np.mean([row["gradient_squared"] for row in found])
    assert squared == pytest.approx(mean @ mean - variance / 6)
    assert np.isnan(estimate(1.0, 0.1, 2, 3)["noise_scale"])  # |G|^2 is not told from the noise


@pytest.mark.parametrize("steps", [(), ("start", "start"), ("middle",), ("1.5",)])
def test_places_in_a_round_are_checked(steps):
    with pytest.raises(InputError, match="--at_steps"):
        noise_scale.check_steps(steps)


# Runs ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of LeNet on the digits, and one of another seed; an epoch each."""
    from lottery_tf.config import Config
    from tests.conftest import ROOT

    made = []
    for seed in (0, 1):
        path = tmp_path_factory.mktemp("functions") / f"seed_{seed}"
        flags = {"batch_size": 32, "epochs": 1, "rounds": 3, "prune_fraction": 0.5, "seed": seed}
        imp.main(Config(run_dir=str(path), data_dir=str(ROOT / "data"), **flags))
        made.append(RunDir(path))
    return made


@pytest.fixture(scope="module")
def data(runs):
    """(images, labels) of the test split and of the training split as the noise visits it."""
    from lottery_tf.analysis.gradient_noise import visited

    engine = engine_of(runs[0])
    images, labels = map(np.concatenate, zip(*engine.feed.test_batches(), strict=True))
    train_images, train_labels = visited(engine, 200)
    inputs = (np.asarray(engine.normalise(part)) for part in (images, train_images))
    test, train = (part.reshape(len(part), -1).astype(np.float64) for part in inputs)
    return (test, labels), (train, train_labels)


def forward(weights, inputs):
    """The outputs of the layers of LeNet."""
    layers = [inputs]
    for name in ("hidden1", "hidden2", "logits"):
        outputs = layers[-1] @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]
        layers.append(outputs if name == "logits" else np.maximum(outputs, 0))
    return layers


def gradient(weights, masks, inputs, labels):
    """Of the mean cross-entropy by the weights alive, as one vector; by hand."""
    layers = forward(weights, inputs)
    powers = np.exp(layers[3] - layers[3].max(1, keepdims=True))
    error = (powers / powers.sum(1, keepdims=True) - np.eye(10)[labels]) / len(labels)
    parts = []
    for index, name in reversed(list(enumerate(("hidden1", "hidden2", "logits")))):
        kernel = f"{name}/kernel"
        parts += [((layers[index].T @ error) * masks[kernel]).ravel(), error.sum(0)]
        error = (error @ weights[kernel].T) * (layers[index] > 0)
    return np.concatenate(parts)


def classed(weights, inputs):
    return forward(weights, inputs)[-1].argmax(1)


@pytest.mark.ci
def test_disagreement_is_that_of_the_networks_by_hand(runs, data, monkeypatch):
    run, other = runs
    inputs, labels = data[0]
    own = [classed(run.final(round), inputs) for round in range(3)]
    # A copy of round 1, and one of which the round was trained again since.
    copies = Retrainings(run)
    copy, _ = copies.of_round(1, 5)
    copies.of_round(2, 5)
    (copies.path / "round_02_init_data_seed_5" / "source.txt").write_text("of another round\n")

    tables = predictions.MEASURE({"": [run]}).report(Output())
    ((rows, _),) = tables
    found = {(row["round"], row["other"]): row["disagreement"] for row in rows}
    assert found == {
        (1, "round before"): pytest.approx((own[1] != own[0]).mean()),
        (1, "dense network"): pytest.approx((own[1] != own[0]).mean()),
        (1, "its copies"): pytest.approx((own[1] != classed(copy, inputs)).mean()),
        (2, "round before"): pytest.approx((own[2] != own[1]).mean()),
        (2, "dense network"): pytest.approx((own[2] != own[0]).mean()),
    }
    assert min(found.values()) > 0
    for row in rows:
        assert row["test_accuracy"] == pytest.approx((own[row["round"]] == labels).mean())
    matrix = files.parse_csv((run.path / "analysis/predictions_matrix.csv").read_bytes())
    expected = [[(one != two).mean() for two in own] for one in own]
    np.testing.assert_allclose([[row[str(k)] for k in range(3)] for row in matrix], expected)
    monkeypatch.setattr(predictions, "engine_of", None)  # what is known is not evaluated
    again, _ = predictions.between_rounds(
        run, cache=Cache(run.path / "analysis/predictions.cache.json")
    )
    assert [row["disagreement"] for row in again] == [row["disagreement"] for row in rows]

    across, between = predictions.between_rounds(run, other)
    theirs = [classed(other.final(round), inputs) for round in range(3)]
    assert [row["other"] for row in across] == [other.path.name] * 3
    expected = [(one != two).mean() for one, two in zip(own, theirs, strict=True)]
    assert [row["disagreement"] for row in across] == pytest.approx(expected)
    assert between[0, 2] == pytest.approx((own[0] != theirs[2]).mean())


@pytest.mark.ci
def test_classes_and_untrained_tickets_are_those_by_hand(runs, data):
    run = runs[0]
    inputs, labels = data[0]
    rows = classes.of_rounds(run)
    for row in rows:
        right = classed(run.final(row["round"]), inputs) == labels
        of = labels == int(row["class"][6:]) if row["class"][:6] == "class " else labels >= 0
        assert row["test_accuracy"] == pytest.approx(right[of].mean())
        dense = classed(run.final(0), inputs) == labels
        assert row["over_dense"] == pytest.approx(right[of].mean() - dense[of].mean())
    assert len(rows) == 3 * 11
    for row in untrained.of_rounds(run):
        start = apply_masks(run.initial(0), run.masks(row["round"]))
        expected = (classed(start, inputs) == labels).mean()
        assert row["untrained_accuracy"] == pytest.approx(expected)
    assert row["untrained_accuracy"] > 0.2  # the mask alone carries W_0 over chance


@pytest.mark.ci
def test_the_noise_scale_of_a_round_is_that_of_gradients_by_hand(runs, data):
    run = runs[0]
    inputs, labels = (part.reshape(4, 50, *part.shape[1:]) for part in data[1])
    steps = ("start", "1ep", "end")
    rows = noise_scale.of_rounds(run, at_rounds=[1], at_steps=steps, examples=200)
    assert [row["at"] for row in rows] == [*steps]
    for row, weights in zip(rows[::2], (run.initial(1), run.final(1)), strict=True):
        gradients = np.array(
            [gradient(weights, run.masks(1), *of) for of in zip(inputs, labels, strict=True)]
        )
        variance = 50 * gradients.var(0, ddof=1).sum()
        mean = gradients.mean(0)
        squared = mean @ mean - variance / 200
        assert row["variance"] == pytest.approx(variance, rel=1e-3)
        assert row["gradient_squared"] == pytest.approx(squared, rel=1e-3)
        assert row["noise_scale"] == pytest.approx(variance / squared, rel=1e-2)
    # An epoch is the whole round, which is trained again with its own noise.
    assert [rows[1][n] for n in noise_scale.MEASURED] == [rows[2][n] for n in noise_scale.MEASURED]
    assert noise_scale.place_of("5") == "step 5"
    with pytest.raises(InputError, match=r"--at_steps.*2ep"):
        noise_scale.of_rounds(run, at_rounds=[1], at_steps=["2ep"], examples=200)
    with pytest.raises(InputError, match=r"--examples.* 60"):
        noise_scale.of_rounds(run, examples=60)


@pytest.mark.ci
def test_the_measures_of_functions_have_sections_of_a_report(runs, without_pictures):
    run = runs[1]
    for measure in (predictions, classes, untrained, noise_scale):
        measure.MEASURE({"ticket": [run]}).report(Output())
    path, _ = run_report.report([run.path])
    page = path.read_text()
    assert "Measure again" not in page
    for words in ("Predictions of the rounds", "Accuracy of each class", "The untrained ticket",
                  "Gradient noise scale", "all classes together by"):  # fmt: skip
        assert words in page


@pytest.mark.ci
def test_replicates_of_functions_have_means(runs):
    first, *_ = runs
    measure = predictions.MEASURE({"": runs})
    ((rows, _),) = measure.report(Output())
    each = [predictions.between_rounds(run)[0] for run in runs]
    of_last = [of[-1]["disagreement"] for of in each]
    assert rows[-1]["disagreement"] == pytest.approx(np.mean(of_last))
    assert rows[-1]["disagreement_max"] == pytest.approx(max(of_last))
    assert (first.path / "analysis/predictions_of_2_runs_matrix.csv").exists()


@pytest.mark.ci
def test_networks_of_ones_own_with_batchnorm_are_measured(config):
    made = config(model="tests.networks:normalised", rounds=2, epochs=1)
    imp.main(made)
    run = RunDir(made.run_dir)
    accuracies = [row["test_accuracy"] for row in run.metrics()]
    whole = [row for row in classes.of_rounds(run) if row["class"] == classes.ALL]
    assert [row["test_accuracy"] for row in whole] == pytest.approx(accuracies)
    engine = engine_of(run)
    from lottery_tf.analysis.gradient_noise import GradientNoise

    noise = GradientNoise(engine, 320)
    assert (noise.size, noise.count, noise.training) == (32, 10, True)
    before = masking.get_weights(engine.network)
    row = noise.of(run.initial(1), run.masks(1))
    for path, array in masking.get_weights(engine.network).items():
        np.testing.assert_array_equal(array, before[path])  # BatchNorm's statistics, too
    # The squared norm of a batch's gradient, which BatchNorm takes by itself, from Keras alone.
    masking.set_weights(engine.network, run.initial(1), run.masks(1))
    squares, total = [], 0
    for images, labels in zip(noise.images, noise.labels, strict=True):
        with tf.GradientTape() as tape:
            logits = engine.network(engine.normalise(images), training=True)
            losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
            loss = tf.reduce_mean(losses)
        variables = [v.value for v in engine.network.trainable_variables]
        flat = np.concatenate([g.numpy().ravel() for g in tape.gradient(loss, variables)])
        squares.append(flat @ flat)
        total = total + flat / 10
    variance = (np.mean(squares) - total @ total) / (1 / 32 - 1 / 320)
    assert row["variance"] == pytest.approx(variance, rel=1e-3)
    assert 0 < untrained.of_rounds(run)[1]["untrained_accuracy"] < 1


# Aligned distances ---------------------------------------------------------------------------


def test_aligned_distances_undo_a_permutation_of_units(config, tmp_path):
    shapes = {"hidden1/kernel": (64, 300), "hidden1/bias": (300,), "hidden2/kernel": (300, 100),
              "hidden2/bias": (100,), "logits/kernel": (100, 10), "logits/bias": (10,)}  # fmt: skip
    run = make_run(config(), rounds=2, shapes=shapes)
    from lottery_tf.analysis import alignment

    symmetries = alignment.find(network_of(run))
    generator = np.random.default_rng(5)
    groups = dict.fromkeys(g for axes in symmetries.values() for axis in axes for g in axis or ())
    order = {g: generator.permutation(g.size) for g in groups if not g.fixed}
    other = RunDir(tmp_path / "other")
    other.path.mkdir()
    config_json = json.loads((run.path / "config.json").read_text())
    (other.path / "config.json").write_text(json.dumps(config_json | {"seed": 1}))
    expected = []
    for round in range(2):
        masks, start, end = run.masks(round), run.initial(round), run.final(round)
        near = {p: a + 0.1 * generator.normal(size=a.shape).astype("f") for p, a in end.items()}
        near = apply_masks(near, masks)
        products = distances.products_of_weights(end, near, (masks, masks))
        expected.append(float(products.angular()[0, 0]))
        masks, start, near = (
            alignment.permute(symmetries, of, order) for of in (masks, start, near)
        )
        row = run.metrics_of(round)
        other.save_round(round, masks=masks, initial=start, final=near, history=[row], metrics=row)
    plain, rows = distances.between_rounds(run, other), distances.aligned(run, other)
    assert [row["distance"] for row in rows] == pytest.approx([plain[r][str(r)] for r in range(2)])
    assert plain[1]["1"] > 0.8
    assert [row["permuted"] for row in rows] == pytest.approx(expected)
    # Of a network that is shuffled, permuting finds something, but not the network.
    assert all(0.5 < row["chance"] < row["distance"] for row in rows)
    # A run's own rounds have their units in the same places.
    (row,) = distances.aligned(run)
    same = pytest.approx(distances.between_rounds(run)[1]["0"])
    assert (row["distance"], row["permuted"]) == (same, same)
    measure = distances.MEASURE({"": [run]}, align="permutation", other=other)
    *_, (shown, columns) = measure.report(Output())
    assert shown == rows
    assert columns["chance"][0] == "by chance"
    path = run.path / "analysis/distances_angular_permutation_to_other.csv"
    table = files.parse_csv(path.read_bytes())
    assert [row["permuted"] for row in table] == pytest.approx(expected)
