"""A run counts once: given twice, by a link, as a copy, or made twice of the same seeds."""

import json
import shutil

import pytest

from lottery_tf.analysis.runs import check_replicates, open_runs
from lottery_tf.config.record import MADE_BY_ROUNDS
from lottery_tf.errors import InputError
from lottery_tf.loop.round_0 import check_other_runs
from lottery_tf.paper import figure_report
from lottery_tf.paper.measures import Measures
from lottery_tf.reports import run_report, study_report
from lottery_tf.runs.rundir import RunDir
from tests.made_figures import make_points, study_in
from tests.made_runs import make_run
from tests.reports.test_report import SHAPES, Balanced
from tests.tools.test_tools import run_tool


@pytest.fixture
def run(config):
    return make_run(config(), rounds=2, shapes=SHAPES)


def twice(run):
    return run.path


def link(run):
    path = run.path.with_name("link")
    path.symlink_to(run.path)
    return path


def copy(run):
    return shutil.copytree(run.path, run.path.with_name("copy"))


def same_seeds(run):
    """As another machine makes it: other weights, the same flags."""
    path = copy(run)
    for round in path.glob("round_*"):
        shutil.rmtree(round)
    made = RunDir(path)
    from tests.made_runs import add_rounds

    add_rounds(made, range(2), shapes=SHAPES, seed=9)
    return path


@pytest.mark.parametrize(
    ("again", "words"),
    [
        (twice, "lead to the same directory"),
        (link, "lead to the same directory"),
        (copy, "copies"),
        (same_seeds, "--seed=0"),
    ],
)
def test_a_run_is_no_replicate_of_itself(run, again, words, without_pictures):
    paths = [run.path, again(run)]
    for refuses in (open_runs, run_report.report):
        with pytest.raises(InputError, match=words) as error:
            refuses(paths)
        assert str(paths[1]) in str(error.value)


def test_a_grown_copy_and_a_run_of_another_place_are_the_same_seeds(run, config):
    path = copy(run)
    flags = json.loads((path / "config.json").read_text())
    changed = {"rounds": 9, "data_dir": "elsewhere", "strategy": "one_device"}
    (path / "config.json").write_text(json.dumps(flags | changed))
    with pytest.raises(InputError, match="copies"):
        open_runs([run.path, path])
    (path / "config.json").write_text(json.dumps(flags | {"data_seed": 4}))
    open_runs([run.path, path])  # another data seed is a replicate


def test_runs_around_an_own_fit_are_replicates_unless_they_are_copies(run):
    # Their seeds are the user's own: nobody recorded them.
    for path in (run.path, other := same_seeds(run)):
        flags = json.loads((path / "config.json").read_text()) | {"made_by": MADE_BY_ROUNDS}
        (path / "config.json").write_text(json.dumps(flags))
    check_replicates([run, RunDir(other)])
    third = shutil.copytree(other, other.with_name("third"))
    with pytest.raises(InputError, match="copies"):
        check_replicates([run, RunDir(other), RunDir(third)])


@pytest.mark.ci
@pytest.mark.parametrize(
    "tool",
    ["report", "histograms", "thresholds", "learning", "distances", "masks", "successive",
     "barriers", "instability", "curvature", "pixels", "cyclic", "predictions", "classes",
     "untrained", "noise_scale"],
)  # fmt: skip
def test_every_tool_of_several_runs_refuses_one_twice(run, tool):
    result = run_tool(tool, f"--run_dir={run.path},{link(run)}")
    assert result.returncode == 1
    assert "lead to the same directory" in result.stderr
    assert "link" in result.stderr
    assert not (run.path / "analysis").exists()


@pytest.mark.ci
def test_a_run_may_stand_beside_itself_but_not_twice_on_one_side(run):
    result = run_tool("thresholds", f"--run_dir={run.path}", f"--other_run={run.path}",
                      "--labels=a,b")  # fmt: skip
    assert result.returncode == 0, result.stderr
    result = run_tool("figures", f"--run_dir={run.path}", f"--other_run={run.path},{link(run)}",
                      "--labels=a,b")  # fmt: skip
    assert result.returncode == 1
    assert "lead to the same directory" in result.stderr


def test_a_study_counts_a_copy_once_and_says_so(config, tmp_path, without_pictures):
    study = tmp_path / "study"
    for seed in (0, 1):
        made = config(run_dir=str(study / f"seed={seed}"), seed=seed)
        make_run(made, shapes=SHAPES, seed=seed)
    shutil.copytree(study / "seed=0", study / "seed=0_again")
    (study / "seed=2").symlink_to(study / "seed=1")
    rows, _, (page, _), damage, _ = study_report.report(study)
    assert [row["runs"] for row in rows] == [2]
    assert not damage
    words = Balanced(page.read_text()).words
    assert "seed=0_again repeats seed=0" in words
    assert "seed=2 repeats seed=1" in words


def test_a_figure_takes_a_copy_once_and_says_so(tmp_path, without_pictures):
    study = study_in(tmp_path, "fig01_small", "--grid=batch_size=60", "--grid=warmup_epochs=0",
                     "--grid=seed=0,1", "--grid=reset=init", "--rounds=3")  # fmt: skip
    make_points(study.points)
    first = study.points[0].directory
    shutil.copytree(first, first.with_name("zz_copy"))
    measures = Measures()
    report = figure_report.draw("fig01", study, None, measures)
    assert report.drawn == 2
    assert "zz_copy repeats" in measures.left_out[0]


def test_runs_of_seeds_that_nobody_recorded_are_no_repeats(run, config):
    values = json.loads((run.path / "config.json").read_text()) | {"made_by": MADE_BY_ROUNDS}
    (run.path / "config.json").write_text(json.dumps(values))
    other = make_run(config(run_dir=str(run.path.with_name("other"))), shapes=SHAPES, seed=7)
    (other.path / "config.json").write_text(json.dumps(values))
    copy = RunDir(shutil.copytree(run.path, run.path.with_name("copy")))
    kept, words = figure_report.each_once([run, other, copy])
    assert kept == [run, other]
    assert len(words) == 1
    assert f"{copy.path} repeats {run.path}" in words[0]


def test_a_run_is_not_repelled_from_another_one_twice(config, run):
    link(run)
    paths = (str(run.path), str(run.path.with_name("link")))
    with pytest.raises(InputError, match=r"--repel_runs: expected each run once"):
        check_other_runs(config(run_dir="new", repel=2.0, repel_runs=paths))
    check_other_runs(config(run_dir="new", repel=2.0, repel_runs=paths[:1]))
