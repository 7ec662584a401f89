"""Reports: whole without any other file, valid, escaped, and of what can be read."""

import html.parser
import json
import os
import re
import shutil

import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator

from lottery_tf.analysis import instability, learning, masks, paths
from lottery_tf.config.record import MADE_BY_ROUNDS
from lottery_tf.errors import InputError
from lottery_tf.plots import figures, svg
from lottery_tf.reports import reading, relations, run_report, study_report, weights
from lottery_tf.runs import files
from tests.made_runs import make_run
from tests.tools.test_tools import run_tool

pytestmark = pytest.mark.versions

SHAPES = {"hidden1/kernel": (64, 12), "hidden1/bias": (12,), "logits/kernel": (12, 10)}
SECTIONS = [
    "Verdict",
    "What ran",
    "Accuracy and threshold",
    "Distances between rounds",
    "Learning distance and signs",
    "Surviving weights",
    "Layers",
    "Overlap of masks",
    "Pixels that the first layer looks at",
    "Rounds",
    "Error barriers",  # from here on not measured
    "Predictions of the rounds",
    "Accuracy of each class",
    "The untrained ticket",
    "Instability to SGD noise",
    "Stability to pruning and to data order",
    "Curvature",
    "Gradient noise scale",
    "A fixed mask trained in cycles",
    "Masks of another run",
    "Files",
]
ALONE = {"meta", "br", "img", "path", "use", "image", "rect"}


class Balanced(html.parser.HTMLParser):
    """Collects the tags of a page, and fails where one is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ALONE:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert tag in ALONE or self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


def page_of(*runs, **options):
    path, _ = run_report.report([run.path for run in runs], **options)
    return path.read_text()


@pytest.fixture
def run(config):
    return make_run(config(), rounds=4, shapes=SHAPES)


def headings(page):
    return re.findall("<h2>(.*?)</h2>", page)


@pytest.mark.ci
def test_a_page_is_whole_valid_and_needs_nothing_from_outside(run):
    page = page_of(run)
    assert headings(page) == SECTIONS
    tags = Balanced(page).tags
    assert not {"link", "iframe"} & {tag for tag, _ in tags}
    assert [attributes for tag, attributes in tags if tag == "script"] == [{}]
    for _, attributes in tags:
        for name in ("src", "href", "xlink:href"):
            target = attributes.get(name) or "#"
            assert (
                target.startswith(("#", "data:image/png"))
                or (run.path / "analysis" / target).exists()
            ), target
    assert "http" not in re.sub('"data:[^"]*"', "", page)
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "width=device-width" in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


@pytest.mark.usefixtures("without_pictures")
def test_a_page_is_used_by_keyboard_and_read_aloud(run):
    tags = Balanced(page_of(run)).tags
    ids = {attributes.get("id") for _, attributes in tags}
    targets = [attributes["href"] for _, attributes in tags if "href" in attributes]
    assert {target[1:] for target in targets if target.startswith("#")} <= ids
    assert targets[0] == "#main"  # past the list of sections
    assert {attributes.get("scope") for tag, attributes in tags if tag == "th"} == {"col", "row"}
    for tag, attributes in tags:
        if tag == "pre" or (attributes.get("class") == "scroll" and "aria-label" in attributes):
            assert attributes["tabindex"] == "0"


def test_what_a_picture_shows_is_told_in_words(run):
    page = page_of(run)
    told = [attributes["aria-label"] for tag, attributes in Balanced(page).tags if tag == "svg"]
    (accuracy,) = [words for words in told if words.startswith("Test accuracy")]
    for words in ("first 90.00% at density 100", "last 87.00% at density 51.2", "most 90.00%"):
        assert words in accuracy
    (distances,) = [words for words in told if words.startswith("Angular distance between")]
    known = relations.distance_matrix(reading.read(run.path))[~np.eye(5, dtype=bool)]
    assert f"from {known.min():.2f} to {known.max():.2f}, least and most" in distances


def test_the_test_accuracy_of_one_run_has_its_sampling_error(run):
    rows = reading.read(run.path).rows
    drawn = reading.with_sampling_error(rows, 100)
    assert drawn[0]["test_accuracy_max"] - rows[0]["test_accuracy"] == pytest.approx(0.03)
    assert drawn[0]["test_accuracy_min"] == pytest.approx(0.87)
    assert reading.with_sampling_error(drawn, 10) == drawn  # that of seeds stays


def test_collapsed_rounds_do_not_set_the_scale_of_accuracies():
    rows = [{"collapsed": 0.0}, {"collapsed": 0.5}, {"collapsed": 1.0}]
    assert reading.uncollapsed(rows) == rows[:2]
    assert reading.uncollapsed(rows[2:]) == rows[2:]


@pytest.mark.usefixtures("without_pictures")
def test_a_page_says_how_to_repeat_its_run_and_links_its_study(run):
    page = page_of(run)
    assert f"--flagfile={run.path}/flags.cfg --run_dir={run.path}_again" in page
    assert "../../report.html" not in page
    study_report.report(run.path.parent)
    assert 'href="../../report.html"' in page_of(run)
    assert "run/analysis/report.html" in (run.path.parent / "report.html").read_text()


@pytest.mark.usefixtures("without_pictures")
def test_tensorboard_has_the_flags_verdicts_and_results_of_a_single_run(run):
    for _ in range(2):
        run_report.report([run.path])  # in place of the first
    found = event_accumulator.EventAccumulator(str(run.path / "tensorboard"))
    found.Reload()
    text = {
        tag: str(event.tensor_proto.string_val[0], "utf-8")
        for tag in ("report/flags", "report/verdicts")
        for event in found.Tensors(tag)
    }
    assert "--initializer=kaiming_uniform" in text["report/flags"]
    assert "**Matching: one seed.**" in text["report/verdicts"]
    (last,) = found.Tensors("hparams/last test acc (%)")
    assert last.tensor_proto.float_val[0] == pytest.approx(87)
    (run.path.parent / "tensorboard").mkdir()
    (run.path.parent / "tensorboard/events.of_the_study.hparams").touch()
    (old,) = (run.path / "tensorboard").glob("events*.hparams")
    run_report.report([run.path])
    assert old.exists()  # what the study's report wrote of its runs stays


@pytest.mark.usefixtures("without_pictures")
def test_names_and_values_are_escaped(config, tmp_path):
    hostile = "<script>alert(1)</script>&\"'"
    made = make_run(config(model="own:<b>&net"), shapes=SHAPES)
    run = made.path.rename(tmp_path / hostile.replace("/", "-"))
    path, _ = run_report.report([run])
    page = path.read_text()
    assert page.count("<script") == 1  # the page's own
    assert "own:&lt;b&gt;&amp;net" in page
    assert hostile.replace("/", "-") in Balanced(page).words


@pytest.mark.usefixtures("without_pictures")
def test_what_was_not_measured_is_named_with_its_command(run):
    path, verdict = run_report.report([run.path])
    answers = {of.name: of.answer for of in verdict.verdicts}
    assert answers.pop("Matching") == "one seed"
    assert answers.pop("Similar") == "one seed"
    assert set(answers.values()) == {"not measured"}
    words = Balanced(path.read_text()).words
    evaluated = ("predictions", "classes", "untrained", "noise_scale")
    trained = ("instability", "stability", "cyclic", "transplant")
    for name in ("barriers", "curvature", *evaluated, *trained):
        assert f"python -m tools.{name} --run_dir={run.path}" in words


def write_tables(run):
    directory = run.path / "analysis"
    directory.mkdir(exist_ok=True)
    about = {"split": "test", "bn_stats": "none", "density": 0.8, "collapsed": 0}
    path = paths.summarize([{"error": e, "loss": 1.0, "collapsed": 0} for e in (0.1, 0.15, 0.1)])
    barriers = [about | {"from_round": r, "to_round": r + 1} | path for r in range(3)]
    copies = [about | {"round": 0, "start": "init", "instability": 0.01}]
    last = {"round": 2, "density": 0.6}
    measured = {"measure": "pruning", "l2": 1.0, "test_accuracy": 0.5, "collapsed": 0}
    stability = [
        last | measured | {"mask": mask, "replicate": replicate, "degrees": degrees + replicate}
        for mask, degrees in (("ticket", 10), ("random", 50))
        for replicate in (0, 2)
    ]
    ticket = {"round": 1, "density": 0.8, "run": "ticket", "test_accuracy": 0.5}
    other = ticket | {"run": "other", "eigenvalue": 7777.0}
    curvature = [ticket | {"round": r, "eigenvalue": 1234.0 + r} for r in range(2)] + [other]
    cycles = [
        last | {"mask": mask, "cycle": cycle, "imp_accuracy": 0.5125, "test_accuracy": accuracy}
        for mask, of_cycles in (("ticket", (0.52, 0.53)), ("random", (0.32, 0.33)))
        for cycle, accuracy in enumerate(of_cycles, 1)
    ]
    transplant = [
        last | {"replicate": replicate, "mask": mask, "overlap": 0.5, "test_accuracy": accuracy}
        for mask, of_replicates in (("own", (0.61, 0.63)), ("random", (0.41, 0.43)))
        for replicate, accuracy in enumerate(of_replicates)
    ]
    tables = {"barriers": barriers, "instability": copies, "stability": stability}
    tables |= {"curvature": curvature, "cyclic": cycles, "transplant": transplant}
    for name, rows in tables.items():
        (directory / f"{name}.csv").write_bytes(files.format_csv(rows))
    (directory / "barriers_paths.csv").write_text("alpha\n0\n")  # others of the tool are no rows


@pytest.mark.usefixtures("without_pictures")
def test_what_tools_measured_is_shown(run):
    write_tables(run)
    _, verdict = run_report.report([run.path])
    words = {of.name: of.words for of in verdict.verdicts if of.answer == "one seed"}
    expected = {
        "Connected": "Error barrier 5.00% in rounds 1 to 3, one seed: not below the threshold.",
        "Stable": "Instability 1.00% in round 0, one seed: below the threshold.",
        "More stable than random masks": "To pruning in round 2 11.0 degrees, random 51.0.",
    }
    assert words | expected == words
    assert instability.STABLE == 0.02


def section(page, title):
    """The words of a section of a page."""
    (found,) = re.findall(f"<h2>{title}</h2>(.*?)(?=<h2>|</main>|</body>)", page, re.S)
    return " ".join(re.sub("<[^>]*>", " ", found).split())


@pytest.mark.usefixtures("without_pictures")
def test_curvature_cycles_other_masks_and_learning_are_shown(run):
    write_tables(run)
    page = page_of(run)
    assert "1235.000" in section(page, "Curvature")
    assert "7777" not in page  # of a run that was measured beside it
    cycles = section(page, "A fixed mask trained in cycles")
    assert "53.00%" in cycles  # after the last cycle
    assert "52.00%" not in cycles
    assert "51.25%" in cycles
    assert "62.00% 61.00% 63.00%" in section(page, "Masks of another run")
    of_rounds = [row for row in learning.of_rounds(run) if row["layer"] == "all layers"]
    words = section(page, "Learning distance and signs")
    for row in of_rounds[1:]:
        assert f"{row['kept_signs']:.2%} {row['flips']:.2%}" in words
    assert (run.path / "analysis/learning.cache.json").exists()


@pytest.mark.usefixtures("without_pictures")
def test_overlaps_of_masks_are_kept(run, monkeypatch):
    calls = []
    jaccard = masks.jaccard
    monkeypatch.setattr(masks, "jaccard", lambda *of: calls.append(of) or jaccard(*of))
    for _ in range(2):
        weights.of_overlap([reading.read(run.path)])
    assert len(calls) == 1
    path = run.path / "analysis" / "masks.cache.json"
    path.write_text(json.dumps({key: [[1.0]] for key in json.loads(path.read_text())}))
    weights.of_overlap([reading.read(run.path)])
    assert len(calls) == 2  # what does not fit is measured again


def test_masks_have_their_overlap_drawn_and_one_round_none(run, config, tmp_path):
    drawn = weights.of_overlap([reading.read(run.path)])
    (picture,) = drawn.blocks
    assert "Jaccard" in picture.caption
    assert ">0.8<" in picture.svg or "0.80" in picture.svg
    one = make_run(config(run_dir=str(tmp_path / "one")), rounds=1, shapes=SHAPES)
    (text,) = weights.of_overlap([reading.read(one.path)]).blocks
    assert "one round" in text


@pytest.mark.usefixtures("without_pictures")
def test_cycles_and_other_masks_are_asked_of_runs_that_they_are_defined_for_alone(config):
    page = page_of(make_run(config(reset="reinit"), shapes=SHAPES, reset="reinit"))
    for title in ("A fixed mask trained in cycles", "Masks of another run"):
        assert "Not defined" in section(page, title)
        assert "python -m" not in section(page, title)


@pytest.mark.usefixtures("without_pictures")
def test_a_table_that_is_older_than_its_rounds_says_so(run):
    write_tables(run)
    assert "is older than" not in page_of(run)
    table = run.path / "analysis/barriers.csv"
    then = (run.round_path(2) / files.SUMS).stat().st_mtime - 10
    os.utime(table, (then, then))
    assert "barriers.csv is older than round" in page_of(run)


@pytest.mark.usefixtures("without_pictures")
def test_replicates_are_averaged_and_a_measure_of_some_says_so(config, run, tmp_path):
    other = make_run(config(run_dir=str(tmp_path / "b"), seed=1), shapes=SHAPES, seed=1, rounds=3)
    write_tables(run)
    page = page_of(run, other, out=str(tmp_path / "page.html"))
    words = Balanced(page).words
    assert "2 runs as replicates" in words
    assert "Measured of 1 of 2 runs" in words
    assert "Means of 2 runs" in words
    assert not list(other.path.glob("analysis"))  # --out leaves runs as they are
    differ = make_run(config(run_dir=str(tmp_path / "c"), epochs=7), shapes=SHAPES)
    assert "differ in more than seeds: --epochs" in page_of(run, differ)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("round_01/final.npz", "round_01/final.npz is damaged"),
        ("round_01/metrics.csv", "round_01/metrics.csv is damaged"),
        ("config.json", "config.json is damaged"),
        ("analysis/barriers.csv", "barriers.csv"),
        ("data.json", "data.json is damaged"),
    ],
)
@pytest.mark.usefixtures("without_pictures")
def test_a_damaged_file_is_named_and_the_rest_shown(run, damage, words):
    write_tables(run)
    path = run.path / damage
    path.write_bytes(b"no\0such\n\n,,\xff")
    page = page_of(run)
    assert words in Balanced(page).words
    assert {"Accuracy and threshold", "Rounds", "Layers"} < set(headings(page))


@pytest.mark.usefixtures("without_pictures")
def test_a_missing_round_leaves_the_others(run):
    shutil.rmtree(run.path / "round_01")
    page = page_of(run)
    assert "round_01 is missing" in Balanced(page).words
    assert "3 of 3 (damaged)" in page


@pytest.mark.usefixtures("without_pictures")
def test_an_unfinished_run_says_how_to_go_on(config):
    run = make_run(config(rounds=9), rounds=1, shapes=SHAPES)
    words = Balanced(page_of(run)).words
    assert "1 of 9 (unfinished)" in words
    assert f"--run_dir={run.path}" in words
    assert "No round is pruned yet" in words
    (run.path / "flags.cfg").unlink()  # as of an older version
    assert "lottery_tf.imp" not in page_of(run)


@pytest.mark.ci
@pytest.mark.usefixtures("without_pictures")
def test_stability_is_asked_of_runs_that_it_is_defined_for_alone(config):
    run = make_run(config(reset="reinit"), shapes=SHAPES, reset="reinit")
    _, verdict = run_report.report([run.path])
    (words,) = (of.words for of in verdict.verdicts if of.name.startswith("More stable"))
    assert words == "Not defined: not all rounds of run start from round 0."
    assert "tools.stability" not in page_of(run)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Received: neither"),
        (["--run_dir=a", "--runs=b"], "Received: both"),
        (["--run_dir=nowhere"], "nowhere is not a run"),
    ],
)
def test_bad_input_is_one_line(arguments, words):
    result = run_tool("report", *arguments)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_page_that_cannot_be_written_is_refused(run, tmp_path):
    with pytest.raises(InputError, match=r"--out: .*no/page\.html"):
        page_of(run, out=str(tmp_path / "no" / "page.html"))


def test_the_report_of_a_run_without_rounds_says_so(config):
    run = make_run(config(), rounds=0)
    with pytest.raises(InputError, match=str(run.path)):
        page_of(run)


def test_a_drawing_has_the_colour_of_the_page_and_no_ids_of_its_own():
    rows = [{"density": density, "x": density} for density in (1, 0.5, 0.1)]
    drawings = [
        svg.inline(lambda: figures.against_density({"a": (rows, "x")}, what="x"), label=label)
        for label in ("<one>", "two")
    ]
    assert drawings[0].startswith('<svg class="chart" role="img" aria-label="&lt;one&gt;"')
    for drawing in drawings:
        Balanced(drawing)
        assert "currentColor" in drawing
        assert svg.INK not in drawing
        assert "http" not in drawing
    one, two = (set(re.findall(' id="([^"]*)"', drawing)) for drawing in drawings)
    assert one
    assert not one & two


def test_rounds_are_those_nearest_to_some_densities():
    rows = [{"round": round, "density": 0.8**round} for round in range(13)]
    assert [row["round"] for row in weights.some_rounds(rows)] == [3, 7, 10]
    assert weights.some_rounds(rows[:1]) == rows[:1]
    assert weights.nearest([{"density": 0.0}], 0.1) is None


def test_heat_maps_have_a_picture_for_each(run):
    figure = figures.heat_maps({"a": np.eye(3), "b": np.zeros((2, 5))}, what="n")
    images = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert [image.shape for image in images] == [(3, 3), (2, 5)]


@pytest.mark.usefixtures("without_pictures")
def test_networks_without_a_first_dense_layer_have_no_pixels(config):
    shapes = {f"conv{i}/kernel": (3, 3, 2, 2) for i in range(9)} | {"logits/kernel": (8, 10)}
    page = page_of(make_run(config(model="own:net"), shapes=shapes))
    assert headings(page) == [title for title in SECTIONS if not title.startswith("Pixels")]
    assert "7 of 10 layers" in page


@pytest.mark.usefixtures("without_pictures")
def test_turns_around_an_own_fit_have_no_commands_of_tools(config):
    run = make_run(config(), shapes=SHAPES)
    values = json.loads((run.path / "config.json").read_text()) | {"made_by": MADE_BY_ROUNDS}
    (run.path / "config.json").write_text(json.dumps(values))
    words = Balanced(page_of(run)).words
    assert "of your own code" in words
    assert "python -m" not in words


# Damage --------------------------------------------------------------------------------------


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("name", ["final.npz", "masks.npz", "initial.npz", "history.csv"])
def test_what_was_measured_of_a_damaged_run_is_ignored(run, name):
    write_tables(run)
    _, verdict = run_report.report([run.path])
    answers = {of.name: of.answer for of in verdict.verdicts}
    assert (answers["Similar"], answers["Stable"], verdict.blocks) == ("one seed", "one seed", [])
    flip(run.round_path(2) / name)
    path, verdict = run_report.report([run.path])
    answers = {of.name: of.answer for of in verdict.verdicts}
    for of in ("Connected", "Stable", "More stable than random masks"):
        assert answers[of] == "not measured"
    if name != "history.csv":  # the weights themselves are whole
        assert answers["Similar"] == "not measured"
    assert [f"round_02/{name} is damaged" in block for block in verdict.blocks] == [True]
    assert f"round_02/{name} is damaged" in Balanced(path.read_text()).words


@pytest.mark.ci
def test_the_report_of_a_damaged_run_ends_with_1_and_says_what_is_damaged(run):
    assert run_tool("report", f"--run_dir={run.path}").returncode == 0
    flip(run.round_path(1) / "final.npz")
    for arguments in ([f"--run_dir={run.path}"], [f"--runs={run.path.parent}"]):
        result = run_tool("report", *arguments)
        assert result.returncode == 1
        assert f"Error: {run.round_path(1)}/final.npz is damaged" in result.stderr
        assert "Similar: one seed" not in result.stdout
        assert "Traceback" not in result.stderr


@pytest.mark.ci
@pytest.mark.usefixtures("without_pictures")
def test_every_verdict_of_a_page_stands_beside_its_rule(run):
    path, verdict = run_report.report([run.path])
    words = " ".join(Balanced(path.read_text()).words.split())
    for of in verdict.verdicts:
        assert words.count(of.rule) == 1, of.name  # in its section, to which the top leads
        if of.answer != "not measured":
            assert words.count(of.words) == 1, of.name
