"""How every Markdown file of the checkout is written: lines of at most 120 columns, in plain English."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *ROOT.glob("*.md"),
    *(page for folder in ROOT.glob("[a-z]*/") if folder.name not in ("build", "dist") for page in folder.rglob("*.md")),
]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
WIDTH = 120
ODD_WORDS = re.compile(r"\b(anew|beside|be had|is said|goes by|likewise)\b")


def test_there_are_pages() -> None:
    names = {str(page.relative_to(ROOT)) for page in PAGES}
    assert {"README.md", "CONTRIBUTING.md", "docs/imagebuild.md", "tests/cases/README.md"} <= names


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_lines_fit(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [(number, line) for number, line in enumerate(lines, 1) if len(line) > WIDTH] == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_words_are_those_of_the_field(page: Path) -> None:
    """Each of these is the sign of a sentence to rewrite."""
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [(number, line) for number, line in enumerate(lines, 1) if ODD_WORDS.search(line)] == []
