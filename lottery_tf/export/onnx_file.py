"""ONNX, by way of tf2onnx; every weight is stored, as ONNX Runtime has no sparse products."""

import functools
import logging
import pathlib
import warnings
from typing import Any

import keras

from lottery_tf.errors import InputError
from lottery_tf.export import signatures, trials
from lottery_tf.export.options import Options
from lottery_tf.export.served import served, write_assets
from lottery_tf.terminal import quiet

TOLERANCE = 1e-4  # of the largest output


def write(model: keras.Model, directory: pathlib.Path, options: Options) -> None:
    """Writes model.onnx, with the names of Options and any batch size.

    Args:
        model: a plain Keras model.
        directory: where to write.
        options: Options; their assets lie beside the file.

    Raises:
        InputError: the converter does not have what the model does, ONNX Runtime refuses what was
            written, or it gives other outputs than the model.
    """
    network = served(model, options)
    network(network.inputs)  # Keras exports what was called once
    _convert(network, directory / "model.onnx")
    write_assets(directory, options)
    inputs = signatures.random_inputs(model, trials.EXAMPLES)
    trials.check("onnx", network, directory, inputs, tolerance=TOLERANCE)


def _convert(network, path):
    """Writes the file; InputError with what the converter says if it fails."""
    with quiet.environment_kept("TF_CPP_MIN_LOG_LEVEL"):  # which tf2onnx sets
        _converted(network, path)


def _converted(network, path):
    _support_erfc()
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # the trial says what it logs
    failure = None
    with warnings.catch_warnings(), quiet.hold_back_stderr():
        warnings.simplefilter("ignore")  # Keras's patch of tf2onnx, on NumPy's former names
        try:
            network.export(path, format="onnx", verbose=False)
        except Exception as error:  # whatever the converter raises
            failure = error  # what was held back stays so
        finally:
            logger.setLevel(level)
    if failure:
        reason = " ".join(str(failure).split())[:300] or type(failure).__name__
        raise InputError(f"--format=onnx cannot hold {network.name}: {reason}") from failure


@functools.cache
def _support_erfc():
    """Tells tf2onnx of the one operation of transformers that it lacks: erfc, of the exact GELU."""
    import numpy as np
    from tf2onnx import utils
    from tf2onnx.handler import tf_op

    @tf_op("Erfc")
    class _Erfc:
        @classmethod
        def version_9(cls, graph: Any, node: Any, **kwargs: Any) -> None:
            """1 - erf(x), in the type of x."""
            (output,), dtype = node.output, graph.get_dtype(node.output[0])
            erf = graph.make_node("Erf", node.input)
            one = graph.make_const(
                utils.make_name("one"), np.array(1, utils.map_onnx_to_numpy_type(dtype))
            )
            shapes, dtypes = node.output_shapes, node.output_dtypes
            graph.remove_node(node.name)
            inputs = [one.output[0], erf.output[0]]
            graph.make_node("Sub", inputs, outputs=[output], shapes=shapes, dtypes=dtypes)
