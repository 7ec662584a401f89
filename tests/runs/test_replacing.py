"""A file that a user names is replaced only if this project wrote it."""

import pathlib

import pytest

from lottery_tf.errors import InputError
from lottery_tf.reports import run_report, study_report
from lottery_tf.runs.replacing import check_replaces
from tests.made_runs import make_run
from tests.reports.test_report import SHAPES
from tests.tools.test_tools import run_tool
from tools import make_reference

MINE = "what a person wrote, by lottery_tf or not"


@pytest.fixture
def run(config):
    return make_run(config(), rounds=2, shapes=SHAPES)


def test_what_may_be_replaced(tmp_path):
    path = tmp_path / "file"

    def check():
        check_replaces(path, lambda content: content == b"ours", "table", "--csv")

    check()  # not there
    path.write_bytes(b"")
    check()
    path.write_bytes(b"ours")
    check()
    path.write_bytes(b"theirs")
    with pytest.raises(InputError, match=r"--csv=.*file is there and is no table"):
        check()
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="--csv"):
        check()


def test_a_report_replaces_reports_alone(run, tmp_path, without_pictures):
    page = tmp_path / "page.html"
    for write in (
        lambda: run_report.report([run.path], str(page)),
        lambda: study_report.report(str(tmp_path), str(page)),
    ):
        page.write_text(MINE)
        with pytest.raises(InputError, match=r"--out=.*is no report"):
            write()
        assert page.read_text() == MINE
        page.unlink()
        write()
        write()  # over its own


@pytest.mark.ci
@pytest.mark.parametrize(
    ("tool", "flag", "arguments"),
    [
        ("report", "out", ["--run_dir={run}"]),
        ("figures", "out", ["--run_dir={run}"]),
        ("successive", "csv", ["--run_dir={run}"]),
        ("benchmark", "csv", ["--run_dir={run}", "--what=step"]),
        ("export", "out", ["--run_dir={run}", "--overwrite"]),
    ],
)
def test_no_tool_replaces_a_file_of_its_user(tool, flag, arguments, run, tmp_path):
    mine = tmp_path / "mine.png"
    mine.write_text(MINE)
    given = [argument.format(run=run.path) for argument in arguments]
    result = run_tool(tool, *given, f"--{flag}={mine}")
    assert result.returncode == 1
    assert f"--{flag}={mine}" in result.stderr
    assert "Traceback" not in result.stderr
    assert mine.read_text() == MINE


@pytest.mark.ci
@pytest.mark.parametrize(
    ("tool", "flag", "name"),
    [("figures", "out", "a.png"), ("figures", "out", "a.pdf"), ("figures", "out", "a.svg"),
     ("successive", "csv", "a.csv")],
)  # fmt: skip
def test_a_tool_replaces_what_it_wrote(tool, flag, name, run, tmp_path):
    for _ in range(2):
        result = run_tool(tool, f"--run_dir={run.path}", f"--{flag}={tmp_path / name}")
        assert result.returncode == 0, result.stderr
    assert (tmp_path / name).stat().st_size


def test_the_reference_replaces_its_own_pages_alone(tmp_path, monkeypatch):
    new = make_reference.BEGINS.decode() + " anew"
    pages = dict.fromkeys(make_reference.PAGES, lambda: new)
    monkeypatch.setattr(make_reference, "PAGES", pages)
    for name in pages:
        (tmp_path / name).write_text(MINE)
        with pytest.raises(InputError, match=f"--out_dir=.*{name} is there"):
            make_reference.write(tmp_path)
        assert (tmp_path / name).read_text() == MINE
        (tmp_path / name).write_bytes(make_reference.BEGINS)
    make_reference.write(tmp_path)
    assert {path.read_text() for path in tmp_path.iterdir()} == {new}


def test_the_digits_replace_a_prepared_dataset_alone(tmp_path):
    mine = tmp_path / "digits" / "notes.txt"
    mine.parent.mkdir()
    mine.write_text(MINE)
    result = run_tool("make_digits", f"--data_dir={tmp_path}")
    assert result.returncode == 1
    assert str(pathlib.Path(mine).parent) in result.stderr
    assert mine.read_text() == MINE
