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
from imagewright.errors import ImagewrightError, Reason
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


def test_limits_of_patterns_are_named() -> None:
    with pytest.raises(ImagewrightError, match="5001 characters, the limit is 4096") as caught:
        glob.compiled("*" + "a" * 5000)
    assert caught.value.reason is Reason.LIMIT_EXCEEDED
    with pytest.raises(ImagewrightError, match="longer than 4096 characters"):
        IgnorePatterns.parse("*" + "a" * 5000)
    assert IgnorePatterns.parse("a\n" * 10_000).ignores("a")
    with pytest.raises(ImagewrightError, match="too many patterns: the limit is 10000") as caught:
        IgnorePatterns.parse("a\n" * 10_001)
    assert caught.value.reason is Reason.LIMIT_EXCEEDED


def test_nothing_after_a_quote_that_is_not_closed_is_believed() -> None:
    assert parse_challenges('Bearer service=a,realm="https://a.test, Basic x=y') == {"bearer": {"service": "a"}}
