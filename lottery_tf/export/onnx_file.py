"""ONNX, by way of tf2onnx; every weight is stored, as ONNX Runtime has no sparse products."""

import pathlib
import warnings

import keras

from lottery_tf.errors import InputError
from lottery_tf.export.options import Options
from lottery_tf.export.served import served, write_assets
from lottery_tf.terminal import quiet


def write(model: keras.Model, directory: pathlib.Path, options: Options) -> None:
    """Writes model.onnx, with the names of Options and any batch size.

    Args:
        model: a plain Keras model.
        directory: where to write.
        options: Options; their assets lie beside the file.

    Raises:
        InputError: ONNX, or its converter, does not have what the model does.
    """
    network = served(model, options)
    network(network.inputs)  # Keras exports what was called once
    with warnings.catch_warnings(), quiet.hold_back_stderr():
        warnings.simplefilter("ignore")  # Keras's patch of tf2onnx, on NumPy's former names
        try:
            network.export(directory / "model.onnx", format="onnx", verbose=False)
        except Exception as error:  # whatever the converter raises
            failure = " ".join(str(error).split())[:300]
        else:
            failure = ""
    if failure:
        raise InputError(f"--format=onnx cannot hold {model.name}: {failure}")
    write_assets(directory, options)
