"""The bounds of setup.cfg are those that CI installs and tests."""

import configparser
import itertools

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.conftest import ROOT

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
TRIED = ("install_requires", "analysis")  # those that .ci/oldest installs


def lines_of(name):
    section = "options" if name == "install_requires" else "options.extras_require"
    return [line for line in SETUP[section][name].splitlines() if line]


def requirements():
    """{name: Requirement} of what .ci/oldest installs, as setup.cfg states it."""
    found = map(Requirement, itertools.chain(*map(lines_of, TRIED)))
    return {canonicalize_name(one.name): one for one in found}


def oldest():
    """({name: version} that setup.cfg names, {name: version} of what these need)."""
    parts = (ROOT / ".ci" / "oldest.txt").read_text().split("\n\n")
    found = [
        {
            canonicalize_name(name): Version(version)
            for name, version in (
                line.split("==") for line in part.splitlines() if line and line[0] != "#"
            )
        }
        for part in parts
    ]
    return found[0], {name: version for part in found[1:] for name, version in part.items()}


def bounds(specifiers, operator):
    return [Version(one.version) for one in specifiers if one.operator == operator]


def test_the_lower_bounds_are_the_oldest_versions_that_are_tested():
    named, others = oldest()
    lower = {name: bounds(one.specifier, ">=") for name, one in requirements().items()}
    assert lower == {name: [version] for name, version in named.items()}
    assert not named.keys() & others.keys()


def test_keras_has_an_upper_bound_for_its_private_names():
    (upper,) = bounds(requirements()["keras"].specifier, "<")
    assert upper <= Version("3.17")


@pytest.mark.parametrize("name", TRIED)
def test_every_bound_says_why(name):
    """A comment stands above each requirement: one that says nothing would not help the next."""
    text = (ROOT / "setup.cfg").read_text().splitlines()
    for line in lines_of(name):
        at = text.index(f"    {line}")
        assert text[at - 1].lstrip().startswith("#"), line


def test_the_oldest_python_is_that_of_the_job():
    (lower,) = bounds(SpecifierSet(SETUP["options"]["python_requires"]), ">=")
    job = (ROOT / ".ci" / "oldest").read_text()
    assert f"for version in {lower} " in job
    classifiers = SETUP["metadata"]["classifiers"]
    assert f"Python :: {lower}" in classifiers
    assert f"Python :: 3.{lower.minor - 1}" not in classifiers
