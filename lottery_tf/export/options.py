"""What a format's function gets beside the model."""

import dataclasses
from collections.abc import Callable, Mapping

from lottery_tf.pruning import Array

QUANTIZE = ("none", "float16", "int8")


@dataclasses.dataclass(frozen=True)
class Options:
    """How to write an export.

    Args:
        quantize: one of QUANTIZE: the type of stored weights; int8 is of activations, too.
        dense: store every weight, also those that are pruned.
        calibration: gives the raw inputs to calibrate int8 on, {input: (examples, …)}, or None.
        assets: {file name: text} to go with the model.
        images: whether the model takes raw `images` and gives logits.
        crop_to: height and width to which images of any size are cropped, or 0; a format that
            cannot crop takes images of the model's size.
    """

    quantize: str = "none"
    dense: bool = False
    calibration: Callable[[], Mapping[str, Array] | None] | None = None
    assets: Mapping[str, str] = dataclasses.field(default_factory=dict)
    images: bool = False
    crop_to: int = 0
