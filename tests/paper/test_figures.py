"""The papers' figures: what is drawn of runs that are there, and what is missing."""

import dataclasses
import itertools

import pytest
from tensorboard.backend.event_processing import event_accumulator

from lottery_tf.analysis import instability, paths, stability
from lottery_tf.analysis.cache import Cache, NotKnown
from lottery_tf.analysis.measure import Output
from lottery_tf.errors import InputError
from lottery_tf.paper import drawings, figure_report, figures
from lottery_tf.paper.figures import FIGURES
from lottery_tf.paper.measures import Measures, round_at
from lottery_tf.plots import panels
from lottery_tf.runs.rundir import RunDir
from tests.conftest import ROOT
from tests.made_figures import (
    SHAPES,
    draw,
    make_points,
    read_csv,
    set_accuracy,
    study_in,
)
from tests.made_runs import make_run

# What is drawn -------------------------------------------------------------------------------


def fake_paths(points):
    """A function of ends, that are not looked at, -> a path with a bump in the middle."""

    def evaluate(ends):
        list(ends)
        errors = [0.5 if index == 10 else 0.1 for index in range(points)]
        return [
            {"alpha": index / (points - 1), "loss": error, "error": error, "collapsed": 0}
            for index, error in enumerate(errors)
        ]

    return evaluate


def fake_stability(copies, finished_round, replicate):
    about = {"round": finished_round.round, "density": 0.8, "replicate": replicate}
    about |= {"l2": 2.0, "degrees": 30.0, "test_accuracy": 0.9, "collapsed": 0}
    return [
        about | {"mask": mask, "measure": measure}
        for mask in stability.MASKS
        for measure in stability.MEASURES
    ]


class NoRetrainings:
    def of_round(self, round, seed):
        return None, []


@pytest.fixture
def without_tensorflow(monkeypatch):
    """Measures that would evaluate or train give made-up numbers; nothing is rendered."""
    monkeypatch.setattr(paths, "evaluator", lambda *_, points, **__: fake_paths(points))
    monkeypatch.setattr(instability, "Retrainings", lambda *_: NoRetrainings())
    monkeypatch.setattr(stability, "_train_and_compare", fake_stability)
    drawn = []

    def draw(output, path, picture):
        picture.draw_without_rendering()
        path.write_bytes((ROOT / "docs" / "lenet_accuracy.png").read_bytes())
        drawn.append(picture)

    monkeypatch.setattr(Output, "draw", draw)
    return drawn


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws(name, tmp_path, without_tensorflow, monkeypatch):
    figure = FIGURES[name]
    near = tuple(0.8 ** (index) for index, _ in enumerate(figure.densities))
    monkeypatch.setitem(FIGURES, name, dataclasses.replace(figure, densities=near))
    study = study_in(tmp_path, f"{name}_small", "--grid=seed=0")
    make_points(study.points[:3])
    report = figure_report.draw(name, study, None, Measures())
    (picture,) = without_tensorflow
    text = picture.get_suptitle()
    assert figure.shows in text
    assert f"{study.points[0].config.model} on" in text
    rows = read_csv(study.runs / "figures" / f"{name}_small.csv")
    assert rows
    assert report.drawn == len(study.points[:3])
    assert len(report.missing) == len(study.points) - report.drawn


def test_the_title_names_another_study_not_the_papers_figure(tmp_path, without_tensorflow):
    study = study_in(tmp_path, "fig01_small", "--grid=seed=0")
    make_points(study.points[:2])
    study = dataclasses.replace(study, path=study.path.with_name("resets.cfg"))
    figure_report.draw("fig01", study, None, Measures())
    (picture,) = without_tensorflow
    text = picture.get_suptitle()
    assert text.startswith("resets.cfg, drawn as Fig. 1\n")


@pytest.mark.ci
def test_a_table_has_a_row_for_each_seed(figure_1):
    report = figure_report.draw("fig01", figure_1, None, Measures())
    rows = read_csv(figure_1.runs / "figures" / "fig01_small.csv")
    ticket = [row for row in rows if (row["batch_size"], row["reset"]) == ("60", "init")]
    found = {(row["seed"], row["round"]): float(row["test_accuracy"]) for row in ticket}
    assert found == {
        ("0", "0"): 0.9, ("0", "1"): 0.8, ("0", "2"): 0.7,
        ("1", "0"): 0.9, ("1", "1"): 0.9, ("1", "2"): 0.7,
    }  # fmt: skip
    assert {row["collapsed"] for row in ticket} == {"0"}
    assert [float(row["density"]) for row in ticket[:3]] == pytest.approx([1, 0.8, 0.64])
    names = {path.name for path in report.written}
    assert names == {"fig01_small.csv", "fig01_small.png", "fig01_small.pdf", "tensorboard"}
    events = event_accumulator.EventAccumulator(str(figure_1.runs / "figures" / "tensorboard"))
    events.Reload()
    assert events.Tags()["tensors"] == ["figures/fig01_small"]


@pytest.mark.ci
def test_plotted_points_are_means_with_min_and_max_over_seeds(figure_1, monkeypatch):
    drawn = {}
    monkeypatch.setattr(panels, "curves", lambda curves, *_, **__: drawn.update(curves))
    figure = FIGURES["fig01"]
    runs = figure_report.runs_below(figure_1.runs)
    groups = figure_report.group(figure_report.match(figure_1.points, runs)[0], figure.panel)
    drawings.curves(figure, groups, "", Measures())
    ends = ("", "_min", "_max")
    values = [
        tuple(row[f"test_accuracy{end}"] for end in ends)
        for row in drawn["batch 60"]["ticket"].rows
    ]
    assert values == [pytest.approx(v) for v in [(0.9,) * 3, (0.85, 0.8, 0.9), (0.7,) * 3]]


def test_missing_and_unfinished_runs_are_listed_with_their_commands(figure_1):
    report = figure_report.draw("fig01", figure_1, None, Measures())
    lines = figure_report.describe(report, figure_1)
    assert lines[0] == "Drawn from 5 of 8 runs."
    assert "python -m tools.sweep --flagfile=" in lines[1]
    unfinished, *missing = lines[2:]
    assert "unfinished, 2 of 3 rounds: python -m lottery_tf.imp" in unfinished
    assert "--batch_size=512" in unfinished
    assert len(missing) == 3
    for line, point in zip(missing, figure_1.points[5:], strict=True):
        assert f"--run_dir={point.directory}" in line
        assert f"--reset={point.config.reset} --seed={point.config.seed}" in line


def test_panels_of_curves_have_one_scale_and_name_their_axes(figure_1, without_tensorflow):
    draw("fig01", figure_1)
    (picture,) = without_tensorflow
    shown = [axes for axes in picture.axes if axes.axison]
    assert [axes.get_title() for axes in shown] == ["batch 60", "batch 512"]
    assert len({axes.get_ylim() for axes in shown}) == 1
    assert len({axes.get_xlim() for axes in shown}) == 1
    assert shown[0].get_xlim()[0] > shown[0].get_xlim()[1]  # from dense to sparse
    assert (shown[0].get_xscale(), shown[0].get_xlabel()) == ("log", "density (%)")
    assert picture.get_supylabel() == "test accuracy (%)"
    (legend,) = picture.legends
    assert [text.get_text() for text in legend.get_texts()] == ["ticket", "reinit"]
    assert [line[0].get_linestyle() for line in shown[0].containers] == ["-", "--"]


@pytest.mark.parametrize(("letters", "entries"), [(3, 1), (3, 4), (38, 4), (120, 2)])
def test_a_legend_lies_inside_the_picture(letters, entries):
    rows = [{"density": density, "test_accuracy": density} for density in (1.0, 0.5)]
    of_panel = {f"{entry}".rjust(letters, "m"): panels.Curve(rows) for entry in range(entries)}
    picture = panels.curves({"": of_panel}, "test_accuracy", what="test accuracy")
    picture.draw_without_rendering()
    (legend,) = picture.legends
    box = legend.get_window_extent()
    assert len(legend.get_texts()) == entries
    assert 0 <= box.x0 < box.x1 <= picture.bbox.width


def test_a_collapsed_mean_lies_below_the_axis_and_is_written_there(figure_1, without_tensorflow):
    set_accuracy(figure_1.points[2], [0.1, 0.9, 0.89])
    set_accuracy(figure_1.points[3], [0.2, 0.9, 0.89])
    draw("fig01", figure_1)
    axes = without_tensorflow[0].axes[0]
    assert 0.5 < axes.get_ylim()[0] < 0.7
    assert [text.get_text() for text in axes.texts] == ["15 ↓"]


def test_titles_tell_how_many_seeds_are_in_a_figure(figure_1, without_tensorflow):
    draw("fig01", figure_1)
    assert without_tensorflow[0].get_suptitle() == (
        "Fig. 1: Influence of the batch size and warm-up on IMP\n"
        "lenet on mnist; mean of 1 to 2 seeds, bars: min and max"
    )


@pytest.mark.ci
def test_matrices_stand_side_by_side_on_one_scale(tmp_path, without_tensorflow):
    study = study_in(tmp_path, "fig11_small", "--grid=warmup_epochs=0", "--grid=seed=0,1")
    make_points(study.points[:8])
    rows = draw("fig11", study)
    (picture,) = without_tensorflow
    shown = [axes for axes in picture.axes if axes.images]
    assert [axes.get_title() for axes in shown] == ["batch 60", "batch 128", "", ""]
    assert [axes.get_ylabel() for axes in shown] == ["ticket", "", "reinit", ""]
    top = max(axes.images[0].get_array().max() for axes in shown)
    assert {axes.images[0].get_clim() for axes in shown} == {(0, top)}
    of_group = [row for row in rows if (row["batch_size"], row["reset"]) == ("60", "init")]
    of_one = [row for row in of_group if row["seed"] == "0"]
    assert len(of_group) == 2 * len(of_one)
    pairs = [(row["round"], row["to"]) for row in of_one]
    assert pairs == list(itertools.combinations(["0", "1", "2", "init"], 2))
    mean = sum(
        float(row["euclidean"]) for row in of_group if row["round"] == "0" and row["to"] == "1"
    )
    assert shown[0].images[0].get_array()[0, 1] == pytest.approx(mean / 2)
    assert [text.get_text() for text in shown[0].get_xticklabels()] == ["100", "80", "64", "init"]


@pytest.mark.ci
def test_barriers_and_paths_are_written_and_drawn(tmp_path, without_tensorflow):
    study = study_in(tmp_path, "fig08_small")
    make_points(study.points, rounds=4)
    rows = draw("fig08", study)
    points = read_csv(study.runs / "figures" / "fig08_small_paths.csv")
    assert [float(row["error_barrier"]) for row in rows] == pytest.approx([0.4] * 9)
    assert [row["seed"] for row in rows] == ["0"] * 3 + ["1"] * 3 + ["2"] * 3
    assert len(points) == 9 * 20
    left, right = without_tensorflow[0].axes
    labels = [text.get_text() for text in left.get_legend().get_texts()]
    assert labels == ["0 to 1, density 80.0%", "1 to 2, density 64.0%", "2 to 3, density 51.2%"]
    assert right.get_ylabel() == "error barrier (percentage points)"


def test_the_density_of_a_histogram_is_that_of_its_round(tmp_path, without_tensorflow, monkeypatch):
    figure = dataclasses.replace(FIGURES["fig19"], densities=(0.7,))
    monkeypatch.setitem(FIGURES, "fig19", figure)
    study = study_in(tmp_path, "fig19_small", "--grid=seed=0,1")
    make_points(study.points)
    rows = draw("fig19", study)
    title = without_tensorflow[0].get_suptitle()
    assert "after training round 2, density 64.0%" in title
    assert {(row["round"], row["density"]) for row in rows} == {("2", repr(0.8**2))}


# What would have to be computed --------------------------------------------------------------


def test_the_thesis_compares_ticket_and_reinit_of_one_seed(
    tmp_path, without_tensorflow, monkeypatch
):
    figure = dataclasses.replace(FIGURES["thesis"], densities=(0.64,))
    monkeypatch.setitem(FIGURES, "thesis", figure)
    grids = ("--grid=batch_size=60,512", "--grid=warmup_epochs=0", "--grid=seed=0,1", "--rounds=3")
    study = study_in(tmp_path, "thesis_small", *grids)
    make_points(study.points[:5])  # batch 60, and a ticket of 512 without its reinit
    for point in study.points[:4]:
        ticket = point.config.reset == "init"
        accuracy = (0.8 if ticket else 0.6) + (0.1 if ticket else 0.2) * point.config.seed
        set_accuracy(point, [0.9, 0.5, accuracy])
    rows = draw("thesis", study)
    assert [float(row["lead"]) for row in rows] == pytest.approx([0.2, 0.1])
    assert [float(row["barrier"]) for row in rows] == pytest.approx([0.4, 0.4])
    assert {(row["round"], row["setting"]) for row in rows} == {("2", "60")}
    assert [row["seed"] for row in rows] == ["0", "1"]
    runs = [RunDir(point.directory) for point in study.points[:2]]
    nearby = [float(Measures().distances(run, "angular")[2, 1]) for run in runs]
    assert [float(row["distance"]) for row in rows] == pytest.approx(nearby)
    (picture,) = without_tensorflow
    heights = [axes.containers[0][0].get_ydata()[0] for axes in picture.axes]
    assert heights == pytest.approx([15] * 3)  # points, the mean over the seeds
    assert [axes.get_ylabel() for axes in picture.axes] == ["density 64.0%", "", ""]
    assert [text.get_text() for text in picture.legends[0].get_texts()] == ["60"]


def test_points_of_the_thesis_are_called_by_all_that_varies():
    key = ("batch_size", 60), ("warmup_epochs", 2.0), ("learning_rate", 0.05)
    assert drawings._call(key) == "60*, rate 0.05"
    assert drawings._call((("batch_size", 60), ("warmup_epochs", 0.0))) == "60"
    assert drawings._call((("repel", None), ("warmup_epochs", 1.0))) == "*"


def test_what_is_trained_is_announced_and_with_draw_only_listed_instead(
    tmp_path, without_tensorflow
):
    study = study_in(tmp_path, "fig02_small", "--grid=batch_size=60", "--grid=seed=0,1")
    make_points(study.points, rounds=6)
    said = []
    idle = Measures(draw_only=True, say=said.append)
    with pytest.raises(InputError, match=r"--run_dir=.* --at_rounds=0,5"):
        figure_report.draw("fig02", study, None, idle)
    run = study.points[0].directory
    assert f"python -m tools.instability --run_dir={run} --at_rounds=0,5" in idle.left_out[0]
    assert said == []
    figure_report.draw("fig02", study, None, Measures(say=said.append))
    assert "instability: 4 trainings in 2 runs" in said[0]  # of rounds 0 and 5
    known = Measures(draw_only=True, say=said.append)
    figure_report.draw("fig02", study, None, known)
    assert (len(said), known.left_out) == (1, [])
    rows = read_csv(study.runs / "figures" / "fig02_small.csv")
    assert [(row["seed"], row["round"]) for row in rows] == [
        ("0", "0"), ("0", "5"), ("1", "0"), ("1", "5")
    ]  # fmt: skip
    assert [float(row["instability"]) for row in rows] == pytest.approx([0.4] * 4)


def test_a_cache_that_only_knows_computes_nothing(tmp_path):
    path = tmp_path / "cache.json"
    with pytest.raises(NotKnown):
        Cache(path, only_known=True).reuse([], "a", lambda: 1)
    Cache(path).reuse([], "a", lambda: 1)
    assert Cache(path, only_known=True).reuse([], "a", lambda: 2) == 1


class Metrics:
    def __init__(self, *densities):
        self.densities = densities

    def metrics(self):
        return [{"round": r, "density": density} for r, density in enumerate(self.densities)]


def test_the_round_at_a_density_is_the_nearest_one_and_of_two_the_denser():
    fifths = Metrics(*(0.8**r for r in range(12)))
    assert [round_at(fifths, 0.8**r) for r in (5, 10)] == [5, 10]
    thirds = Metrics(*(round(266200 * 0.64**r) / 266200 for r in range(10)))
    assert [round_at(thirds, 0.8**r) for r in (5, 10, 15)] == [2, 5, 7]
    assert round_at(Metrics(1, 0.8, 0.64), 0.107) is None
    assert round_at(Metrics(1, 0.1, 0.0), 0.107) == 1


# Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["0", "24", "fig1", "table2", ""])
def test_a_figure_that_does_not_exist(text):
    with pytest.raises(InputError, match=rf"--figure: .*: {text or 'none'}$"):
        figures.find(text)


def test_figures_have_numbers_and_names():
    assert [figures.find(text) for text in ("1", "01", "23", "table1")] == [
        "fig01",
        "fig01",
        "fig23",
        "table1",
    ]


def test_a_directory_without_runs_and_one_with_others(tmp_path, config):
    study = study_in(tmp_path)
    with pytest.raises(InputError, match=r"60 .*tools\.sweep"):
        draw("fig01", study)
    make_run(config(run_dir=str(study.runs / "another")), rounds=2, shapes=SHAPES)
    with pytest.raises(InputError, match=r"60 .*another"):
        draw("fig01", study)


def test_the_name_of_the_directory_chooses_the_small_study():
    assert figure_report.study_of("fig08", None).path.name == "fig08.cfg"
    small = figure_report.study_of("fig08", "elsewhere/mine_small/")
    assert (small.path.name, str(small.runs)) == ("fig08_small.cfg", "elsewhere/mine_small")
    other = figure_report.study_of("fig01", None, "flags/figures/fig08.cfg")
    assert (other.path.name, other.runs.name) == ("fig08.cfg", "fig01")


@pytest.mark.ci
@pytest.mark.parametrize("name", ["fig01", "fig04", "fig05", "fig07", "table1"])
def test_pictures_are_rendered(name, tmp_path):
    study = study_in(tmp_path, f"{name}_small")
    make_points(study.points[:8], rounds=11)
    report = figure_report.draw(name, study, tmp_path / "out", Measures())
    assert all(path.stat().st_size > 1000 for path in report.written if path.suffix != ".csv")
