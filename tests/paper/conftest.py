import pytest

from tests.conftest import ROOT
from tests.made_figures import part_of_figure_1


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)  # where flags/ is


@pytest.fixture
def figure_1(tmp_path):
    return part_of_figure_1(tmp_path)
