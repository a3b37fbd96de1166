"""The patterns of ``${name#…}``, ``${name%…}`` and ``${name/…}``: ``*``, ``?`` and escapes, in linear time.

No I/O. Results are those of BuildKit, which translates a pattern to Go's regular expressions. So no wildcard matches a
line feed, and where all matches are replaced, ``$0`` in the replacement is the match, and other references are empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from imagewright import wildcards
from imagewright.errors import Reason
from imagewright.wildcards import Item, Kind, Ranges, Wildcards

_SPECIAL = frozenset("*?\\")
_NO_LINE_FEED: Ranges = (("\0", "\t"), ("\x0b", "\U0010ffff"))  # "." of Go's regular expressions
_REFERENCE = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})")


class PatternError(Exception):
    """The pattern is invalid, or too large (``LimitExceeded``); the message says why, and has no location."""

    def __init__(self, message: str, *, reason: Reason | None = None) -> None:
        super().__init__(message)
        self.reason = reason


def trim(value: str, word: str, operator: str) -> str:
    """``value`` without a matching beginning (``#``) or end (``%``): the shortest, doubled in ``word`` the longest.

    Raises:
        PatternError
    """
    greedy = word.startswith(operator)
    pattern = word[1:] if greedy else word
    items = _items(pattern)
    from_end = operator == "%"
    if _SPECIAL.isdisjoint(pattern):
        return value.removesuffix(pattern) if from_end else value.removeprefix(pattern)
    ends = _compiled(items[::-1]).ends(value[::-1]) if from_end else _compiled(items).ends(value)
    length = max(ends, default=0) if greedy else next(ends, 0)
    return value[: len(value) - length] if from_end else value[length:]


def replacements(value: str, pattern: str, replacement: str, *, everywhere: bool) -> Iterator[str]:
    """The pieces of ``value`` with the first match replaced, or all of them; the longest of those that begin first.

    Raises:
        PatternError
    """
    parts = _template(replacement) if everywhere else [replacement]
    items = _items(pattern)
    if pattern and _SPECIAL.isdisjoint(pattern):
        plain = pattern.join(parts)
        return _joined(value.split(pattern, -1 if everywhere else 1), plain)
    found = _compiled(items)
    # Backwards, the matches end where they begin.
    starts = [len(value) - end for end in _compiled(items[::-1]).ends_anywhere(value[::-1])]
    return _pieces(value, parts, _matches(value, found, reversed(starts), everywhere=everywhere))


def _matches(value: str, pattern: Wildcards, starts: Iterator[int], *, everywhere: bool) -> Iterator[tuple[int, int]]:
    """Matches that don't overlap, and no empty one right after another (as Go's ReplaceAllString)."""
    previous = -1
    for start in starts:
        if start < previous:
            continue
        end = max(pattern.ends(value, start))
        if end > start or start > previous:
            yield start, end
            previous = end
            if not everywhere:
                return


def _joined(parts: list[str], plain: str) -> Iterator[str]:
    yield parts[0]
    for part in parts[1:]:
        yield plain
        yield part


def _pieces(value: str, parts: list[str], matches: Iterator[tuple[int, int]]) -> Iterator[str]:
    at = 0
    for start, end in matches:
        yield value[at:start]
        yield value[start:end].join(parts)
        at = end
    yield value[at:]


def _template(replacement: str) -> list[str]:
    """What is between the places of the match, as Go's Regexp.Expand reads it; no pattern has groups."""
    parts = [""]
    at = 0
    for found in _REFERENCE.finditer(replacement):
        parts[-1] += replacement[at : found.start()] + (found[1] or "")
        if "0" in (found[2], found[3]):
            parts.append("")
        at = found.end()
    parts[-1] += replacement[at:]
    return parts


def _compiled(items: list[Item]) -> Wildcards:
    try:
        return Wildcards(items)
    except wildcards.TooManyCharacters as error:
        raise PatternError(f"a pattern has {error}", reason=Reason.LIMIT_EXCEEDED) from None


def _items(pattern: str) -> list[Item]:
    if len(pattern) > wildcards.MAX_LENGTH:
        raise PatternError(
            f"a pattern of {len(pattern)} characters is too long: the limit is {wildcards.MAX_LENGTH} characters",
            reason=Reason.LIMIT_EXCEEDED,
        )
    items: list[Item] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            items.append(Item(Kind.MANY, _NO_LINE_FEED))
        elif char == "?":
            items.append(Item(Kind.ONE, _NO_LINE_FEED))
        elif char == "\\":
            following = pattern[at : at + 1]
            if following in ("}", "/"):
                continue
            if following not in ("*", "?", "\\"):
                raise PatternError(
                    f'invalid escape "\\{following}" in the pattern "{pattern}": only \\*, \\? and \\\\ are allowed'
                )
            items.append(wildcards.literal(following))
            at += 1
        else:
            items.append(wildcards.literal(char))
    return items
