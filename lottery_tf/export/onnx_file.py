"""ONNX, by way of tf2onnx; every weight is stored, as ONNX Runtime has no sparse products."""

import functools
import logging
import pathlib
from typing import Any

import keras
import numpy as np

from lottery_tf.export import converted, signatures
from lottery_tf.export.formats import Options
from lottery_tf.export.runner import Call
from lottery_tf.terminal import quiet

TOLERANCE = 1e-4  # of the largest output


def write(model: keras.Model, directory: pathlib.Path, options: Options) -> None:
    """Write model.onnx, with the names of signatures.py and any batch size."""
    network = signatures.served(model, options)
    network(network.inputs)  # Keras exports a model that was called once
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    with quiet.environment_kept("TF_CPP_MIN_LOG_LEVEL"):  # which tf2onnx sets
        _support_erfc()
        logger.setLevel(logging.CRITICAL)  # its errors come back as exceptions
        try:
            converted.convert("onnx", network, directory / "model.onnx")
        finally:
            logger.setLevel(level)
    signatures.write_assets(directory, options)
    inputs = signatures.random_inputs(model, converted.EXAMPLES)
    converted.check("onnx", network, directory, inputs, tolerance=TOLERANCE)


def load(directory: str) -> Call:
    """Return the session's function. It runs alone, where this package cannot be imported."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        f"{directory}/model.onnx", providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


@functools.cache
def _support_erfc() -> None:
    """Tell tf2onnx of the one operation of transformers that it lacks: erfc, of the exact GELU."""
    from tf2onnx import utils
    from tf2onnx.handler import tf_op

    @tf_op("Erfc")
    class _Erfc:
        @classmethod
        def version_9(cls, graph: Any, node: Any, **kwargs: Any) -> None:
            """Add 1 - erf(x), in the type of x."""
            (output,), dtype = node.output, graph.get_dtype(node.output[0])
            erf = graph.make_node("Erf", node.input)
            one = graph.make_const(
                utils.make_name("one"), np.array(1, utils.map_onnx_to_numpy_type(dtype))
            )
            shapes, dtypes = node.output_shapes, node.output_dtypes
            graph.remove_node(node.name)
            inputs = [one.output[0], erf.output[0]]
            graph.make_node("Sub", inputs, outputs=[output], shapes=shapes, dtypes=dtypes)
