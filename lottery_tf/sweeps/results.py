"""The results of a study as one table: a row for each run and round."""

import contextlib
import pathlib
from collections.abc import Iterable

from lottery_tf.config.fields import format_value
from lottery_tf.errors import InputError
from lottery_tf.plots import Row
from lottery_tf.runs import files
from lottery_tf.runs.rundir import RunDir
from lottery_tf.sweeps import groups

FILE = "results.csv"  # in the directory of the runs


def rows(runs: Iterable[RunDir | str | pathlib.Path]) -> list[Row]:
    """Return a row for each finished round of each run.

        pandas.DataFrame(results.rows(pathlib.Path("runs/digits_seeds").glob("reset=*[0-9]")))

    Args:
        runs: finished or unfinished runs.

    Returns:
        {column: value}: "run", the name of the directory; the flags in which the runs differ; and
        the columns of metrics.csv.

    Raises:
        InputError: a directory is no run, or a file is damaged.
    """
    found = [run if isinstance(run, RunDir) else RunDir(run) for run in runs]
    configs = [run.config() for run in found]
    varied = groups.differing(configs) if configs else []
    return [
        {"run": run.path.name}
        | {name: format_value(config.get(name, "")) for name in varied}
        | of_round
        for run, config in zip(found, configs, strict=True)
        for of_round in run.metrics()
    ]


def write(directory: pathlib.Path, runs: Iterable[pathlib.Path]) -> pathlib.Path | None:
    """Write results.csv of the runs that can be read; return its path, or None without a row.

    A file that says the same already stays as it is.
    """
    readable = []
    for run in map(RunDir, runs):
        with contextlib.suppress(InputError):  # it has not begun, or its log says what is damaged
            if run.config() and run.metrics():
                readable.append(run)
    if not (found := rows(readable)):
        return None
    path, content = directory / FILE, files.format_csv(found)
    if not path.exists() or path.read_bytes() != content:
        files.write_bytes(path, content)
    return path
