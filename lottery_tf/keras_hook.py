"""Tells Keras the layers that saved models may ask for, as soon as Keras is there.

Keras imports no module that a file names but its own, so a class must be known before. This
module imports nothing: who only reads runs needs no Keras.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

# When the first has been imported, the second is imported too: its layers register themselves.
# Those of the models compute with TensorFlow.
THEN = {"keras": "lottery_tf.masking", "lottery_tf.masking": "lottery_tf.models.layers"}
NEEDS = {"lottery_tf.masking": "keras", "lottery_tf.models.layers": "tensorflow"}


class ThenImport(importlib.abc.MetaPathFinder):
    """Finds the modules of THEN as others do, and lets them be followed by their second ones."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in THEN:
            return None
        others = [finder for finder in sys.meta_path if not isinstance(finder, ThenImport)]
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next(filter(None, found), None)
        if spec and spec.loader:
            loader: Any = spec.loader
            execute = loader.exec_module

            def execute_both(module: ModuleType) -> None:
                execute(module)
                follow(name)

            loader.exec_module = execute_both
        return spec


def follow(name: str) -> None:
    """Imports what comes after a module, if that is not being imported already."""
    then = THEN[name]
    if sys.modules.get(NEEDS[then]) and then not in sys.modules:
        importlib.import_module(then)


def install() -> None:
    """Lets the layers be known from now on, or from when Keras is imported."""
    if not any(isinstance(finder, ThenImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, ThenImport())
    follow("keras")
