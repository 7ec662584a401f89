"""Reports of studies: what varies, replicates, runs that failed, and the page HParams."""

import math
import shutil
import subprocess
import sys

import pytest
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.hparams import metadata

from lottery_tf.errors import InputError
from lottery_tf.reports import reading, study_report, verdicts
from lottery_tf.reports.pages import Section
from lottery_tf.reports.relations import distance_matrix
from lottery_tf.runs import files
from lottery_tf.runs.rundir import RunDir
from tests.conftest import ROOT
from tests.made_runs import make_run, set_metrics
from tests.reports.test_report import SHAPES, Balanced, headings


@pytest.fixture
def study(config, tmp_path, without_pictures):
    """A directory of two settings, ticket and reinit, with two seeds each."""
    directory = tmp_path / "study"
    for batch_size in (8, 16):
        for reset in ("init", "reinit"):
            for seed in (0, 1):
                name = f"batch_size={batch_size}_reset={reset}_seed={seed}"
                flags = {"batch_size": batch_size, "reset": reset, "seed": seed}
                made = config(run_dir=str(directory / name), rounds=4, **flags)
                make_run(made, shapes=SHAPES, seed=seed, reset=reset)
    (directory / "notes").mkdir()
    return directory


@pytest.mark.parametrize(
    ("name", "words"), [("no", "/no: "), ("study/notes", "study/notes .*--run_dir")]
)
def test_a_directory_without_runs_is_refused(study, name, words):
    with pytest.raises(InputError, match=f"--runs=.*{words}"):
        study_report.report(str(study.parent / name))


def test_replicates_differ_in_seeds_alone(study):
    readings = study_report.find(study, keep=False)
    assert [r.name for r in readings][::4] == [
        "batch_size=8_reset=init_seed=0",
        "batch_size=16_reset=init_seed=0",
    ]
    found = study_report.replicates(readings)
    assert [(of.panel, of.curve, len(of.runs)) for of in found] == [
        ("batch_size=8", "reset=init", 2),
        ("batch_size=8", "reset=reinit", 2),
        ("batch_size=16", "reset=init", 2),
        ("batch_size=16", "reset=reinit", 2),
    ]
    panels = study_report.by_panel(found)
    assert {name: len(of) for name, of in panels.items()} == {"batch_size=8": 2, "batch_size=16": 2}
    (one,) = study_report.replicates(readings[:2])
    assert (one.panel, one.curve, len(one.runs)) == ("", "", 2)
    tickets = study_report.replicates(readings[::2][::2])  # of one seed
    assert [(of.panel, of.curve) for of in tickets] == [("", "batch_size=8"), ("", "batch_size=16")]


def test_runs_that_take_the_masks_of_their_seed_are_replicates(config, tmp_path):
    for moved in ("layer", "global"):
        for seed in (0, 1):
            flags = {"masks_from": f"runs/snip_seed={seed}", "shuffle_masks": moved, "seed": seed}
            made = config(run_dir=str(tmp_path / f"{moved}_{seed}"), rounds=2, **flags)
            make_run(made, shapes=SHAPES, seed=seed)
    found = study_report.replicates(study_report.find(tmp_path, keep=False))
    assert [(of.curve, len(of.runs)) for of in found] == [
        ("shuffle_masks=global", 2),
        ("shuffle_masks=layer", 2),
    ]


def test_a_study_compares_settings_with_least_and_most_of_the_seeds(study):
    set_metrics(RunDir(study / "batch_size=8_reset=init_seed=1"), 3, test_accuracy=0.97)
    rows, columns, written, damage, verdicts = study_report.report(study)
    assert not damage
    assert {verdict.name.split(",")[0] for verdict in verdicts} == {"Ticket ahead of the reinit"}
    assert verdicts[0].answer.startswith("undecided (")
    assert written == [study / "report.html", study / "tensorboard"]
    assert columns["0.5"][0] == "acc at 51.20%"
    assert rows[0]["0.5"] == "92.00% (87.00% to 97.00%)"
    assert rows[1]["0.5"] == "87.00%"
    assert rows[0]["runs"] == 2
    page = written[0].read_text()
    assert headings(page) == [
        "Verdict",
        "What ran",
        "Comparison",
        "Accuracy against density",
        "Lead of the ticket over the reinit",
        "Runs",
        "Unfinished or failed",
    ]
    words = Balanced(page).words
    assert "None: all runs are finished" in words
    found = [of for of in Balanced(page).words.split("Ticket ahead of the reinit, ")[1:]]
    assert found[0].startswith("batch_size=8: undecided (")
    assert "+1.67 points (" in found[0]  # 10 points in one of three rounds of one of two seeds
    assert "ahead in 1 of 3, round 3" in found[0]
    assert found[1].startswith("batch_size=16: equal within 0.2 points")
    assert found[3].count("95% t interval") >= 1  # the rule stands in the section
    assert "http" not in page.replace("data:image/png;base64", "")
    assert 'href="batch_size%3D8_reset%3Dinit_seed%3D0/"' in page


def test_unfinished_damaged_and_empty_runs_are_named_and_the_others_compared(study, config):
    (study / "batch_size=8_reset=init_seed=0" / "config.json").write_text("{")
    shutil.rmtree(study / "batch_size=16_reset=init_seed=0" / "round_03")
    shutil.rmtree(study / "batch_size=16_reset=reinit_seed=0")
    make_run(
        config(
            run_dir=str(study / "batch_size=16_reset=reinit_seed=0"), batch_size=16, reset="reinit"
        ),
        rounds=0,
    )
    (study / "batch_size=16_reset=reinit_seed=0.log").write_text("Begun\nError: no space.\n\n")
    (study / "batch_size=4.log").write_text("Error: no such flag.\n")
    rows, _, written, damage, _ = study_report.report(study)
    assert len(damage) == 1
    assert "config.json is damaged" in damage[0]
    assert [row["runs"] for row in rows] == [1, 2, 2, 1]
    words = Balanced(written[0].read_text()).words
    for text in (
        "batch_size=8_reset=init_seed=0: 4 of ? rounds, damaged.",
        "batch_size=16_reset=init_seed=0: 3 of 4 rounds, unfinished.",
        "batch_size=16_reset=reinit_seed=0: 0 of 3 rounds, unfinished.",
        "python -m lottery_tf.imp --flagfile=",
        "batch_size=16_reset=reinit_seed=0.log ends: Error: no space.",
        "batch_size=4 left no run. batch_size=4.log ends: Error: no such flag.",
    ):
        assert text in words


def hparams_of(directory):
    """{tag: what the plugin holds}, and {tag: value} of the scalars, of a directory of events."""
    events = event_accumulator.EventAccumulator(str(directory))
    events.Reload()
    content = events.SummaryMetadata
    tags = [tag for tag in events.Tags()["tensors"] if "hparams" in tag]
    plugin = {tag: content(tag).plugin_data.content for tag in tags if tag.startswith("_hparams_")}
    scalars = {
        tag: events.Tensors(tag)[0].tensor_proto.float_val[0] for tag in tags if tag not in plugin
    }
    return plugin, scalars


def test_tensorboard_has_flags_and_results(study):
    study_report.report(study)
    study_report.report(study)  # in place of the first
    plugin, _ = hparams_of(study / "tensorboard")
    experiment = metadata.parse_experiment_plugin_data(plugin[metadata.EXPERIMENT_TAG])
    assert [(info.name, info.differs) for info in experiment.hparam_infos] == [
        ("seed", True),
        ("batch_size", True),
        ("reset", True),
    ]
    names = [info.name.tag for info in experiment.metric_infos]
    assert names == ["hparams/acc at 51.20% (%)", "hparams/mean distance"]
    run = study / "batch_size=16_reset=reinit_seed=1" / "tensorboard"
    assert len(list(run.glob("events*.hparams"))) == 1
    plugin, scalars = hparams_of(run)
    start = metadata.parse_session_start_info_plugin_data(plugin[metadata.SESSION_START_INFO_TAG])
    assert start.hparams["batch_size"].number_value == 16
    assert start.hparams["reset"].string_value == "reinit"
    assert scalars[names[0]] == pytest.approx(87)
    assert 0.5 < scalars[names[1]] < 1.1


def test_with_out_the_runs_stay_as_they_are(study, tmp_path):
    before = sorted(study.rglob("*"))
    _, _, written, *_ = study_report.report(study, str(tmp_path / "page.html"))
    assert written == [tmp_path / "page.html"]
    assert sorted(study.rglob("*")) == before


def test_a_run_comes_to_the_mean_and_the_largest_of_successive_rounds(study):
    run = study / "batch_size=8_reset=init_seed=0"
    about, pairs = {"density": 0.8, "collapsed": 0}, ((0, 1, 0.1), (1, 2, 0.3), (0, 2, 0.9))
    table = [{"from_round": a, "to_round": b, "error_barrier": e} | about for a, b, e in pairs]
    (run / "analysis").mkdir()
    (run / "analysis/barriers.csv").write_bytes(files.format_csv(table))
    found = study_report.results_of(one := reading.read(run), Section("What ran"))
    angles = distance_matrix(one)
    assert found["mean_distance"] == pytest.approx((angles[1, 0] + angles[2, 1] + angles[3, 2]) / 3)
    assert found["largest_barrier"] == 0.3


def test_titles_tell_the_density_where_all_have_the_same(study):
    one, two = study_report.find(study, keep=False)[:2]
    assert study_report.titles([one, two]) == {"0.5": "acc at 51.20%"}
    two.rows[3]["density"] = 0.49
    assert study_report.titles([one, two]) == {"0.5": "acc near 50%"}
    assert study_report.titles([]) == {}


def test_the_sparsest_match_and_the_spread():
    known = (1, 0.9), (0.5, 0.95), (0.3, 0.9), (0.2, 0.5)
    rows = [{"density": density, "test_accuracy": accuracy} for density, accuracy in known]
    assert verdicts.sparsest_match(rows, 10_000) == 0.3
    assert math.isnan(verdicts.sparsest_match(rows[1:], 10_000))
    assert study_report.spread([0.5, math.nan, 0.7], "{:.1f}") == "0.6 (0.5 to 0.7), 2 of 3"
    assert study_report.spread([math.nan], "{:.1f}") == ""


def test_a_run_that_ended_early_is_finished(study):
    run = study / "batch_size=8_reset=init_seed=0"
    shutil.rmtree(run / "round_03")
    assert reading.read(run).state == reading.UNFINISHED
    (run / "log.txt").write_text("2026-01-01T00:00:00+00:00 finished\n")
    assert reading.read(run).state == reading.FINISHED


@pytest.mark.ci
def test_reports_need_no_tensorflow(study):
    code = f"""
import sys
from lottery_tf.reports import run_report, study_report
study_report.report({str(study)!r})
run_report.report([{str(study / "batch_size=8_reset=init_seed=0")!r}])
assert not {{"tensorflow", "keras"}} & sys.modules.keys()
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
