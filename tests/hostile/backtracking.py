"""Counts the steps of a backtracking matcher, as Python's ``re`` is one, which doesn't tell how many it takes.

No I/O. Understands what the project's expressions use; anything else is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from re import _constants as c  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

Then = Callable[[int], bool]
_ONE = (c.LITERAL, c.NOT_LITERAL, c.ANY, c.IN)
_CATEGORIES: dict[Any, Callable[[str], bool]] = {
    c.CATEGORY_DIGIT: str.isdecimal,
    c.CATEGORY_SPACE: str.isspace,
    c.CATEGORY_WORD: lambda char: char.isalnum() or char == "_",
    c.CATEGORY_NOT_SPACE: lambda char: not char.isspace(),
}
_SAMPLES = {c.CATEGORY_DIGIT: "1", c.CATEGORY_SPACE: " ", c.CATEGORY_WORD: "a", c.CATEGORY_NOT_SPACE: "x"}


class Counted:
    """An expression whose steps are counted in ``steps``."""

    def __init__(self, pattern: re.Pattern[Any]) -> None:
        text = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
        self.items: Sequence[Any] = list(_parser.parse(text, pattern.flags & ~re.UNICODE))
        self._flags = pattern.flags
        self._text = ""
        self.steps = 0

    def every(self, text: str) -> None:
        """All matches that don't overlap, as ``sub`` and ``finditer`` look for them."""
        at = 0
        while at <= len(text):
            end = next((end for start in range(at, len(text) + 1) if (end := self._end(text, start)) >= 0), -1)
            if end < 0:
                return
            at = max(end, at + 1)

    def match(self, text: str) -> None:
        self._end(text, 0)

    def fullmatch(self, text: str) -> None:
        self._text = text
        self._sequence(self.items, 0, 0, lambda end: end == len(text))

    def _end(self, text: str, start: int) -> int:
        self._text = text
        ends: list[int] = []
        return ends[0] if self._sequence(self.items, 0, start, lambda end: not ends.append(end)) else -1  # type: ignore[func-returns-value]

    def _sequence(self, items: Sequence[Any], index: int, at: int, then: Then) -> bool:
        self.steps += 1
        if index == len(items):
            return then(at)
        operator, value = items[index]

        def rest(end: int) -> bool:
            return self._sequence(items, index + 1, end, then)

        if operator in _ONE:
            return self._one(operator, value, at) and rest(at + 1)
        if operator is c.AT:
            return self._at(value, at) and rest(at)
        if operator is c.SUBPATTERN:
            return self._sequence(value[3], 0, at, rest)
        if operator is c.BRANCH:
            return any(self._sequence(branch, 0, at, rest) for branch in value[1])
        if operator in (c.ASSERT, c.ASSERT_NOT):
            start = at - (value[1].getwidth()[0] if value[0] < 0 else 0)
            found = start >= 0 and self._sequence(value[1], 0, start, lambda end: value[0] > 0 or end == at)
            return found is (operator is c.ASSERT) and rest(at)
        assert operator in (c.MAX_REPEAT, c.MIN_REPEAT), operator
        return self._repeat(value, at, rest, greedy=operator is c.MAX_REPEAT)

    def _repeat(self, value: Any, at: int, rest: Then, *, greedy: bool) -> bool:
        least, most, inner = value
        if len(inner) == 1 and inner[0][0] in _ONE:
            operator, of = inner[0]
            count = 0
            while count < most and self._one(operator, of, at + count):
                count += 1
            lengths = range(count, least - 1, -1) if greedy else range(least, count + 1)
            return any(rest(at + length) for length in lengths)

        def more(position: int, count: int) -> Iterator[bool]:
            if count < most:
                yield self._sequence(
                    inner, 0, position, lambda end: end != position and any(more(end, count + 1))
                )  # fmt: skip
            if count >= least:
                yield rest(position)

        return any(more(at, 0))

    def _one(self, operator: Any, value: Any, at: int) -> bool:
        self.steps += 1
        if at >= len(self._text):
            return False
        char = self._text[at]
        if operator is c.ANY:
            return char != "\n" or bool(self._flags & re.DOTALL)
        if operator is not c.IN:
            return self._same(char, chr(value)) is (operator is c.LITERAL)
        negated = value[0][0] is c.NEGATE
        return any(self._in(each, char) for each in value[negated:]) is not negated

    def _in(self, each: Any, char: str) -> bool:
        operator, value = each
        if operator is c.LITERAL:
            return self._same(char, chr(value))
        if operator is c.RANGE:
            return bool(value[0] <= ord(char) <= value[1])
        return bool(_CATEGORIES[value](char))

    def _same(self, one: str, other: str) -> bool:
        return one.lower() == other.lower() if self._flags & re.IGNORECASE else one == other

    def _at(self, place: Any, at: int) -> bool:
        before, after = self._text[at - 1 : at], self._text[at : at + 1]
        if place is c.AT_BOUNDARY:
            return (before.isalnum() or before == "_") is not (after.isalnum() or after == "_")
        lines = bool(self._flags & re.MULTILINE)
        if place in (c.AT_BEGINNING, c.AT_BEGINNING_STRING):
            return at == 0 or (lines and before == "\n")
        return not after or (lines and after == "\n")


def attacks(items: Sequence[Any], length: int) -> Iterator[str]:
    """Texts of some ``length``: beginnings that match, then one or two characters of the expression repeated."""
    chars = list(dict.fromkeys([*_chars(items), "!"]))[:30]
    units = [*chars, *(one + other for one in chars[:4] for other in chars[:4] if one != other)]
    units += [unit for unit in _alternatives(items) if 0 < len(unit) <= 8]
    flat = list(_flat(items))
    beginnings = [_sample(flat[:index]) for index in range(min(len(flat), 10))]
    for beginning in dict.fromkeys(beginnings):
        for unit in units:
            for end in ("", "\0", "/"):
                yield beginning + unit * (length // len(unit)) + end


def _flat(items: Sequence[Any]) -> Iterator[Any]:
    """The items, and those in groups in their place."""
    for operator, value in items:
        if operator is c.SUBPATTERN:
            yield from _flat(value[3])
        else:
            yield operator, value


def _alternatives(items: Sequence[Any]) -> Iterator[str]:
    for operator, value in items:
        if operator is c.BRANCH:
            for branch in value[1]:
                yield _sample(branch)
                yield from _alternatives(branch)
        elif operator is c.SUBPATTERN:
            yield from _alternatives(value[3])
        elif operator in (c.MAX_REPEAT, c.MIN_REPEAT):
            yield from _alternatives(value[2])


def _chars(items: Sequence[Any]) -> Iterator[str]:
    for operator, value in items:
        if operator is c.LITERAL:
            yield chr(value)
        elif operator is c.ANY:
            yield "x"
        elif operator in (c.IN, c.NOT_LITERAL):
            yield _sample([(operator, value)])
        elif operator is c.SUBPATTERN:
            yield from _chars(value[3])
        elif operator is c.BRANCH:
            for branch in value[1]:
                yield from _chars(branch)
        elif operator in (c.MAX_REPEAT, c.MIN_REPEAT):
            yield from _chars(value[2])


def _sample(items: Sequence[Any]) -> str:
    """A text that the items match, each repeated at most once."""
    found = ""
    for operator, value in items:
        if operator is c.LITERAL:
            found += chr(value)
        elif operator in (c.ANY, c.NOT_LITERAL):
            found += "x"
        elif operator is c.IN:
            first, of = value[0]
            found += (
                "x"
                if first is c.NEGATE
                else chr(of)
                if first is c.LITERAL
                else chr(of[0])
                if first is c.RANGE
                else _SAMPLES[of]
            )
        elif operator is c.SUBPATTERN:
            found += _sample(value[3])
        elif operator is c.BRANCH:
            found += _sample(value[1][0])
        elif operator in (c.MAX_REPEAT, c.MIN_REPEAT):
            found += _sample(value[2]) * max(1, min(value[0], 40))
    return found
