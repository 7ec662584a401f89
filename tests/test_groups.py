"""Runs of a study in panels, curves and replicates."""

import pytest

from lottery_tf.store.rundir import RunDir
from lottery_tf.studies import grid, groups
from lottery_tf.studies.seeds import beside_seeds
from tests.conftest import ROOT
from tests.made_figures import make_points, part_of_figure_1, study_in


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)  # where flags/ is


@pytest.fixture
def figure_1(tmp_path):
    return part_of_figure_1(tmp_path)


def test_a_run_is_known_by_its_flags_whatever_its_directory(figure_1, tmp_path):
    point = figure_1.points[5]
    make_points([point], run_dir=figure_1.runs / "elsewhere" / "mine")
    found, missing = groups.match(figure_1.points, groups.runs_below(figure_1.runs))
    assert [run.path.name for of, run in found if of.name == point.name] == ["mine"]
    assert point.name not in [of.name for of in missing]


def test_of_replicates_unfinished_ones_wait_for_the_finished_ones(figure_1):
    make_points(figure_1.points[5:6], rounds=3)
    found, _ = groups.match(figure_1.points, groups.runs_below(figure_1.runs))
    (group,) = (of for of in groups.group(found, ("batch_size",)) if of.flags["batch_size"] == 512)
    assert [run.finished_rounds() for run in group.runs] == [3]


def test_groups_are_called_by_what_varies_inside_a_panel(tmp_path):
    study = study_in(tmp_path, "fig03_small", "--grid=seed=0")
    found = [(point, RunDir(point.directory)) for point in study.points]
    of = groups.group(found, ("batch_size",))
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
    assert [one.curve for one in groups.group(found, ("batch_size",))] == [
        "ticket", "rewound to 1ep", "lr_rewind", "finetune", "reinit", "signs", "trained_signs",
        "shuffle", "early stop connected, ticket",
    ]  # fmt: skip


def test_replicates_take_the_masks_of_the_run_of_their_seed(tmp_path):
    path = ROOT / "flags" / "studies" / "init_masks_moved.cfg"
    found = [(of, RunDir(of.directory)) for of in grid.read(path, [f"--runs={tmp_path}"]).points]
    assert [(one.curve, len(one.runs)) for one in groups.group(found, ())] == [
        (f"masks of criterion={criterion}, {moved}", 3)
        for criterion in ("snip", "grasp", "synflow")
        for moved in ("shuffled (layer), ticket", "reinit")
    ]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("masks_from", "runs/snip_seed=1", "runs/snip"),
        ("masks_from", "runs/init_seed=1_data_seed=20", "runs/"),
        ("masks_from", "runs/mine_1", "runs/mine_1"),  # another name: not known to be a replicate
        ("masks_from", "", ""),
        ("repel_runs", ("runs/seed=0_repel=2", "b_seed=1"), ("runs/_repel=2", "b")),
        ("repel_runs", ["b_seed=1"], ["b"]),
        ("dataset", "data/seed=1", "data/seed=1"),  # it names no run
    ],
)
def test_flags_that_name_runs_are_alike_for_replicates(name, value, expected):
    assert beside_seeds(name, value) == expected
