"""A dataclass field that is a command-line flag: its limits, its type, and its text form."""

import dataclasses
import json
import math
import sys
import typing
from typing import Any

from lottery_tf.errors import InputError

KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def flag(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    how: bool = False,
    path: bool = False,
) -> Any:
    """Return a field of Config.

    `choices`, `at_least`, `above` and `below` bound the value; `how` marks a flag that says only
    how to run the experiment, and so may change between two launches of it; `path` marks one that
    takes a path, or paths.
    """
    limits = {"choices": choices, "at_least": at_least, "above": above, "below": below}
    metadata = {"help": help, "how": how, "path": path, **limits}
    return dataclasses.field(default=default, metadata=metadata)


def format_value(value: object) -> str:
    """Return a field's value as it stands on a command line."""
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def value_type(field: dataclasses.Field) -> type:
    """Return the type of one value of a field, int, float, str or bool, without None and tuple."""
    inner = [kind for kind in typing.get_args(field.type) if kind not in (type(None), Ellipsis)]
    return inner[0] if inner else typing.cast(type, field.type)


def check_type(field: dataclasses.Field, value: object) -> None:
    """Raise InputError if a value, as JSON holds it, does not have a field's type."""
    kind, several = value_type(field), isinstance(field.default, tuple)
    if value is None and field.default is None:
        return
    items = value if several and isinstance(value, list) else [value]
    if several == isinstance(value, list) and all(_is(kind, item) for item in items):
        return
    expected = f"a list, each item {KINDS[kind]}" if several else KINDS[kind]
    raise InputError(f"--{field.name}: expected {expected}. Received: {json.dumps(value):.60}")


def _is(kind: type, value: object) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if kind is float and isinstance(value, int):
        return abs(value) <= sys.float_info.max
    return isinstance(value, kind)


def check(field: dataclasses.Field, value: Any) -> None:
    """Raise InputError if a value is outside a field's limits."""
    if value is None:
        return
    choices, at_least, above, below = (
        field.metadata[name] for name in ("choices", "at_least", "above", "below")
    )
    for is_outside, expected in (
        (isinstance(value, float) and not math.isfinite(value), "a finite number"),
        (choices and value not in choices, f"one of {', '.join(choices or ())}"),
        (at_least is not None and value < at_least, f"at least {at_least}"),
        (above is not None and value <= above, f"a number above {above}"),
        (below is not None and value >= below, f"a number below {below}"),
    ):
        if is_outside:
            raise InputError(f"--{field.name}: expected {expected}. Received: {value}")
