"""The page that `--help` prints: what a command does, how it is called, and its flags."""

import inspect
import textwrap
from collections.abc import Collection

from absl import flags

WIDTH, COLUMN, LINES = 80, 18, 2
# Of the flags of an experiment: those that most users need.
MOST_USED = (
    "flagfile", "run_dir", "dataset", "model", "rounds", "epochs", "prune_fraction", "criterion",
    "reset", "rewind_to", "seed",
)  # fmt: skip


def help_page(about: str, found: list[flags.Flag], experiment: set[str]) -> str:
    """Return the page of a command, at most WIDTH wide.

    Args:
        about: its docstring.
        found: its flags.
        experiment: the names of the flags of an experiment. If the command takes them, the page
            has those that are MOST_USED.
    """
    flag_of = {flag.name: flag for flag in found}
    lines = [inspect.cleandoc(about), ""]
    is_experiment = experiment <= flag_of.keys()
    if own := [name for name in flag_of if not (is_experiment and name in experiment)]:
        lines += _lines("Flags:", own, flag_of)
    if is_experiment:
        lines += _lines("The most used flags of an experiment:", MOST_USED, flag_of)
    lines += [
        f"--helpfull explains all {len(flag_of)} flags; so does docs/reference/flags.md.",
        "--flagfile=FILE reads flags from a file, one on each line.",
    ]
    return "\n".join(lines)


def _lines(title: str, names: Collection[str], flag_of: dict[str, flags.Flag]) -> list[str]:
    lines = [title]
    for name in names:
        text = "a file with flags, such as flags/lenet.cfg"
        if name in flag_of:
            text = flag_of[name].help.split(". ")[0].rstrip(".")
            if flag_of[name].default not in (None, "", [], False):
                text = f"[{flag_of[name].default_as_str.strip(chr(39))}] {text}"
        start = f"  --{name} ".ljust(COLUMN)
        text = " ".join(text.split())
        wrapped = textwrap.wrap(text, WIDTH - COLUMN, max_lines=LINES, placeholder=" …")
        if len(start) > COLUMN:
            lines.append(start.rstrip())
            start = " " * COLUMN
        lines += [start + wrapped[0], *(" " * COLUMN + line for line in wrapped[1:])]
    return [*lines, ""]
