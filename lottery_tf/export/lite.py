"""A LiteRT flatbuffer: sparse tensors, float16 or int8 weights; it is run once it is written.

The converter writes combinations that the runtime refuses, or computes wrongly: sparse tensors of
float16 gave NaN for one network and the right outputs for another. So what was written is run.
"""

import pathlib
import warnings

import keras
import tensorflow as tf

from lottery_tf.errors import InputError
from lottery_tf.export import signatures, trials
from lottery_tf.export.options import Options
from lottery_tf.export.served import served, write_assets
from lottery_tf.terminal import quiet

FILE = "model.tflite"
# How far an output may be from the model's, in parts of the largest one: beyond, it is wrong.
TOLERANCE = {"none": 1e-4, "float16": 1e-2, "int8": 0.5}
CALIBRATION = 500  # examples at most


def write(model: keras.Model, directory: pathlib.Path, options: Options) -> None:
    """Writes model.tflite, with the signature `serving_default` and any batch size.

    Args:
        model: a plain Keras model.
        directory: where to write.
        options: Options. Weights of rank 2 or 4 with at least 30% zeros are stored sparsely,
            unless `dense`. int8 needs `calibration`.

    Raises:
        InputError: LiteRT has not what the model does, its runtime refuses what was written, or
            it gives other outputs than the model.
    """
    inputs = options.calibration() if options.calibration else None
    if options.quantize == "int8" and not inputs:
        raise InputError("--quantize=int8 needs training inputs to calibrate on. Received none.")
    network = served(model, options)
    _convert(network, directory / FILE, options, inputs)
    write_assets(directory, options)
    kind = f"weights {'dense' if options.dense else 'sparse'}"
    kind += "" if options.quantize == "none" else f" and {options.quantize}"
    advice = "" if options.dense else " Add --dense."
    inputs = inputs or signatures.random_inputs(model, trials.EXAMPLES)
    trials.check("litert", network, directory, inputs, tolerance=TOLERANCE[options.quantize],
                 kind=kind, advice=advice)  # fmt: skip


def _convert(network, path, options, inputs):
    """Writes the file; InputError with what the converter says if it fails."""
    settings = {"optimizations": []}
    if not options.dense:
        settings["optimizations"].append(tf.lite.Optimize.EXPERIMENTAL_SPARSITY)
    if options.quantize != "none":
        settings["optimizations"].append(tf.lite.Optimize.DEFAULT)
    if options.quantize == "float16":
        settings["target_spec"] = {"supported_types": [tf.float16]}
    if options.quantize == "int8":
        settings["representative_dataset"] = lambda: _one_by_one(inputs)
    failure = None
    with warnings.catch_warnings(), quiet.hold_back_stderr():
        warnings.simplefilter("ignore")  # calibration runs an interpreter that is deprecated
        try:
            network.export(str(path), format="litert", verbose=False, **settings)
        except Exception as error:  # whatever the converter raises
            failure = error  # what was held back stays so
    if failure:
        reason = " ".join(str(failure).split())[:300] or type(failure).__name__
        raise InputError(f"--format=litert cannot hold {network.name}: {reason}") from failure


def _one_by_one(inputs):
    """A dictionary of a batch of one for each of the first examples."""
    count = min(CALIBRATION, *(len(array) for array in inputs.values()))
    for index in range(count):
        yield {name: array[index : index + 1] for name, array in inputs.items()}
