"""What a page of a report is made of; templates/page.html says how each kind looks."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from markupsafe import Markup
from matplotlib.figure import Figure

from lottery_tf.errors import InputError
from lottery_tf.plots import Columns, Row, svg, tables
from lottery_tf.reports.verdicts import Verdict


@dataclasses.dataclass(frozen=True)
class Link:
    """A word that leads to a file."""

    text: str
    href: str


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar = "text"
    text: str


@dataclasses.dataclass(frozen=True)
class Problem:
    """A paragraph about what is damaged, missing or unfinished."""

    kind: ClassVar = "problem"
    text: str


@dataclasses.dataclass(frozen=True)
class Command:
    """A command, and what it is for."""

    kind: ClassVar = "command"
    text: str
    command: str


@dataclasses.dataclass(frozen=True)
class Facts:
    """Names and what they have."""

    kind: ClassVar = "facts"
    items: list[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Links:
    """Files to open."""

    kind: ClassVar = "links"
    items: list[Link]


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of cells, texts or Links, below their titles."""

    kind: ClassVar = "table"
    head: list[str]
    rows: list[list[str | Link]]


@dataclasses.dataclass(frozen=True)
class Picture:
    """A drawing, and what to see in it; a wide one scrolls in its box where it has no room."""

    kind: ClassVar = "picture"
    svg: Markup
    caption: str
    wide: bool = False


@dataclasses.dataclass
class Section:
    """A part of a page, with the verdicts that follow from it."""

    title: str
    blocks: list[Any] = dataclasses.field(default_factory=list)
    verdicts: list[Verdict] = dataclasses.field(default_factory=list)

    def attempt(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """What a function gives; None, and a Problem in the section, where it finds bad input."""
        try:
            return function(*arguments, **options)
        except InputError as error:
            self.blocks.append(Problem(str(error)))
        except OSError as error:
            self.blocks.append(Problem(f"{error.filename or ''}: {error.strerror or error}."))
        return None

    def add_table(self, rows: Sequence[Row], columns: Columns) -> None:
        """Adds a table of rows, as tables.show prints it."""
        head, *lines = tables.cells(rows, columns)
        self.blocks.append(Table(head, [list(line) for line in lines]))

    def draw(self, caption: str, draw: Callable[[], Figure], *,
             size: tuple[float, float] | None = None, wide: bool = False) -> None:  # fmt: skip
        """Adds what a function draws; size in inches."""
        picture = self.attempt(svg.inline, draw, label=caption, size=size)
        if picture:
            self.blocks.append(Picture(Markup(picture), caption, wide))


def problems(sections: Iterable[Section]) -> list[str]:
    """What the Problems of all sections say, each once."""
    found = [b.text for section in sections for b in section.blocks if isinstance(b, Problem)]
    return list(dict.fromkeys(found))
