"""Wildcard patterns, matched in one pass over the text whatever the pattern is: it may come from an attacker.

No I/O. Regular expressions with several stars backtrack, in time exponential in their number. Here all positions that a
match can have reached are the bits of one integer (Shift-And, Baeza-Yates and Gonnet 1992), moved together with each
character. What the wildcards of a syntax mean is up to its parser, which describes a pattern as a sequence of items.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum

from imagewright.records import dataclass

MAX_LENGTH = 4096  # characters of a pattern: no path is longer
# Different characters, or ends of ranges, in a pattern: each takes up to four bits of memory for each character of the
# pattern, so that memory would grow with the square of its length.
MAX_DIFFERENT = 128
_LAST = "\U0010ffff"

# Ranges of characters, both ends included, sorted and apart from each other.
Ranges = tuple[tuple[str, str], ...]
ANY: Ranges = (("\0", _LAST),)
NOT_SLASH: Ranges = (("\0", "."), ("0", _LAST))  # "/" is between the two


class Kind(Enum):
    """``DIRECTORIES`` is ``(?:.*/)?``: nothing, or anything that ends in a slash."""

    ONE = "one character"
    MANY = "any number of characters"
    DIRECTORIES = "any number of directories"


@dataclass(frozen=True, slots=True)
class Item:
    """A part of a pattern; ``ranges`` are the characters that it matches."""

    kind: Kind
    ranges: Ranges = ANY


class TooManyCharacters(ValueError):
    """The pattern has too many different characters."""

    def __init__(self) -> None:
        super().__init__(f"too many different characters: the limit is {MAX_DIFFERENT}")


DIRECTORIES = Item(Kind.DIRECTORIES)


def literal(char: str) -> Item:
    return Item(Kind.ONE, ((char, char),))


def union(pairs: Iterable[tuple[str, str]]) -> Ranges:
    """The ranges that have the characters of all pairs; those in reverse order have none."""
    merged: list[tuple[str, str]] = []
    for low, high in sorted(pair for pair in pairs if pair[0] <= pair[1]):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def complement(ranges: Ranges) -> Ranges:
    """All other characters."""
    found: list[tuple[str, str]] = []
    begin = 0
    for low, high in ranges:
        if begin < ord(low):
            found.append((chr(begin), chr(ord(low) - 1)))
        begin = ord(high) + 1
    if begin <= ord(_LAST):
        found.append((chr(begin), _LAST))
    return tuple(found)


class Wildcards:
    """A pattern. Its ``MANY`` and ``DIRECTORIES`` may follow each other only in the order ``DIRECTORIES``, ``MANY``.

    Raises:
        TooManyCharacters
    """

    def __init__(self, items: Sequence[Item]) -> None:
        items = _without_repetition(items)
        borders = {border for item in items for low, high in item.ranges for border in (low, high)}
        if len(borders) > MAX_DIFFERENT:
            raise TooManyCharacters
        self._shortest = sum(item.kind is Kind.ONE for item in items)
        self._prefix = _literals(items)
        self._suffix = _literals(items[::-1])[::-1]
        # Bit n is "what comes before place n is matched". An item takes one place, DIRECTORIES two: that before it,
        # and that within it, which is left only after a slash.
        events: dict[str, list[int]] = {"\0": [0, 0]}  # by first character: the places that move on, those that stay
        self._skipped_one = self._skipped_two = 0
        place = 0
        for item in items:
            bit = 1 << place
            match item.kind:
                case Kind.ONE:
                    _toggle(events, item.ranges, 0, bit)
                case Kind.MANY:
                    _toggle(events, item.ranges, 1, bit)
                    self._skipped_one |= bit
                case Kind.DIRECTORIES:
                    self._skipped_one |= bit
                    self._skipped_two |= bit
                    place += 1
                    _toggle(events, (("/", "/"),), 0, bit << 1)
                    _toggle(events, ANY, 1, bit << 1)
            place += 1
        self._end = 1 << place
        self._firsts = sorted(events)
        self._moves: list[tuple[int, int]] = []  # for characters from each of ``_firsts`` on
        moving = staying = 0
        for first in self._firsts:
            moving ^= events[first][0]
            staying ^= events[first][1]
            self._moves.append((moving, staying))

    def fullmatch(self, text: str) -> bool:
        """Whether the pattern matches the whole text."""
        if len(text) < self._shortest or not text.startswith(self._prefix) or not text.endswith(self._suffix):
            return False
        return max(self.ends(text), default=-1) == len(text)

    def ends(self, text: str, start: int = 0) -> Iterator[int]:
        """The ends of the matches that begin at ``start``, ascending."""
        places = self._skip(1)
        if places & self._end:
            yield start
        for position in range(start, len(text)):
            moving, staying = self._moves[bisect_right(self._firsts, text[position]) - 1]
            places = self._skip((places & moving) << 1 | places & staying)
            if places & self._end:
                yield position + 1
            if not places:
                return

    def ends_anywhere(self, text: str) -> Iterator[int]:
        """The ends of all matches, wherever they begin, ascending."""
        begin = places = self._skip(1)
        if places & self._end:
            yield 0
        for position, char in enumerate(text, 1):
            moving, staying = self._moves[bisect_right(self._firsts, char) - 1]
            places = self._skip((places & moving) << 1 | places & staying) | begin
            if places & self._end:
                yield position

    def _skip(self, places: int) -> int:
        """Adds the places that are reached without a character."""
        places |= (places & self._skipped_two) << 2
        return places | (places & self._skipped_one) << 1


def _without_repetition(items: Sequence[Item]) -> list[Item]:
    """``**`` matches what ``*`` does."""
    return [item for index, item in enumerate(items) if item.kind is Kind.ONE or index == 0 or items[index - 1] != item]


def _literals(items: Sequence[Item]) -> str:
    found: list[str] = []
    for item in items:
        if item.kind is not Kind.ONE or len(item.ranges) != 1 or item.ranges[0][0] != item.ranges[0][1]:
            break
        found.append(item.ranges[0][0])
    return "".join(found)


def _toggle(events: dict[str, list[int]], ranges: Ranges, what: int, bit: int) -> None:
    for low, high in ranges:
        events.setdefault(low, [0, 0])[what] ^= bit
        if high != _LAST:
            events.setdefault(chr(ord(high) + 1), [0, 0])[what] ^= bit
