"""Writes docs/reference/flags.md, the reference of every flag, from the code.

python -m tools.make_flags_page
"""

import dataclasses
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

from lottery_tf.analysis import MEASURES
from lottery_tf.config import SECTIONS, Config, command, sections
from lottery_tf.config.constraints import NEEDS, OF_NETWORK
from lottery_tf.config.fields import format_value, value_type
from lottery_tf.config.paths import define_path
from lottery_tf.runs.replacing import check_replaces

from . import COMMANDS

OUT = define_path("out", "docs/reference/flags.md", "Page to write.")
ROOT = pathlib.Path(__file__).parent.parent
KINDS = {int: "whole number", float: "number", str: "text", bool: "true, false"}
TOP = """# Flags

Made by `python -m tools.make_flags_page`; `--helpfull` of each command says the same. A flag file
holds a flag per line, and may include others by `--flagfile=`; a flag on the command line wins
wherever it stands. Lists have commas. A flag on the command line that would do nothing is refused.

## An experiment: `python -m lottery_tf.imp`

Flags marked with * say only how to run: they may change between two launches of a run, the others
may not.
"""


def main(_: object) -> None:
    out, begins = pathlib.Path(OUT.value), TOP[: TOP.index("`--helpfull`")].encode()
    check_replaces(out, lambda content: content.startswith(begins), "page of flags", "--out")
    out.write_text(page(), "utf-8")
    print(f"Wrote {OUT.value}")


def page() -> str:
    """Return the text of docs/reference/flags.md."""
    parts = [TOP]
    for first, fields in sections().items():
        parts.append(f"### {SECTIONS[first]}\n\n{_table(['flag', 'values', 'default', ''])}")
        parts[-1] += "".join(map(_line_of_field, fields))
    with ThreadPoolExecutor() as pool:
        parts += pool.map(_section, sorted({*COMMANDS, *MEASURES} - {"imp"}))
    return "\n".join(parts)


def _table(titles: Sequence[str]) -> str:
    return f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}\n"


def _line_of_field(field: dataclasses.Field) -> str:
    limits = field.metadata
    values = KINDS[value_type(field)] if not limits["path"] else "path"
    if limits["choices"]:
        values = ", ".join(map(str, limits["choices"]))
    for key, word in (("at_least", "at least"), ("above", "above"), ("below", "below")):
        if limits[key] is not None:
            values += f", {word} {limits[key]}"
    text = limits["help"]
    if field.name in NEEDS:
        other, able = NEEDS[field.name]
        text += f" Needs `--{other}{'=' + ', '.join(able) if able else ''}`."
    elif field.name in OF_NETWORK:
        text += " Needs a network that has it."
    default = "" if field.default in (None, "", ()) else f"`{format_value(field.default)}`"
    return _line(f"`--{field.name}`{'*' * limits['how']}", values, default, text)


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"


def _section(name: str) -> str:
    """Return the section of a command, from the XML that it prints of its flags."""
    arguments = [sys.executable, "-m", "tools", name, "--helpxml"]
    result = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT)
    help_page = ElementTree.fromstring(result.stdout)
    summary = help_page.findtext("usage", "").strip().split("\n\n")[0].replace("\n", " ")
    own = {
        flag.findtext("name", ""): flag
        for flag in help_page.findall("flag")
        if flag.findtext("key") == "yes"
    }
    text = f"## `python -m tools.{name}`\n\n{summary}\n\n"
    if Config.__dataclass_fields__.keys() <= own.keys():
        text += "It takes the flags of an experiment, and these:\n\n"
        own = {flag: own[flag] for flag in own if flag not in Config.__dataclass_fields__}
    text += _table(["flag", "default", ""])
    for flag, element in own.items():
        default = element.findtext("default", "")
        default = "" if default in ("None", "") else f"`{default}`"
        text += _line(f"`--{flag}`", default, element.findtext("meaning", ""))
    return text


if __name__ == "__main__":
    command.run(main)
