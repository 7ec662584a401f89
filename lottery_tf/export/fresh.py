"""Runs exports in a fresh process that cannot import this package."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.export import runner
from lottery_tf.pruning import Array
from lottery_tf.runs import files

# Formats that hold the Keras model as it is: of a run's network they give no probabilities.
LOGITS_ALONE = ("keras", "npz")


def run(name: str, directory: pathlib.Path, inputs: Mapping[str, Array],
        batch_size: int = 256) -> dict[str, Array]:  # fmt: skip
    """What an export gives: {output: (examples, …)}.

    A runtime that ends its process, as XNNPACK may, ends that one and not this.

    Args:
        name: a key of formats.FORMATS.
        directory: of the export.
        inputs: {input: (examples, …)}, in the order of the model's inputs.
        batch_size: examples at a time.

    Raises:
        InputError: the export does not load or run; tells what the process said last.
    """
    with tempfile.TemporaryDirectory() as place:
        given, found = _save(place, inputs), os.path.join(place, "outputs.npz")
        _start("run", name, os.path.abspath(directory), given, found, str(batch_size))
        with np.load(found, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored}


def time(name: str, directories: Sequence[pathlib.Path],
         inputs: Mapping[str, Array]) -> list[float]:  # fmt: skip
    """Median milliseconds of a call of each of some exports, measured in turns in one process.

    Args:
        name: a key of formats.FORMATS.
        directories: of the exports.
        inputs: those of one call, {input: (batch, …)}.

    Raises:
        InputError: an export does not load or run; tells what the process said last.
    """
    with tempfile.TemporaryDirectory() as place:
        paths = map(os.path.abspath, directories)
        return json.loads(_start("time", name, _save(place, inputs), *paths).splitlines()[-1])


def _save(place, inputs):
    path = os.path.join(place, "inputs.npz")
    pathlib.Path(path).write_bytes(files.format_npz(inputs))
    return path


def _start(verb, name, *arguments):
    """What the process printed."""
    # -P: the files beside the script are no modules.
    process = subprocess.run(
        [sys.executable, "-P", runner.__file__, verb, name, *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        env=os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"},
    )  # fmt: skip
    if process.returncode:
        raise InputError(f"The {name} export fails in a fresh process: {_last_words(process)}")
    return process.stdout


def _last_words(process):
    """What a process said last, and how it ended unless it told why, in one line."""
    lines = [line.strip() for line in process.stderr.splitlines() if line.strip()]
    if process.returncode < 0:
        ended = f"it was ended by {signal.Signals(-process.returncode).name}"
        return f"{ended}, after: {' / '.join(lines[-3:])}"
    return lines[-1] if lines else f"it exited with {process.returncode}"
