"""Find lottery tickets by iterative magnitude pruning, in Keras 3 on TensorFlow.

For any Keras model: masked(model) or mask(model), prune(model, fraction), rounds(model, rounds,
fraction), unmasked(model) or unmask(model), apply_masks(model), summary(model). For your own fit,
callbacks: GradualPruning, SparseTraining. For a finished run: load(run_dir, round); for a
published ticket: load_ticket(path).

Modules: lottery_tf.masking, masks and masked layers; lottery_tf.rundir, the reader of a run
directory; lottery_tf.testing, a test for a masked layer of your own; lottery_tf.errors.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lottery_tf.analysis.runs import load
    from lottery_tf.export.published import load_ticket
    from lottery_tf.fit import GradualPruning, SparseTraining, prune, rounds, summary
    from lottery_tf.masking import apply_masks, mask, masked, unmask, unmasked

__version__ = "0.2.0"
__all__ = [
    "GradualPruning",
    "SparseTraining",
    "apply_masks",
    "load",
    "load_ticket",
    "mask",
    "masked",
    "prune",
    "rounds",
    "summary",
    "unmask",
    "unmasked",
]

_MODULE_OF = {
    "GradualPruning": "fit",
    "SparseTraining": "fit",
    "apply_masks": "masking",
    "load": "analysis.runs",
    "load_ticket": "export.published",
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
    # Attributes are imported when they are first used: the readers of run directories and the
    # tools on files need no Keras.
    if name in _MODULE_OF:
        found = getattr(importlib.import_module(f"lottery_tf.{_MODULE_OF[name]}"), name)
    elif name in _MODULES:
        found = importlib.import_module(f"lottery_tf.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _register_layers()
    return found


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES, *(name for name in globals() if name.startswith("__"))})


def _register_layers() -> None:
    """If Keras is imported, import the layers that saved models name, which registers them.

    Keras imports no module that a file names but its own, so classes must be registered before
    `load_model`. A program that imports Keras after this package, and loads a model before it uses
    the package, gets Keras's error, which names the import that is missing.
    """
    if "keras" in sys.modules:
        importlib.import_module("lottery_tf.masking")
        if sys.modules.get("tensorflow"):  # the layers of this package's own networks need it
            importlib.import_module("lottery_tf.models.layers")


_register_layers()
