"""What a command may replace where the user names the file. Stdlib only."""

from collections.abc import Callable
from pathlib import Path

from lottery_tf.errors import InputError


def check_replaces(path: Path, is_ours: Callable[[bytes], bool], what: str, flag: str) -> None:
    """Raise InputError if a file is there that this project did not write.

    `is_ours` says whether bytes are what would be written there, `what` names that, and `flag` the
    path.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{flag}={path}: cannot read it: {error.strerror}.") from None
    if content and not is_ours(content):
        raise InputError(
            f"{flag}={path} is there and is no {what} of lottery_tf, so it will not be replaced. "
            "Name another file, or remove this one."
        )
