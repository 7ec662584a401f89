"""Learning distances and signs, on arrays that can be checked by eye."""

import numpy as np
import pytest

from lottery_tf.analysis import learning
from lottery_tf.analysis.measure import Output
from lottery_tf.analysis.replicates import means_beside
from lottery_tf.runs.files import parse_csv
from tests.made_runs import make_run, set_metrics

MASKS = {"a": np.array([True, True, False, True]), "b": np.array([True, False])}
START = {"a": np.array([1.0, -2.0, 9.0, 3.0]), "b": np.array([1.0, 9.0])}
END = {"a": np.array([4.0, -2.0, 0.0, -1.0]), "b": np.array([1.0, 0.0])}  # moved by 3, 0, 4; by 0
OLD = {"a": np.array([1.0, 5.0, 5.0, 2.0]), "b": np.array([7.0, 5.0])}  # moved by 0, 7, -1; by 3
BEFORE = {"a": np.array([1.0, -2.0, 9.0, 3.0]), "b": np.array([4.0, 9.0])}, OLD


def test_distances_and_signs_that_can_be_seen():
    first, second, whole = learning.of_networks(START, END, MASKS, BEFORE)
    assert first == {
        "layer": "a", "weights": 3, "distance": 5.0, "per_weight": pytest.approx(5 / 3**0.5),
        "kept_signs": pytest.approx(2 / 3), "flips": pytest.approx(2 / 3),
        "turn": pytest.approx(2 / np.pi * np.arccos(4 / (5 * 50**0.5))),
    }  # fmt: skip
    assert np.isnan(second.pop("turn"))  # it has not moved
    assert second == {
        "layer": "b", "weights": 1, "distance": 0, "per_weight": 0, "kept_signs": 1, "flips": 0
    }  # fmt: skip
    assert whole == {
        "layer": "all layers", "weights": 4, "distance": 5.0, "per_weight": 2.5,
        "kept_signs": 0.75, "flips": 0.5,
        "turn": pytest.approx(2 / np.pi * np.arccos(4 / (5 * 59**0.5))),
    }  # fmt: skip


def test_what_is_not_there_has_no_value():
    *_, whole = learning.of_networks(START, END, MASKS, None)
    assert np.isnan([whole["flips"], whole["turn"]]).all()
    nothing = {path: np.zeros_like(mask) for path, mask in MASKS.items()}
    (row, *_) = learning.of_networks(START, END, nothing, BEFORE)
    assert (row["weights"], row["distance"]) == (0, 0)
    assert np.isnan([row[name] for name in ("per_weight", "kept_signs", "flips", "turn")]).all()


def test_a_lead_is_over_the_reinit_of_the_same_seed(config, tmp_path):
    def run(reset, seed, accuracy, **more):
        path = str(tmp_path / f"{reset}_{seed}")
        made = make_run(config(run_dir=path, reset=reset, seed=seed), rounds=2, seed=seed)
        set_metrics(made, 1, test_accuracy=accuracy, **more)
        return made

    tickets = [run("init", 0, 0.75), run("init", 1, 1.0)]
    reinits = [run("reinit", 1, 0.5), run("reinit", 0, 0.5), run("reinit", 2, 0.0)]
    rows = learning.of_rounds({"ticket": tickets, "reinit": reinits})
    leads = {(row["seed"], row["round"]): row["lead"] for row in rows if row["run"] == "ticket"}
    assert leads == {(0, 0): 0, (0, 1): 0.25, (1, 0): 0, (1, 1): 0.5}
    mean = means_beside(rows, learning.BY)[5]  # round 1, all layers
    assert mean["lead"] == 0.375
    assert (mean["lead_min"], mean["lead_max"]) == (0.25, 0.5)
    alone = learning.of_rounds({"ticket": tickets[:1], "reinit": reinits[2:]})
    assert not any("lead" in row for row in alone)  # no reinit of its seed
    set_metrics(reinits[1], 1, collapse="one class for all test examples")
    rows = learning.of_rounds({"ticket": tickets[:1], "reinit": reinits})
    ahead = [row for row in rows if "lead" in row]
    assert [(row["run"], row["seed"], row["round"]) for row in ahead] == [("ticket", 0, 0)] * 3


def test_replicates_have_means_and_ends(config):
    path = config().run_dir
    runs = [make_run(config(run_dir=f"{path}_{seed}"), rounds=2, seed=seed) for seed in (1, 2)]
    rows = means_beside(learning.of_rounds({"ticket": runs, "reinit": runs[:1]}), learning.BY)
    alone = [learning.of_rounds(run)[5]["distance"] for run in runs]  # round 1, all layers
    assert rows[5]["distance"] == pytest.approx(sum(alone) / 2)
    assert (rows[5]["distance_min"], rows[5]["distance_max"]) == (min(alone), max(alone))
    assert (rows[5]["lead"], rows[11]["distance"]) == (0, alone[0])


def test_flips_are_from_the_end_of_the_round_before(config):
    run = make_run(config(), rounds=3)
    before, end, masks = run.final(1), run.final(2), run.masks(2)
    pairs = [(before[path][mask], end[path][mask]) for path, mask in masks.items()]
    by_eye = np.concatenate([one * two < 0 for one, two in pairs]).mean()
    *_, whole = learning.of_rounds(run)
    assert whole["flips"] == pytest.approx(by_eye)


def test_learning_is_written_and_drawn(config):
    run = make_run(config(), rounds=3)
    ((rows, _),) = learning.MEASURE({"ticket": [run]}).report(output := Output())
    assert [row["round"] for row in rows] == [0, 1, 2]
    table = parse_csv((run.path / "analysis/learning.csv").read_bytes())
    assert [row["layer"] for row in table[:3]] == ["a/kernel", "b/kernel", "all layers"]
    assert {path.name for path in output.written} == {
        "learning.csv", "learning_distance.png", "learning_signs.png", "tensorboard"
    }  # fmt: skip


def test_a_small_turn_and_a_small_move_have_all_digits():
    generator = np.random.default_rng(0)
    start, move, aside = (generator.normal(size=(40, 50)) for _ in range(3))
    for angle in (1e-9, 1e-6, 1e-3):
        along = aside - (aside * move).sum() / (move**2).sum() * move
        along *= np.linalg.norm(move) / np.linalg.norm(along)
        turned = move * np.cos(angle) + along * np.sin(angle)
        zeros, masks = np.zeros_like(start), {"k": np.ones(start.shape, bool)}
        before = {"k": zeros}, {"k": move}
        rows = learning.of_networks({"k": zeros}, {"k": turned}, masks, before)
        for row in rows:  # of the kernel, and of all
            assert row["turn"] == pytest.approx(angle * 2 / np.pi, rel=1e-5)
    (row, _) = learning.of_networks({"k": start}, {"k": start + 1e-9 * move}, masks, None)
    expected = np.linalg.norm((start + 1e-9 * move) - start)
    assert row["distance"] == pytest.approx(expected, rel=1e-12)
