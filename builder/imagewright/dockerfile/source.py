"""The lines of a file, and errors that show them with carets under the word in question.

No I/O.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace

from imagewright.dockerfile.expand import ExpansionError
from imagewright.errors import DockerfileError, Location, Reason, UnsupportedError
from imagewright.records import dataclass

_MOST_PLACES = 1000  # of a word in a line, for the one to point at
_MAX_COMPARED = 1000
_MAX_COMPARED_LENGTH = 100
_MAX_WIDTH = 160  # fits a terminal; a minified RUN line must not flood the status of an ImageBuild


@dataclass(frozen=True, slots=True)
class SourceText:
    """The name of a file as the user knows it, and its lines without line ends."""

    name: str
    lines: tuple[str, ...]

    def error(
        self, message: str, location: Location, *, word: str = "", hint: str = "", reason: Reason | None = None
    ) -> DockerfileError:
        """A DockerfileError at ``word`` within ``location``."""
        place = self.narrow(location, word)
        return DockerfileError(
            _clean(message), reason=reason, location=place, excerpt=excerpt(self.lines, place), hint=_clean(hint)
        )

    def cannot_expand(self, what: str, error: ExpansionError, location: Location, *, word: str) -> DockerfileError:
        """As ``error``, for a word that cannot be expanded; ``what`` names it in the message."""
        message = f"cannot expand {what}: {error}"
        return self.error(message, location, word=word, hint=error.hint, reason=error.reason)

    def unsupported(self, message: str, location: Location, *, word: str = "", hint: str = "") -> UnsupportedError:
        """As ``error``, for valid input that this version does not support."""
        place = self.narrow(location, word)
        return UnsupportedError(_clean(message), location=place, excerpt=excerpt(self.lines, place), hint=_clean(hint))

    def narrow(self, location: Location, word: str) -> Location:
        """The first occurrence of ``word`` within ``location``, between whitespace if possible, else ``location``."""
        if not word:
            return location
        first = max(location.line, 1)
        last = min(max(location.end_line, first), len(self.lines))
        for alone in (True, False):
            for number in range(first, last + 1):
                start = location.column - 1 if number == first and location.column else 0
                at = _find(self.lines[number - 1], word, start, alone=alone)
                if at >= 0:
                    end_column = at + len(word) + 1
                    return replace(location, line=number, end_line=number, column=at + 1, end_column=end_column)
        return location


def excerpt(lines: Sequence[str], location: Location, around: int = 0) -> tuple[str, ...]:
    """The first line of ``location``, ``around`` lines before and after it, and carets where columns are known.

    Empty if the location is outside ``lines``.
    """
    if not 1 <= location.line <= len(lines):
        return ()
    first = max(1, location.line - around)
    last = min(len(lines), location.line + around)
    width = len(str(last))
    shown: list[str] = []
    for number in range(first, last + 1):
        text, shift = _cut(lines[number - 1], location.column if number == location.line else 1)
        shown.append(f"{number:>{width}} | {text}".rstrip())
        if number == location.line and location.column:
            length = max(1, location.end_column - location.column)
            start = location.column - 1 - shift
            marks = "^" * max(1, min(length, len(text) - start))
            shown.append(f"{'':>{width}} | {' ' * start}{marks}")
    return tuple(shown)


def nearest(word: str, known: Iterable[str]) -> str:
    """The known name that is most similar to ``word``, or ``""``; of very many and very long ones some are ignored."""
    if len(word) > _MAX_COMPARED_LENGTH:
        return ""
    short = (name for name in known if len(name) <= _MAX_COMPARED_LENGTH)
    by_lower = {name.lower(): name for name in itertools.islice(short, _MAX_COMPARED)}
    matches = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[matches[0]] if matches else ""


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """A hint that names the nearest known name, else ``otherwise``."""
    name = nearest(word, known)
    return f"Did you mean {name}?" if name else otherwise


def _find(line: str, word: str, start: int, *, alone: bool) -> int:
    """Where ``word`` is in ``line``, ``alone`` between white space; -1 if it isn't there."""
    at = line.find(word, start)
    for _ in range(_MOST_PLACES):
        end = at + len(word)
        if at < 0 or not alone or ((at == 0 or line[at - 1].isspace()) and (end == len(line) or line[end].isspace())):
            return at
        at = line.find(word, at + 1)
    return -1


def _cut(line: str, column: int) -> tuple[str, int]:
    """A line without tabs and control characters, cut around ``column``, and the number of characters cut before it."""
    clean = _clean(line)
    if len(clean) <= _MAX_WIDTH:
        return clean, 0
    start = max(0, min(column - 1 - _MAX_WIDTH // 4, len(clean) - _MAX_WIDTH)) if column > _MAX_WIDTH // 2 else 0
    end = start + _MAX_WIDTH
    text = clean[start:end]
    if end < len(clean):
        text = text[:-1] + "…"
    if start:
        text = "…" + text[1:]
    return text, start


def _clean(text: str) -> str:
    """Replace control characters and lone surrogates, which could move a cursor or break a log."""
    return (
        text if text.isprintable() else "".join(c if c.isprintable() else " " if c == "\t" else "\ufffd" for c in text)
    )
