"""Runs exports in a fresh process that cannot import this package; runner.py is its program."""

import contextlib
import inspect
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.export import runner
from lottery_tf.export.formats import FORMATS
from lottery_tf.pruning import Array
from lottery_tf.runs import files

_started: dict[str, "_Process"] = {}  # by format, of the contexts of `started`


@contextlib.contextmanager
def started(name: str) -> Iterator[None]:
    """Start a format's process, which serves every call of this module inside the context.

    It imports the format's runtime while this process goes on. Nested contexts do nothing.
    """
    if name in _started:
        yield
        return
    process = _started[name] = _Process(name)
    try:
        yield
    finally:
        _started.pop(name, None)
        process.end()


def wait(name: str) -> None:
    """Wait until a started process has imported its runtime, so that it disturbs no timing."""
    _ask(name)


def run(
    name: str, directory: pathlib.Path, inputs: Mapping[str, Array], outputs: Sequence[str] = ()
) -> dict[str, Array]:
    """Return the outputs of an export, {output: (examples, …)}.

    A runtime that crashes, as XNNPACK may, does not end this process.

    Args:
        name: a key of FORMATS.
        directory: of the export.
        inputs: {input: (examples, …)}, in the order of the model's inputs.
        outputs: names of the outputs in order, for formats that are a Keras model.

    Raises:
        InputError: the export does not load or run; the message has the process's last words.
    """
    with tempfile.TemporaryDirectory() as place:
        found = os.path.join(place, "outputs.npz")
        _load(name, [directory], inputs, place, names=list(outputs), found=found)
        with np.load(found, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored}


def time(
    name: str, directories: Sequence[pathlib.Path], inputs: Mapping[str, Array]
) -> list[float]:
    """Return the median milliseconds of a call of each export, measured in turns in one process.

    Arguments and errors are those of `run`; `inputs` are those of one call.
    """
    with tempfile.TemporaryDirectory() as place:
        return _load(name, directories, inputs, place)


def source_of_load(name: str) -> str:
    """Return the source of the function that loads a format; it runs without its module."""
    return inspect.getsource(FORMATS[name].load_module().load)


def _load(
    name: str,
    directories: Sequence[pathlib.Path],
    inputs: Mapping[str, Array],
    place: str,
    **options: Any,
) -> Any:
    """Let the process load exports; return what runner.answer returns."""
    given = pathlib.Path(place, "inputs.npz")
    given.write_bytes(files.format_npz(inputs))
    paths = [os.path.abspath(directory) for directory in directories]
    return _ask(name, source=source_of_load(name), directories=paths, inputs=str(given), **options)


def _ask(name: str, **request: Any) -> Any:
    """Return the answer to a request; a process that fails is not asked again."""
    with started(name):
        try:
            return _started[name].ask(request)
        except InputError:
            del _started[name]
            raise


class _Process:
    """A process that runs runner.py."""

    def __init__(self, name: str):
        self.name, self.stderr = name, tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, runner.__file__, FORMATS[name].runtime],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            env=os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"},
        )

    def ask(self, request: dict[str, Any]) -> Any:
        """Return the answer to a request; InputError with its last words if the process ends."""
        assert self.process.stdin
        assert self.process.stdout
        with contextlib.suppress(BrokenPipeError):  # it has ended
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        if answer := self.process.stdout.readline():
            return json.loads(answer)
        status = self.process.wait()
        self.stderr.seek(0)
        text = self.stderr.read().decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        words = lines[-1] if lines else f"it exited with {status}"
        if status < 0:
            ended = signal.Signals(-status).name
            words = f"it was ended by {ended}, after: {' / '.join(lines[-3:])}"
        raise InputError(f"The {self.name} export fails in a fresh process: {words}")

    def end(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.stderr):
            with contextlib.suppress(BrokenPipeError):  # of what it did not read
                stream.close()  # type: ignore[union-attr]
