"""Writes OpenVINO's intermediate representation. Every weight is stored; the runtime decides."""

import pathlib

import keras

from lottery_tf.export import converted, signatures
from lottery_tf.export.formats import Options
from lottery_tf.export.runner import Call

TOLERANCE = 1e-4  # of the largest output


def write(model: keras.Model, directory: pathlib.Path, options: Options) -> None:
    """Write model.xml and model.bin, with the names of signatures.py and any batch size."""
    network = signatures.served(model, options)
    converted.convert("openvino", network, directory / "model.xml")
    signatures.write_assets(directory, options)
    inputs = signatures.random_inputs(model, converted.EXAMPLES)
    converted.check("openvino", network, directory, inputs, tolerance=TOLERANCE)


def load(directory: str) -> Call:
    """Return the compiled model. It runs where this package cannot be imported."""
    import openvino

    # Without it, a CPU that has bfloat16 computes in it.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(f"{directory}/model.xml", "CPU", exact)

    def call(inputs: dict) -> dict:
        # An output has a second name, of TensorFlow's operation.
        found = compiled(inputs).items()
        return {name: array for port, array in found for name in port.names}

    return call
