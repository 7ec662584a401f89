"""Lottery tickets by iterative magnitude pruning, in Keras 3 on TensorFlow.

For any Keras model: masked(model) or mask(model), prune(model, fraction), rounds(model, rounds,
fraction), unmasked(model) or unmask(model), apply_masks(model), summary(model). Of a finished run:
load(run_dir, round).

Modules: lottery_tf.masking, masks and masked layers; lottery_tf.rundir, the reader of a run
directory; lottery_tf.testing, a test of a masked layer of your own; lottery_tf.errors.
"""

import importlib
from typing import TYPE_CHECKING, Any

from lottery_tf import keras_hook

if TYPE_CHECKING:
    from lottery_tf.analysis.runs import load
    from lottery_tf.fit import prune, rounds, summary
    from lottery_tf.masking import apply_masks, mask, masked, unmask, unmasked

__version__ = "0.1.0"
__all__ = [
    "apply_masks",
    "load",
    "mask",
    "masked",
    "prune",
    "rounds",
    "summary",
    "unmask",
    "unmasked",
]

_ROOMS = {
    "apply_masks": "masking",
    "load": "analysis.runs",
    "mask": "masking",
    "masked": "masking",
    "prune": "fit",
    "rounds": "fit",
    "summary": "fit",
    "unmask": "masking",
    "unmasked": "masking",
}
_MODULES = ("errors", "masking", "rundir", "testing")


def __getattr__(name: str) -> Any:
    # Only who asks for these needs Keras: method, rundir and the tools on files do without.
    if name in _ROOMS:
        return getattr(importlib.import_module(f"lottery_tf.{_ROOMS[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"lottery_tf.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES, *(name for name in globals() if name.startswith("__"))})


keras_hook.install()
