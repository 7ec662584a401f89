"""Masks, histograms, thresholds, tables of results, and what TensorBoard gets of them."""

import numpy as np
import pytest
from absl import flags
from tensorboard.backend.event_processing import event_accumulator

from lottery_tf.analysis import histograms, masks, stability, thresholds, tool
from lottery_tf.analysis.results import Results, means, replicates
from lottery_tf.analysis.rounds import Network
from lottery_tf.errors import InputError
from lottery_tf.output import events, figures
from lottery_tf.store.files import parse_csv
from tests.made_runs import add_rounds, make_run

flags.FLAGS.mark_as_parsed()


def test_overlaps_that_can_be_seen():
    some = {"k": np.array([True, True, False, False])}
    half = {"k": np.array([True, False, False, False])}
    other = {"k": np.array([False, False, True, True])}
    nothing = {"k": np.array([False, False, False, False])}
    overlaps = masks.jaccard([some, nothing], [some, half, other, nothing])
    np.testing.assert_array_equal(overlaps, [[1, 0.5, 0, 0], [0, 0, 0, 1]])
    assert masks.chance([0.5], [0.5])[0, 0] == pytest.approx(1 / 3)


def test_chance_is_the_overlap_of_random_masks():
    generator = np.random.default_rng(0)
    some, other = ({"k": generator.random(100_000) < density} for density in (0.3, 0.1))
    overlap = masks.jaccard([some], [other])[0, 0]
    assert overlap == pytest.approx(masks.chance([0.3], [0.1])[0, 0], abs=2e-3)


def test_units_without_weights():
    dense = np.array([[True, False, False], [True, True, False]])  # (inputs, outputs)
    counts = {"remaining": 3, "outputs": 3, "dead_outputs": 1, "unused_inputs": 0}
    assert masks.units("a/kernel", dense) == counts
    kernel = np.zeros((3, 3, 2, 3), bool)
    kernel[1, 1, 0, 0] = True
    counts = {"remaining": 1, "outputs": 3, "dead_outputs": 2, "unused_inputs": 1}
    assert masks.units("a/kernel", kernel) == counts
    depthwise = np.zeros((3, 3, 4, 1), bool)
    depthwise[0, 0, 1, 0] = True
    counts = {"remaining": 1, "outputs": 4, "dead_outputs": 3, "unused_inputs": 3}
    assert masks.units("a/depthwise_kernel", depthwise) == counts


def test_a_layer_collapses_with_fewer_weights_than_outputs():
    full = {"k": np.ones((10, 10), bool)}
    some = {"k": np.arange(100).reshape(10, 10) < 30}
    (row,) = masks.layers(some, full)  # 100, 30, and 9 next
    assert (row["density"], row["state"]) == (0.3, "collapsing")
    assert masks.layers(full)[0]["state"] == ""
    assert masks.layers({"k": ~full["k"]}, some)[0]["state"] == "collapsed"


def test_the_report_of_masks(config, tmp_path, capsys):
    run = make_run(config(run_dir=str(tmp_path / "one")), rounds=3)
    other = make_run(config(run_dir=str(tmp_path / "other")), rounds=3, seed=1)
    masks.report([run, other], None)
    path = run.path / "analysis"
    table = parse_csv((path / "masks_layers.csv").read_bytes())
    assert len(table) == 6
    assert table[4]["density"] == run.masks(2)["a/kernel"].mean()
    overlap = parse_csv((path / "masks_overlap.csv").read_bytes())
    assert overlap[0]["1"] == pytest.approx(0.8)
    combined = parse_csv((path / "masks_of_2_runs_layers.csv").read_bytes())
    assert combined[4]["density_min"] <= combined[4]["density"] <= combined[4]["density_max"]
    masks.report([run], other)
    overlap = parse_csv((path / "masks_overlap_to_other.csv").read_bytes())
    assert overlap[0]["0"] == 1
    assert overlap[2]["2"] < 0.6
    assert "of random masks" in capsys.readouterr().out


def test_histograms_have_common_bins_and_count_the_survivors(config):
    run = make_run(config(), rounds=2)
    network = Network(str(run.path), 1)
    survivors = histograms.survivors(network.final(), network.masks())
    assert survivors["a/kernel"].size == run.masks(1)["a/kernel"].sum()
    assert survivors[histograms.ALL_LAYERS].size == round(0.8 * 900)
    twice = {layer: 2 * weights for layer, weights in survivors.items()}
    found = histograms.histograms({"one": survivors, "two": twice}, 10)
    for layer, labels in found.items():
        (counts, edges), (_, other_edges) = labels["one"], labels["two"]
        np.testing.assert_array_equal(edges, other_edges)
        assert counts.sum() == survivors[layer].size
        assert edges[-1] == pytest.approx(2 * np.abs(survivors[layer]).max())
        assert edges[0] == -edges[-1]


def test_histograms_and_thresholds_of_two_runs(config, tmp_path, capsys):
    run = make_run(config(run_dir=str(tmp_path / "one")), rounds=2)
    other = make_run(config(run_dir=str(tmp_path / "other")), rounds=2, seed=1)
    groups = {"ticket": [run], "reinit": [other, run]}
    histograms.report(groups, [1], 20)
    path = run.path / "analysis"
    table = parse_csv((path / "histograms.csv").read_bytes())
    counts = {label: sum(r["count"] for r in table if (r["run"], r["layer"]) == (label, "b/kernel"))
              for label in groups}  # fmt: skip
    alive = [r.masks(1)["b/kernel"].sum() for r in (run, other)]
    assert counts == {"ticket": alive[0], "reinit": sum(alive)}
    assert (path / "histograms_round_01.png").exists()
    thresholds.report(groups)
    table = parse_csv((path / "thresholds.csv").read_bytes())
    assert [row["threshold"] for row in table] == pytest.approx([0.1, 0.2, 0.1, 0.2])
    assert "reinit" in capsys.readouterr().out


def test_random_masks_have_the_density_of_each_layer(config):
    ticket = make_run(config(), rounds=3).masks(2)
    random = stability.random_masks(ticket, np.random.default_rng(0))
    for path, mask in ticket.items():
        assert random[path].sum() == mask.sum()
        assert (random[path] != mask).any()


def test_stability_is_measured_on_the_mask():
    masks_ = {"k": np.array([True, True, False])}
    found = stability.compare({"k": np.array([3, 0, 9])}, {"k": np.array([0, 4, 1])}, masks_)
    assert found == {"l2": pytest.approx(5), "degrees": pytest.approx(90)}


def test_means_have_min_and_max():
    tables = [[{"round": r, "x": r + k, "text": "a"} for r in range(2 + k)] for k in range(2)]
    assert replicates(tables, ("round",)) == [
        {"round": 0, "x": 0.5, "x_min": 0, "x_max": 1},
        {"round": 1, "x": 1.5, "x_min": 1, "x_max": 2},
    ]
    # The mean of means is that of the means, not of their extremes.
    again = means(replicates(tables, ("round",)), ())
    assert again == [
        {"round": 0.5, "round_min": 0, "round_max": 1, "x": 1.0, "x_min": 0.5, "x_max": 1.5}
    ]


def test_results_are_reused_until_their_rounds_change(config):
    run = make_run(config(), rounds=2)
    asked = []

    def value(options, round=1):
        def compute():
            asked.append(options)
            return [{"x": len(asked)}]

        network = Network(str(run.path), round)
        return Results(run, "things").reuse([network], options, compute)

    assert value("a") == value("a") == [{"x": 1}]
    assert value("b") == [{"x": 2}]
    assert value("a", round=0) == [{"x": 3}]
    for file in run.round_path(1).iterdir():
        file.unlink()
    run.round_path(1).rmdir()
    add_rounds(run, [1], seed=5)
    assert value("a") == [{"x": 4}]
    assert value("a", round=0) == [{"x": 3}]
    Results(run, "things").cache.write_text("{damaged")
    assert value("a") == [{"x": 5}]


def test_a_directory_that_cannot_be_made_is_named(config, tmp_path):
    run = make_run(config(), rounds=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"Cannot write into .*file/x.*--out_dir"):
        Results(run, "things", tmp_path / "file" / "x")


def test_tensorboard_reads_what_was_written_last(config):
    run = make_run(config(), rounds=1)
    picture = Results(run, "things").draw(
        figures.against_density, {"a": ([{"density": 1.0, "x": 2.0}], "x")}, what="x"
    )
    for value in (1.0, 2.0):
        scalars = {"a/b": [(0, value), (3, value + 1), (4, np.nan)]}
        tool.log(run, "things", scalars=scalars, images={"a/picture": (3, picture)})
    tool.log(run, "others", scalars={"c": [(0, 5.0)]})
    assert len(list((run.path / "tensorboard").iterdir())) == 2
    accumulator = event_accumulator.EventAccumulator(
        str(run.path / "tensorboard"), {"tensors": 0, "images": 0}
    )
    accumulator.Reload()
    assert sorted(accumulator.Tags()["tensors"]) == ["a/b", "a/picture", "c"]
    points = accumulator.Tensors("a/b")
    assert [(p.step, p.tensor_proto.float_val[0]) for p in points] == [(0, 2.0), (3, 3.0)]
    width, height, png = accumulator.Tensors("a/picture")[0].tensor_proto.string_val
    assert (width, height) == (b"1050", b"675")
    assert png == picture.read_bytes()
    assert events.finite([(0, 1.0), (1, np.inf)]) == [(0, 1.0)]
