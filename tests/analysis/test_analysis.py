"""Masks, histograms, thresholds, tables of results, and what TensorBoard gets of them."""

import shutil

import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator

from lottery_tf.analysis import histograms, masks, retraining, stability, thresholds
from lottery_tf.analysis.cache import Cache
from lottery_tf.analysis.measure import Column, Findings, Output, Picture
from lottery_tf.analysis.replicates import means, means_beside, over_runs
from lottery_tf.errors import InputError
from lottery_tf.plots import figures
from lottery_tf.pruning import dead_units
from lottery_tf.runs.files import parse_csv
from lottery_tf.runs.rounds import FinishedRound
from tests.made_runs import add_rounds, make_run


def test_overlaps_that_can_be_seen():
    some = {"k": np.array([True, True, False, False])}
    half = {"k": np.array([True, False, False, False])}
    other = {"k": np.array([False, False, True, True])}
    nothing = {"k": np.array([False, False, False, False])}
    overlaps = masks.jaccard([some, nothing], [some, half, other, nothing])
    np.testing.assert_array_equal(overlaps, [[1, 0.5, 0, 0], [0, 0, 0, 1]])
    assert masks.chance(0.5, 0.5) == pytest.approx(1 / 3)


def test_chance_is_the_overlap_of_random_masks():
    generator = np.random.default_rng(0)
    some, other = ({"k": generator.random(100_000) < density} for density in (0.3, 0.1))
    overlap = masks.jaccard([some], [other])[0, 0]
    assert overlap == pytest.approx(masks.chance(0.3, 0.1), abs=2e-3)


@pytest.mark.parametrize(
    ("name", "kind", "shape", "alive", "counts"),
    [
        ("kernel", "", (2, 3), [(0, 0), (1, 0), (1, 1)], (3, 3, 1, 0)),
        ("kernel", "", (3, 3, 2, 3), [(1, 1, 0, 0)], (1, 3, 2, 1)),
        ("depthwise_kernel", "depthwise", (3, 3, 4, 1), [(0, 0, 1, 0)], (1, 4, 3, 3)),
        # (height, width, outputs, inputs)
        ("kernel", "transposed", (3, 3, 2, 5), [(1, 1, 0, i) for i in range(3)], (3, 2, 1, 2)),
    ],
)
def test_outputs_and_inputs_without_weights(name, kind, shape, alive, counts):
    mask = np.zeros(shape, bool)
    mask[tuple(zip(*alive, strict=True))] = True
    names = ("remaining", "outputs", "dead_outputs", "unused_inputs")
    expected = dict(zip(names, counts, strict=True))
    assert dead_units.count_alive(mask, kind) == expected
    kinds = {f"a/{name}": kind} if kind == "transposed" else {}
    (row,) = dead_units.layers({f"a/{name}": mask}, kinds=kinds)
    assert {name: row[name] for name in names} == expected


def test_the_outputs_of_a_recurrent_layer_are_its_units():
    kernel, recurrent = np.zeros((3, 8), bool), np.zeros((2, 8), bool)  # an LSTM of 2 units
    kernel[0, [1, 6]] = True  # gate 0 of unit 1, gate 3 of unit 0
    recurrent[:, 3] = True  # gate 1 of unit 1
    rows = dead_units.layers({"lstm/kernel": kernel, "lstm/recurrent_kernel": recurrent})
    assert [(row["outputs"], row["dead_outputs"]) for row in rows] == [(2, 0), (2, 1)]
    assert rows[0]["unused_inputs"] == 2


def test_kinds_of_convolutions_are_known_by_their_bias(config):
    shapes = {"up/kernel": (3, 3, 2, 5), "up/bias": (2,), "conv/kernel": (3, 3, 2, 5),
              "conv/bias": (5,),
              "deep/kernel": (3, 3, 4, 2), "deep/bias": (8,),
              "dense/kernel": (2, 5), "dense/bias": (2,)}  # fmt: skip
    run = make_run(config(model="nowhere:model"), rounds=1, shapes=shapes)
    assert masks.kernel_kinds(run) == {"up/kernel": "transposed", "deep/kernel": "depthwise"}
    assert {row["layer"]: row["outputs"] for row in masks.of_layers(run)} == {
        "up/kernel": 2, "conv/kernel": 5, "deep/kernel": 8, "dense/kernel": 5
    }  # fmt: skip
    known = make_run(config(run_dir=config().run_dir + "_lenet"), rounds=1, shapes=shapes)
    assert masks.kernel_kinds(known) == {}


def test_the_network_tells_the_kinds_of_convolutions_that_files_do_not(config):
    run = make_run(config(model="tests.networks:upsampling"), rounds=1, shapes=UPSAMPLING)
    assert masks.kernel_kinds(run) == {
        "up/kernel": "transposed", "square/kernel": "transposed", "deep/kernel": "depthwise"
    }  # fmt: skip


UPSAMPLING = {"down/kernel": (3, 3, 1, 4), "up/kernel": (2, 2, 3, 4), "square/kernel": (2, 2, 3, 3),
              "square/bias": (3,), "plain/kernel": (2, 2, 3, 3), "plain/bias": (3,),
              "deep/kernel": (2, 2, 3, 1), "deep/bias": (3,), "logits/kernel": (3, 10)}  # fmt: skip


def test_a_layer_collapses_with_fewer_weights_than_outputs():
    full = {"k": np.ones((10, 10), bool)}
    some = {"k": np.arange(100).reshape(10, 10) < 30}
    (row,) = dead_units.layers(some, full)  # 100, 30, and 9 next
    assert (row["density"], row["state"]) == (0.3, "collapsing")
    assert dead_units.layers(full)[0]["state"] == ""
    assert dead_units.layers({"k": ~full["k"]}, some)[0]["state"] == "collapsed"


@pytest.mark.ci
def test_the_report_of_masks(config, tmp_path):
    run = make_run(config(run_dir=str(tmp_path / "one")), rounds=3)
    other = make_run(config(run_dir=str(tmp_path / "other")), rounds=3, seed=1)
    masks.MEASURE({"": [run, other]}).report(Output())
    path = run.path / "analysis"
    table = parse_csv((path / "masks_layers.csv").read_bytes())
    assert len(table) == 6
    assert table[4]["density"] == run.masks(2)["a/kernel"].mean()
    overlap = parse_csv((path / "masks_overlap.csv").read_bytes())
    assert overlap[0]["1"] == pytest.approx(0.8)
    combined = parse_csv((path / "masks_of_2_runs_layers.csv").read_bytes())
    assert [row["density"] for row in combined[:6]] == [row["density"] for row in table]
    assert {row["seed"] for row in combined} == {str(run.path), str(other.path)}  # of equal seeds
    _, (layers, _), (overlaps, _) = masks.MEASURE({"": [run]}, other=other).report(Output())
    assert layers == [row for row in masks.of_layers(run) if row["round"] == 2]
    overlap = parse_csv((path / "masks_overlap_to_other.csv").read_bytes())
    assert overlap[0]["0"] == 1
    assert overlap[2]["2"] < 0.6
    assert [row["overlap"] for row in overlaps] == [overlap[r][str(r)] for r in range(3)]
    assert overlaps[2]["chance"] == pytest.approx(masks.chance(0.64, 0.64))
    assert masks.overlaps(run, other) == overlap


def test_histograms_have_common_bins_and_count_the_survivors(config):
    run = make_run(config(), rounds=2)
    blocks = histograms.survivors([run], 1)
    survivors = {layer: np.concatenate(list(some())) for layer, some in blocks.items()}
    assert survivors["a/kernel"].size == run.masks(1)["a/kernel"].sum()
    assert survivors[histograms.ALL_LAYERS].size == round(0.8 * 900)
    twice = {layer: (lambda s=some: (2 * b for b in s())) for layer, some in blocks.items()}
    panels = histograms.histograms({"one": blocks, "two": twice}, 10)
    for layer, labels in panels.items():
        (counts, edges), (_, other_edges) = labels["one"], labels["two"]
        np.testing.assert_array_equal(edges, other_edges)
        expected = np.histogram(survivors[layer].astype(float), 10, (edges[0], edges[-1]))
        np.testing.assert_array_equal(counts, expected[0])
        assert edges[-1] == pytest.approx(2 * np.abs(survivors[layer]).max())
        assert edges[0] == -edges[-1]


def test_histograms_and_thresholds_of_two_runs(config, tmp_path):
    run = make_run(config(run_dir=str(tmp_path / "one")), rounds=2)
    other = make_run(config(run_dir=str(tmp_path / "other")), rounds=2, seed=1)
    groups = {"ticket": [run], "reinit": [other, run]}
    ((summary, _),) = histograms.MEASURE(groups, at_rounds=[1], bins=20).report(Output())
    assert {row["run"] for row in summary} == {"ticket", "reinit"}
    path = run.path / "analysis"
    table = parse_csv((path / "histograms.csv").read_bytes())
    counts = {label: sum(r["count"] for r in table if (r["run"], r["layer"]) == (label, "b/kernel"))
              for label in groups}  # fmt: skip
    alive = [r.masks(1)["b/kernel"].sum() for r in (run, other)]
    assert counts == {"ticket": alive[0], "reinit": sum(alive)}
    assert (path / "histograms_round_01.png").exists()
    magnitudes = parse_csv((path / "histograms_magnitudes.csv").read_bytes())
    assert means_beside(magnitudes, ("round", "layer")) == summary
    found = {(row["run"], row["layer"]): row for row in summary}["ticket", "b/kernel"]
    kept = run.masks(1)["b/kernel"]
    for round, magnitude in ((0, found["dense_magnitude"]), (1, found["mean_magnitude"])):
        assert magnitude == pytest.approx(np.abs(run.final(round)["b/kernel"][kept]).mean())
    assert found["dense_magnitude"] != found["mean_magnitude"]
    assert table == histograms.of_rounds(groups, at_rounds=[1], bins=20)
    ((rows, _),) = thresholds.MEASURE(groups).report(Output())
    table = parse_csv((path / "thresholds.csv").read_bytes())
    assert [row["threshold"] for row in table] == pytest.approx([0.1, 0.2] * 3)
    assert rows == means_beside(thresholds.of_rounds(groups), ("round",))
    assert thresholds.of_rounds(run) == [
        {"run": "one", "round": r, "density": 0.8**r, "threshold": pytest.approx(0.1 * (r + 1))}
        for r in range(2)
    ]


def test_random_masks_have_the_density_of_each_layer(config):
    ticket = make_run(config(), rounds=3).masks(2)
    random = retraining.random_masks(ticket, np.random.default_rng(0))
    for path, mask in ticket.items():
        assert random[path].sum() == mask.sum()
        assert (random[path] != mask).any()


def test_stability_is_measured_on_the_mask():
    masks_ = {"k": np.array([True, True, False])}
    found = stability.compare({"k": np.array([3, 0, 9])}, {"k": np.array([0, 4, 1])}, masks_)
    assert found == {"l2": pytest.approx(5), "degrees": pytest.approx(90)}


def test_means_have_min_and_max():
    tables = [[{"round": r, "x": r + k, "text": "a"} for r in range(2 + k)] for k in range(2)]
    assert over_runs(tables, ("round",)) == [
        {"round": 0, "x": 0.5, "x_min": 0, "x_max": 1},
        {"round": 1, "x": 1.5, "x_min": 1, "x_max": 2},
    ]
    # The mean of means is that of the means, not of their extremes.
    again = means(over_runs(tables, ("round",)), ())
    assert again == [
        {"round": 0.5, "round_min": 0, "round_max": 1, "x": 1.0, "x_min": 0.5, "x_max": 1.5}
    ]


def test_results_are_reused_until_their_rounds_change(config, tmp_path):
    run = make_run(config(), rounds=2)
    path, asked = tmp_path / "things.cache.json", []

    def value(options, round=1):
        def compute():
            asked.append(options)
            return [{"x": len(asked)}]

        return Cache(path).reuse([FinishedRound(run.path, round)], options, compute)

    assert value("a") == value("a") == [{"x": 1}]
    assert value("b") == [{"x": 2}]
    assert value("a", round=0) == [{"x": 3}]
    shutil.rmtree(run.round_path(1))
    add_rounds(run, [1], seed=5)
    assert value("a") == [{"x": 4}]
    assert value("a", round=0) == [{"x": 3}]
    path.write_text("{damaged")
    assert value("a") == [{"x": 5}]


def test_a_directory_that_cannot_be_made_is_named(config, tmp_path):
    run = make_run(config(), rounds=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/x.*--out_dir"):
        Output(str(tmp_path / "file" / "x")).of(run, apart=False)


@pytest.mark.slow
def test_another_directory_keeps_the_run_as_it_was(config, tmp_path):
    runs = [
        make_run(config(run_dir=str(tmp_path / name)), rounds=2, seed=seed)
        for seed, name in enumerate(("one", "two"))
    ]
    before = sorted(tmp_path.rglob("*"))
    out = tmp_path / "out"
    masks.MEASURE({"": runs}).report(Output(str(out), pdf=True))
    assert (
        sorted(path for path in tmp_path.rglob("*") if out not in [path, *path.parents]) == before
    )
    for name in ("one", "two"):
        assert (out / name / "masks_layers.csv").exists()
        assert (out / name / "masks_overlap.pdf").read_bytes().startswith(b"%PDF")
    assert (out / "masks_of_2_runs_overlap_mean.png").exists()


def test_tensorboard_reads_what_was_written_last(config):
    run = make_run(config(), rounds=1)
    path = Output().of(run, apart=False) / "things"
    figure = figures.against_density({"a": ([{"density": 1.0, "x": 2.0}], "x")}, what="x")
    for value in (1.0, 2.0):
        curves = {"a/b": ("x", [(0, value), (3, value + 1), (4, np.nan), (5, np.inf)])}
        pictures = {"a/picture": Picture(figure, "_end", 3)}
        columns = {"x": Column("x", "{}", "what x is")}
        findings = Findings("things", {}, pictures, curves)
        Output().publish(findings, path, columns=columns, log_to=run)
    others = Findings("others", curves={"c": ("x", [(0, 5.0)])})
    Output().publish(others, path, log_to=run)
    assert len(list((run.path / "tensorboard").iterdir())) == 2
    accumulator = event_accumulator.EventAccumulator(
        str(run.path / "tensorboard"), {"tensors": 0, "images": 0}
    )
    accumulator.Reload()
    assert sorted(accumulator.Tags()["tensors"]) == ["a/b", "a/picture", "c"]
    points = accumulator.Tensors("a/b")
    assert [(p.step, p.tensor_proto.float_val[0]) for p in points] == [(0, 2.0), (3, 3.0)]
    about = accumulator.SummaryMetadata("a/b").summary_description
    assert about == "what x is"
    width, height, png = accumulator.Tensors("a/picture")[0].tensor_proto.string_val
    assert (width, height) == (b"1050", b"675")
    assert png == path.with_name("things_end.png").read_bytes()
