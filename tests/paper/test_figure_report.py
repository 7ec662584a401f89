"""Runs of a study in panels, curves and replicates."""

from lottery_tf.paper import figure_report
from lottery_tf.runs.rundir import RunDir
from lottery_tf.sweeps import grid
from tests.conftest import ROOT
from tests.made_figures import make_points, study_in


def test_a_run_is_known_by_its_flags_whatever_its_directory(figure_1, tmp_path):
    point = figure_1.points[5]
    make_points([point], run_dir=figure_1.runs / "elsewhere" / "mine")
    found, missing = figure_report.match(figure_1.points, figure_report.runs_below(figure_1.runs))
    assert [run.path.name for of, run in found if of.name == point.name] == ["mine"]
    assert point.name not in [of.name for of in missing]


def test_of_replicates_unfinished_ones_wait_for_the_finished_ones(figure_1):
    make_points(figure_1.points[5:6], rounds=3)
    found, _ = figure_report.match(figure_1.points, figure_report.runs_below(figure_1.runs))
    (group,) = (
        of for of in figure_report.group(found, ("batch_size",)) if of.flags["batch_size"] == 512
    )
    assert [run.finished_rounds() for run in group.runs] == [3]


def test_groups_are_called_by_what_varies_inside_a_panel(tmp_path):
    study = study_in(tmp_path, "fig03_small", "--grid=seed=0")
    found = [(point, RunDir(point.directory)) for point in study.points]
    of = figure_report.group(found, ("batch_size",))
    assert [(one.panel, one.curve, len(one.runs), one.colour, one.control) for one in of] == [
        ("batch 512", "ticket", 1, 0, False),
        ("batch 512", "reinit", 1, 0, True),
        ("batch 512", "repelled (2), ticket", 1, 1, False),
        ("batch 512", "repelled (2), reinit", 1, 1, True),
        ("batch 60", "ticket", 1, 0, False),
        ("batch 60", "reinit", 1, 0, True),
        ("batch 60", "attracted (-1), ticket", 1, 2, False),
        ("batch 60", "attracted (-1), reinit", 1, 2, True),
    ]


def test_a_flag_that_is_not_set_goes_without_saying():
    path = ROOT / "flags" / "studies" / "resets.cfg"
    found = [(of, RunDir(of.directory)) for of in grid.read(path, ["--grid=seed=0"]).points]
    assert [one.curve for one in figure_report.group(found, ("batch_size",))] == [
        "ticket",
        "rewound to 1ep",
        "lr_rewind",
        "finetune",
        "reinit",
        "signs",
        "trained_signs",
        "shuffle",
        "validation fraction 0.1, early stop connected, ticket",
    ]


def test_replicates_take_the_masks_of_the_run_of_their_seed(tmp_path):
    path = ROOT / "flags" / "studies" / "init_masks_moved.cfg"
    found = [(of, RunDir(of.directory)) for of in grid.read(path, [f"--runs={tmp_path}"]).points]
    assert [(one.curve, len(one.runs)) for one in figure_report.group(found, ())] == [
        (f"masks of runs/init_masks/criterion={criterion}, {moved}", 3)
        for criterion in ("snip", "grasp", "synflow")
        for moved in ("shuffled (layer), ticket", "reinit")
    ]


def found_of(tmp_path, *lines):
    """The points of a study of LeNet, with their runs."""
    path = tmp_path / "study.cfg"
    path.write_text("\n".join([f"--flagfile={ROOT}/flags/lenet.cfg", "--rounds=3", *lines]))
    return [(point, RunDir(point.directory)) for point in grid.read(path).points]


def test_masks_of_another_seed_are_a_setting_of_their_own(tmp_path):
    masks = "masks_from=runs/seed=0,runs/seed=1,runs/seed=1,runs/seed=0"
    found = found_of(tmp_path, f"--zip={masks};seed=0,1,0,1")
    assert [(one.curve, len(one.runs)) for one in figure_report.group(found, ())] == [
        ("masks of runs/, ticket", 2),
        ("masks of runs/seed=1, ticket", 1),
        ("masks of runs/seed=0, ticket", 1),
    ]


def test_curves_of_other_resets_have_colours_of_their_own(tmp_path):
    path = ROOT / "flags" / "studies" / "resets.cfg"
    found = [(of, RunDir(of.directory)) for of in grid.read(path, ["--grid=seed=0"]).points]
    of = {
        one.curve: (one.colour, one.control) for one in figure_report.group(found, ("batch_size",))
    }
    assert of["reinit"] == (of["ticket"][0], True)  # a pair: dashed beside solid
    assert len(set(of.values())) == len(of)


def test_every_curve_has_a_name(tmp_path):
    varied = "--grid=early_stop=none,connected"
    found = found_of(tmp_path, "--reset=rewind", "--rewind_to=1ep", varied)
    names = [one.curve for one in figure_report.group(found, ())]
    assert names == ["rewound", "early stop connected"]
