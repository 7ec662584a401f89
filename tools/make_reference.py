"""Writes the pages of docs/reference that the code gives: every flag, file, column and tag.

python -m tools.make_reference
"""

import dataclasses
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

from lottery_tf import analysis
from lottery_tf.analysis import MEASURES
from lottery_tf.analysis.measure import Column, Measure
from lottery_tf.config import SECTIONS, Config, command, sections
from lottery_tf.config.constraints import NEEDS, OF_NETWORK
from lottery_tf.config.fields import format_value, value_type
from lottery_tf.config.paths import define_path
from lottery_tf.errors import InputError
from lottery_tf.plots import columns as of_runs
from lottery_tf.runs import contents
from lottery_tf.runs.replacing import check_replaces

from . import COMMANDS

OUT_DIR = define_path("out_dir", "docs/reference", "Directory of the pages to write.")
ROOT = pathlib.Path(__file__).parent.parent
BEGINS = b"Made by `python -m tools.make_reference`"
KINDS = {int: "whole number", float: "number", str: "text", bool: "true, false"}
TOP = """# Flags

Made by `python -m tools.make_reference`; `--helpfull` of each command says the same. A flag file
holds a flag per line, and may include others by `--flagfile=`; a flag on the command line wins
wherever it stands. Lists have commas. A flag on the command line that would do nothing is refused.

## An experiment: `python -m lottery_tf.imp`

Flags marked with * say only how to run: they may change between two launches of a run, the others
may not.
"""


OUTPUTS_TOP = """# Outputs: files, columns and tags

Made by `python -m tools.make_reference` from the descriptions in the code. Names in braces vary:
`{NN}` is the number of a round with two digits.

- A **fraction** is from 0 to 1 in files, and in percent in printed tables, pictures and
  TensorBoard, where tags end with "(%)".
- Tables of several runs have a row of each seed: `seed` tells them apart, `init_seed` and
  `data_seed` where these are not the same, and `collapsed` is 1 where a network has collapsed.
- Beside a column `x`, the mean of pairs of trainings, `x_min` and `x_max` are the least and most.
- Flags that change a result, and `--other_run`, become part of names:
  `barriers_permutation_to_{run}.csv`.
- Several runs in `--run_dir` also write `{name}_of_3_runs….csv`, with the rows of each seed, and
  `.png` of their means.

"""


def main(_: object) -> None:
    write(pathlib.Path(OUT_DIR.value))


def write(directory: pathlib.Path) -> None:
    """Write every page of the reference; InputError in place of a file that is none."""
    for name, page in PAGES.items():
        path = directory / name
        check_replaces(
            path, lambda content: BEGINS in content, "page of the reference", "--out_dir"
        )
        path.write_text(page(), "utf-8")
        print(f"Wrote {path}")


# Flags -------------------------------------------------------------------------------------


def flags_page() -> str:
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


# Outputs -----------------------------------------------------------------------------------


def outputs_page() -> str:
    """Return the text of docs/reference/outputs.md.

    tests/frozen lists what exists; the tables in the code describe it. InputError where a file, a
    column or a tag has no description.
    """
    names = [_in_run(line.split(": ")[1]) for line in _frozen("files")]
    check_described(
        [name for name in names if name.split("/")[0] not in ("runs", "statuses.txt")],
        {**contents.FILES, "weights.npz": "", "{study}.cfg": ""},  # what the tests made beside
    )
    parts = [OUTPUTS_TOP, "## Files of a run\n\n", _table(["file", "content"])]
    parts += [_line(f"`{name}`", about) for name, about in contents.FILES.items()]
    parts += ["\n## Files of a study\n", "In the directory of the runs, `--runs`:\n\n"]
    parts += [_table(["file", "content"])]
    parts += [_line(f"`{name}`", about) for name, about in contents.STUDY_FILES.items()]
    parts.append("\n## Columns of a run\n")
    described = {
        "metrics.csv": of_runs.ROUND,
        "history.csv": of_runs.EPOCH,
        "repulsion.csv": of_runs.REPULSION,
    }
    for file, columns in described.items():
        parts += _columns(file, "", columns)
    parts.append(
        "\n`rounds` adds a column for each further metric of your model, by its own name.\n"
        "\n## Files and columns of measures\n\nIn `analysis/`. "
        "[Measures](../guides/analysis.md) explains each.\n"
    )
    for name in MEASURES:
        measure = analysis.find(name)
        parts.append(f"\n### {name}\n")
        for file, rows in measure.csv_files.items():
            parts += _columns(file, rows, _described(measure))
        parts += ["\n", _table(["picture", "TensorBoard tag", "shows"])]
        for tag, (file, about) in measure.picture_tags.items():
            parts.append(_line(f"`{file}`", f"`{tag}`", about))
    parts += ["\n## TensorBoard tags\n\n", _table(["tag", "kind", "shows"])]
    parts += _tags()
    return "".join(parts)


def check_described(names: Iterable[str], described: Iterable[str]) -> None:
    """Raise InputError if a name fits none of the patterns, in which {words} vary."""
    patterns = [_pattern(name) for name in described]
    for name in names:
        if not any(pattern.fullmatch(name) for pattern in patterns):
            raise InputError(f"There is no description of {name}: add it beside the others.")


def _pattern(name: str) -> re.Pattern[str]:
    varied = re.sub(r"\\\{.*?\\\}", ".+", re.escape(name))
    return re.compile(varied + ".*" if name.endswith("/") else varied)


def _frozen(name: str) -> list[str]:
    return (ROOT / "tests" / "frozen" / f"{name}.txt").read_text("utf-8").splitlines()


def _in_run(path: str) -> str:
    """Return the path of a frozen list without the directory of the run."""
    return re.sub(r"^(run|lenet)/", "", path)


def _described(measure: type[Measure]) -> dict[str, tuple[str, str]]:
    """Return {column: (unit, what it is)} of a measure's columns."""
    told = {
        name: (column.unit, column.about)
        for name, column in measure.columns.items()
        if isinstance(column, Column)
    }
    return told | dict(measure.csv_columns)


def _columns(file: str, rows: str, described: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """Yield the lines of a CSV file's columns, those that the frozen list has."""
    found: dict[str, None] = {}
    for _, path, columns in (line.split(": ") for line in _frozen("columns")):
        if _pattern(file).fullmatch(path.rpartition("/")[2]):
            found |= dict.fromkeys(columns.split(","))
    yield f"\n`{file}`{': ' + rows if rows else ''}\n\n"
    yield _table(["column", "unit", "meaning"])
    # In the order of the code's table; least and most are explained once.
    ends = {f"{name}_{end}" for name in found for end in ("min", "max")}
    names = [name for name in found if name not in ends and not name.isdecimal()]
    check_described((f"{file}: {name}" for name in names), (f"{file}: {n}" for n in described))
    for name in sorted(names, key=[*described].index):
        yield _line(f"`{name}`", *described[name])
    if any(name.isdecimal() for name in found):
        yield _line("`0`, `1`, …", "", "the value for that round")


def _tags() -> Iterator[str]:
    """Yield a line for each tag of TensorBoard."""
    measures = [analysis.find(name) for name in MEASURES]
    pictures = {tag: about for m in measures for tag, (_, about) in m.picture_tags.items()}
    lines: dict[tuple[str, str], str] = {}
    for where, line in (line.split(": ") for line in _frozen("tensorboard_tags")):
        kind, tag = re.fullmatch(r".*tensorboard\S* (\w+) (.*)", line).groups()  # type: ignore[union-attr]
        column = re.sub(r" \(%\)$", "", tag)
        group, _, name = column.partition("/")
        begins = next((start for start in of_runs.TAGS if tag.startswith(start)), None)
        if kind == "images" and not begins:
            tag = next((known for known in pictures if _pattern(known).fullmatch(tag)), tag)
            about = pictures.get(tag, "")
        elif begins:
            tag = {"surviving weights/": "surviving weights/{kernel}"}.get(begins, tag)
            tag = "figures/{study}" if begins == "figures/" else tag
            about = of_runs.TAGS[begins]
        elif group.removesuffix(" percent") in ("round", "epoch"):
            about = of_runs.about(group.removesuffix(" percent"), name)
        else:
            measure = analysis.find(where.partition("/")[2])
            words = re.split("[/ ]", column)[::-1]
            # The curves of cyclic are accuracies, named after masks.
            known = _described(measure).keys() - {"mask"}
            shown = next((word for word in words if word in known), "test_accuracy")
            about = _described(measure)[shown][1]
            tag = re.sub(r"round_\d+", "round_{NN}", tag)
        if not about:
            raise InputError(f"There is no description of the tag {tag}: add it.")
        lines[tag, kind] = about
    for tag in ("round/collapse", "report/flags", "report/verdicts"):
        lines[tag, "text"] = of_runs.TAGS[tag]
    lines["hparams/{result}", "scalars"] = "a result on the page HParams, of tools.report"
    for (tag, kind), about in sorted(lines.items()):
        yield _line(f"`{tag}`", kind.removesuffix("s"), about)


PAGES = {"flags.md": flags_page, "outputs.md": outputs_page}


if __name__ == "__main__":
    command.run(main)
