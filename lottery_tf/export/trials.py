"""Runs what a converter wrote: some of it is refused by its runtime, or computed wrongly."""

import pathlib
from collections.abc import Mapping

import keras
import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.export import fresh
from lottery_tf.pruning import Array

EXAMPLES = 64


def check(name: str, network: keras.Model, directory: pathlib.Path, inputs: Mapping[str, Array], *,
          tolerance: float, kind: str = "", advice: str = "") -> None:  # fmt: skip
    """Compares an export, in a fresh process, with the served model that it was made of.

    Args:
        name: a key of formats.FORMATS.
        network: as served.served gives it.
        directory: of the export.
        inputs: {input: (examples, …)}, of which the first EXAMPLES are taken.
        tolerance: how far an output may be from the model's, in parts of the largest one.
        kind: what is special about the export, for the message.
        advice: what to do.

    Raises:
        InputError: it does not load or run, or gives other outputs.
    """
    what = f"--format={name}" + (f", {kind}" if kind else "")
    few = {key: array[:EXAMPLES] for key, array in inputs.items()}
    try:
        found = fresh.run(name, directory, few)
    except InputError as error:
        if "Select TensorFlow op" in str(error):  # of LiteRT, whose converter puts them in
            advice = " The model needs operations of TensorFlow that the runtime does not have."
        raise InputError(f"{what}: the runtime refuses what was written.{advice} {error}") from None
    expected = network.predict_on_batch(list(few.values()))
    for key, array in expected.items():
        scale = max(float(np.abs(array).max(initial=0)), 1e-6)
        worst = np.abs(found[key].astype(np.float64) - array).max(initial=0) / scale
        if not worst <= tolerance:  # NaN, too
            raise InputError(
                f"{what}: the runtime gives other {key} than the model, by {worst:.2g} of the "
                f"largest; expected at most {tolerance}.{advice}"
            )
