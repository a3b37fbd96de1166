"""Wildcards: the same matches as a regular expression's, each character read once."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagewright.wildcards import ANY, DIRECTORIES, NOT_SLASH, Item, Kind, Ranges, Wildcards, complement, literal, union

STAR, NAME_STAR, ONE, NAME_ONE = (Item(kind, ranges) for kind in (Kind.MANY, Kind.ONE) for ranges in (ANY, NOT_SLASH))
CLASSES = [union([("a", "b")]), complement(union([("b", "b"), ("/", "/")])), union([("c", "a")]), complement(())]
ONES = st.sampled_from([*map(literal, "ab/"), ONE, NAME_ONE, *(Item(Kind.ONE, ranges) for ranges in CLASSES)])
# DIRECTORIES and stars follow each other in that order only.
CHUNKS = st.sampled_from(
    [[DIRECTORIES], [DIRECTORIES, STAR], [DIRECTORIES, DIRECTORIES, NAME_STAR], [STAR], [NAME_STAR], [STAR] * 3, []]
)
ITEMS = st.lists(st.tuples(CHUNKS, ONES), max_size=5).flatmap(
    lambda pairs: CHUNKS.map(lambda last: [item for chunk, one in pairs for item in (*chunk, one)] + last)
)
TEXTS = st.text("ab/c", max_size=8)


def _set(ranges: Ranges) -> str:
    return "[" + "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in ranges) + "]" if ranges else "(?!)"


def expression(items: list[Item]) -> re.Pattern[str]:
    """The same as a regular expression, which may take exponential time."""
    written = {Kind.ONE: "{}", Kind.MANY: "{}*", Kind.DIRECTORIES: "(?:.*/)?"}
    return re.compile("".join(written[item.kind].format(_set(item.ranges)) for item in items), re.DOTALL)


@given(ITEMS, TEXTS)
def test_the_matches_of_a_regular_expression(items: list[Item], text: str) -> None:
    same = expression(items)
    pattern = Wildcards(items)
    assert pattern.fullmatch(text) is (same.fullmatch(text) is not None)
    for start in range(len(text) + 1):
        ends = [end for end in range(start, len(text) + 1) if same.fullmatch(text, start, end)]
        assert list(pattern.ends(text, start)) == ends
    anywhere = {end for start in range(len(text) + 1) for end in pattern.ends(text, start)}
    assert list(pattern.ends_anywhere(text)) == sorted(anywhere)


@given(st.lists(st.tuples(st.sampled_from("abcxyz\0\U0010ffff"), st.sampled_from("abcxyz\0\U0010ffff")), max_size=4))
def test_ranges(pairs: list[tuple[str, str]]) -> None:
    ranges = union(pairs)
    assert all(first[1] < second[0] for first, second in itertools.pairwise(ranges))
    for char in "abcdwxyz\0\U0010ffff":
        has = any(low <= char <= high for low, high in pairs)
        assert any(low <= char <= high for low, high in ranges) is has
        assert any(low <= char <= high for low, high in complement(ranges)) is not has


class _Read(str):
    """Counts how often a character is taken."""

    __slots__ = ("taken",)
    taken: int

    def __getitem__(self, index: object) -> str:
        self.taken = getattr(self, "taken", 0) + 1
        return super().__getitem__(index)  # type: ignore[index]


@pytest.mark.parametrize(
    "items",
    [
        [item for _ in range(500) for item in (STAR, literal("a"))] + [literal("b")],
        [item for _ in range(500) for item in (DIRECTORIES, NAME_STAR, literal("a"))] + [STAR, literal("b")],
        [item for _ in range(500) for item in (STAR, Item(Kind.ONE, CLASSES[1]))] + [literal("b"), STAR],
    ],
)
def test_each_character_is_read_once(items: list[Item]) -> None:
    text = _Read("a" * 3000 + "b" * (items[-1] is not STAR))
    Wildcards(items).fullmatch(text)
    assert 2000 < text.taken <= len(text)
