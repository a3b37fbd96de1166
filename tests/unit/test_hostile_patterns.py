"""Patterns and headers of hostile files and servers are matched in time linear in their length."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile.work import lines, peak_bytes, written

from imagewright.dockerfile.expand import expand
from imagewright.dockerfile.ignore import IgnorePatterns
from imagewright.errors import ImagewrightError
from imagewright.fs.copy import glob
from imagewright.registry.challenges import parse_challenges

ENTRIES = json.loads((Path(__file__).parents[1] / "hostile" / "patterns.json").read_text())
LINES = 40  # per character of pattern and text
BYTES = 3000


def _ignore(pattern: str, text: str) -> None:
    patterns = IgnorePatterns.parse(pattern)
    patterns.ignores(text)
    patterns.may_include_below(text)


KINDS: dict[str, Callable[[str, str], object]] = {
    "ignore": _ignore,
    "glob": lambda pattern, text: glob.compiled.__wrapped__(pattern).fullmatch(text),
    "expand": lambda pattern, text: expand(pattern, {"a": text}),
    "challenge": lambda pattern, _: parse_challenges(pattern),
}


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry["name"] for entry in ENTRIES])
def test_work_grows_with_the_length(entry: dict[str, Any]) -> None:
    pattern, text = written(entry["pattern"]), written(entry.get("text", ""))
    size = len(pattern) + len(text)

    def match() -> None:
        with contextlib.suppress(ImagewrightError):
            KINDS[entry["kind"]](pattern, text)

    assert lines(match, LINES * size) > 0
    assert peak_bytes(match) < BYTES * size
