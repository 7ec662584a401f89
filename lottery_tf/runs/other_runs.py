"""repel_runs.json of a run: how far the runs of --repel_runs were when it began. NumPy only."""

import json
from collections.abc import Sequence

from lottery_tf.errors import InputError
from lottery_tf.runs import files
from lottery_tf.runs.rundir import RunDir

NAME = "repel_runs.json"


def rounds_of(run: RunDir, path: str) -> int:
    """Return how many rounds of another run a run is repelled from: those it had as this began.

    So a round, a copy of it and a resumed one are repelled from the same optima, however far the
    other run has come since. Where the run has no record, as in one of an older version, it is the
    number of today.

    Raises:
        InputError: the record is damaged, or the other run has lost rounds.
    """
    there = RunDir(path).finished_rounds()
    then = _recorded(run).get(path, there)
    if there < then:
        raise InputError(
            f"--repel_runs={path}: expected the {then} rounds that it had when {run.path} began. "
            f"Found: {there}. Restore them, or use another --run_dir."
        )
    return then


def record(run: RunDir, paths: Sequence[str]) -> bool:
    """Write repel_runs.json where there is something to write; whether it did.

    Raises:
        InputError: as `rounds_of`.
    """
    counts = {path: rounds_of(run, path) for path in paths}
    if counts == _recorded(run):
        return False
    files.write_text(run.path / NAME, json.dumps(counts, indent=1) + "\n")
    return True


def _recorded(run: RunDir) -> dict[str, int]:
    """Return {path of a run: number of its rounds}."""
    return files.read_object(run.path / NAME, "to take the other runs as they are now", int) or {}
