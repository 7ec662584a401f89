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
    path = run / DATA
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(
            f"{path} is damaged. Restore it, or remove it, to trust the data as they are now."
        )
    return found


def check(run: pathlib.Path, found: Fingerprint, where: pathlib.Path) -> None:
    """Raise InputError if a run was trained on other data than those in `where`."""
    before = recorded(run)
    if before is not None and before != found:
        raise InputError(
            f"{where} holds other data than {run} was trained on: {_difference(before, found)}. "
            "Restore the data, name their --data_dir, or use another --run_dir; or, if you know "
            f"that the images are the same, remove {run / DATA}."
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


def _difference(
    before: Fingerprint, now: Fingerprint, there: str = "then", here: str = "now"
) -> str:
    """Return where two fingerprints differ first, in words."""
    name = next(name for name in before | now if before.get(name) != now.get(name))
    return f"{name} {in_words(before.get(name))} {there}, {in_words(now.get(name))} {here}"
