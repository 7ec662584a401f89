"""Replicates that are not alike: collapsed, shorter, or measured in part."""

import math
import os

import numpy as np
import pytest

from lottery_tf.analysis import barriers, instability, learning, paths, pixels, thresholds
from lottery_tf.analysis.measure import Output
from lottery_tf.analysis.replicates import means_beside, over_matrices, over_runs, without_collapsed
from lottery_tf.paper import drawings
from lottery_tf.paper.measures import Measures
from lottery_tf.plots import panels, tables
from lottery_tf.plots.panels import Curve
from lottery_tf.pruning import collapse
from lottery_tf.reports import relations, run_report, study_report, verdicts
from lottery_tf.reports.pages import Section, Table
from lottery_tf.reports.reading import mean_rows, read
from lottery_tf.runs import files
from tests.conftest import ROOT
from tests.made_figures import draw, make_points, study_in
from tests.made_runs import make_run, set_metrics
from tests.reports.test_report import SHAPES, Balanced

NAN = math.nan


@pytest.fixture
def pair(config, tmp_path, without_pictures):
    """Two runs of 3 rounds, replicates."""
    return [
        make_run(config(run_dir=str(tmp_path / "runs" / f"seed={seed}"), rounds=3, seed=seed),
                 rounds=3, shapes=SHAPES, seed=seed)
        for seed in (0, 1)
    ]  # fmt: skip


def collapse_round(run, round):
    """The round of a run answers one class."""
    set_metrics(run, round, test_accuracy=0.1, collapse=collapse.ONE_CLASS)


def words_of(runs):
    path, section = run_report.report([run.path for run in runs])
    return Balanced(path.read_text()).words, {v.name: v for v in section.verdicts}


def write_table(run, name, rows):
    (run.path / "analysis").mkdir(exist_ok=True)
    (run.path / "analysis" / f"{name}.csv").write_bytes(files.format_csv(rows))


def barrier(start, value, collapsed=0):
    about = {"split": "test", "bn_stats": "none", "density": 0.8 ** (start + 1)}
    measured = {"error_barrier": value, "collapsed": collapsed}
    return {"from_round": start, "to_round": start + 1} | about | measured


def instability_of(*rounds):
    about = {"start": "init", "split": "test", "bn_stats": "none", "collapsed": 0}
    return [
        {"round": round, "density": 0.8**round, "instability": 0.01} | about for round in rounds
    ]


# Means ---------------------------------------------------------------------------------------


def test_a_mean_is_of_columns_that_are_numbers_in_all_rows():
    first = [{"round": 0, "x": 1, "words": NAN, "barrier": 0.1}]
    second = [{"round": 0, "x": 3, "words": "one class"}]
    expected = [{"round": 0, "x": 2, "x_min": 1, "x_max": 3}]
    assert over_runs([first, second], ("round",)) == expected
    assert over_runs([second, first], ("round",)) == expected


def test_a_mean_over_runs_is_of_what_all_runs_have():
    twice = [{"round": 0, "x": 1}, {"round": 0, "x": 2}, {"round": 1, "x": 5}, {"round": 1, "x": 5}]
    once = [{"round": 0, "x": 3}]
    assert over_runs([twice, once], ("round",)) == [{"round": 0, "x": 2, "x_min": 1, "x_max": 3}]
    assert over_runs([], ("round",)) == []


def test_rows_that_collapsed_are_counted_and_not_averaged():
    good, gone = ([{"round": 0, "x": x, "collapsed": c}] for x, c in ((1.0, 0), (9.0, 1)))
    (mean,) = over_runs([good, gone], ("round",))
    assert (mean["x"], mean["x_max"], mean["collapsed"]) == (1.0, 1.0, 0.5)
    (mean,) = over_runs([gone, gone], ("round",))
    assert (mean["x"], mean["collapsed"]) == (9.0, 1)


def test_no_measure_averages_a_round_that_collapsed(pair):
    collapse_round(pair[0], 1)
    groups = {"ticket": pair}
    alone = {"ticket": pair[1:]}
    for of_rounds, column in (
        (thresholds.of_rounds, "threshold"),
        (learning.of_rounds, "distance"),
        (pixels.of_rounds, "distance"),
    ):
        rows, of_other = of_rounds(groups), of_rounds(alone)
        by = ("round", "layer") if of_rounds == learning.of_rounds else ("round",)
        means = [row for row in means_beside(rows, by) if row["round"] == 1]
        of_good = [row[column] for row in of_other if row["round"] == 1]
        assert [row[column] for row in means] == of_good
        assert {row["collapsed"] for row in means} == {0.5}
        assert {(row["seed"], row["collapsed"]) for row in rows if row["round"] == 1} == {
            (0, 1), (1, 0)
        }  # fmt: skip
    matrix = np.arange(16.0).reshape(4, 4)
    mean = over_matrices([without_collapsed(pair[0].metrics(), matrix), 3 * matrix], init=True)[
        "mean"
    ]
    assert mean[2, 0] == 2 * matrix[2, 0]
    assert mean[1].tolist() == (3 * matrix[1]).tolist()
    assert mean[:, 1].tolist() == (3 * matrix[:, 1]).tolist()


def test_a_path_through_chance_between_good_networks_is_averaged_whole():
    def table(collapsed, middle):
        row = {"from_round": 0, "to_round": 1, "collapsed": collapsed}
        points = [row | {"alpha": a, "error": e, "collapsed": c} for a, e, c in middle]
        return [row], points

    wall = table(0, [(0, 0.1, 0), (0.5, 0.9, 1), (1, 0.1, 0)])  # its barrier is at chance
    flat = table(0, [(0, 0.1, 0), (0.5, 0.1, 0), (1, 0.1, 0)])
    gone = table(1, [(0, 0.9, 1), (0.5, 0.5, 0), (1, 0.9, 1)])
    by = ("from_round", "to_round")
    points = [paths.of_their_paths(*of, by) for of in (wall, flat, gone)]
    means = over_runs(points, (*by, "alpha"))
    assert [row["error"] for row in means] == [0.1, 0.5, 0.1]


def test_a_table_of_a_figure_leaves_collapsed_runs_out_and_says_so(pair, monkeypatch):
    collapse_round(pair[0], 2)
    measures = Measures()
    rows = drawings._accuracies(pair, 0.64, measures)
    assert [(row["seed"], row["collapsed"]) for row in rows] == [(0, 1), (1, 0)]
    assert str(pair[0].path) in measures.left_out[0]
    cells = []
    monkeypatch.setattr(panels, "table", lambda rows, *_, **__: cells.extend(rows))
    drawings._drawn(rows, {}, drawings.OF_ROUND, "")
    assert cells[0]["accuracy"] == f"{100 * pair[1].metrics()[2]['test_accuracy']:.2f}"


def test_a_table_leaves_cells_empty_that_a_row_has_not():
    rows = [{"a": 1, "a_min": 0}, {"a": 2}]
    columns = {"a": ("a", "{:d}"), "a_min": ("min", "{:d}"), "b": ("b", "{:d}")}
    assert tables.cells(rows, columns) == [["a", "min"], ["1", "0"], ["2", ""]]


# Collapse ------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1])
def test_a_report_of_replicates_of_which_one_has_collapsed(pair, which):
    collapse_round(pair[which], 0)
    words, of = words_of(pair)
    assert f"Round 0 of seed={which} collapsed: {collapse.ONE_CLASS}." in words
    assert of["Matching"].answer == "one seed"  # the other run
    assert f"The dense network of seed={which} has collapsed" in of["Matching"].words
    assert "10.00%" not in of["Matching"].words


def test_replicates_of_which_one_has_damaged_metrics_are_reported(pair):
    path = pair[1].round_path(1) / "metrics.csv"
    path.write_bytes(b"#" + path.read_bytes()[1:])
    words, _ = words_of(pair)
    assert str(path) in words
    _, _, (page, _), damage, _ = study_report.report(pair[0].path.parent)
    assert damage
    assert str(path) in Balanced(page.read_text()).words


def test_the_learning_distance_of_a_round_that_collapsed_is_left_out(pair):
    collapse_round(pair[0], 1)

    def of_round_1(runs):
        tables = relations.of_learning([read(run.path) for run in runs]).blocks
        (table,) = (block for block in tables if isinstance(block, Table))
        place = table.head.index(learning.COLUMNS["per_weight"][0])
        return [row[place] for row in table.rows if row[0] == "1"]

    assert of_round_1(pair[1:])[0] in of_round_1(pair)[0]
    assert of_round_1(pair[:1])[0] not in of_round_1(pair)[0]


def test_similar_is_of_the_rounds_that_all_runs_have(pair, config):
    longer = make_run(config(run_dir=str(pair[0].path.with_name("seed=2")), rounds=4, seed=2),
                      rounds=4, shapes=SHAPES, seed=2)  # fmt: skip
    _, of = words_of([*pair, longer])
    assert "in rounds 1 to 2, mean of 3 seeds" in of["Similar"].words
    assert "round 3" not in of["Similar"].words


def test_nothing_matches_a_dense_network_that_has_collapsed(pair):
    run = pair[0]
    before = mean_rows([read(run.path)])
    set_metrics(run, 1, test_accuracy=0.9)
    assert verdicts.sparsest_match(mean_rows([read(run.path)]), None) == before[1]["density"]
    collapse_round(run, 0)
    rows = mean_rows([read(run.path)])
    assert [row["collapsed"] for row in rows] == [1, 0, 0]
    assert math.isnan(verdicts.sparsest_match(rows, None))
    assert verdicts.matching({"run": rows}, None).answer == "collapsed"


def test_angles_of_networks_that_have_collapsed_say_nothing():
    def row(round, mask, degrees, collapsed=0):
        return {"round": round, "mask": mask, "measure": "pruning", "degrees": degrees,
                "collapsed": collapsed}  # fmt: skip

    good = [row(2, "ticket", 10.0), row(2, "random", 50.0)]
    gone = [row(3, "ticket", 1.0), row(3, "random", 0.0, collapsed=1)]
    verdict = verdicts.nearer_than_random({"run": good + gone})
    assert verdict.answer == "one seed"
    assert verdict.words.startswith("To pruning in round 2 10.0 degrees, random 50.0. Collapsed")
    assert verdict.words.endswith("round 3.")
    assert verdicts.nearer_than_random({"run": gone}).answer == "collapsed"


def test_the_largest_barrier_is_of_networks_that_have_not_collapsed(pair):
    write_table(pair[0], "barriers", [barrier(0, 0.4, collapsed=1), barrier(1, 0.1)])
    section = Section("What ran")
    assert study_report.results_of(read(pair[0].path), section)["largest_barrier"] == 0.1
    assert not section.blocks
    write_table(pair[0], "barriers", [barrier(0, 0.0, collapsed=1)])
    then = (pair[0].round_path(1) / files.SUMS).stat().st_mtime - 10
    os.utime(pair[0].path / "analysis" / "barriers.csv", (then, then))
    assert math.isnan(study_report.results_of(read(pair[0].path), section)["largest_barrier"])
    assert "seed=0: barriers.csv is older than round 1" in section.blocks[0]


def test_collapsed_points_are_crossed_out():
    rows = [{"density": d, "error_barrier": 0.1, "collapsed": c} for d, c in ((1, 0.5), (0.5, 0))]
    path = [{"alpha": a, "error": 0.1, "error_min": 0.1, "error_max": 0.1} for a in (0, 1)]
    _, right = panels.barriers({"0 to 1": path}, {"ticket": Curve(rows)}, title="").axes
    labels = [text.get_text() for text in right.get_legend().get_texts()]
    assert labels == ["collapsed, in part or whole", "ticket"]
    (crosses,) = (line for line in right.lines if line.get_marker() == "x")
    assert crosses.get_xydata().tolist() == [[1, 0.1]]


# Measured in part ----------------------------------------------------------------------------


def test_rounds_that_not_all_runs_have_are_left_out_and_said(pair):
    write_table(pair[0], "instability", instability_of(0, 1))
    write_table(pair[1], "instability", instability_of(1, 2))
    words, of = words_of(pair)
    assert of["Stable"].words == "Instability 1.00% in round 1, mean of 2 seeds."
    assert "instability.csv: not all of the runs have rounds 0, 2, which are left out." in words
    write_table(pair[1], "instability", instability_of(2))
    words, of = words_of(pair)
    assert of["Stable"].answer == "not measured"
    assert "not all of the runs have rounds 0 to 2, which are left out." in words


def test_a_mean_of_some_runs_says_of_how_many(pair):
    set_metrics(pair[0], 2, test_accuracy=0.95)
    rows, *_ = study_report.report(pair[0].path.parent)
    assert [(row["runs"], row["matching"]) for row in rows] == [(2, "64.00%, 1 of 2")]


@pytest.fixture
def study(tmp_path, monkeypatch, without_pictures):
    monkeypatch.chdir(ROOT)
    study = study_in(tmp_path, "fig01_small", "--grid=batch_size=60", "--grid=warmup_epochs=0",
                     "--grid=seed=0,1", "--grid=reset=init", "--rounds=6")  # fmt: skip
    make_points(study.points[:1], rounds=1)
    make_points(study.points[1:], rounds=5)
    return study


def flat(points):
    """A path whose error is the same everywhere, between networks that have collapsed."""
    return [{"alpha": index / (points - 1), "loss": 2.3, "error": 0.9, "collapsed": 1}
            for index in range(points)]  # fmt: skip


class NoRetrainings:
    def of_round(self, round, seed):
        return None, []


def test_distances_to_the_start_are_those_of_a_run_with_rounds(study):
    rows = draw("fig04", study, Measures())
    matrix = Measures().distances(read(study.points[1].directory).run, "angular")
    to_init = [float(row["angular"]) for row in rows if row["to"] == "init"]
    assert to_init == pytest.approx(matrix[:-1, -1].tolist())


def test_a_barrier_says_of_how_many_runs_it_is_and_which_have_collapsed(study, monkeypatch):
    monkeypatch.setattr(paths, "evaluator", lambda *_, points, **__: lambda ends: flat(points))
    measures = Measures()
    rows = draw("fig08", study, measures)
    assert {(row["seed"], row["collapsed"]) for row in rows} == {("1", "1")}
    assert measures.left_out[-1].startswith(f"{study.points[1].directory}: ")
    assert "barrier of rounds 1 to 4" in measures.left_out[-1]


def test_the_instability_of_a_round_is_of_the_runs_that_have_it(study, monkeypatch):
    monkeypatch.setattr(paths, "evaluator", lambda *_, points, **__: lambda ends: flat(points))
    monkeypatch.setattr(instability, "Retrainings", lambda *_: NoRetrainings())
    runs = [read(point.directory).run for point in study.points]
    (rows,) = Measures().trained("instability", [(runs, [0, 3])])
    found = [(row["seed"], row["round"], row["collapsed"]) for row in rows]
    assert found == [(0, 0, 1), (1, 0, 1), (1, 3, 1)]


def test_a_figure_takes_the_barriers_that_the_tool_has_measured(study, monkeypatch):
    monkeypatch.setattr(paths, "evaluator", lambda *_, points, **__: lambda ends: flat(points))
    run = read(study.points[1].directory).run
    barriers.MEASURE({"": [run]}).report(Output())
    idle = Measures(draw_only=True)
    rows, _ = idle.barriers([run])
    assert len(rows) == 4
    assert not any("Not computed" in line for line in idle.left_out)
