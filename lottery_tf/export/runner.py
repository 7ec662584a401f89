"""Loads exports and runs them, in a process of its own that cannot import this package.

As a script it is started by `fresh`, with one of

    run FORMAT DIRECTORY INPUTS.npz OUTPUTS.npz BATCH_SIZE
    time FORMAT INPUTS.npz DIRECTORY DIRECTORY …

It imports what the users of a format have, and no more.
"""

import contextlib
import json
import os
import statistics
import sys
import time
import zipfile
from collections.abc import Callable

import numpy as np

Arrays = dict[str, np.ndarray]
Call = Callable[[Arrays], Arrays]

WARM_UP, CALLS, SECONDS = 5, 200, 10  # of a measurement: at most so many, at most so long


def saved_model(directory: str) -> Call:
    import tensorflow as tf

    loaded = tf.saved_model.load(directory)
    serve = loaded.signatures["serving_default"]

    # The function does not keep what it reads: `loaded` does.
    def call(inputs, loaded=loaded):
        given = {name: tf.constant(array) for name, array in inputs.items()}
        return {name: tensor.numpy() for name, tensor in serve(**given).items()}

    return call


def keras_file(directory: str) -> Call:
    import keras

    model = keras.models.load_model(os.path.join(directory, "model.keras"), compile=False)
    return _of_keras(model)


def npz(directory: str) -> Call:
    import keras

    with open(os.path.join(directory, "model.json"), encoding="utf-8") as file:
        model = keras.models.model_from_json(file.read())
    with np.load(os.path.join(directory, "weights.npz"), allow_pickle=False) as stored:
        model.set_weights([_rebuilt(stored, name) for name in stored["names"]])
    return _of_keras(model)


def _rebuilt(stored, name):
    if name in stored:
        return stored[name]
    flat = np.zeros(np.prod(stored[f"{name}.shape"]), stored[f"{name}.values"].dtype)
    flat[stored[f"{name}.indices"]] = stored[f"{name}.values"]
    return flat.reshape(stored[f"{name}.shape"])


def _of_keras(model):
    import keras

    # As signatures.py names outputs, which this process cannot import.
    sequential = isinstance(model, keras.Sequential)
    structure = model.outputs[0] if sequential else model.output
    names = [model.layers[-1].name] if sequential else model.output_names
    names = sorted(structure) if isinstance(structure, dict) else names
    count = len(keras.tree.flatten(structure))
    if len(set(names)) != count or len(names) != count:
        names = [f"output_{index}" for index in range(count)]

    def call(inputs):
        flat = list(inputs.values())
        given = flat[0] if sequential else keras.tree.pack_sequence_as(model.input, flat)
        outputs = keras.tree.flatten(model.predict_on_batch(given))
        return dict(zip(names, outputs, strict=True))

    return call


def litert(directory: str) -> Call:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter  # noqa: N806
    interpreter = Interpreter(os.path.join(directory, "model.tflite"))
    serve = interpreter.get_signature_runner("serving_default")
    return lambda inputs: serve(**inputs)


def onnx(directory: str) -> Call:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        os.path.join(directory, "model.onnx"), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


# format: function of its directory, which gives a function {input: array} -> {output: array}.
LOADERS = {
    "saved_model": saved_model,
    "keras": keras_file,
    "litert": litert,
    "npz": npz,
    "onnx": onnx,
}


def run(name: str, directory: str, inputs: str, outputs: str, batch_size: str) -> None:
    """Writes the outputs of all examples."""
    call, given, step = LOADERS[name](directory), _arrays(inputs), int(batch_size)
    parts = []
    for start in range(0, len(next(iter(given.values()))), step):
        found = call({key: array[start : start + step] for key, array in given.items()})
        # Copies: a runtime may give the same memory again.
        parts.append({key: np.array(array) for key, array in found.items()})
    found = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    # np.savez takes arrays by keyword, so that an output could not be called "file".
    with zipfile.ZipFile(outputs, "w") as archive:
        for key, array in found.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def measure(name: str, inputs: str, *directories: str) -> None:
    """Prints the median milliseconds of a call of each export, measured in turns."""
    calls, given = [LOADERS[name](directory) for directory in directories], _arrays(inputs)
    end = time.perf_counter() + SECONDS
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(WARM_UP + CALLS):
        for call, of_call in zip(calls, times, strict=True):
            start = time.perf_counter()
            call(given)
            of_call.append(1000 * (time.perf_counter() - start))
        if turn > WARM_UP and time.perf_counter() > end:
            break
    print(json.dumps([statistics.median(of_call[WARM_UP:]) for of_call in times]))


def _arrays(path):
    with np.load(path, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored}


VERBS: dict[str, Callable[..., None]] = {"run": run, "time": measure}

if __name__ == "__main__":
    sys.modules["lottery_tf"] = None  # type: ignore[assignment]  # its import fails
    try:
        VERBS[sys.argv[1]](*sys.argv[2:])
    except Exception as error:
        with contextlib.suppress(OSError):
            words = " ".join(f"{type(error).__name__}: {error}".split())
            sys.stderr.write(f"\n{words}\n")
        sys.exit(1)
