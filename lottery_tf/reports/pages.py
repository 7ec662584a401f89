"""Pages of reports: HTML that a browser shows without a server, a script, or a file beside it."""

import datetime
import os
import pathlib
import re
import urllib.parse
from collections.abc import Sequence

import jinja2

from lottery_tf import __version__
from lottery_tf.errors import InputError
from lottery_tf.reports.blocks import Link, Section, problems
from lottery_tf.runs import files
from lottery_tf.runs.replacing import check_replaces

OURS = re.compile(rb"<p>Written [^<]* by lottery_tf ")  # what templates/page.html says


def check(path: pathlib.Path) -> None:
    """Raise InputError if a page cannot be written there, before it takes time to make it.

    A file that is no report is never replaced.
    """
    if not path.parent.is_dir() or path.is_dir():
        raise InputError(f"--out: expected a file in a directory that is there. Received: {path}")
    check_replaces(path, lambda content: bool(OURS.search(content)), "report", "--out")


def write(path: pathlib.Path, title: str, sections: Sequence[Section]) -> None:
    """Writes a page; what cannot be read or shown of its runs is told at the top.

    Raises:
        InputError: it cannot be written there.
    """
    try:
        files.write_text(path, render(title, sections))
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror}. Use another --out.") from None


def render(title: str, sections: Sequence[Section]) -> str:
    """The HTML of a page; all text in it is escaped."""
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
        problems=problems(sections),
        version=__version__,
        written=datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="minutes"),
    )
    return page.encode(errors="replace").decode()  # a file name may hold bytes that are no text


def link(file: pathlib.Path, below: pathlib.Path, start: pathlib.Path) -> Link:
    """A Link to a file or a directory, called as below one, on a page in `start`."""
    way = os.path.relpath(file, start.absolute()) + "/" * file.is_dir()
    return Link(str(file.relative_to(below)), urllib.parse.quote(way, errors="surrogateescape"))
