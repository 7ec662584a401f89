"""What config.json holds: read and checked before anything relies on it."""

import dataclasses
import json
from typing import Any

from lottery_tf.config import Config
from lottery_tf.config.fields import check_type
from lottery_tf.errors import InputError

ALWAYS = ("model", "dataset", "seed", "rounds", "epochs")  # flags that every version recorded
SEEDS = ("init_seed", "data_seed")
MADE_BY_ROUNDS = "lottery_tf.rounds"  # what config.json says of runs around the user's own fit


def read(text: str) -> dict[str, Any]:
    """{flag: value} of the text of config.json; a flag that it does not know has its default.

    Raises:
        InputError: it is no JSON object, lacks what every version wrote, or a value has a type
            that its flag has not.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{error}.") from None
    if not isinstance(found, dict):
        raise InputError(f"expected an object, of flags and values. Received: {text:.60}")
    if missing := [name for name in ALWAYS if name not in found]:
        raise InputError(f"it lacks {', '.join(missing)}.")
    fields = {field.name: field for field in dataclasses.fields(Config)}
    del fields["run_dir"]
    for name in found.keys() & fields.keys():
        check_type(fields[name], found[name])
    if found.get("rounds", 1) is None:  # the default of the flag, which a record says in numbers
        raise InputError("--rounds: expected a whole number. Received: null")
    defaults = {
        name: list(field.default) if isinstance(field.default, tuple) else field.default
        for name, field in fields.items()
    }
    values = defaults | found
    return values | {name: values["seed"] for name in SEEDS if values[name] is None}


def differences(recorded: dict[str, Any], config: Any, *, how: bool) -> dict[str, tuple[Any, Any]]:
    """{flag: (recorded value, this config's)} of the flags that differ.

    `recorded` is what config.json holds; `how` picks the flags that say how to run (True) or the
    experiment flags (False). A flag that the record does not know counts with its default.
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
