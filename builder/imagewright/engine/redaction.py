"""Secrets in the output of a RUN, replaced before anybody sees them: the log, the error's last lines, the result.

No I/O. Used by ``engine.run`` with what ``--secret`` gave. Output comes in pieces of any size: what may turn out to be the
beginning of a secret is held back until the next piece says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

MASK = b"***"
MIN_BYTES = 4  # a shorter one is in every second word, and no secret
_PIECE_BYTES = 512  # a longer line is looked for in pieces


class Redaction:
    """The secrets of a build. A text of several lines is looked for line by line, as it is likely to be printed."""

    def __init__(self, values: Iterable[bytes]) -> None:
        self._needles = tuple(sorted({needle for value in values for needle in _needles(value)}))

    def stream(self) -> RedactedStream:
        """For the output of one command."""
        return RedactedStream(self._needles)


class RedactedStream:
    """Bytes in, the same bytes without secrets out, in order and as soon as that can be told."""

    def __init__(self, needles: tuple[bytes, ...]) -> None:
        self._needles = needles
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can be shown now; the rest comes with the next piece, or with ``end``."""
        if not self._needles:
            return data
        data = self._held + data
        found = _merged(_occurrences(data, self._needles))
        cut = len(data) - self._begun(data)
        for start, end in reversed(found):
            if start < cut < end:
                cut = start
        self._held = data[cut:]
        return _masked(data[:cut], [span for span in found if span[1] <= cut])

    def end(self) -> bytes:
        """What is left: the beginning of a secret, maybe, but no secret."""
        held, self._held = self._held, b""
        return _masked(held, _merged(_occurrences(held, self._needles)))

    def _begun(self, data: bytes) -> int:
        """How many bytes at the end of ``data`` may be the beginning of a secret. None has a line's end in it."""
        line = data[data.rfind(b"\n") + 1 :]
        longest = 0
        for needle in self._needles:
            size = min(len(needle) - 1, len(line))
            while size > longest and not line.endswith(needle[:size]):
                size -= 1
            longest = max(longest, size)
        return longest


def _needles(value: bytes) -> Iterator[bytes]:
    for line in value.replace(b"\r", b"\n").split(b"\n"):
        text = line.strip()
        if len(text) < MIN_BYTES:
            continue
        if len(text) <= _PIECE_BYTES:
            yield text
            continue
        for start in range(0, len(text) - _PIECE_BYTES, _PIECE_BYTES):
            yield text[start : start + _PIECE_BYTES]
        yield text[-_PIECE_BYTES:]


def _occurrences(data: bytes, needles: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    for needle in needles:
        start = data.find(needle)
        while start >= 0:
            yield start, start + len(needle)
            start = data.find(needle, start + 1)


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans that overlap become one: what two secrets share must not be left over."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _masked(data: bytes, spans: Iterable[tuple[int, int]]) -> bytes:
    parts, shown = [], 0
    for start, end in spans:
        parts += [data[shown:start], MASK]
        shown = end
    return b"".join([*parts, data[shown:]])
