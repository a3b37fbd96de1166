"""Secrets in the output of a RUN, masked before they reach the log, the error's last lines and the result.

No I/O. Secrets are searched for as they are and in the forms of ``encodings``, also where a program breaks them into
lines, as base64 and fold do. Output comes in pieces of any size: bytes that may be the beginning of a secret are held
back until the next piece. This is for accidents: a command that wants to print a secret finds another form.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterable, Iterator

from imagewright.engine.steps.encodings import MIN_BYTES, forms

MASK = b"***"
FEW = 256  # up to so many, each is searched for by itself
_LONG_BYTES = 16  # few long secrets share a prefix of this length
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
        text = _Unbroken(self._held + data)
        return self._shown(text, len(text.data) - self._needles.begun(text))

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
    """The byte strings to search for, sorted. Few are searched for one by one, many by their prefix: a key has dozens
    of lines, a bundle of certificates thousands.
    """

    def __init__(self, needles: tuple[bytes, ...]) -> None:
        self.all = needles
        self._longest = max((len(needle) for needle in needles), default=0)
        self._first_bytes = frozenset(needle[0] for needle in needles)
        self._by_prefix: dict[bytes, list[bytes]] = {}
        for needle in needles if len(needles) > FEW else ():
            size = _LONG_BYTES if len(needle) >= _LONG_BYTES else MIN_BYTES
            self._by_prefix.setdefault(needle[:size], []).append(needle)

    def occurrences(self, text: _Unbroken) -> Iterator[tuple[int, int]]:
        """All occurrences, as places in ``text.data``, in any order, overlapping or not."""
        if text.text is text.data:
            yield from self._found(text.text)
            return
        for start, end in self._found(text.text):
            if text.counts(start):
                yield text.place(start), text.place(end - 1) + 1

    def _found(self, data: bytes) -> Iterator[tuple[int, int]]:
        if not self._by_prefix:
            for needle in self.all:
                start = data.find(needle)
                while start >= 0:
                    yield start, start + len(needle)
                    start = data.find(needle, start + 1)
            return
        for start in range(len(data) - MIN_BYTES + 1):
            for size in (MIN_BYTES, _LONG_BYTES):
                for needle in self._by_prefix.get(data[start : start + size], ()):
                    if data.startswith(needle, start):
                        yield start, start + len(needle)

    def begun(self, text: _Unbroken) -> int:
        """How many bytes at the end of the output may be the beginning of a secret."""
        data = text.text
        for start in range(max(0, len(data) - self._longest + 1), len(data)):
            if data[start] in self._first_bytes and text.counts(start):
                end = data[start:]
                position = bisect.bisect_right(self.all, end)  # strings with this prefix follow it directly
                if position < len(self.all) and self.all[position].startswith(end):
                    return len(text.data) - text.place(start)
        return 0


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge overlapping spans: no part of two overlapping secrets may remain."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
