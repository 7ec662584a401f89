"""Runs exports in a fresh process that cannot import this package; runner.py is its program."""

import inspect
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.export import runner
from lottery_tf.export.formats import FORMATS
from lottery_tf.pruning import Array
from lottery_tf.runs import files


def run(
    name: str, directory: pathlib.Path, inputs: Mapping[str, Array], outputs: Sequence[str] = ()
) -> dict[str, Array]:
    """Return the outputs of an export, {output: (examples, …)}.

    A runtime that ends its process, as XNNPACK may, does not end this one.

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
        _start(name, [directory], inputs, place, names=list(outputs), found=found)
        with np.load(found, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored}


def time(
    name: str, directories: Sequence[pathlib.Path], inputs: Mapping[str, Array]
) -> list[float]:
    """Return the median milliseconds of a call of each export, measured in turns in one process.

    Arguments and errors are those of `run`; `inputs` are those of one call.
    """
    with tempfile.TemporaryDirectory() as place:
        return json.loads(_start(name, directories, inputs, place).splitlines()[-1])


def source_of_load(name: str) -> str:
    """Return the code of the function that loads a format, to run where it stands alone."""
    return inspect.getsource(FORMATS[name].load_module().load)


def _start(
    name: str,
    directories: Sequence[pathlib.Path],
    inputs: Mapping[str, Array],
    place: str,
    **options: Any,
) -> str:
    """Run runner.main in a process and return what it printed."""
    given = pathlib.Path(place, "inputs.npz")
    given.write_bytes(files.format_npz(inputs))
    paths = [os.path.abspath(directory) for directory in directories]
    arguments = {"source": source_of_load(name), "directories": paths, "inputs": str(given)}
    process = subprocess.run(
        [sys.executable, runner.__file__, json.dumps(arguments | options)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env=os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    if process.returncode:
        lines = [line.strip() for line in process.stderr.splitlines() if line.strip()]
        words = lines[-1] if lines else f"it exited with {process.returncode}"
        if process.returncode < 0:
            ended = signal.Signals(-process.returncode).name
            words = f"it was ended by {ended}, after: {' / '.join(lines[-3:])}"
        raise InputError(f"The {name} export fails in a fresh process: {words}")
    return process.stdout
