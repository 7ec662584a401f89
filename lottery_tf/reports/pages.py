"""Pages of reports: HTML that a browser shows without a server or other files.

A page has sections, and a section verdicts and blocks; templates/page.html says how each looks. The
verdicts of all sections stand at the top. The page's script sorts tables; without it all is there.
"""

import dataclasses
import datetime
import math
import os
import pathlib
import re
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import jinja2
from markupsafe import Markup

from lottery_tf import __version__
from lottery_tf.errors import InputError
from lottery_tf.plots import Columns, Row, figures, svg, tables
from lottery_tf.reports.verdicts import Verdict
from lottery_tf.runs import files
from lottery_tf.runs.replacing import check_replaces

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS = re.compile(rb"<p>Written [^<]* by lottery_tf ")  # what templates/page.html says
SIZE = (5.0, 3.4)  # inches: of a phone's width it leaves letters readable
Curves = Mapping[str, tuple[list[Row], str]]  # {label: (rows with density, column)}
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


@dataclasses.dataclass(frozen=True)
class Link:
    """A text that leads to a file."""

    text: str
    href: str


class Problem(str):
    """A paragraph about what is damaged, missing or unfinished."""


@dataclasses.dataclass(frozen=True)
class Command:
    """A command, and what it is for."""

    text: str
    command: str


@dataclasses.dataclass(frozen=True)
class Facts:
    """Names and their values."""

    items: list[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Links:
    """Files to open."""

    items: list[Link]


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of cells, texts or Links, below their titles."""

    head: list[str]
    rows: list[list[str | Link]]


@dataclasses.dataclass(frozen=True)
class Picture:
    """A drawing with its caption; a wide one scrolls in its box where it has no room."""

    svg: Markup
    caption: str
    wide: bool = False


Block = str | Command | Facts | Links | Table | Picture  # a text is a paragraph


@dataclasses.dataclass
class Section:
    """A part of a page, with the verdicts that follow from it."""

    title: str
    blocks: list[Block] = dataclasses.field(default_factory=list)
    verdicts: list[Verdict] = dataclasses.field(default_factory=list)

    def attempt(
        self,
        function: Callable[Arguments, Result],
        *arguments: Arguments.args,
        **options: Arguments.kwargs,
    ) -> Result | None:
        """Call a function; if it raises InputError or OSError, add a Problem and return None."""
        try:
            return function(*arguments, **options)
        except InputError as error:
            self.blocks.append(Problem(str(error)))
        except OSError as error:
            self.blocks.append(Problem(f"{error.filename or ''}: {error.strerror or error}."))
        return None

    def add_table(self, rows: Sequence[Row], columns: Columns) -> None:
        """Add a table of rows, as tables.show prints it."""
        head, *lines = tables.cells(rows, columns)
        self.blocks.append(Table(head, [list(line) for line in lines]))

    def draw(
        self,
        caption: str,
        draw: "Callable[[], Figure]",
        *,
        finding: str = "",
        size: tuple[float, float] | None = None,
        wide: bool = False,
    ) -> None:
        """Add what a function draws; `size` is in inches.

        The finding tells those who do not see the picture what it shows.
        """
        label = f"{caption}. {finding}" if finding else caption
        picture = self.attempt(svg.inline, draw, label=label, size=size)
        if picture:
            self.blocks.append(Picture(Markup(picture), caption, wide))

    def draw_curves(
        self,
        caption: str,
        curves: Curves,
        what: str,
        *,
        percent: bool = False,
        line: tuple[float, str] | None = None,
    ) -> None:
        """Add curves against density; arguments as of figures.against_density."""

        def draw() -> "Figure":
            return figures.against_density(curves, what=what, percent=percent, line=line)

        self.draw(caption, draw, finding=tell_curves(curves, percent=percent), size=SIZE)


def tell_curves(curves: Curves, *, percent: bool = False) -> str:
    """Say where curves against density begin and end, and their extremes."""
    form, told = "{:.2%}" if percent else "{:.3g}", []
    for label, (rows, column) in curves.items():
        if not (known := [row for row in rows if math.isfinite(row[column])]):
            continue
        by_value = sorted(known, key=lambda row: row[column])
        points = {"first": known[0], "last": known[-1], "least": by_value[0], "most": by_value[-1]}
        words = [
            f"{name} {form.format(row[column])} at density {100 * row['density']:.3g}%"
            for name, row in points.items()
        ]
        told.append(f"{label}: {', '.join(words)}.")
    return " ".join(told)


def check(path: pathlib.Path) -> None:
    """Raise InputError if a page cannot be written to a path, before the time to make it is spent.

    A file that is not a report is never replaced.
    """
    if not path.parent.is_dir() or path.is_dir():
        raise InputError(f"--out: expected a file in an existing directory. Received: {path}")
    check_replaces(path, lambda content: bool(OURS.search(content)), "report", "--out")


def write(path: pathlib.Path, title: str, sections: Sequence[Section]) -> None:
    """Write a page, with the problems and verdicts of all sections at its top; text is escaped.

    Raises:
        InputError: the file cannot be written.
    """
    problems = [b for section in sections for b in section.blocks if isinstance(b, Problem)]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lottery_tf.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html").render(
        title=title,
        sections=sections,
        kind=lambda block: type(block).__name__,
        verdicts=[(v, place) for place, of in enumerate(sections, 1) for v in of.verdicts],
        problems=list(dict.fromkeys(problems)),
        version=__version__,
        written=datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="minutes"),
    )
    try:  # names of files may hold bytes that no encoding has
        files.write_text(path, page.encode(errors="replace").decode())
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror}. Use another --out.") from None


def link(file: pathlib.Path, below: pathlib.Path, start: pathlib.Path) -> Link:
    """Return a Link to a file or directory, named by its path `below`, for a page in `start`."""
    path = os.path.relpath(file, start.absolute()) + "/" * file.is_dir()
    return Link(str(file.relative_to(below)), urllib.parse.quote(path, errors="surrogateescape"))
