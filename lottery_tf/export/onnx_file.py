"""Writes ONNX by tf2onnx. Every weight is stored, because ONNX Runtime has no sparse products."""

import contextlib
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
OPSET = 18  # the newest that tf2onnx writes


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
            converted.convert("onnx", network, directory / "model.onnx", opset_version=OPSET)
        finally:
            logger.setLevel(level)
    _finish(network, directory / "model.onnx", options)
    signatures.write_assets(directory, options)
    inputs = signatures.random_inputs(model, converted.EXAMPLES)
    converted.check("onnx", network, directory, inputs, tolerance=TOLERANCE)


def load(directory: str) -> Call:
    """Return the session's function. It runs where this package cannot be imported."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        f"{directory}/model.onnx", providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def _finish(network: keras.Model, path: pathlib.Path, options: Options) -> None:
    """Name the axes of inputs and outputs, add metadata, and convert to the newest opset."""
    import onnx

    model = onnx.load(path)
    with contextlib.suppress(Exception):  # it does not know how to convert some operation
        model = onnx.version_converter.convert_version(model, newest_opset())
        needed = onnx.helper.find_min_ir_version_for(list(model.opset_import), True)
        model.ir_version = max(model.ir_version, needed)
    for value in (*model.graph.input, *model.graph.output):
        for place, axis in enumerate(value.type.tensor_type.shape.dim):
            if not axis.HasField("dim_value"):
                axis.dim_param = f"{value.name}_{place}" if place else "batch"
    model.graph.name = network.name
    named = {f"lottery_tf.{name}": text.strip() for name, text in options.assets.items()}
    normalised = {"lottery_tf.normalisation": options.normalisation} if options.images else {}
    onnx.helper.set_model_props(model, named | normalised)
    onnx.save(model, path)


@functools.cache
def newest_opset() -> int:
    """Return the newest opset that both the installed onnx and ONNX Runtime know."""
    import onnx
    import onnxruntime

    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    other = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "identity", [value], [other])
    for opset in range(onnx.defs.onnx_opset_version(), OPSET, -1):
        imports = [onnx.helper.make_opsetid("", opset)]
        model = onnx.helper.make_model(graph, opset_imports=imports)
        with contextlib.suppress(Exception):  # whatever the runtime raises for a newer one
            onnxruntime.InferenceSession(
                model.SerializeToString(), providers=["CPUExecutionProvider"]
            )
            return opset
    return OPSET


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
