"""Values of JSON files that may hold anything, each checked before it is used. Stdlib only."""

import json
import pathlib
import re
from typing import Any

from lottery_tf.datasets.names import is_file_name
from lottery_tf.errors import InputError


def nonsense(path: pathlib.Path, found: str) -> InputError:
    """The InputError that a directory holds no dataset, and what was found in it."""
    return InputError(
        f"{path} is not a dataset of images and labels as TensorFlow Datasets writes them. Found: "
        f"{found}. Prepare it again."
    )


def load(path: pathlib.Path) -> dict[str, Any]:
    """The object that a JSON file of a dataset holds.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    try:
        return parse(path.parent, path.read_text(encoding="utf-8"), f"a {path.name}")
    except OSError as error:
        raise nonsense(path.parent, f"no {path.name} that can be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise nonsense(path.parent, f"a {path.name} that is no JSON ({error})") from None


def parse(path: pathlib.Path, text: str, what: str = "content") -> dict[str, Any]:
    """The object in a text of JSON; InputError if there is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise nonsense(path, f"{what} that is no JSON ({error})") from None
    if not isinstance(found, dict):
        raise nonsense(path, f"{what} that is no object")
    return found


def get(path: pathlib.Path, value: Any, *keys: str) -> dict[str, Any]:
    """The object value[key][key]…; InputError if there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, dict):
        raise nonsense(path, f"no {'.'.join(keys)} where it belongs")
    return value


def sequence(path: pathlib.Path, value: Any) -> list[Any]:
    """The value, which must be a list."""
    if not isinstance(value, list):
        raise nonsense(path, f"{shown(value)} where a list belongs")
    return value


def text(path: pathlib.Path, value: Any, what: str) -> str:
    """The value, which must be text that a file name can hold."""
    if not isinstance(value, str) or not is_file_name(value):
        raise nonsense(path, f"{shown(value)} as {what}")
    return value


def whole(path: pathlib.Path, value: Any, what: str) -> int:
    """A whole number, which may be written as text: so JSON has those of 64 bits."""
    is_text = isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value)
    if not (is_text or (isinstance(value, int) and not isinstance(value, bool))):
        raise nonsense(path, f"{shown(value)} as {what}")
    return int(value)


def shown(value: Any) -> str:
    """A value in a few characters."""
    written = ascii(value)
    return written if len(written) < 40 else f"{written[:40]}..."


def brief(name: str) -> str:
    """A name as it is, or, if it cannot stand in a sentence, as `shown`."""
    return name if name.isprintable() and len(name) < 40 else shown(name)
