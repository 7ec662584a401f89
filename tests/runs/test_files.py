"""Files that several processes write at once, or that a kill leaves half written; locks."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat
import subprocess
import sys
import time

import pytest

from lottery_tf.analysis.cache import Cache
from lottery_tf.analysis.measure import Output
from lottery_tf.config import Config
from lottery_tf.errors import InputError
from lottery_tf.plots import events
from lottery_tf.runs import checkpoints, files
from lottery_tf.runs.checkpoints import Checkpoint, Progress
from lottery_tf.runs.rundir import RunDir
from tests.conftest import ROOT

pytestmark = pytest.mark.versions


def start(code, *arguments):
    """A process that runs code, which finds its arguments in sys.argv[1:]."""
    command = [sys.executable, "-c", "import sys, pathlib\n" + code, *map(str, arguments)]
    return subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True
    )


def finish(processes):
    """The standard errors of processes, which all end with status 0."""
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), errors
    return errors


WRITES = """
import json
from lottery_tf.runs import files
for number in range(150):
    files.write_text(pathlib.Path(sys.argv[1]), json.dumps([sys.argv[2], number] * 2000))
"""


@pytest.mark.ci
def test_two_processes_write_one_file_and_it_is_always_whole(tmp_path):
    path = tmp_path / "report.json"
    writers = [start(WRITES, path, name) for name in "ab"]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        with contextlib.suppress(FileNotFoundError):
            assert len(json.loads(path.read_text())) == 4000
            seen += 1
    finish(writers)
    assert seen
    assert os.listdir(tmp_path) == ["report.json"]


DIRECTORIES = """
from lottery_tf.errors import InputError
from lottery_tf.runs import files
for number in range(40):
    try:
        files.write_directory(pathlib.Path(sys.argv[1]) / str(number), {"a": b"x" * 100_000})
    except InputError:
        pass  # it is there
"""


@pytest.mark.ci
def test_two_processes_write_one_directory_and_it_is_whole(tmp_path):
    finish([start(DIRECTORIES, tmp_path) for _ in range(2)])
    assert sorted(map(int, os.listdir(tmp_path))) == list(range(40))  # and nothing else
    for number in range(40):
        files.check(tmp_path / str(number) / "a")


CACHES = """
from lottery_tf.analysis.cache import Cache
for number in range(30):
    cache = Cache(pathlib.Path(sys.argv[1]))
    assert cache.reuse([], [sys.argv[2], number], lambda: number) == number
cache = Cache(pathlib.Path(sys.argv[1]))
for number in range(30, 60):
    cache.reuse([], [sys.argv[2], number], lambda: number)
"""


@pytest.mark.ci
def test_a_cache_that_two_processes_write_has_the_entries_of_both(tmp_path):
    path = tmp_path / "barriers.cache.json"
    finish([start(CACHES, path, name) for name in "ab"])
    cache = Cache(path, only_known=True)
    for name in "ab":
        for number in range(60):
            assert cache.reuse([], [name, number], pytest.fail) == number
    assert len(cache.known) == 120


def test_a_cache_keeps_what_another_one_has_written_since_it_was_read(tmp_path):
    path = tmp_path / "barriers.cache.json"
    first, second = Cache(path), Cache(path)
    first.reuse([], "a", lambda: 1)
    second.reuse([], "b", lambda: 2)
    assert Cache(path).find("a", bool) == 1
    assert Cache(path).find("b", bool) == 2
    assert second.reuse([], "a", pytest.fail) == 1  # it has seen it meanwhile


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_permissions_that_the_umask_leaves(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        files.write_text(tmp_path / "a.csv", "x")
        files.write_directory(tmp_path / "round_00", {"a": b"x"})
    finally:
        os.umask(before)
    for path in (tmp_path / "a.csv", tmp_path / "round_00" / "a"):
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_write_that_fails_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    files.write_text(path, "before")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.csv'"):
        files.write_text(path, "after")
    with pytest.raises(InputError, match=r"Cannot save .*/round_00: No space"):
        files.write_directory(tmp_path / "round_00", {"a": b"x", "b": b"y"})
    assert os.listdir(tmp_path) == ["a.csv"]
    assert path.read_text() == "before"


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    for write in (
        lambda: files.write_text(tmp_path / "a.csv", "x"),
        lambda: files.write_directory(tmp_path / "round_00", {"a": b"x"}),
    ):
        with pytest.raises(KeyboardInterrupt):
            write()
    assert os.listdir(tmp_path) == []


def test_a_file_system_that_cannot_sync_directories_is_written(tmp_path, monkeypatch):
    synced = os.fsync

    def of_files_alone(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        synced(descriptor)

    monkeypatch.setattr(os, "fsync", of_files_alone)
    files.write_text(tmp_path / "a.csv", "x")
    files.write_directory(tmp_path / "round_00", {"a": b"x"})
    assert (tmp_path / "a.csv").read_text() == "x"


@pytest.mark.parametrize("name", ["x" * 250 + ".html", "ü" * 120])
def test_the_longest_names_can_be_written(tmp_path, name):
    files.write_text(tmp_path / name, "x")
    assert os.listdir(tmp_path) == [name]


def age(path):
    old = time.time() - 2 * files.OLD
    os.utime(path, (old, old))


def test_leftovers_of_killed_processes_go_when_the_run_is_opened(tmp_path):
    run = RunDir(tmp_path / "run")
    with run.open(Config()):
        pass
    (run.path / "checkpoints").mkdir()
    (run.path / "analysis").mkdir()
    killed = [
        run.path / ".round_01.123_abc.tmp",
        run.path / "checkpoints" / ".round_01_step_00000007.tmp",
    ]
    for path in killed:
        path.mkdir()
        (path / "masks.npz").write_bytes(b"half")
    old = [run.path / ".config.json.aside", run.path / "analysis" / ".a.csv.1_2.aside"]
    new = [run.path / ".report.html.1_2.aside", run.path / "analysis" / ".b.csv.1_2.aside"]
    for path in (*old, *new):
        path.write_text("half")
    for path in old:
        age(path)
    with run.open(Config()) as finished:
        assert finished == 0
    assert not any(path.exists() for path in (*killed, *old))
    assert all(path.exists() for path in new)  # a tool may be writing them


def test_a_killed_save_does_not_prevent_the_checkpoint_of_the_same_step(tmp_path):
    (tmp_path / "checkpoints" / ".round_00_step_00000005.tmp").mkdir(parents=True)
    checkpoint = Checkpoint(Progress(5), {})
    checkpoints.save(tmp_path, 0, checkpoint)
    assert checkpoints.newest(tmp_path, 0, pytest.fail).progress == checkpoint.progress


@pytest.fixture
def no_locks(monkeypatch):
    """A file system as some network file systems are: flock is refused."""

    def refused(file, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)


@pytest.mark.usefixtures("no_locks")
def test_where_there_are_no_locks_a_run_says_so_and_writes_nothing(tmp_path):
    run = RunDir(tmp_path / "run")
    with (
        pytest.raises(InputError, match=r"run/\.lock: No locks available.*flock"),
        run.open(Config()),
    ):
        pass
    assert os.listdir(run.path) == [".lock"]


@pytest.mark.usefixtures("no_locks")
def test_where_there_are_no_locks_a_cache_is_still_kept(tmp_path):
    path = tmp_path / "a.cache.json"
    Cache(path).reuse([], "a", lambda: 1)
    Cache(path).reuse([], "b", lambda: 2)
    assert len(Cache(path).known) == 2


@pytest.mark.usefixtures("no_locks")
def test_where_there_are_no_locks_cores_say_so(tmp_path, monkeypatch):
    from lottery_tf.sweeps import processes

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with (
        pytest.raises(InputError, match=r"No locks available.*TMPDIR"),
        processes.hold_cores(1, lambda: True),
    ):
        pass


def test_a_picture_that_cannot_be_drawn_leaves_the_one_before(tmp_path):
    class Figure:
        def savefig(self, file, **_):
            file.write(b"half")
            raise MemoryError

    path = tmp_path / "barriers.png"
    path.write_bytes(b"whole")
    with pytest.raises(MemoryError):
        Output().draw(path, Figure())
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"whole", ["barriers.png"])


def test_event_files_that_another_process_replaces_meanwhile(tmp_path, monkeypatch):
    events.replace(tmp_path, ".analysis_barriers", [(0, events.scalar("a", 1.0))])
    (first,) = tmp_path.iterdir()
    appended = events.append

    def append(path, values):
        appended(path, values)
        first.unlink(missing_ok=True)  # as the other process does

    monkeypatch.setattr(events, "append", append)
    events.replace(tmp_path, ".analysis_barriers", [(0, events.scalar("a", 2.0))])
    assert len(list(tmp_path.iterdir())) == 1


def test_a_cache_leaves_alone_what_another_process_is_writing(tmp_path):
    new, old = tmp_path / ".new.1_2.tmp", tmp_path / ".old.1_2.tmp"
    for path in (new, old):
        path.mkdir()
    age(old)
    Cache(tmp_path / "a.cache.json").reuse([], "a", lambda: 1)
    assert new.exists()
    assert not old.exists()


def test_a_file_is_hashed_once_and_again_when_it_has_changed(tmp_path, monkeypatch):
    hashed = []
    sha256 = hashlib.sha256
    monkeypatch.setattr(hashlib, "sha256", lambda *content: hashed.append(1) or sha256(*content))
    path = tmp_path / "round" / "masks.npz"
    files.write_directory(path.parent, {path.name: b"some"})
    del hashed[:]
    files.check(path)
    files.check(path)
    assert len(hashed) == 2  # it was written just now
    monkeypatch.setattr(files, "SETTLED", -1.0)
    for _ in range(2):
        files.check(path)
        assert files.read_checked(path) == b"some"
    assert len(hashed) == 3
    time.sleep(0.02)
    before = path.stat()
    path.write_bytes(b"same")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    for check in (files.check, files.read_checked):
        with pytest.raises(InputError, match="damaged"):
            check(path)
