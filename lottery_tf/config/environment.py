"""Reads environment.json of a run: the versions and settings that it was made with."""

import json
import pathlib
from typing import Any

from lottery_tf.terminal import quiet

ENVIRONMENT = "environment.json"
ONEDNN = "oneDNN"  # in it: "on" or "off"


def read(run: pathlib.Path) -> dict[str, Any]:
    """Return {name: version or value} of a run; {} without a record, or where it is damaged."""
    try:
        values = json.loads((run / ENVIRONMENT).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(values, dict):
        return {}
    variable = values.pop(quiet.ONEDNN, None)  # older versions recorded what the user had set
    if variable is not None:
        values.setdefault(ONEDNN, "off" if variable in ("0", "false") else "on")
    return values


def uses_onednn(run: pathlib.Path) -> bool | None:
    """Return whether a run computes convolutions with oneDNN, as `quiet.import_tensorflow` asks.

    A run keeps what it was made with, so that its bytes repeat; a new one uses oneDNN. None of a
    run whose version recorded nothing: TensorFlow chose, and does so again.
    """
    if not (run / "config.json").exists():
        return True
    setting = read(run).get(ONEDNN)
    return None if setting is None else setting == "on"
