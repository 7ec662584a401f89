"""The axes of a study: flags whose values are varied, alone (--grid) or together (--zip)."""

import dataclasses
import difflib
import itertools
from collections.abc import Iterable, Iterator

from lottery_tf.config import Config
from lottery_tf.errors import InputError

FIELDS = {field.name: field for field in dataclasses.fields(Config)}


@dataclasses.dataclass(frozen=True)
class Axis:
    """Flags that are varied together.

    Args:
        names: of the flags.
        rows: for each step along the axis a text per flag; an empty one leaves the flag out.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def parse_grid(text: str) -> Axis:
    """The Axis of "seed=0,1,2"; values of a list are joined by plus signs, as lr_drops=1+2,3+4.

    Raises:
        InputError: it is not of this form, without values, or of an unknown flag.
    """
    return _parse(f"--grid={text}", [text])


def parse_zip(text: str) -> Axis:
    """The Axis of "optimizer=adam,momentum;learning_rate=1.2e-3,0.1".

    Raises:
        InputError: as `parse_grid`, or the flags have different numbers of values.
    """
    return _parse(f"--zip={text}", text.split(";"))


def _parse(line, parts):
    columns = []  # (flag, its values)
    for part in parts:
        name, equals, values = part.strip().partition("=")
        if not equals or not values.replace(",", "").strip():
            raise InputError(f"{line}: expected a flag and its values, as seed=0,1,2.")
        check_name(line, name)
        columns.append((name, [_text(name, value.strip()) for value in values.split(",")]))
    lengths = {len(column) for _, column in columns}
    if len(lengths) > 1 or len(dict(columns)) < len(columns):
        received = ", ".join(f"{len(column)} of {name}" for name, column in columns)
        raise InputError(
            f"{line}: expected different flags with as many values each. Received: {received}"
        )
    names, values = zip(*columns, strict=True)
    return Axis(names, tuple(zip(*values, strict=True)))


def check_name(line: str, name: str) -> None:
    """Raises InputError if the name in a line of a study is no flag that it may set."""
    if name in FIELDS and name != "run_dir":
        return
    like = difflib.get_close_matches(name, FIELDS.keys() - {"run_dir"}, 1)
    hint = f" Did you mean {like[0]}?" if like else ""
    if name == "run_dir":
        hint = " Each run has its own, below --runs."
    raise InputError(
        f"{line}: expected flags of an experiment, as python -m lottery_tf.imp --help lists them. "
        f"Received: {name}.{hint}"
    )


def _text(name, value):
    """A value as its flag takes it."""
    return value.replace("+", ",") if isinstance(FIELDS[name].default, tuple) else value


def merge(axes: Iterable[Axis]) -> list[Axis]:
    """Axes of which each replaces one of the same flags before it, in the place of that one."""
    return list({axis.names: axis for axis in axes}.values())


def products(axes: Iterable[Axis]) -> Iterator[dict[str, str]]:
    """{flag: text} of every combination, the last axis the fastest; empty texts are left out."""
    steps = [[dict(zip(axis.names, row, strict=True)) for row in axis.rows] for axis in axes]
    for parts in itertools.product(*steps):
        point = {name: text for part in parts for name, text in part.items()}
        yield {name: text for name, text in point.items() if text}
