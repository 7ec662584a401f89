"""What a measure is, and the one way in which it is cached, written, drawn and logged."""

import dataclasses
import enum
import io
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from lottery_tf.analysis.cache import Cache
from lottery_tf.analysis.replicates import by_seed, group, means_beside, of_runs
from lottery_tf.analysis.runs import Computing, Groups, Runs
from lottery_tf.errors import InputError
from lottery_tf.plots import Columns, Row
from lottery_tf.runs import files
from lottery_tf.runs.rundir import RunDir

if TYPE_CHECKING:  # it takes half a second to import
    from matplotlib.figure import Figure

Value = TypeVar("Value")
Table = tuple[Sequence[Row], Columns]
Curve = tuple[str, list[tuple[int, float]]]  # (column, [(step, value)])
OURS = "drawn by lottery_tf"  # in a picture: who drew it
# Where the formats of pictures that have a place for it say it.
MARKED = {".png": "Software"} | dict.fromkeys((".pdf", ".svg", ".eps", ".ps"), "Creator")


class Needs(enum.Enum):
    """What a measure computes with."""

    WEIGHTS = "the files of a run"
    ENGINE = "the network and the data of a run, to evaluate"
    RETRAINING = "the network and the data of a run, to train; a signal stops it, and it resumes"


class Column(tuple[str, str]):
    """A column of the rows of a measure: (title, format), where a fraction is in percent."""

    about: str  # what it is; TensorBoard and docs/reference/outputs.md show it
    unit: str

    def __new__(cls, title: str, form: str, about: str = "", unit: str = "") -> "Column":
        """Return the column of a title, a format, a description and a unit."""
        column = super().__new__(cls, (title, form))
        column.about, column.unit = about, unit or ("fraction" if "%" in form else "")
        return column


_USUAL = {
    "run": Column("run", "{}", "label of the runs"),
    "round": Column("round", "{:d}", "number of the round"),
    "density": Column("density", "{:.2%}", "fraction of the prunable weights that is alive"),
    "mask": Column("mask", "{}", "name of the mask"),
    "test_accuracy": Column("test acc", "{:.2%}", "test accuracy at the end of training"),
    "test_accuracy_min": Column("min", "{:.2%}", "least of the replicates"),
    "test_accuracy_max": Column("max", "{:.2%}", "largest of the replicates"),
}
BESIDE = (
    "Run to show beside --run_dir, such as its reinit. Several runs, separated by commas, "
    "are replicates."
)


def usual(*names: str) -> Columns:
    """Return {name: Column} of columns that many measures have."""
    return {name: _USUAL[name] for name in names}


@dataclasses.dataclass(frozen=True)
class Chart:
    """A picture of one column of the rows against density."""

    column: str
    what: str  # the label of its axis, with the unit
    percent: bool = False  # whether the column is a part of one, shown in percent
    line: tuple[float, str] | None = None  # (value, label) of a horizontal line
    caption: str = ""  # what the picture shows, where a report has it
    by: str = ""  # the column whose values are a curve each; "" for a single curve
    tag: str = ""  # of the picture on TensorBoard; "" for the measure's name
    end: str = ""  # of the picture's file name
    logarithmic: bool = False  # whether the column's axis is

    def curves(self, rows: Sequence[Row]) -> dict[str, list[Row]]:
        """Return {label: rows} of the curves."""
        if not self.by or self.by not in rows[0]:
            return {self.column.replace("_", " "): list(rows)}
        return {str(label): of_label for (label,), of_label in group(rows, (self.by,)).items()}

    def draw(self, rows: Sequence[Row], title: str = "") -> "Figure":
        """Draw the curves of some rows."""
        from lottery_tf.plots import figures

        curves = {label: (of_label, self.column) for label, of_label in self.curves(rows).items()}
        look = {"percent": self.percent, "logarithmic": self.logarithmic}
        return figures.against_density(curves, what=self.what, line=self.line, title=title, **look)


class Picture(NamedTuple):
    """A picture of a measure."""

    figure: "Figure"
    end: str = ""  # of its file's name
    step: int | None = None  # the round at which TensorBoard shows it; None for the last one


def curve(rows: Sequence[Row], column: str, step: str = "round") -> Curve:
    """Return the curve of a column against another one, as Findings have it."""
    return column, [(row[step], row[column]) for row in rows]


class Findings(NamedTuple):
    """What a measure has to show."""

    name: str  # of its page on TensorBoard
    tables: Mapping[str, list[Row]] = {}  # {end of the file's name: rows}
    pictures: Mapping[str, Picture] = {}  # {tag on TensorBoard: Picture}
    curves: Mapping[str, Curve] = {}  # {tag on TensorBoard: curve}; the column gives the unit


class Output:
    """Writes the results of measures, and remembers the paths of what was `written`.

    The directory is by default analysis/ of the run, of replicates the first's; nothing goes to
    TensorBoard from elsewhere. With `pdf`, each picture is written as PDF too.
    """

    def __init__(self, directory: str | None = None, *, pdf: bool = False, dpi: int = 150):
        self.directory, self.pdf, self.dpi = directory, pdf, dpi
        self.written: list[pathlib.Path] = []

    def of(self, run: RunDir, *, apart: bool) -> pathlib.Path:
        """Return the directory for a run; makes it. `apart`: from that of other runs."""
        directory = pathlib.Path(self.directory or run.path / "analysis")
        return make_directory(directory / run.path.name if self.directory and apart else directory)

    def write_table(self, path: pathlib.Path, rows: list[Row]) -> None:
        """Write rows as CSV."""
        files.write_bytes(path, files.format_csv(rows))
        self.written.append(path)

    def draw(self, path: pathlib.Path, figure: "Figure") -> None:
        """Write a picture, and with `pdf` another beside it."""
        for drawn in dict.fromkeys([path, *[path.with_name(f"{path.stem}.pdf")] * self.pdf]):
            picture, name = io.BytesIO(), MARKED.get(drawn.suffix.lower())
            metadata = {name: OURS} if name else None
            figure.savefig(picture, format=drawn.suffix[1:], dpi=self.dpi, metadata=metadata)
            files.write_bytes(drawn, picture.getvalue())
            self.written.append(drawn)

    def publish(
        self,
        findings: Findings,
        path: pathlib.Path,
        *,
        columns: Columns | None = None,
        log_to: RunDir | None = None,
    ) -> None:
        """Write tables and pictures; log pictures and curves to TensorBoard.

        `path` begins the names of the files. The columns of the tables give the units and
        descriptions of curves, and `log_to` is the run on whose page of TensorBoard they appear.
        """
        for end, rows in findings.tables.items():
            self.write_table(path.with_name(f"{path.name}{end}.csv"), rows)
        images = {}
        for tag, (figure, end, step) in findings.pictures.items():
            picture = path.with_name(f"{path.name}{end}.png")
            self.draw(picture, figure)
            if log_to:
                images[tag] = (log_to.finished_rounds() - 1 if step is None else step, picture)
        if log_to:
            from lottery_tf.plots import events

            directory, scalars, about = log_to.path / "tensorboard", {}, {}
            for tag, (name, points) in findings.curves.items():
                column = (columns or {}).get(name, ("", ""))
                unit, factor = (" (%)", 100.0) if "%" in column[1] else ("", 1.0)
                about[tag + unit] = getattr(column, "about", "")
                scalars[tag + unit] = [(step, factor * value) for step, value in points]
            events.write(directory, findings.name, scalars=scalars, images=images, about=about)
            self.written.append(directory)


def make_directory(path: pathlib.Path) -> pathlib.Path:
    """Return the path of a directory for results; makes it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"Cannot write into {path}: {error.strerror}. Use another --out_dir."
        ) from None
    return path


@dataclasses.dataclass
class Measure(Generic[Value]):
    """A measure of some runs: what its command was asked for, and how it is computed and shown.

    A subclass is a dataclass. Its docstring is the help of its command, and its fields made by
    `config.fields.flag` are the command's flags. It defines `measure`, `findings`, `shown`, and
    `combine` unless it shows runs `beside` one another; `TableMeasure` has the usual ones.

    `computing` and `stop_signal` are those of functions of runs.
    """

    groups: Groups  # {label: replicates}; one label unless the measure shows runs `beside` others
    # The run of --other_run, where it is not shown beside.
    other: RunDir | None = dataclasses.field(default=None, kw_only=True)
    computing: Computing = dataclasses.field(default_factory=dict, kw_only=True)
    stop_signal: Callable[[], int] = dataclasses.field(default=lambda: 0, kw_only=True)

    name: ClassVar[str]
    needs: ClassVar[Needs] = Needs.WEIGHTS
    # What is printed of its rows, and what tells two rows of a table apart.
    columns: ClassVar[Columns]
    by: ClassVar[tuple[str, ...]] = ("round",)
    # For docs/reference/outputs.md, with {words} for parts that vary: {CSV file: its rows}, {column
    # that only CSV files have: (unit, what it is)}, {tag of a picture: (PNG file, what it shows)}.
    csv_files: ClassVar[Mapping[str, str]] = {}
    csv_columns: ClassVar[Mapping[str, tuple[str, str]]] = {}
    picture_tags: ClassVar[Mapping[str, tuple[str, str]]] = {}
    # Whether --other_run is shown beside --run_dir, in one table that the first run keeps.
    beside: ClassVar[bool] = False
    # What --help says of these flags, where it is special; no --other_run without its help.
    run_help: ClassVar[str] = ""
    other_help: ClassVar[str] = ""
    # Further flags of the commands that reports suggest.
    needed: ClassVar[tuple[str, ...]] = ()
    # The resets of the runs that it is defined for; empty for all.
    resets: ClassVar[tuple[str, ...]] = ()
    # Its section in a report.
    title: ClassVar[str]
    chart: ClassVar[Chart | None] = None

    @property
    def runs(self) -> Runs:
        """The runs of --run_dir."""
        return next(iter(self.groups.values()))

    @property
    def asked(self) -> dict[str, Any]:
        """The values of the command's own flags, as functions of runs take them."""
        fields = dataclasses.fields(self)
        return {field.name: getattr(self, field.name) for field in fields if field.metadata}

    @property
    def how(self) -> dict[str, Any]:
        """The arguments of functions of runs that say where to compute, and when to stop."""
        return {"computing": self.computing, "stop_signal": self.stop_signal}

    def prepare(self) -> None:
        """Fill in defaults before anything is computed; InputError if it cannot be."""

    def measure(self, run: RunDir, cache: Cache) -> Value:
        """Return the value of a run; of runs shown beside one another, that of all groups."""
        raise NotImplementedError

    def combine(self, values: list[Value]) -> Value:
        """Return the value of all runs as replicates."""
        raise NotImplementedError

    def findings(self, run: RunDir, value: Value, title: str) -> list[Findings]:
        """Return what there is to show of the value of a run, or of all as replicates.

        `run` is the first of replicates, and the title names it, or them.
        """
        raise NotImplementedError

    def shown(self, values: list[Value], value: Value) -> list[str | Table]:
        """Return the lines and tables to print, of the values of each run and that of all."""
        raise NotImplementedError

    def report(self, output: Output) -> list[str | Table]:
        """Measure the runs; write, draw and log the findings of each, and of all as replicates.

        Return the lines and tables to print. <name>.csv and <name>.png are for people,
        <name>.cache.json holds what was computed. What the runs give together is called
        <name>_of_3_runs: pictures of their means, and tables with the rows of each seed.
        """
        self.prepare()
        measured = self.runs[:1] if self.beside else self.runs
        values = []
        tables: dict[str, list[list[Row]]] = {}  # {end of the file's name: the table of each run}
        for run in measured:
            path = output.of(run, apart=len(measured) > 1) / self.name
            values.append(self.measure(run, Cache(path.with_name(f"{self.name}.cache.json"))))
            log_to = None if output.directory else run
            for part in self.findings(run, values[-1], run.path.name):
                output.publish(part, path, columns=self.columns, log_to=log_to)
                for end, rows in part.tables.items():
                    tables.setdefault(end, []).append(rows)
        if len(measured) == 1:
            return self.shown(values, values[0])
        value, title = self.combine(values), f"mean of {len(measured)} runs, min and max"
        path = output.of(measured[0], apart=False) / f"{self.name}_of_{len(measured)}_runs"
        for end, of_each in tables.items():
            output.write_table(path.with_name(f"{path.name}{end}.csv"), by_seed(measured, of_each))
        for part in self.findings(measured[0], value, title):
            output.publish(part._replace(tables={}), path)
        return self.shown(values, value)

    @classmethod
    def own_rows(cls, rows: list[Row]) -> list[Row]:
        """Return the rows of a CSV file that are of the run itself, not of runs beside it."""
        if not cls.beside:
            return rows
        first = [row for row in rows if row["run"] == rows[0]["run"]]
        return [{name: row[name] for name in row if name != "run"} for row in first]

    @classmethod
    def report_rows(cls, rows: list[Row]) -> list[Row]:
        """Return the rows that a report shows in its table."""
        return rows

    @classmethod
    def report_pictures(cls, rows: list[Row]) -> "dict[str, Callable[[], Figure]]":
        """Return {caption: a function that draws} of the pictures of a report, from CSV rows."""
        if not (chart := cls.chart):
            return {}
        return {chart.caption or chart.what: lambda: chart.draw(rows)}

    @classmethod
    def verdict(cls, rows: list[Row]) -> str:
        """Return what the rows say, in a sentence of a report; "" for nothing."""
        return ""


class TableMeasure(Measure[list[Row]]):
    """A measure whose value is one table, drawn by its `chart`."""

    def combine(self, values: list[list[Row]]) -> list[Row]:
        """Return the means over the tables of the runs."""
        return of_runs(self.runs, values, self.by)

    def findings(self, run: RunDir, value: list[Row], title: str) -> list[Findings]:
        """Return the table, its chart, and the chart's first curve."""
        if not (chart := self.chart):
            return [Findings(self.name, {"": value})]
        pictures = {chart.tag or self.name: Picture(chart.draw(value, title), chart.end)}
        first = next(iter(chart.curves(value).values()))
        curves = {f"{self.name}/{chart.column}": curve(first, chart.column)}
        return [Findings(self.name, {"": value}, pictures, curves)]

    def shown(self, values: list[list[Row]], value: list[Row]) -> list[str | Table]:
        """Return the table."""
        return [(value, self.columns)]


class TableBeside(TableMeasure):
    """A TableMeasure of runs and, beside them in the same table, those of --other_run.

    Its value are the rows of each seed, as replicates.side_by_side gives them.
    """

    beside = True
    other_help = BESIDE

    def findings(self, run: RunDir, value: list[Row], title: str) -> list[Findings]:
        """Return the table of all seeds, and the chart and first curve of their means."""
        (usual,) = super().findings(run, means_beside(value, self.by), title)
        return [usual._replace(tables={"": value})]

    def shown(self, values: list[list[Row]], value: list[Row]) -> list[str | Table]:
        """Return the table of the means."""
        return [(means_beside(value, self.by), self.columns)]
