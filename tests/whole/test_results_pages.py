"""The results pages: every number follows the CSV files that the pages link."""

import re

import pytest

from lottery_tf.pruning import collapse
from tests import referee
from tools import make_results_pages as pages

TEMPLATES = sorted(path.name for path in pages.TEMPLATES.glob("*.md"))
# What the text may say itself: densities in percent, and the rates and decays of the settings.
SETTINGS = {"0.1", "0.2", "0.4", "0.02", "0.05", "0.01"}


@pytest.mark.ci
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_page_follows_the_csv_files(name):
    written = (pages.PAGES / name).read_text()
    assert written == pages.page(name), "run python -m tools.make_results_pages"


def test_a_referee_recomputes_every_number_from_the_csv_files():
    found = [number for name in TEMPLATES for number in referee.numbers(name)]
    assert len(found) > 1000
    assert not [of for of in found if not of.agrees()]


def test_a_referee_comes_to_every_verdict():
    found = [
        of
        for name in TEMPLATES
        for of in re.findall(r"{{(.+?)}}", (pages.TEMPLATES / name).read_text())
        if of.startswith(("verdict(", "rule("))
    ]
    assert len(found) > 60
    for expression in found:
        computed = eval(expression, vars(pages))
        assert computed == eval(expression, vars(referee)), expression


def test_every_results_page_has_a_template():
    assert sorted(path.name for path in pages.PAGES.glob("*.md")) == TEMPLATES


@pytest.mark.parametrize("name", ["speed", "export_speed"])
def test_tables_of_times_follow_their_csv_file(name):
    known = {}
    for row in pages.read("timings"):
        if row["page"] == name:
            known.setdefault(row["row"], []).append(str(row["shown"]))
    text = (pages.ROOT / "docs" / "explanation" / f"{name}.md").read_text()
    label, found = "", 0
    for table in re.findall(r"(?m)(?:^\|.*\n)+", text.split("\n## ", 1)[1]):
        for line in table.splitlines()[2:]:
            first, *cells = (cell.strip(" *") for cell in line.strip("|").split("|"))
            label = first or label
            numbers = [of for cell in cells for of in re.findall(r"\d+\.?\d*", cell)]
            joined = (known[row] for row in known if row.split(" of ")[0] in label)
            of_row = known.get(label) or [shown for of in joined for shown in of]
            noted = re.findall(r"\d+\.?\d*", " ".join(of_row))
            assert set(map(float, numbers)) <= set(map(float, noted)), line
            found += len(numbers)
    assert found > 50


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_number_is_copied_by_hand(name):
    text = re.sub(r"{{.+?}}", "", (pages.TEMPLATES / name).read_text())
    text = re.sub(r"\]\([^)]*\)|`[^`]*`|§[\d.]+", "", text)
    densities = r"(\d+(\.\d+)?, )*\d+\.\d+%"
    assert set(re.findall(r"\d+\.\d+", re.sub(densities, "", text))) <= SETTINGS


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_verdict_is_written_by_hand(name):
    """Code computes "seen" and "undecided"; other words say that there are means alone."""
    verdict = None
    for line in (pages.TEMPLATES / name).read_text().splitlines():
        cells = re.sub(r"{{.+?}}", "", line).split("|")
        if " verdict " in cells:
            verdict = cells.index(" verdict ")
        elif verdict and len(cells) < 3:
            verdict = None
        elif verdict:
            assert not re.search(r"\b(seen|undecided|equal)\b", cells[verdict]), line


def test_every_claim_of_the_summary_has_a_verdict_or_says_what_it_rests_on():
    table = re.search(r"(?m)(^\|.*\n)+", (pages.TEMPLATES / "index.md").read_text())[0]
    verdicts = [line.split("|")[2] for line in table.splitlines()[2:]]
    by_rule = [cell for cell in verdicts if "{{verdict(" in cell or "{{rule(" in cell]
    others = [cell.strip() for cell in verdicts if cell not in by_rule]
    assert len(by_rule) > len(others)
    assert all(re.match("three seeds, means only|weights of three|one seed", of) for of in others)


def test_a_published_number_names_its_paper():
    for name in TEMPLATES:
        for line in (pages.TEMPLATES / name).read_text().splitlines():
            if "published(" in line:
                assert re.search(r"\| (S|P) |\| P App\. C|et al\. \d{4}", line), line


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_table_has_at_most_eight_columns(name):
    for line in (pages.PAGES / name).read_text().splitlines():
        assert line.count("|") <= 9


def test_the_summary_fits_a_screen():
    table = re.search(r"(?m)(^\|.*\n)+", (pages.PAGES / "index.md").read_text())[0]
    assert len(table.splitlines()) <= 16


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes a CSV file of docs; the real ones are out of sight."""
    folder = tmp_path / "docs" / "figures"
    folder.mkdir(parents=True)
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    pages.read.cache_clear()
    yield lambda file, *lines: (folder / f"{file}.csv").write_text("\n".join(lines))
    pages.read.cache_clear()


@pytest.fixture
def files(write):
    """Two CSV files: a row per seed, and means with their least and most."""
    rows = ["init,0,0.980", "init,1,0.982", "reinit,1,0.971", "reinit,0,0.970"]
    table = [f"{row},0.10737,10" for row in rows]
    table += ["init,0,0.984,0.0859,11", "init,1,0.984,0.0859,11"]
    write("methods", "method,seed,test_accuracy,density,round", *table)
    write("dynamic", "method,seed,test_accuracy,density,round")
    write(
        "means",
        "batch,runs,round,to,density,angular,angular_min,angular_max",
        *["60,3,0,1,1.0,0.8,0.7,0.9", "60,3,0,2,1.0,0.6,0.5,0.7", "60,3,0,init,1.0,0.1,0.1,0.1"],
        *["128,1,0,1,1.0,-0.25,-0.25,-0.25", "60,3,1,2,0.64,0.4,0.3,0.5"],
        "60,3,2,init,0.41,0.1,0.1,0.1",
    )


def test_numbers_of_a_row_per_seed(files):
    assert pages.acc("methods", method="init", at=10.7) == "98.10 (98.00 to 98.20)"
    assert pages.acc("methods", only="mean", method=("reinit", "init"), at=10.7) == "97.05, 98.10"
    # Paired: leads of 1.0 and 1.1 points, whose 95% t interval is 12.7 times their error of 0.05.
    gain = pages.gain("init", "reinit", at=10.7)
    assert pages.in_words(gain) == "+1.05 (+0.41, +1.69, 2 seeds)"
    # As for a difference: 12.7 times an error of 0.1.
    alone = pages.interval("methods", "test_accuracy", scale=100, method="init", at=10.7)
    assert pages.in_words(alone) == "+98.10 (+96.83, +99.37, 2 seeds)"
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


HEADLINE = "batch_size,reset,seed,round,density,test_accuracy,collapsed"


def headline(leads):
    """Rows at density 10.7% with these leads, {batch size: those of the seeds}."""
    return [
        f"{batch_size},{reset},{seed},5,0.10737,{0.97 + lead * (reset == 'init')},0"
        for batch_size, of_seeds in leads.items()
        for seed, lead in enumerate(of_seeds)
        for reset in ("reinit", "init")
    ]


def test_leads_and_verdicts_of_a_study_with_a_row_per_seed(write):
    leads = {60: (0.001, -0.001, 0.000, 0.002), 512: (0.009, 0.007, 0.008, 0.011)}
    write("headline", HEADLINE, *headline(leads))
    small, large = (pages.lead("headline", batch_size=of, at=10.7) for of in (60, 512))
    assert [pages.in_words(of) for of in (small, large)] == [
        "+0.05 (\N{MINUS SIGN}0.16, +0.26, 4 seeds)",
        "+0.88 (+0.60, +1.15, 4 seeds)",
    ]
    assert pages.verdict(small) == "undecided (6 seeds would decide)"
    assert pages.verdict(large) == pages.verdict(large, large) == "seen"
    assert pages.verdict(small, large) == "undecided (6 seeds would decide), seen"
    # Paired, 0.8, 0.8, 0.8, 0.9: far narrower than the leads.
    more = pages.lead_above("headline", {"batch_size": 60}, batch_size=512, at=10.7)
    assert pages.in_words(more) == "+0.83 (+0.75, +0.90, 4 seeds)"
    of = pages.difference(
        "headline", {"reset": "init"}, {"reset": "reinit"}, batch_size=512, at=10.7
    )
    assert pages.in_words(of) == pages.in_words(large)


def test_each_verdict_follows_its_rule(write):
    for answer, leads in {
        "seen": (0.004, 0.005, 0.006),
        "not seen": (-0.004, -0.005, -0.006),
        "equal within 0.2 points": (-0.0002, 0.0, 0.0003),
        "one seed": (0.02,),
    }.items():
        write("headline", HEADLINE, *headline({60: leads}))
        pages.read.cache_clear()
        assert pages.verdict(pages.lead("headline", batch_size=60, at=10.7)) == answer


def test_collapsed_networks_are_counted_and_left_out(write):
    rows = headline({60: (0.004, 0.005, 0.006)})
    rows[-1] = rows[-1].removesuffix("0") + "1"  # the ticket of seed 2
    write("headline", HEADLINE, *rows)
    tickets = {"batch_size": 60, "reset": "init", "at": 10.7}
    assert pages.acc("headline", **tickets) == "97.45 (97.40 to 97.50; 1 of 3 collapsed)"
    assert pages.collapsed("headline", **tickets) == "1 of 3"
    assert pages.lead("headline", batch_size=60, at=10.7).count == 2
    resets = {"reset": "reinit"}, {"reset": "init"}
    assert pages.difference("headline", *resets, batch_size=60, at=10.7).count == 2


def test_the_results_of_a_sweep_are_such_a_file(write):
    """results.csv of tools.sweep names the flags that vary, and the rounds that collapsed."""
    columns = "run,batch_size,reset,seed,round,density,test_accuracy,collapse"
    rows = [f"{reset}_{s},60,{reset},{s},5,0.10737,{a}," for reset, s, a in (
        ("init", 0, 0.98), ("init", 1, 0.982), ("reinit", 0, 0.97), ("reinit", 1, 0.971)
    )]  # fmt: skip
    write("results", columns, *rows, f"init_2,60,init,2,5,0.10737,0.1,{collapse.ONE_CLASS}",
          "reinit_2,60,reinit,2,5,0.10737,0.97,")  # fmt: skip
    assert pages.in_words(pages.lead("results", at=10.7)) == "+1.05 (+0.41, +1.69, 2 seeds)"
    assert pages.collapsed("results", reset="init") == "1 of 3"


def test_a_mean_over_collapsed_networks_is_refused(write):
    about = "runs,round,density,test_accuracy,test_accuracy_min,test_accuracy_max"
    write("old", about, "3,0,1.0,0.66,0.10,0.95", "3,1,0.5,0.96,0.95,0.97")
    assert pages.collapsed("old", round=0) == "1 of 3"
    assert pages.acc("old", round=1) == "96.00 (95.00 to 97.00)"
    with pytest.raises(ValueError, match="collapsed"):
        pages.acc("old", round=0)


def test_mean_least_and_most_give_back_three_seeds(write):
    """So a lead that a file has as a mean over three seeds has its interval, too."""
    write("thesis", "seeds,density,lead,lead_min,lead_max", "3,0.1,0.005,0.004,0.007")
    write("rows", "seed,density,lead", "0,0.1,0.004", "1,0.1,0.004", "2,0.1,0.007")
    assert pages.in_words(pages.lead("thesis", at=10)) == pages.in_words(pages.lead("rows", at=10))
    write("many", "seeds,density,lead,lead_min,lead_max", "4,0.1,0.005,0.004,0.007")
    with pytest.raises(ValueError, match="three seeds"):
        pages.lead("many", at=10)


def test_measures_of_rounds_follow_the_rules_of_the_reports(write):
    barriers = "from_round,to_round,runs,error_barrier,error_barrier_min,error_barrier_max"
    write("good", barriers, "0,1,3,0.001,0.0005,0.0015", "1,2,3,0.002,0.0015,0.0025")
    write("bad", barriers, "0,1,3,0.201,0.2005,0.2015", "1,2,3,0.302,0.3015,0.3025")
    assert [pages.rule("connected", of) for of in ("good", "bad")] == ["seen", "not seen"]
    assert pages.rule("connected", "good", to_round=1) == "seen"
    angles = "seed,round,to,density,angular"
    write(
        "rows", angles, *[f"{seed},{r},{r + 1},1,0.3{seed}" for r in (0, 1) for seed in (0, 1, 2)]
    )
    assert pages.rule("similar", "rows", "angular", apart=1) == "seen"
    assert pages.span("rows", "angular", apart=1) == "0.31 to 0.31"
