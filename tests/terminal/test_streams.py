"""Closed, full or lost standard streams never stop a run."""

import contextlib
import errno
import io
import os
import subprocess
import sys

import pytest

from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import console, streams
from tests.conftest import ROOT
from tests.launching import arguments


class Raising(io.StringIO):
    def write(self, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_stream_that_fails_is_said_once(monkeypatch):
    error = io.StringIO()
    monkeypatch.setattr(sys, "stdout", Raising())
    monkeypatch.setattr(sys, "stderr", error)
    with streams.steady():
        console.print_header()
        with streams.steady():  # a nested one changes nothing
            print("another line")
    assert error.getvalue().count(os.strerror(errno.ENOSPC)) == 1
    assert isinstance(sys.stdout, Raising)


def test_a_line_that_the_encoding_lacks_is_written_with_escapes(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    with streams.steady():
        print("näher")
    assert written.getvalue() == b"n\\xe4her\n"


SCRIPT = """
import os, sys
from lottery_tf.terminal import streams
with streams.steady():
    for _ in range(9):
        print("a line " * 2000)
        print("another", file=sys.stderr)
    descriptor = os.open(os.devnull, os.O_RDONLY)
    open(sys.argv[1], "w").write(str(descriptor))
"""


@pytest.mark.parametrize("how", [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "| head -c 1"])
def test_streams_that_are_closed_full_or_gone(tmp_path, how):
    command = f'set -o pipefail; "$0" -c "$1" "$2" {how}'
    result = subprocess.run(
        ["bash", "-c", command, sys.executable, SCRIPT, tmp_path / "done"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr
    assert int((tmp_path / "done").read_text()) > 2  # no file gets the number of a stream
    warnings = [line for line in result.stderr.splitlines() if line.startswith("Cannot write")]
    assert len(warnings) == ("/dev/full" in how or "head" in how)
    assert "Exception" not in result.stderr


@pytest.mark.ci
@pytest.mark.parametrize("how", [">/dev/full 2>&1", ">&- 2>&-", "| head -1"])
def test_a_run_ends_well_whatever_becomes_of_its_streams(tmp_path, how):
    _, *given = arguments(tmp_path / "run", epochs=1, rounds=3)
    command = [sys.executable, *given]
    result = subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$@" {how}', "bash", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert RunDir(tmp_path / "run").finished_rounds() == 3
    assert len(list((tmp_path / "run" / "tensorboard").glob("events.*"))) == 3


def test_steady_streams_are_put_back():
    before = sys.stdout, sys.stderr
    with contextlib.suppress(KeyError), streams.steady():
        raise KeyError
    assert (sys.stdout, sys.stderr) == before
