import dataclasses
import itertools
import shutil

import numpy as np
import pytest

from lottery_tf.analysis import distances, runs
from lottery_tf.analysis.cache import Cache
from lottery_tf.analysis.measure import Output
from lottery_tf.benchmarks import distances as benchmark
from lottery_tf.errors import InputError
from lottery_tf.runs import files
from lottery_tf.runs.files import parse_csv
from lottery_tf.runs.rounds import FinishedRound, check_files, finished
from lottery_tf.runs.rundir import RunDir
from tests.made_runs import SHAPES, add_rounds, make_run


def angular(start, end, masks):
    return distances.products_of_weights(start, end, masks).angular()[0, 0]


def test_angles_that_can_be_seen():
    ones = {"k": np.array([True, True, True])}
    east, north = {"k": np.array([1, 0, 0])}, {"k": np.array([0, 2, 0])}
    between = {"k": np.array([3, 3, 0])}
    assert angular(east, north, (ones, ones)) == pytest.approx(1)
    assert angular(east, between, (ones, ones)) == pytest.approx(0.5)
    assert angular(east, {"k": -east["k"]}, (ones, ones)) == pytest.approx(2)
    assert angular(between, between, (ones, ones)) == pytest.approx(0, abs=1e-7)
    sums = distances.products_of_weights(east, north, (ones, ones))
    assert sums.cosine() == pytest.approx(1)
    assert sums.euclidean() == pytest.approx(np.sqrt(5))


def test_the_rounds_of_the_benchmark_are_rounds_of_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "SHAPES", {"one/kernel": (30, 20), "two/kernel": (20, 10)})
    rounds = [FinishedRound(tmp_path, round) for round in range(4)]
    for of in rounds:
        benchmark._write(of)
    check_files(rounds)
    alive = [sum(mask.sum() for mask in of.masks().values()) for of in rounds]
    assert alive[0] == 800 > alive[1] > alive[2] > alive[3] > 0


def test_only_what_is_alive_in_both_counts():
    some, other = {"k": np.array([1, 5, 0])}, {"k": np.array([1, 0, 9])}
    masks = {"k": np.array([True, True, False])}, {"k": np.array([True, False, True])}
    assert angular(some, other, masks) == pytest.approx(0)
    nothing = {"k": np.array([False, False, False])}
    assert np.isnan(angular(some, other, (nothing, nothing)))


def brute_force(run, metric, count):
    """The matrix by a loop over pairs, in float64."""

    def vector(weights, masks):
        return np.concatenate([weights[path][masks[path]] for path in masks]).astype(np.float64)

    def distance(one, two, masks):
        one, two = vector(one, masks), vector(two, masks)
        cosine = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
        return {
            "angular": 2 / np.pi * np.arccos(np.clip(cosine, -1, 1)),
            "cosine": 1 - cosine,
            "euclidean": np.linalg.norm(one - two),
        }[metric]

    values = np.zeros((count + 1, count + 1))
    masks = [run.masks(round) for round in range(count)]
    for i, j in itertools.combinations(range(count), 2):
        both = {path: masks[i][path] & masks[j][path] for path in masks[i]}
        values[i, j] = values[j, i] = distance(run.final(i), run.final(j), both)
    for i in range(count):
        values[i, -1] = values[-1, i] = distance(run.final(i), run.initial(i), masks[i])
    return values


@pytest.mark.parametrize("block", [7, distances.BLOCK])
@pytest.mark.parametrize("metric", distances.METRICS)
def test_the_matrix_is_that_of_a_loop_over_pairs(config, metric, block, monkeypatch):
    monkeypatch.setattr(distances, "BLOCK", block)
    run = make_run(config(), rounds=5)
    pairs, starts = distances.products_between(run, run, Cache())
    values = distances.with_initialization(pairs, starts, metric)
    expected = brute_force(run, metric, 5)
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(values, values.T)
    assert not values.diagonal().any()


def test_a_reinit_is_orthogonal_to_its_rounds(config):
    shapes = {"a/kernel": (300, 300)}
    values = {}
    for reset in ("init", "reinit"):
        run = make_run(config(run_dir=config().run_dir + reset), shapes=shapes, reset=reset)
        pairs, _ = distances.products_between(run, run, Cache())
        values[reset] = pairs.angular()[~np.eye(4, dtype=bool)]
    # The rounds share half of their variance, so the cosine is 0.5 or higher after pruning.
    assert values["init"].max() < 0.7
    np.testing.assert_allclose(values["reinit"], 1, atol=0.02)


def test_a_growing_run_adds_its_new_rounds_alone(config, monkeypatch, tmp_path):
    run = make_run(config(), rounds=3)
    path, asked = tmp_path / "cache.json", []
    measure = distances.products_of_rounds

    def recorded(rows, columns, on_block):
        asked.append(([row.round for row in rows], [column.round for column in columns]))
        return measure(rows, columns, on_block)

    monkeypatch.setattr(distances, "products_of_rounds", recorded)
    for _ in range(2):
        distances.products_between(run, run, Cache(path))
    add_rounds(run, [3, 4])
    pairs, starts = distances.products_between(run, run, Cache(path))
    assert asked == [([0, 1, 2], [0, 1, 2]), ([3, 4], [0, 1, 2, 3, 4])]
    values = distances.with_initialization(pairs, starts, "angular")
    np.testing.assert_allclose(values, brute_force(run, "angular", 5), atol=1e-6)


def test_a_round_that_was_trained_again_is_measured_again(config, tmp_path):
    run, path = make_run(config(), rounds=3), tmp_path / "cache.json"
    before, _ = distances.products_between(run, run, Cache(path))
    shutil.rmtree(run.round_path(2))
    add_rounds(run, [2], seed=7)
    after, _ = distances.products_between(run, run, Cache(path))
    assert before.dots[0, 1] == after.dots[0, 1]
    assert before.dots[0, 2] != after.dots[0, 2]


def direct(one, other):
    """{metric: distance} of two vectors, without any difference of large sums."""
    one, other = (vector.astype(np.longdouble) for vector in (one, other))
    units = [vector / np.sqrt((vector**2).sum()) for vector in (one, other)]
    chord = np.sqrt(((units[0] - units[1]) ** 2).sum())
    return {
        "angular": float(4 / np.pi * np.arcsin(chord / 2)),
        "cosine": float(chord**2 / 2),
        "euclidean": float(np.sqrt(((one - other) ** 2).sum())),
    }


# How a network differs from another: by a perturbation, by its length, by both.
CLOSE = {
    "perturbed": lambda weights, noise: weights + 1e-8 * noise,
    "perturbed at the threshold": lambda weights, noise: weights + 4e-3 * noise,
    "longer": lambda weights, noise: weights * (1 + 1e-7),
    "longer and turned": lambda weights, noise: weights * 1.1 + 1e-7 * noise,
    "far": lambda weights, noise: weights + noise,
    "opposite": lambda weights, noise: -weights,
}


@pytest.mark.parametrize("name", CLOSE)
@pytest.mark.parametrize("metric", distances.METRICS)
def test_close_networks_have_all_digits(name, metric):
    generator = np.random.default_rng(0)
    first = generator.normal(size=50_000)
    other = CLOSE[name](first, generator.normal(size=first.size))
    parts = [{"a": vector[:300], "b": vector[300:]} for vector in (first, other)]
    alive = {path: np.ones(array.shape, bool) for path, array in parts[0].items()}
    found = distances.METRICS[metric](distances.products_of_weights(*parts, (alive, alive)))[0, 0]
    # What is left of the angle of a longer network is the rounding of its own weights.
    rounding = 1e-15 if name == "longer" else 0
    assert found == pytest.approx(direct(first, other)[metric], rel=1e-8, abs=rounding)


def close_run(config, rounds=3):
    """A run whose rounds end close to one another, and to where they start."""
    run = RunDir(config.run_dir)
    run.path.mkdir()
    files.write_text(run.path / "config.json", config.to_json())
    generator = np.random.default_rng(3)
    ones = {path: generator.normal(size=shape) for path, shape in SHAPES.items()}
    for round in range(rounds):
        masks = {
            path: np.arange(array.size).reshape(array.shape) % 7 >= round
            for path, array in ones.items()
            if path.endswith("kernel")
        }
        final, initial = (
            {
                path: (
                    np.where(masks.get(path, True), array, 0)
                    * (1 + size * generator.normal(size=array.shape))
                ).astype(np.float32)
                for path, array in ones.items()
            }
            for size in (1e-6, 1e-4)
        )
        row = {"round": round, "density": 0.8**round, "threshold": 0.1, "test_accuracy": 0.9}
        arrays = {"masks": masks, "initial": initial, "final": final}
        run.save_round(round, **arrays, history=[row], metrics=row)
    return run


@pytest.mark.parametrize("block", [7, distances.BLOCK])
@pytest.mark.parametrize("metric", distances.METRICS)
def test_the_matrix_of_close_rounds_has_all_digits(config, tmp_path, metric, block, monkeypatch):
    monkeypatch.setattr(distances, "BLOCK", block)
    run, cache = close_run(config()), tmp_path / "cache.json"
    for _ in range(2):  # measured, and kept
        found = distances.matrices(run, None, [metric], Cache(cache))[metric]
        to_itself = distances.matrices(run, run, [metric], Cache())[metric]
        for i, j in itertools.product(range(3), range(3)):
            masks = [run.masks(i), run.masks(j)]
            one, other = (
                np.concatenate([run.final(r)[p][masks[0][p] & masks[1][p]] for p in masks[0]])
                for r in (i, j)
            )
            expected = direct(one, other)[metric]
            assert found[i, j] == pytest.approx(expected, rel=1e-8)
            assert to_itself[i, j] == pytest.approx(expected, rel=1e-8)
            assert (found[i, j] == 0) == (i == j)
        for i, masks in enumerate(map(run.masks, range(3))):
            ends = (
                np.concatenate([weights[path][masks[path]] for path in masks])
                for weights in (run.final(i), run.initial(i))
            )
            assert found[i, -1] == pytest.approx(direct(*ends)[metric], rel=1e-8)
        np.testing.assert_array_equal(found, found.T)


def test_what_an_older_version_kept_is_measured_again(config, tmp_path):
    run, cache = close_run(config()), Cache(tmp_path / "cache.json")
    keys = [round.fingerprint() for round in finished(run)]
    for one, other in itertools.product(keys, [*keys, "init"]):
        cache.keep([one, other], [1.0, 1.0, 1.0])
    found = distances.matrices(run, None, ["euclidean"], cache)["euclidean"]
    assert 0 < found[0, 1] < 1e-3


@pytest.mark.ci
def test_the_report_writes_a_labelled_table_and_pictures(config):
    run = make_run(config(), rounds=3)
    (rows, _), *_ = distances.MEASURE({"": [run]}, metric="all").report(Output())
    table = parse_csv((run.path / "analysis" / "distances_angular.csv").read_bytes())
    assert list(table[0]) == ["round", "0", "1", "2", "init"]
    assert [row["round"] for row in table] == [0, 1, 2, "init"]
    expected = brute_force(run, "angular", 3)
    found = [[row[name] for name in ("0", "1", "2", "init")] for row in table]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    for metric in ("angular", "euclidean"):
        assert (run.path / "analysis" / f"distances_{metric}.png").stat().st_size > 10_000
    assert rows[1]["to_previous"] == pytest.approx(expected[1, 0], abs=1e-6)
    np.testing.assert_equal(rows, distances.successive(run))
    assert table == distances.between_rounds(run)
    assert len(list((run.path / "tensorboard").iterdir())) == 3  # a file of each metric


@pytest.mark.ci
def test_replicates_have_the_rows_of_each_seed(config, tmp_path):
    two = [
        make_run(config(run_dir=str(tmp_path / str(seed)), seed=seed), rounds=rounds, seed=seed)
        for seed, rounds in ((0, 3), (1, 4))
    ]
    distances.MEASURE({"": two}).report(Output())
    file = two[0].path / "analysis" / "distances_of_2_runs_angular.csv"
    rows = parse_csv(file.read_bytes())
    for seed, run in enumerate(two):
        rounds = 3 + seed
        names = [*map(str, range(rounds)), "init"]
        found = [[row[name] for name in names] for row in rows if row["seed"] == seed]
        np.testing.assert_allclose(found, brute_force(run, "angular", rounds), atol=1e-6)
    assert len(rows) == 4 + 5
    assert (file.parent / "distances_of_2_runs_angular_mean.png").stat().st_size > 10_000


def test_rounds_of_another_run_are_the_columns(config, tmp_path):
    run = make_run(config(run_dir=str(tmp_path / "one")), rounds=2)
    other = make_run(config(run_dir=str(tmp_path / "other")), rounds=3, seed=1)
    distances.MEASURE({"": [run]}, other=other).report(Output())
    table = parse_csv((run.path / "analysis" / "distances_angular_to_other.csv").read_bytes())
    assert [list(row) for row in table] == [["round", "0", "1", "2"]] * 2
    masks = run.masks(1), other.masks(2)
    assert table[1]["2"] == pytest.approx(angular(run.final(1), other.final(2), masks), abs=1e-9)


@pytest.mark.parametrize("which", ["initial", "final"])
def test_a_weight_that_is_not_finite_is_named(config, which):
    run = make_run(config(), rounds=2)
    parts = {"masks": run.masks(1), "initial": run.initial(1), "final": run.final(1)}
    parts[which]["b/kernel"][0, 0] = np.nan
    shutil.rmtree(run.round_path(1))
    row = {"round": 1, "density": 0.8, "threshold": 0.1, "test_accuracy": 0.5}
    parts["masks"]["b/kernel"][0, 0] = True
    run.save_round(1, **parts, history=[row], metrics=row)
    with pytest.raises(InputError, match=rf"round_01/{which}.npz.*b/kernel"):
        distances.MEASURE({"": [run]}).report(Output())
    if which == "final":
        with pytest.raises(InputError, match=r"round_01/final.npz.*b/kernel"):
            FinishedRound(run.path, 1).final()
    assert not (run.path / "analysis" / "distances_angular.png").exists()


def test_what_does_not_fit_is_refused(config, tmp_path):
    one = make_run(config(run_dir=str(tmp_path / "one")), rounds=1)
    with pytest.raises(InputError, match=r"/one: "):
        distances.MEASURE({"": [one]}).report(Output())
    shapes = {"a/kernel": (3, 3)}
    small = make_run(config(run_dir=str(tmp_path / "small")), rounds=2, shapes=shapes)
    two = make_run(config(run_dir=str(tmp_path / "two")), rounds=2)
    with pytest.raises(InputError, match=r"small/round_00"):
        distances.MEASURE({"": [two]}, other=small).report(Output())
    conv = make_run(dataclasses.replace(config(run_dir=str(tmp_path / "conv")), model="conv4"))
    with pytest.raises(InputError, match=r"--model.*lenet.*two.*conv4.*conv"):
        runs.open_runs([two.path, conv.path])
    (two.round_path(1) / "final.npz").unlink()
    with pytest.raises(InputError, match=r"round_01/final.npz"):
        distances.MEASURE({"": [two]}).report(Output())
    with pytest.raises(InputError, match=r"--at_rounds.* 7"):
        runs.select_rounds(one, ["7"])
    with pytest.raises(InputError, match=r"--at_rounds.*x"):
        runs.select_rounds(one, ["x"])
    (two.round_path(0) / "masks.npz").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"masks.npz"):
        distances.MEASURE({"": [two]}).report(Output())
