"""The pages that people read: links that lead somewhere, and a flags page that follows the code."""

import re

import pytest

from lottery_tf.errors import InputError
from tests.conftest import ROOT
from tools import make_reference

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "data" / "README.md"])


def anchors(text):
    """What GitHub names the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.S), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(text):
    """The targets of Markdown links and pictures, outside code."""
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.S))


def test_links_and_anchors_of_a_text():
    assert links("[a](b.md#c) `[no](x)` ![p](q.png)\n```\n[no](y)\n```") == ["b.md#c", "q.png"]
    assert anchors("# Why `x`, y?\n## A - b\n```\n# no\n```") == {"why-x-y", "a---b"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page):
    for link in links(page.read_text()):
        if link.startswith(("https://", "mailto:")):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        assert path.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(path.read_text()), link


def test_every_file_of_the_docs_is_linked():
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in PAGES
        for link in links(page.read_text())
    }
    shown = {path for path in (ROOT / "docs").rglob("*") if path.is_file()}
    assert not shown - linked


@pytest.mark.ci
@pytest.mark.parametrize("page", make_reference.PAGES)
def test_the_reference_follows_the_code(page):
    written = (ROOT / "docs" / "reference" / page).read_text()
    assert written == make_reference.PAGES[page](), "run python -m tools.make_reference"


def test_an_output_without_a_description_is_refused():
    described = {"round_{NN}/final.npz": "weights", "tensorboard/events.{…}": "curves"}
    make_reference.check_described(["round_03/final.npz", "tensorboard/events.1.a"], described)
    with pytest.raises(InputError, match=r"no description of round_03/other\.npz"):
        make_reference.check_described(["round_03/other.npz"], described)


def test_the_picture_of_the_rooms_has_them_all():
    shown = re.findall(r"<title>\.(\w+)</title>", (ROOT / "docs/architecture.svg").read_text())
    there = [path.parent.name for path in (ROOT / "lottery_tf").glob("*/__init__.py")]
    assert set(there) <= set(shown)
    assert set(shown) <= {path.stem for path in (ROOT / "lottery_tf").iterdir()}
