"""What figures show: ticks, units, bars, scales; and what tools say they wrote."""

import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator

from lottery_tf.analysis import barriers, cyclic, distances, histograms, learning, masks
from lottery_tf.analysis.cache import Cache
from lottery_tf.analysis.measure import Output
from lottery_tf.analysis.runs import select_common_rounds, select_rounds
from lottery_tf.errors import InputError
from lottery_tf.plots import figures, panels, parts, svg, tables
from lottery_tf.plots.summaries import Summaries
from lottery_tf.reports import run_report, study_report
from tests.conftest import ROOT
from tests.made_runs import make_run

pytestmark = pytest.mark.versions


@pytest.mark.parametrize(
    ("low", "high", "percents"),
    [
        (0.0047, 1, [0.5, 1, 2, 5, 10, 20, 50, 100]),  # 25 rounds
        (0.107, 1, [20, 50, 100]),
        (0.64, 1, [70, 80, 90, 100]),
        (0.79, 1, [80, 90, 100]),
        (1e-6, 1, [0.0001, 0.001, 0.01, 0.1, 1, 10, 100]),
    ],
)
def test_density_ticks_are_round_and_neither_few_nor_many(low, high, percents):
    assert sorted(100 * tick for tick in parts.density_ticks(low, high)) == pytest.approx(percents)


def test_there_are_ticks_between_densities_that_hardly_differ():
    ticks = parts.density_ticks(0.96, 0.99)
    assert len(ticks) >= 3
    assert all(0.96 <= tick <= 0.99 for tick in ticks)


def rounds(*densities):
    return [{"density": density, "x": 0.5, "x_min": 0.4, "x_max": 0.7} for density in densities]


def test_the_density_axis_has_labels_in_percent():
    figure = figures.against_density({"a": (rounds(1, 0.5, 0.1), "x")}, what="x", percent=True)
    figure.draw_without_rendering()
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert {"100", "50", "20", "10"} <= set(labels)


def test_a_single_round_is_a_bar_for_each_curve():
    curves = {"ticket, to pruning": (rounds(0.1074), "x"), "random": (rounds(0.1074), "x")}
    (of_one,) = figures.against_density(curves, what="x", percent=True).axes
    bars = of_one.patches
    assert [bar.get_height() for bar in bars] == [0.5, 0.5]
    assert of_one.get_xlabel() == "at density 10.74%"
    assert {text.get_text() for text in of_one.texts} == {"50"}
    (of_two,) = figures.against_density({"a": (rounds(1, 0.5), "x")}, what="x").axes
    assert not of_two.patches


@pytest.mark.parametrize(("value", "drawn"), [(0.6, True), (5.0, False), (-3.0, False)])
def test_a_line_far_from_the_curves_is_a_note(value, drawn):
    curves = {"a": (rounds(1, 0.5), "x")}
    (axes,) = figures.against_density(curves, what="x", line=(value, "bar")).axes
    low, high = axes.get_ylim()
    assert (low <= value <= high) == drawn
    (note,) = [
        text.get_text() for text in axes.get_legend().get_texts() if "bar" in text.get_text()
    ]
    assert ("far" in note) != drawn


def test_the_distance_picture_has_its_own_scale_and_values_where_rounds_are_few(config, tmp_path):
    run = make_run(config(), rounds=3)
    output = Output(str(tmp_path / "out"))
    distances.MEASURE({"": [run]}).report(output)
    names = {path.name for path in output.written}
    assert {"distances_angular.png", "distances_angular_own_scale.png"} <= names
    values = distances.matrices(run, None, ["angular"], Cache())["angular"]
    assert distances._own_scale(values, True) == pytest.approx(
        (values[~np.eye(4, dtype=bool)].min(), values.max())
    )
    few = figures.matrix(values, run, None, what="", title="", init=True)
    assert len(few.axes[0].texts) == values.size
    many = make_run(config(run_dir=str(tmp_path / "many")), rounds=13, shapes={"a/kernel": (5, 9)})
    assert not figures.matrix(np.zeros((13, 13)), many, None, what="", title="").axes[0].texts


def test_tensorboard_has_percent_where_parts_are_meant(config, monkeypatch):
    run = make_run(config(), rounds=2)
    about = dict.fromkeys(barriers.BY, 1) | {"density": 0.8}
    row = about | {"error_barrier": 0.25, "error_barrier_larger_end": 0.25, "loss_barrier": 0.5,
                   "over_dense": 0.0, "collapsed": 0}  # fmt: skip
    points = [about | {"alpha": alpha, "loss": 1.0, "error": 0.5} for alpha in (0.0, 1.0)]
    monkeypatch.setattr(barriers, "along_paths", lambda *_, **__: ([row], points))
    barriers.MEASURE({"": [run]}).report(Output())
    events = event_accumulator.EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    for tag, value in (("barriers/error_barrier (%)", 25), ("barriers/loss_barrier", 0.5)):
        assert [p.tensor_proto.float_val[0] for p in events.Tensors(tag)] == [value]


def test_parts_of_one_of_each_tool_are_in_percent_on_tensorboard(config, monkeypatch):
    run = make_run(config(), rounds=2)
    row = {"round": 0, "cycle": 1, "density": 0.5, "imp_accuracy": 0.7, "test_accuracy": 0.25}
    rows = [row | {"mask": mask} for mask in cyclic.MASKS]
    monkeypatch.setattr(cyclic, "of_masks", lambda *_, **__: rows)
    cyclic.MEASURE({"": [run]}, at_rounds=[0], cycles=1).report(Output())
    learning.MEASURE({"ticket": [run]}).report(Output())
    row = run.metrics()[0] | {"test_largest_class": 0.125, "density": 1.0}
    Summaries(run.path).finish_round(row, run.final(0), run.masks(0))
    events = event_accumulator.EventAccumulator(str(run.path / "tensorboard"), {"tensors": 0})
    events.Reload()
    values = {
        tag: [p.tensor_proto.float_val[0] for p in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
        if "%" in tag
    }
    assert values["cyclic/round_00 ticket mask (%)"] == [25]
    assert values["round/test_largest_class (%)"] == [12.5]
    signs = [r["kept_signs"] for r in learning.of_rounds(run) if r["layer"] == "all layers"]
    assert values["learning/kept_signs (%)"] == pytest.approx([100 * part for part in signs])
    assert "learning/flips (%)" in values


def test_pictures_in_formats_that_matplotlib_does_not_write_are_refused():
    for path in ("a.png", "a.PDF", "~/b.c/a.svg"):
        figures.check_format(path)
    for path in ("a", "a.foo", "a.png/b", "a.pgf", "a.", ".png"):
        with pytest.raises(InputError, match=rf"pdf.*png.*{re.escape(path)}"):
            figures.check_format(path)


def test_default_rounds_are_those_that_exist(config, tmp_path):
    short, longer = (
        make_run(
            config(run_dir=str(tmp_path / str(count))), rounds=count, shapes={"a/kernel": (4, 9)}
        )
        for count in (3, 7)
    )
    assert select_rounds(longer, [], usual=(0, 5, 10, 15)) == [0, 5]
    assert select_rounds(short, [], usual=(10,)) == [2]
    assert select_rounds(short, [1], usual=(10,)) == [1]
    assert select_common_rounds([longer, short], [], usual=(10,)) == [2]
    with pytest.raises(InputError, match="round 5"):
        select_common_rounds([longer, short], [5], usual=(10,))
    assert {row["round"] for row in histograms.of_rounds(short)} == {2}


def test_tools_say_where_they_wrote(config, capsys):
    run = make_run(config(), rounds=2)
    output = Output()
    distances.MEASURE({"": [run]}, metric="cosine").report(output)
    tables.show_written(output.written)
    assert capsys.readouterr().out.splitlines() == [
        f"Wrote into {run.path}/analysis: distances_cosine.csv, distances_cosine.png, "
        "distances_cosine_own_scale.png",
        f"Wrote into {run.path}/tensorboard: TensorBoard's page",
    ]


@pytest.mark.parametrize("count", [1, 2])
def test_the_texts_around_few_panels_lie_inside_the_picture(count):
    titles = ["ticket", "repelled from previous"][:count]
    title = "Fig. 17: Repelled from the previous round alone, LeNet\nlenet on mnist; 3 seeds"
    square, parts = (np.zeros((4, 4)), [1.0, 0.8, 0.64]), (np.ones(4), np.linspace(-1, 1, 5))
    angular = "angular distance: 2 angle / pi, so 1 is 90 degrees"
    of_matrices = panels.matrices(
        {("ticket", name): square for name in titles}, what=angular, top=1.0, title=title
    )
    of_weights = figures.histograms({name: {"ticket": parts} for name in titles}, title=title)
    for picture in (of_matrices, of_weights):
        picture.savefig(io.BytesIO(), dpi=picture.dpi)  # lays it out
        labels = [picture._suptitle, picture._supxlabel]
        labels += [axes.yaxis.label for axes in picture.axes]
        for label in labels:
            if label is not None and label.get_text():
                box = label.get_window_extent()
                assert min(box.x0, box.y0) >= 0, label.get_text()
                assert box.x1 <= picture.bbox.x1, label.get_text()
                assert box.y1 <= picture.bbox.y1, label.get_text()


def test_a_long_title_is_wrapped_inside_the_picture(config):
    title = (
        "mean of 3 runs, min and max\ntest split, BatchNorm statistics: none, trained from init; "
        "collapsed at density 100.00%, 64.00%, 40.96%"
    )
    run = make_run(config(), rounds=2)
    square, point = np.zeros((4, 4)), [{"alpha": 0.0, "loss": 1.0}]
    cycles = {"own": [{"cycle": 1, "test_accuracy": 0.5}]}
    pictures = [
        figures.against_density({"a": (rounds(1, 0.5), "x")}, what="x", title=title),
        figures.matrix(square, run, None, what="x", title=title),
        figures.paths({"a": point}, columns={"loss": ("x", False)}, title=title, ends=("a", "b")),
        figures.histograms({"a": {"b": ([1.0], [0.0, 1.0])}}, title=title),
        figures.against_cycles(cycles, line=(0.5, "x"), title=title),
        figures.images({"a": [("b", square)]}, title=title),
        panels.matrices({("a", "b"): (square, [1.0, 0.8, 0.6])}, what="x", top=1.0, title=title),
    ]
    for picture in pictures:
        picture.savefig(io.BytesIO(), dpi=picture.dpi)  # lays it out
        box = picture._suptitle.get_window_extent()
        assert picture.get_suptitle() == title
        assert 0 <= box.x0 < box.x1 <= picture.bbox.x1
        highest = max(axes.get_tightbbox().y1 for axes in picture.axes)
        assert highest <= box.y0 < box.y1 <= picture.bbox.y1


ODD = "$a_{$ b"  # no formula of Matplotlib
HIDDEN = "_x"
NO_TEXT = "caf\udce9"  # as Python names a file whose name is not UTF-8
MEASURED = {
    f"{name}{end}": 0.5
    for name in ("x", "test_accuracy", "error", "error_barrier")
    for end in ("", "_min", "_max")
}
ROWS = [
    {"density": d, "network_density": d, "alpha": 1 - d, "cycle": 1 / d} | MEASURED
    for d in (1, 0.5)
]
IMAGE = np.eye(3)
BINS = np.array([1, 2]), np.array([0.0, 1.0, 2.0])


def draw_odd(a, b):
    """{name: a figure with these texts in all places where a user's may stand}."""
    both = {a: panels.Curve(ROWS), b: panels.Curve(ROWS)}
    rows, columns = {a: ROWS, b: ROWS}, {"x": (a, True)}
    line = (0.5, a)
    return {
        "curves": panels.curves({a: both, b: both}, "x", what=a, title=b, line=line),
        "measures": panels.measures(both, columns, title=a),
        "matrices": panels.matrices(
            {(a, b): (IMAGE, [1, 0.5]), (b, a): (IMAGE, [1, 0.5])}, what=a, top=1, title=b
        ),
        "barriers": panels.barriers(rows, both, title=a),
        "table": panels.table([{"a": a}, {"a": b}], {"a": (a, "{}")}, title=b),
        "against_density": figures.against_density(
            {a: (ROWS, "x"), b: (ROWS, "x")}, what=a, line=line, title=b
        ),
        "bars": figures.against_density(
            {a: (ROWS[:1], "x"), b: (ROWS[:1], "x")}, what=a, line=line, title=b
        ),
        "paths": figures.paths(rows, columns=columns, title=a, ends=(a, b)),
        "histograms": figures.histograms({a: {a: BINS, b: BINS}, b: {a: BINS}}, title=b),
        "layers": figures.layers(rows, columns=columns, title=a),
        "heat_maps": figures.heat_maps({a: IMAGE, b: IMAGE}, what=b),
        "cycles": figures.against_cycles(rows, line=line, title=b),
        "scatters": panels.scatters(
            {a: [ROWS[0] | {"of": b}]},
            {"x": (a, False)},
            "error",
            what=a,
            name="of",
            key=b,
            title=b,
        ),
        "images": figures.images({a: [(a, IMAGE)], b: [(b, IMAGE)]}, title=a),
    }


@pytest.mark.ci
@pytest.mark.parametrize("name", draw_odd("a", "b"))
def test_names_of_the_user_are_shown_as_they_are(name):
    for a, b in ((ODD, HIDDEN), (HIDDEN, NO_TEXT)):
        page = svg.inline(lambda a=a, b=b: draw_odd(a, b)[name], label="x")
        for text in (a, b.encode(errors="replace").decode()):
            assert re.search(rf">[^<]*{re.escape(text)}[^<]*<", page), text


def test_a_label_with_an_underscore_in_front_stands_in_the_legend():
    (axes_,) = figures.against_density({"a": (ROWS, "x"), HIDDEN: (ROWS, "x")}, what="x").axes
    assert [text.get_text().strip() for text in axes_.get_legend().get_texts()] == ["a", HIDDEN]


@pytest.mark.ci
@pytest.mark.parametrize("backend", ["missing", "module://missing", ""])
def test_a_backend_that_is_not_there_stops_no_tool(config, backend):
    run = make_run(config(), rounds=2)
    result = subprocess.run(
        [sys.executable, "-m", "tools.masks", f"--run_dir={run.path}"],
        cwd=ROOT,
        env=os.environ | {"MPLBACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_a_tool_draws_a_run_whose_directory_is_a_formula(config):
    made = config()
    run = make_run(config(run_dir=f"{made.run_dir}/{ODD}"), rounds=2)
    masks.MEASURE({"": [run]}).report(Output())
    assert (run.path / "analysis" / "masks_layers.png").exists()


@pytest.mark.ci
def test_a_report_of_runs_with_odd_names(config, tmp_path):
    study = tmp_path / "study"
    for seed, name in enumerate((ODD, HIDDEN, NO_TEXT)):
        make_run(config(run_dir=str(study / name), seed=seed), rounds=2)
    _, _, written, *_ = study_report.report(str(study))
    page = written[0].read_text("utf-8")
    assert all(name in page for name in (ODD, HIDDEN, "caf?"))


def test_a_report_that_cannot_be_written_into_the_run_names_the_flag(config):
    run = make_run(config(), rounds=2)
    (run.path / "analysis").write_text("a file")
    with pytest.raises(InputError, match=r"analysis.*--out"):
        run_report.report([run.path])
