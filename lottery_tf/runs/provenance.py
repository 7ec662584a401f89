"""data.json of a run: what the data held that it was trained on. Stdlib only."""

import json
import pathlib
from typing import Any

from lottery_tf.errors import InputError
from lottery_tf.runs import files

DATA = "data.json"
Fingerprint = dict[str, Any]  # as datasets.fingerprint gives it


def recorded(run: pathlib.Path) -> Fingerprint | None:
    """Return the fingerprint of a run's data; None of a run whose version kept none.

    Raises:
        InputError: the file is damaged.
    """
    return files.read_object(run / DATA, "to trust the data as they are now")


def check(run: pathlib.Path, found: Fingerprint, where: pathlib.Path) -> None:
    """Raise InputError if a run was trained on other data than those in `where`."""
    before = recorded(run)
    if before is not None and before != found:
        raise InputError(
            f"{where} holds other data than {run} was trained on: "
            f"{_difference(before, found, 'then', 'now')}. Restore the data, name their "
            "--data_dir, or use another --run_dir; or, if you know that the images are the same, "
            f"remove {run / DATA}."
        )


def check_same(first: pathlib.Path, second: pathlib.Path) -> None:
    """Raise InputError if two runs, both with a record, were trained on different data."""
    one, other = recorded(first), recorded(second)
    if one is not None and other is not None and one != other:
        raise InputError(
            f"Expected runs of the same data. {first} and {second} differ: "
            f"{_difference(one, other, 'in the first', 'in the second')}."
        )


def record(run: pathlib.Path, found: Fingerprint) -> bool:
    """Write data.json where there is none; whether it did."""
    if recorded(run) is not None:
        return False
    files.write_text(run / DATA, json.dumps(found, indent=1) + "\n")
    return True


def in_words(found: Any) -> str:
    """Return a part of a fingerprint in a few words."""
    if not isinstance(found, dict):
        return str(found)
    digest = str(found.get("sha256"))[:12]
    return f"{found.get('examples')} examples, {found.get('bytes')} bytes, SHA-256 {digest}"


def _difference(one: Fingerprint, other: Fingerprint, there: str, here: str) -> str:
    """Return where two fingerprints differ first, in words."""
    name = next(name for name in one | other if one.get(name) != other.get(name))
    return f"{name} {in_words(one.get(name))} {there}, {in_words(other.get(name))} {here}"
