"""The one way in which an analysis of runs is cached, written, drawn and logged."""

import dataclasses
import io
import pathlib
from collections.abc import Callable
from typing import Any

from lottery_tf.analysis.cache import Cache
from lottery_tf.analysis.runs import Runs
from lottery_tf.errors import InputError
from lottery_tf.plots import Row, unit_of
from lottery_tf.runs import files
from lottery_tf.runs.rundir import RunDir

OURS = "drawn by lottery_tf"  # in a picture: who drew it
# Where the formats of pictures that have a place for it say it.
MARKED = {".png": "Software", ".pdf": "Creator", ".svg": "Creator", ".eps": "Creator",
          ".ps": "Creator"}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Output:
    """Where the results of an analysis go.

    Args:
        directory: by default analysis/ of the run, of replicates also the first's; elsewhere
            nothing goes to TensorBoard.
        pdf: whether each picture is written as PDF too.
        dpi: the dots per inch of pictures.

    `written` grows with the paths of what was written.
    """

    directory: str | None = None
    pdf: bool = False
    dpi: int = 150
    written: list[pathlib.Path] = dataclasses.field(default_factory=list, compare=False)

    def of(self, run: RunDir, *, apart: bool) -> pathlib.Path:
        """The directory for a run, made if it is not there; `apart` from that of other runs."""
        directory = pathlib.Path(self.directory or run.path / "analysis")
        if self.directory and apart:
            directory /= run.path.name
        return make_directory(directory)

    def write_table(self, path: pathlib.Path, rows: list[Row]) -> None:
        """Writes rows as CSV."""
        files.write_text(path, files.format_csv(rows).decode())
        self.written.append(path)

    def draw(self, path: pathlib.Path, figure: Any) -> None:
        """Writes a picture, and with `pdf` another beside it."""
        for drawn in dict.fromkeys([path, *[path.with_name(f"{path.stem}.pdf")] * self.pdf]):
            picture, name = io.BytesIO(), MARKED.get(drawn.suffix.lower())
            metadata = {name: OURS} if name else None
            figure.savefig(picture, format=drawn.suffix[1:], dpi=self.dpi, metadata=metadata)
            files.write_bytes(drawn, picture.getvalue())
            self.written.append(drawn)


def make_directory(path: pathlib.Path) -> pathlib.Path:
    """The path of a directory for results, made if it is not there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"Cannot write into {path}: {error.strerror}. Use another --out_dir."
        ) from None
    return path


@dataclasses.dataclass(frozen=True)
class Findings:
    """What an analysis has to show.

    Args:
        name: of its page on TensorBoard.
        tables: {end of the file's name: rows}.
        pictures: {tag on TensorBoard: (round, end of the file's name, figure)}.
        curves: {tag on TensorBoard: (column, [(round, value)])}; the column says the unit.
    """

    name: str
    tables: dict[str, list[Row]] = dataclasses.field(default_factory=dict)
    pictures: dict[str, tuple[int, str, Any]] = dataclasses.field(default_factory=dict)
    curves: dict[str, tuple[str, list[tuple[int, float]]]] = dataclasses.field(default_factory=dict)


def report(name: str, runs: Runs, output: Output,
           measure: Callable[[RunDir, Cache], Any],
           findings: Callable[[RunDir, Any, str], list[Findings]],
           combine: Callable[[list], Any] = list) -> Any:  # fmt: skip
    """Measures runs, and writes, draws and logs the findings of each, and of all as replicates.

    <name>.csv and <name>.png are for people; <name>.cache.json holds what was computed. What the
    runs give together is called <name>_of_3_runs.

    Args:
        name: of the files.
        runs, output: what is measured, and where the results go.
        measure: of (run, cache) -> value.
        findings: of (run, value, title) -> what there is to show.
        combine: of the values of all runs -> their value as replicates.

    Returns:
        The value of the only run, or of all as replicates.
    """
    values = []
    for run in runs:
        path = output.of(run, apart=len(runs) > 1) / name
        values.append(measure(run, Cache(path.with_name(f"{name}.cache.json"))))
        for part in findings(run, values[-1], run.path.name):
            publish(part, path, output, log_to=None if output.directory else run)
    if len(runs) == 1:
        return values[0]
    value, title = combine(values), f"mean of {len(runs)} runs, min and max"
    path = output.of(runs[0], apart=False) / f"{name}_of_{len(runs)}_runs"
    for part in findings(runs[0], value, title):
        publish(part, path, output)
    return value


def publish(findings: Findings, path: pathlib.Path, output: Output, *,
            log_to: RunDir | None = None) -> None:  # fmt: skip
    """Writes tables and pictures, whose names begin with `path`; logs them and curves to a run."""
    for end, rows in findings.tables.items():
        output.write_table(path.with_name(f"{path.name}{end}.csv"), rows)
    images = {}
    for tag, (round, end, figure) in findings.pictures.items():
        picture = path.with_name(f"{path.name}{end}.png")
        output.draw(picture, figure)
        images[tag] = (round, picture)
    if log_to:
        from lottery_tf.plots import events

        directory, scalars = log_to.path / "tensorboard", {}
        for tag, (column, points) in findings.curves.items():
            unit, factor = unit_of(column)
            scalars[tag + unit] = [(step, factor * value) for step, value in points]
        events.write(directory, findings.name, scalars=scalars, images=images)
        output.written.append(directory)
