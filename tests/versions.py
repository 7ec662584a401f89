"""Tests of what only newer versions of the dependencies have begin at that version."""

import importlib.metadata

import pytest
from packaging.version import Version


def since(package: str, version: str, reason: str) -> pytest.MarkDecorator:
    """Return a mark that skips a test where an older version of a package is installed."""
    found = Version(importlib.metadata.version(package))
    return pytest.mark.skipif(found < Version(version), reason=f"{package} {found}: {reason}")
