"""The results pages: every number follows the CSV files that the pages link."""

import re

import pytest

from tools import make_results_pages as pages

TEMPLATES = sorted(path.name for path in pages.TEMPLATES.glob("*.md"))
# What the text may say itself: densities in percent, and the rates and decays of the settings.
SETTINGS = {"0.1", "0.2", "0.4", "0.02", "0.05", "0.01"}


@pytest.mark.ci
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_page_follows_the_csv_files(name):
    written = (pages.PAGES / name).read_text()
    assert written == pages.page(name), "run python -m tools.make_results_pages"


def test_every_results_page_has_a_template():
    assert sorted(path.name for path in pages.PAGES.glob("*.md")) == TEMPLATES


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_number_is_copied_by_hand(name):
    text = re.sub(r"{{.+?}}", "", (pages.TEMPLATES / name).read_text())
    text = re.sub(r"\]\([^)]*\)|`[^`]*`|§[\d.]+", "", text)
    densities = r"(\d+(\.\d+)?, )*\d+\.\d+%"
    assert set(re.findall(r"\d+\.\d+", re.sub(densities, "", text))) <= SETTINGS


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_table_has_at_most_eight_columns(name):
    for line in (pages.PAGES / name).read_text().splitlines():
        assert line.count("|") <= 9


def test_the_summary_fits_a_screen():
    table = re.search(r"(?m)(^\|.*\n)+", (pages.PAGES / "index.md").read_text())[0]
    assert len(table.splitlines()) <= 16


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Two CSV files: a row per seed, and means with their least and most."""
    (tmp_path / "docs" / "figures").mkdir(parents=True)
    folder = tmp_path / "docs"
    rows = ["init,0,0.980", "init,1,0.982", "reinit,1,0.971", "reinit,0,0.970"]
    table = [f"{row},0.10737,10" for row in rows]
    table += ["init,0,0.984,0.0859,11", "init,1,0.984,0.0859,11"]
    (folder / "methods.csv").write_text(
        "\n".join(["method,seed,test_accuracy,density,round", *table])
    )
    (folder / "dynamic.csv").write_text("method,seed,test_accuracy,density,round")
    (folder / "figures" / "means.csv").write_text(
        "batch,runs,round,to,density,angular,angular_min,angular_max\n"
        "60,3,0,1,1.0,0.8,0.7,0.9\n60,3,0,2,1.0,0.6,0.5,0.7\n60,3,0,init,1.0,0.1,0.1,0.1\n"
        "128,1,0,1,1.0,-0.25,-0.25,-0.25\n60,3,1,2,0.64,0.4,0.3,0.5\n60,3,2,init,0.41,0.1,0.1,0.1\n"
    )
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    pages.read.cache_clear()
    yield
    pages.read.cache_clear()


def test_numbers_of_a_row_per_seed(files):
    assert pages.acc("methods", method="init", at=10.7) == "98.10 (98.00 to 98.20)"
    assert pages.acc("methods", only="mean", method=("reinit", "init"), at=10.7) == "97.05, 98.10"
    # Paired: leads of 1.0 and 1.1 points, whose 95% t interval is 12.7 times their error of 0.05.
    assert pages.gain("init", "reinit", at=10.7) == "+1.05 (+0.41, +1.69)"
    # As for a difference: 12.7 times an error of 0.1.
    alone = pages.interval("methods", "test_accuracy", scale=100, method="init", at=10.7)
    assert alone == "+98.10 (+96.83, +99.37)"
    both_rounds = pages.over_rounds("methods", rounds=range(10, 12), method="init")
    assert both_rounds == "98.25 (98.20 to 98.30)"  # of 98.2 and 98.3


def test_numbers_of_means(files):
    assert pages.value("means", "angular", batch=60, to=1) == "0.80 (0.70 to 0.90)"
    assert pages.value("means", "angular", batch=128, to=1) == "\N{MINUS SIGN}0.25"  # a single run
    assert pages.span("means", "angular", batch=60) == "0.40 to 0.80"  # not the distance to W_0
    assert pages.span("means", "angular", batch=60, apart=2) == "0.60 to 0.60"
    assert pages.extreme("means", "angular", min, batch=60) == "0.40 at 41%"
    assert pages.ratio("means", "angular", {"to": 2}, batch=60, to=1, round=0) == "1.33"
    with pytest.raises(ValueError, match=r"means\.csv"):
        pages.value("means", "angular", batch=512)
