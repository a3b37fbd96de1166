"""Each promise of docs/security.md names tests that show it, and they exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
PROMISES = re.findall(r"^\| (\d+) \| [^|]+: [^|]+ \|.*\|$", PAGE, re.MULTILINE)
SHOWN = re.findall(r"^\| (\d+) \| `([^`]+)` \| `([^`]+)` \|$", PAGE, re.MULTILINE)


def test_every_promise_is_shown_by_a_test() -> None:
    assert [int(number) for number in PROMISES] == list(range(1, len(PROMISES) + 1))
    assert len(PROMISES) > 10
    assert {number for number, _, _ in SHOWN} == set(PROMISES)


@pytest.mark.parametrize(("number", "file", "name"), SHOWN)
def test_the_test_of_a_promise_exists(number: str, file: str, name: str) -> None:
    assert re.search(rf"^ *def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
