"""The flag files of the papers' figures: which runs they name, and what they tell."""

import dataclasses

import pytest

from lottery_tf.paper import figure_report, figures
from lottery_tf.paper.figures import FIGURES
from lottery_tf.runs.rundir import RunDir
from tests.conftest import ROOT
from tests.made_figures import read_study

STUDIES = sorted((ROOT / "flags" / "figures").glob("*.cfg"))
OTHERS = sorted((ROOT / "flags" / "studies").glob("*.cfg"))


@pytest.fixture(scope="module")
def studies():
    """{name: Study} of one seed each, since every point takes a while to parse."""
    return {path.stem: read_study(path, "--grid=seed=0") for path in STUDIES}


def test_every_figure_has_a_study_in_full_and_a_small_one(studies):
    assert studies.keys() == FIGURES.keys() | {f"{name}_small" for name in FIGURES}


def test_studies_that_share_a_directory_call_the_same_run_alike(studies):
    names = {}
    for study in studies.values():
        for point in study.points:
            config = dataclasses.replace(point.config, run_dir="")
            assert names.setdefault((study.runs, config), point.name) == point.name
    shared = [study.runs.name for study in studies.values()]
    assert shared.count("fig01_small") == 14  # with Figs. 3, 7, 15, the rewinding and the thesis


def test_the_study_of_rates_shares_those_at_rate_0_1_with_figure_1(studies):
    def names(study):
        return {dataclasses.replace(p.config, run_dir=""): p.name for p in study.points}

    first = names(studies["fig01_small"])
    found = read_study(ROOT / "flags" / "studies" / "rates.cfg", "--grid=seed=0")
    assert found.runs == studies["fig01_small"].runs
    shared = names(found).keys() & first.keys()
    assert {(of.batch_size, of.reset) for of in shared} == {
        (size, reset) for size in (60, 256) for reset in ("init", "reinit")
    }
    assert {names(found)[of] for of in shared} == {first[of] for of in shared}


@pytest.mark.parametrize(
    "name", ["fig03", "fig03_small", "fig07", "fig07_small", "rewinding_small"]
)
def test_the_regular_runs_of_a_study_are_those_of_figure_1(studies, name):
    first = {p.name for p in studies["fig01_small" if name.endswith("small") else "fig01"].points}
    regular = {"fig03": 4, "fig07": 2, "rewinding": 2}[name.removesuffix("_small")]
    assert len(first & {point.name for point in studies[name].points}) == regular


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_a_study_of_ours_can_be_made_and_tells_what_to_expect(path):
    study = read_study(path)
    first, *_ = text = path.read_text().splitlines()
    assert first == f"# python -m tools.sweep --flagfile=flags/studies/{path.name}"
    assert any(line.startswith(("# Expect", "# Measured")) for line in text)
    found = [(point, RunDir(point.directory)) for point in study.points]
    seeds = {point.config.seed for point in study.points}
    assert {len(group.runs) for group in figure_report.group(found, ("batch_size",))} == {
        len(seeds)
    }


def test_a_flag_file_begins_with_its_commands_and_tells_what_to_expect():
    for path in STUDIES:
        sweep, draw, *_ = path.read_text().splitlines()
        assert sweep == f"# python -m tools.sweep --flagfile=flags/figures/{path.name}"
        assert draw.startswith("# python -m tools.figures --figure=")
        figure = figures.find(draw.split("=")[1].split()[0])
        assert figure == path.stem.removesuffix("_small")
        assert "# Expect: " in path.read_text()
        assert "# Cost (an estimate): " in path.read_text()


def test_paper_settings_of_figure_1(studies):
    configs = [point.config for point in studies["fig01"].points]
    assert {config.batch_size for config in configs} == {128, 256, 512, 1024, 2048}
    assert {config.warmup_epochs for config in configs} == {0, 10}
    assert {(c.model, c.learning_rate, c.rounds, c.epochs) for c in configs} == {
        ("resnet20", 0.1, 25, 85)
    }
    stable, unstable = (
        {c.repel for c in (p.config for p in studies["fig03"].points) if c.batch_size == size}
        for size in (1024, 128)
    )
    assert (stable, unstable) == ({0, 2}, {0, -1})
