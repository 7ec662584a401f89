"""The table of a study: its rows, its file, how it is watched, and one run of it alone."""

import pytest

from lottery_tf.runs.files import parse_csv
from lottery_tf.sweeps import clusters, grid, processes, results, sweep
from tests.made_runs import make_run
from tools import sweep as tool


def study(tmp_path, monkeypatch):
    """A study of a ticket and a reinit of two seeds; the last run has not begun."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.cfg").write_text(
        "--dataset=digits\n--batch_size=32\n--rounds=2\n--grid=reset=init,reinit\n--grid=seed=0,1\n"
    )
    found = grid.read("my.cfg")
    for point, rounds in zip(found.points, (2, 2, 1), strict=False):
        make_run(point.config, rounds=rounds)
    return found


def test_a_row_has_the_run_the_flags_that_differ_and_the_metrics(tmp_path, monkeypatch):
    directories = [point.directory for point in study(tmp_path, monkeypatch).points]
    rows = results.rows(directories[:3])
    assert [(row["reset"], row["seed"], row["round"]) for row in rows] == [
        ("init", "0", 0), ("init", "0", 1), ("init", "1", 0), ("init", "1", 1), ("reinit", "0", 0),
    ]  # fmt: skip
    assert rows[0]["run"] == "reset=init_seed=0"
    assert {"density", "test_accuracy", "seconds"} <= rows[0].keys()
    assert "batch_size" not in rows[0]
    assert results.rows([]) == []


def test_the_file_has_what_can_be_read(tmp_path, monkeypatch):
    directories = [point.directory for point in study(tmp_path, monkeypatch).points]
    (directories[0] / "round_00" / "metrics.csv").write_bytes(b"\xff")
    path = results.write(tmp_path, directories)
    assert path == tmp_path / "results.csv"
    assert [row["run"] for row in parse_csv(path.read_bytes())] == [
        "reset=init_seed=1", "reset=init_seed=1", "reset=reinit_seed=0",
    ]  # fmt: skip
    assert results.write(tmp_path, directories[3:]) is None


def test_a_study_that_is_watched_shows_each_run(tmp_path, monkeypatch, capsys):
    found = study(tmp_path, monkeypatch)
    sweep.watch(found, every=0)
    shown = capsys.readouterr().out
    assert f"{found.runs}: 2 of 4 runs are finished." in shown
    assert [line.split()[-1] for line in shown.splitlines()[2:]] == ["finished"] * 2 + ["open"] * 2


@pytest.mark.parametrize(("held", "told"), [(0, False), (1, False), (2, True)])
def test_a_study_that_has_to_wait_for_cores_says_so(tmp_path, monkeypatch, capsys, held, told):
    found = study(tmp_path, monkeypatch)

    def submit(job):
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "cores_held", lambda: (held, 2))
    cluster = clusters.Cluster(submit, slots=lambda: 1, cores=1)
    with pytest.raises(KeyboardInterrupt):
        sweep.make(found, cluster, retries=0, stop_signal=lambda: 0)
    assert ("hold 2 of the 2 cores of this machine" in capsys.readouterr().out) == told


def test_one_run_of_a_study_is_made_alone(tmp_path, monkeypatch):
    found = study(tmp_path, monkeypatch)
    submitted = []

    class Cluster:
        cores = None

        def slots(self):
            return 1

        def submit(self, job):
            submitted.append(job.run_dir)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep.make(found, Cluster(), retries=0, stop_signal=lambda: 0, only=3)
    assert submitted == [str(found.points[3].directory.absolute())]
    assert tool.POINT.default is None
