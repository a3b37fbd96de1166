"""Every directory next to this file is a case: what is planned, as data. README.md describes the format.

``IMAGEWRIGHT_RECORD=1`` rewrites plan.txt and error.txt: read what changed before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from peers.case import Case

from imagewright.errors import ImagewrightError
from imagewright.lint.report import human
from imagewright.lint.rules import RULES
from imagewright.plan.render import render

_HERE = Path(__file__).parent
_CASES = sorted(path.parent for path in _HERE.glob("*/case.toml"))
_RECORD = os.environ.get("IMAGEWRIGHT_RECORD") == "1"
_PLANNED = ("plan.txt", "error.txt")


def _outcome(folder: Path) -> tuple[str, str]:
    """The name of the file that the outcome belongs into, and the outcome."""
    try:
        return "plan.txt", render(Case(folder).plan()[0], values=True)
    except ImagewrightError as error:
        return "error.txt", error.render() + "\n"


@pytest.mark.parametrize("folder", _CASES, ids=lambda path: path.name)
def test_case(folder: Path) -> None:
    name, text = _outcome(folder)
    if _RECORD:
        for other in _PLANNED:
            (folder / other).unlink(missing_ok=True)
        (folder / name).write_text(text)
    expected = {other: (folder / other).read_text() for other in _PLANNED if (folder / other).exists()}
    assert {name: text} == expected


@pytest.mark.parametrize("folder", [f for f in _CASES if f.name.startswith("lint-")], ids=lambda path: path.name)
def test_lint(folder: Path) -> None:
    """The warnings of a case, as ``imagewright lint`` shows them."""
    file = folder / "lint.txt"
    text = human(Case(folder).lint())
    if _RECORD:
        file.write_text(text)
    assert file.read_text() == text


def test_every_rule_has_a_case_that_breaks_it_and_one_that_does_not() -> None:
    for rule in RULES:
        if rule.name == "InvalidBaseImagePlatform":
            continue  # the images of cases are always of the right platform: tests/unit/test_plan_resolve.py has it
        bad, good = ((_HERE / f"lint-{rule.slug}-{kind}" / "lint.txt").read_text() for kind in ("bad", "good"))
        assert rule.name in bad
        assert rule.name not in good


def test_every_folder_is_a_case_that_says_what_it_shows() -> None:
    folders = [path for path in _HERE.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert sorted(folders) == _CASES
    for folder in folders:
        case = Case(folder)
        assert case.table["about"].endswith("."), folder.name
        assert case.expected("result.txt") or case.expected("error.txt") or case.not_executed, folder.name
    assert len(folders) >= 250
