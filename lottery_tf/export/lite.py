"""Writes a LiteRT flatbuffer with sparse tensors, and with float16 or int8 weights.

The runtime refuses some files that the converter writes, and computes others wrongly: sparse
tensors of float16 gave NaN for one network and correct outputs for another. So each file is run.
"""

import pathlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from lottery_tf.export import converted, signatures
from lottery_tf.export.formats import Options
from lottery_tf.export.runner import Call
from lottery_tf.pruning import Array

FILE = "model.tflite"
# The largest difference of a correct output, as a part of its largest value.
TOLERANCE = {"none": 1e-4, "float16": 1e-2, "int8": 0.5}
CALIBRATION = 500  # examples at most


def write(model: keras.Model, directory: pathlib.Path, options: Options) -> None:
    """Write model.tflite, with the signature `serving_default` and any batch size.

    Weights of rank 2 or 4 with at least 30% zeros are stored sparsely, unless `dense`. int8 needs
    `calibration`.
    """
    inputs = options.calibration

    def examples() -> Iterator[dict[str, Array]]:
        for index in range(min(CALIBRATION, *map(len, inputs.values()))):
            yield {name: array[index : index + 1] for name, array in inputs.items()}

    settings: dict[str, Any] = {"optimizations": []}
    if not options.dense:
        settings["optimizations"].append(tf.lite.Optimize.EXPERIMENTAL_SPARSITY)
    if options.quantize != "none":
        settings["optimizations"].append(tf.lite.Optimize.DEFAULT)
    if options.quantize == "float16":
        settings["target_spec"] = {"supported_types": [tf.float16]}
    if options.quantize == "int8":
        settings["representative_dataset"] = examples
    network = signatures.served(model, options)
    converted.convert("litert", network, directory / FILE, **settings)
    signatures.write_assets(directory, options)
    kind = f"weights {'dense' if options.dense else 'sparse'}"
    converted.check(
        "litert",
        network,
        directory,
        inputs or signatures.random_inputs(model, converted.EXAMPLES),
        tolerance=TOLERANCE[options.quantize],
        kind=kind if options.quantize == "none" else f"{kind} and {options.quantize}",
        advice="" if options.dense else " Add --dense.",
    )


def load(directory: str) -> Call:
    """Return the signature of the file. It runs where this package cannot be imported."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter  # noqa: N806
    interpreter = Interpreter(f"{directory}/model.tflite")
    serve = interpreter.get_signature_runner("serving_default")
    return lambda inputs: serve(**inputs)
