"""Secrets in the output of a RUN, masked before they reach the log, the error's last lines and the result.

No I/O. Secrets are searched for as they are and in the forms of ``encodings``, also where a program breaks them into
lines, as base64 and fold do. Output comes in pieces of any size: bytes that may be the beginning of a secret are held
back until the next piece. This is for accidents: a command that wants to print a secret finds another form.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from imagewright.engine.steps.encodings import MIN_BYTES, forms

MASK = b"***"
# Bytes of a block and their code in ``struct``; the shorter are for needles that don't have a whole longer one.
_BLOCKS: Mapping[int, Literal["Q", "I"]] = {8: "Q", 4: "I"}
_BREAKS = b"\r\n"
# By the value of a block: at which offsets needles have it, and how long these are.
_Blocks = Mapping[int, Sequence[tuple[int, int]]]
# One line end: what goes on after an empty line is not the same value, and what is held back stays bounded.
_BREAK = re.compile(rb"(?<![\r\n])(?:\r?\n|\r)(?![\r\n])")


class Redaction:
    """The secrets of a build."""

    def __init__(self, values: Iterable[bytes]) -> None:
        self._needles = _Needles(tuple(sorted({needle for value in values for needle in forms(value)})))

    def stream(self) -> RedactedStream:
        """For the output of one command."""
        return RedactedStream(self._needles)


class RedactedStream:
    """Passes bytes on without secrets, in order and as soon as possible.

    Holds back fewer bytes than the longest secret has.
    """

    def __init__(self, needles: _Needles) -> None:
        self._needles = needles
        self._held = b""
        self._masked = 0  # bytes held back that belong to a secret whose mask was emitted already

    def feed(self, data: bytes) -> bytes:
        """What can be passed on now; the rest follows with the next piece, or with ``end``."""
        if not self._needles.all:
            return data
        data = self._held + data
        cut = len(data) - self._needles.begun(data)
        if self._masked or self._needles.may_be_in(data):
            return self._shown(_Unbroken(data), cut)
        self._held = data[cut:]
        return data[:cut]

    def end(self) -> bytes:
        """The rest: possibly the beginning of a secret, but not a whole one."""
        return self._shown(_Unbroken(self._held), len(self._held))

    def _shown(self, text: _Unbroken, cut: int) -> bytes:
        """The output up to ``cut``, masked; the rest is held back. No incomplete secret begins before the cut."""
        data = text.data
        begun = [(0, self._masked)] if self._masked else []
        parts, shown = [], 0
        self._masked = 0
        for start, end in _merged([*begun, *self._needles.occurrences(text)]):
            if not (begun and start == 0):
                if start >= cut:
                    break
                parts += [data[shown:start], MASK]
            shown = min(end, cut)
            self._masked = end - shown
        self._held = data[cut:]
        return b"".join([*parts, data[shown:cut]])


class _Unbroken:
    """Output, and the same without its line breaks, in which a broken secret is whole.

    A secret counts as broken only if MIN_BYTES of it are before the first break. Otherwise the last letters of many
    lines would have to be held back, until the next line tells whether they begin one.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        breaks = [match.span() for match in _BREAK.finditer(data)]
        self.text = _BREAK.sub(b"", data) if breaks else data
        removed = itertools.accumulate((end - start for start, end in breaks), initial=0)
        # Where a break was in ``text``, and how many bytes are missing from there on.
        self._missing = list(removed)
        self._breaks = [start - before for (start, _), before in zip(breaks, self._missing, strict=False)]

    def place(self, position: int) -> int:
        """Where the byte at this position of ``text`` is in ``data``."""
        return position + self._missing[bisect.bisect_right(self._breaks, position)]

    def counts(self, start: int) -> bool:
        """Whether what begins there in ``text`` is not broken before MIN_BYTES of it."""
        following = bisect.bisect_right(self._breaks, start)
        return following == len(self._breaks) or self._breaks[following] - start >= MIN_BYTES


class _Needles:
    """The byte strings to search for, sorted; none has line breaks.

    A needle is looked for by a few of its blocks: where output is cut into blocks of ``size`` bytes, one begins at one
    of the first ``size`` offsets of a needle of ``2 * size - 1`` bytes or more. So the work for a byte of output does
    not depend on how many needles there are, and the interpreter sees blocks only where one is found.
    """

    def __init__(self, needles: tuple[bytes, ...]) -> None:
        self.all = needles
        self._known = frozenset(needles)
        self._longest = max((len(needle) for needle in needles), default=0)
        self._first_bytes = frozenset(needle[0] for needle in needles)
        self._beginnings = frozenset(needle[:MIN_BYTES] for needle in needles)
        self._short = tuple(needle for needle in needles if len(needle) < 2 * min(_BLOCKS) - 1)
        self._by_block: list[tuple[int, Literal["Q", "I"], _Blocks]] = []
        above = self._longest + 1
        for size, code in _BLOCKS.items():
            of_size = [needle for needle in needles if 2 * size - 1 <= len(needle) < above]
            self._by_block.append((size, code, _blocks(of_size, size, code)))
            above = 2 * size - 1

    def may_be_in(self, data: bytes) -> bool:
        """Whether a needle is in data, broken anywhere; False if only its beginning may be at the end."""
        return next(self._found(data.translate(None, _BREAKS)), None) is not None

    def occurrences(self, text: _Unbroken) -> Iterator[tuple[int, int]]:
        """All occurrences, as places in ``text.data``, in any order, overlapping or not."""
        if text.text is text.data:
            yield from self._found(text.text)
            return
        for start, end in self._found(text.text):
            if text.counts(start):
                yield text.place(start), text.place(end - 1) + 1

    def _found(self, data: bytes) -> Iterator[tuple[int, int]]:
        for needle in self._short:
            start = data.find(needle)
            while start >= 0:
                yield start, start + len(needle)
                start = data.find(needle, start + 1)
        for size, code, blocks in self._by_block:
            view = memoryview(data)[: len(data) // size * size].cast(code)
            if blocks.keys().isdisjoint(view):
                continue
            for number, block in enumerate(view):
                for offset, length in blocks.get(block, ()):
                    start = number * size - offset
                    if 0 <= start <= len(data) - length and data[start : start + length] in self._known:
                        yield start, start + length

    def begun(self, data: bytes) -> int:
        """How many bytes at the end of the output may be the beginning of a secret."""
        # As much as the longest can take, broken after each byte.
        text = _Unbroken(data[-3 * self._longest :])
        size = len(text.text)
        for start in range(max(0, size - self._longest + 1), size):
            if text.text[start] not in self._first_bytes:
                continue
            if start + MIN_BYTES <= size and text.text[start : start + MIN_BYTES] not in self._beginnings:
                continue
            if text.counts(start):
                end = text.text[start:]
                position = bisect.bisect_right(self.all, end)  # strings with this prefix follow it directly
                if position < len(self.all) and self.all[position].startswith(end):
                    return len(text.data) - text.place(start)
        return 0


def _blocks(needles: Iterable[bytes], size: int, code: Literal["Q", "I"]) -> _Blocks:
    found: dict[int, set[tuple[int, int]]] = {}
    for needle in needles:
        for offset in range(size):
            (block,) = memoryview(needle[offset : offset + size]).cast(code)
            found.setdefault(block, set()).add((offset, len(needle)))
    return {block: sorted(places) for block, places in found.items()}


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge overlapping spans: no part of two overlapping secrets may remain."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
