"""Writes the formats of Keras's exporters: LiteRT, ONNX and OpenVINO.

A converter may write a file that its runtime refuses or computes wrongly, so each file is run at
once.
"""

import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.export import fresh
from lottery_tf.pruning import Array
from lottery_tf.terminal import quiet

EXAMPLES = 64  # number of inputs that a converted model is run on


def convert(name: str, model: keras.Model, path: pathlib.Path, **settings: Any) -> None:
    """Let Keras export a model, as signatures.served returns it; hold back the converter's output.

    Raises:
        InputError: the converter cannot write this model; the message quotes it.
    """
    failure: Exception | None = None
    with warnings.catch_warnings(), quiet.hold_back_stderr():
        warnings.simplefilter("ignore")  # of deprecated parts that the converters use
        try:
            model.export(str(path), format=name, verbose=False, **settings)
        except Exception as error:  # whatever the converter raises
            failure = error  # what was held back stays so
    if failure:
        reason = " ".join(str(failure).split())[:300] or type(failure).__name__
        raise InputError(f"--format={name} cannot hold {model.name}: {reason}") from failure


def check(
    name: str,
    model: keras.Model,
    directory: pathlib.Path,
    inputs: Mapping[str, Array],
    *,
    tolerance: float,
    kind: str = "",
    advice: str = "",
) -> None:
    """Raise InputError if a converted model does not run, or gives other outputs than its model.

    Args:
        name, model: as of `convert`.
        directory: of the export.
        inputs: {input: (examples, …)}, of which the first EXAMPLES are taken.
        tolerance: the largest difference of an output, as a part of its largest value.
        kind, advice: what is special about the export, and what to do, for the message.
    """
    what = f"--format={name}" + (f", {kind}" if kind else "")
    few = {key: array[:EXAMPLES] for key, array in inputs.items()}
    try:
        found = fresh.run(name, directory, few)
    except InputError as error:
        if "Select TensorFlow op" in str(error):  # of LiteRT, whose converter puts them in
            advice = " The model needs operations of TensorFlow that the runtime does not have."
        raise InputError(f"{what}: the runtime refuses the file.{advice} {error}") from None
    for key, array in model.predict_on_batch(list(few.values())).items():
        scale = max(float(np.abs(array).max(initial=0)), 1e-6)
        worst = np.abs(found[key].astype(np.float64) - array).max(initial=0) / scale
        if not worst <= tolerance:  # NaN, too
            raise InputError(
                f"{what}: the runtime's {key} differ from the model's by {worst:.2g} of the "
                f"largest; expected at most {tolerance}.{advice}"
            )
