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
    with pytest.raises(ImagewrightError, match="longer than 4096 characters") as caught:
        IgnorePatterns.parse("*" + "a" * 5000)
    assert caught.value.reason is Reason.LIMIT_EXCEEDED
    assert IgnorePatterns.parse("a\n" * 10_000).ignores("a")
    with pytest.raises(ImagewrightError, match="too many patterns: the limit is 10000") as caught:
        IgnorePatterns.parse("a\n" * 10_001)
    assert caught.value.reason is Reason.LIMIT_EXCEEDED


@pytest.mark.parametrize("kind", ["ignore", "glob", "expand"])
def test_many_different_characters_are_refused_by_name(kind: str) -> None:
    """Memory would grow with the number of them times the length of the pattern."""
    wrap = "${a#*%s}" if kind == "expand" else "*%s"
    letters = [chr(0x4E00 + 2 * number) for number in range(120)]
    KINDS[kind](wrap % "".join(letters), "text")
    with pytest.raises(Exception, match="too many different characters: the limit is 128") as caught:
        KINDS[kind](wrap % "".join(map(chr, range(0x4E00, 0x5000))), "text")
    assert getattr(caught.value, "reason", None) is Reason.LIMIT_EXCEEDED


def test_plain_text_may_have_any_characters() -> None:
    text = "".join(map(chr, range(0x4E00, 0x5000)))
    assert expand("${a#$b}|${a##$b}|${a%$b}|${a//$b/x}", {"a": text, "b": text}).text == "|||x"


def test_the_wildcards_of_an_ignore_file_are_limited_together() -> None:
    """Memory is in proportion to the length of a pattern, also while it is parsed."""
    letters = "*" + "".join(chr(0x4E00 + 2 * number) for number in range(120))
    assert peak_bytes(lambda: IgnorePatterns.parse((letters * 40)[:4000])) < 4000 * 400
    whole = "**" + "x" * 4000
    IgnorePatterns.parse("\n".join([whole] * 262 + ["plain" * 700] * 100))
    with pytest.raises(ImagewrightError, match="patterns with wildcards have more than 1048576 characters") as caught:
        IgnorePatterns.parse("\n".join([whole] * 263))
    assert caught.value.reason is Reason.LIMIT_EXCEEDED


def test_nothing_after_a_quote_that_is_not_closed_is_believed() -> None:
    assert parse_challenges('Bearer service=a,realm="https://a.test, Basic x=y') == {"bearer": {"service": "a"}}
