"""Reads and checks config.json before anything relies on it, and compares it with a Config."""

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from lottery_tf.config import Config
from lottery_tf.config.fields import check_type
from lottery_tf.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ALWAYS = ("model", "dataset", "seed", "rounds", "epochs")  # flags that every version recorded
SEEDS = ("init_seed", "data_seed")
MADE_BY_ROUNDS = "lottery_tf.rounds"  # what config.json says of runs around the user's own fit


def read(text: str) -> dict[str, Any]:
    """Return {flag: value} of the text of config.json; a flag that it lacks has its default.

    Raises:
        InputError: the text is not a JSON object, lacks what every version wrote, or a value does
            not have the type of its flag.
    """
    try:
        recorded = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{error}.") from None
    if not isinstance(recorded, dict):
        raise InputError(f"expected an object, of flags and values. Received: {text:.60}")
    if missing := [name for name in ALWAYS if name not in recorded]:
        raise InputError(f"it lacks {', '.join(missing)}.")
    fields = {field.name: field for field in dataclasses.fields(Config)}
    del fields["run_dir"]
    for name in recorded.keys() & fields.keys():
        check_type(fields[name], recorded[name])
    if recorded.get("rounds", 1) is None:  # the flag's default; a record holds the number
        raise InputError("--rounds: expected a whole number. Received: null")
    defaults = {
        name: list(field.default) if isinstance(field.default, tuple) else field.default
        for name, field in fields.items()
    }
    values = defaults | recorded
    return values | {name: values["seed"] for name in SEEDS if values[name] is None}


def differences(
    recorded: dict[str, Any], config: "DataclassInstance", *, how: bool
) -> dict[str, tuple[Any, Any]]:
    """Return {flag: (recorded value, this config's)} of the flags that differ.

    `recorded` is what config.json holds; `how` picks the flags that say how to run (True) or the
    experiment flags (False). A flag that the record lacks counts with its default. `config` is a
    Config, or another dataclass of flags.
    """
    found = {}
    for field in dataclasses.fields(config):
        if field.name == "run_dir" or field.metadata["how"] != how:
            continue
        before, now = recorded.get(field.name, field.default), getattr(config, field.name)
        before = tuple(before) if isinstance(before, list) else before
        if before != now:
            found[field.name] = (before, now)
    return found
