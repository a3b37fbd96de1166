"""The patterns of ``${name#…}``, ``${name%…}`` and ``${name/…}``: ``*``, ``?`` and escapes, in linear time.

No I/O. Results are those of BuildKit, which translates a pattern to Go's regular expressions.
"""

from __future__ import annotations

from collections.abc import Iterator

from imagewright import wildcards
from imagewright.wildcards import ANY, Item, Kind, Wildcards

_SPECIAL = frozenset("*?\\")


class PatternError(Exception):
    """The pattern is invalid; the message says why, and has no location."""


def trim(value: str, word: str, operator: str) -> str:
    """``value`` without a matching beginning (``#``) or end (``%``): the shortest, doubled in ``word`` the longest.

    Raises:
        PatternError
    """
    greedy = word.startswith(operator)
    items = _items(word[1:] if greedy else word)
    from_end = operator == "%"
    ends = Wildcards(items[::-1]).ends(value[::-1]) if from_end else Wildcards(items).ends(value)
    length = max(ends, default=0) if greedy else next(ends, 0)
    return value[: len(value) - length] if from_end else value[length:]


def replacements(value: str, pattern: str, replacement: str, *, everywhere: bool) -> Iterator[str]:
    """The pieces of ``value`` with the first match replaced, or all of them; the longest of those that begin first.

    Raises:
        PatternError
    """
    plain = _unescaped(replacement)
    items = _items(pattern)
    if pattern and _SPECIAL.isdisjoint(pattern):
        return _joined(value.split(pattern, -1 if everywhere else 1), plain)
    found = Wildcards(items)
    # Backwards, the matches end where they begin.
    starts = [len(value) - end for end in Wildcards(items[::-1]).ends_anywhere(value[::-1])]
    return _pieces(value, plain, _matches(value, found, reversed(starts), everywhere=everywhere))


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


def _pieces(value: str, plain: str, matches: Iterator[tuple[int, int]]) -> Iterator[str]:
    at = 0
    for start, end in matches:
        yield value[at:start]
        yield plain
        at = end
    yield value[at:]


def _unescaped(replacement: str) -> str:
    return replacement.replace("\\/", "/").replace("\\}", "}")


def _items(pattern: str) -> list[Item]:
    if len(pattern) > wildcards.MAX_LENGTH:
        raise PatternError(
            f"a pattern of {len(pattern)} characters is too long: the limit is {wildcards.MAX_LENGTH} characters"
        )
    items: list[Item] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            items.append(Item(Kind.MANY, ANY))
        elif char == "?":
            items.append(Item(Kind.ONE, ANY))
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
