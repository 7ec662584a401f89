"""Makes standard output and error safe to write to: a closed or full one never stops a run."""

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO


class Nowhere(io.TextIOBase):
    """A text stream that forgets what is written."""

    def write(self, text: str) -> int:
        """Forget a text."""
        return len(text)


class Steady:
    """A text stream that falls silent when it cannot be written, standard output after a message.

    Args:
        stream: None of one that was closed. What its encoding lacks is written as escapes.
        name: "stdout" or "stderr".
    """

    def __init__(self, stream: TextIO | None, name: str):
        self._stream: TextIO | Nowhere = stream or Nowhere()
        self._name = name
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, if possible."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush what was written, if possible."""
        self._try(self._stream.flush)

    def _try(self, function: Callable[[], object]) -> None:
        try:
            function()
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            lost, self._stream = self._stream, Nowhere()
            # What the stream still holds goes nowhere too, or Python would complain at its end.
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), lost.fileno())
            if self._name == "stdout":
                reason = getattr(error, "strerror", None) or error
                message = f"Cannot write to standard output: {reason}. Going on without it."
                print(message, file=sys.stderr)


@contextlib.contextmanager
def steady() -> Iterator[None]:
    """Make sys.stdout and sys.stderr Steady inside the context; nested ones do nothing.

    File descriptors that were closed are opened, to nowhere: else the next file that is opened, a
    round perhaps, would get the number 1 or 2, and with it TensorFlow's messages.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    for name, stream in before.items():
        if not isinstance(stream, Steady):
            setattr(sys, name, Steady(stream, name))
    try:
        yield
    finally:
        sys.stdout.flush()
        for name, stream in before.items():
            setattr(sys, name, stream)
