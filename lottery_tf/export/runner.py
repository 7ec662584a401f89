"""Loads exports and runs them, in a process that cannot import this package.

`fresh` starts it as a script, with the name of a module to import at once. It reads requests, each
a line of JSON with the arguments of `answer`, and answers each with a line. It imports only what
the users of a format have.
"""

import sys

if __name__ == "__main__":
    del sys.path[0]  # the files beside this script are no modules; python -P is new in 3.11

import contextlib
import functools
import importlib
import json
import os
import time
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Call = Callable[[Arrays], Arrays]

BATCH_SIZE = 256
WARM_UP, CALLS, SECONDS = 5, 200, 10  # of a measurement: at most so many calls, or so long


def load(source: str, directory: str, names: Sequence[str]) -> Call:
    """Return the function {input: array} -> {output: array} that an export computes.

    `source` is the code of its format's `load`. A Keras model gives outputs of these names, in
    their order, as far as it has them.
    """
    loaded = _loaded(source, directory)
    if not hasattr(loaded, "predict_on_batch"):
        return loaded
    import keras

    def call(inputs: Arrays) -> Arrays:
        given: Any = list(inputs.values())
        if isinstance(loaded, keras.Sequential):  # it has one input
            (given,) = given
        else:
            given = keras.tree.pack_sequence_as(loaded.input, given)
        return dict(zip(names, keras.tree.flatten(loaded.predict_on_batch(given)), strict=False))

    return call


@functools.cache  # an export is compared, and timed at several batch sizes
def _loaded(source: str, directory: str) -> Any:
    """Return what the `load` of a format returns for an export."""
    defined: dict[str, Any] = {}
    exec(f"from __future__ import annotations\n{source}", defined)  # its annotations name more
    return defined["load"](directory)


def outputs(call: Call, inputs: Arrays, batch_size: int = BATCH_SIZE) -> Arrays:
    """Return the outputs of all examples, computed in batches."""
    parts = []
    for start in range(0, len(next(iter(inputs.values()))), batch_size):
        batch = {name: array[start : start + batch_size] for name, array in inputs.items()}
        # Copies: a runtime may return the same memory again.
        parts.append({name: np.array(array) for name, array in call(batch).items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def milliseconds(calls: Sequence[Call], inputs: Arrays, count: int = CALLS) -> list[float]:
    """Return the median time of each call, measured in turns, at most so often."""
    import statistics

    end = time.perf_counter() + SECONDS
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(WARM_UP + count):
        for call, of_call in zip(calls, times, strict=True):
            start = time.perf_counter()
            call(inputs)
            of_call.append(1000 * (time.perf_counter() - start))
        if turn > WARM_UP and time.perf_counter() > end:
            break
    return [statistics.median(of_call[WARM_UP:]) for of_call in times]


def answer(
    source: str, directories: Sequence[str], inputs: str, names: Sequence[str] = (), found: str = ""
) -> list[float] | None:
    """Write the outputs of an export as an .npz `found`, or return the times of several.

    `inputs` is an .npz too; `source` and `names` are those of `load`.
    """
    with np.load(inputs, allow_pickle=False) as stored:
        given = {name: stored[name] for name in stored}
    calls = [load(source, directory, names) for directory in directories]
    if not found:
        return milliseconds(calls, given)
    # np.savez takes arrays by keyword, so that an output could not be called "file".
    with zipfile.ZipFile(found, "w") as archive:
        for name, array in outputs(calls[0], given).items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return None


def main(module: str) -> None:
    """Import a module, if it is installed, and answer requests until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    if module:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(answer(**request) if request else None), file=answers, flush=True)


if __name__ == "__main__":
    sys.modules["lottery_tf"] = None  # type: ignore[assignment]  # its import fails
    if sys.argv[1] == "tensorflow":
        # TensorFlow imports these unasked, for a third and a fifth of its time. A SavedModel needs
        # neither, and whoever serves it may not have them.
        sys.modules["keras"] = sys.modules["jax"] = None  # type: ignore[assignment]
    try:
        main(sys.argv[1])
    except Exception as error:
        with contextlib.suppress(OSError):
            words = " ".join(f"{type(error).__name__}: {error}".split())
            sys.stderr.write(f"\n{words}\n")
        sys.exit(1)
