"""The values that replaced variables in an instruction, so that messages name the variables instead.

No I/O. A value may be a build argument with a password in it, and logs are read by more people than that.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from imagewright.errors import ImagewrightError
from imagewright.records import dataclass

_SHORTEST = 6  # shorter values are words like "root" or versions, not secrets


@dataclass(frozen=True, slots=True)
class Substitutions:
    """Pairs of a reference as written (``${VERSION#v}``) and its value."""

    pairs: tuple[tuple[str, str], ...] = ()

    def __or__(self, other: Substitutions) -> Substitutions:
        return Substitutions(tuple(dict.fromkeys(self.pairs + other.pairs)))

    def as_written(self, text: str) -> str:
        """``text`` with each value replaced by its reference, also where a path or URL has it in another form.

        Values of fewer than six characters are left alone.
        """
        lower = _lower(text)
        written = {form: ref for ref, value in self.pairs for form in map(_lower, _forms(value, len(text)))}
        parts = [(text, lower)]  # those with an empty second half are references
        # The longest first: one value may contain another.
        for form in sorted((form for form in written if form in lower), key=len, reverse=True):
            parts = [piece for part in parts for piece in _replaced(part, form, written[form])]
        return "".join(part for part, _ in parts)

    def restore(self, error: ImagewrightError, hint: str = "") -> None:
        """Make an error name variables instead of values. ``hint`` is added if its message contained a value."""
        message = self.as_written(error.message)
        hints = [self.as_written(error.hint), hint * (message != error.message)]
        error.message, error.hint = message, " ".join(filter(None, hints))
        error.args = (message,)


NO_SUBSTITUTIONS = Substitutions()
# For errors in steps that were planned successfully.
VALUES_HINT = "Run imagewright plan --values to see what the variables stand for."


def _forms(value: str, longest: int) -> Iterable[str]:
    """The forms of a value in messages: host names in lower case, paths normalized, URLs with escapes."""
    plain = value.strip()
    forms = {value, plain, posixpath.normpath(plain).strip("/") if "/" in plain else plain}
    if len(plain) <= longest:  # escaping adds characters
        raw = os.fsencode(plain)  # a Dockerfile may hold bytes that are not UTF-8
        forms |= {repr(plain)[1:-1], quote(raw), quote(raw, safe="")}
    return (form for form in forms if _SHORTEST <= len(form) <= longest)


def _lower(text: str) -> str:
    """In lower case, each character one character."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _replaced(part: tuple[str, str], form: str, reference: str) -> Iterator[tuple[str, str]]:
    text, lower = part
    at = 0
    while lower and (found := lower.find(form, at)) >= 0:
        yield text[at:found], lower[at:found]
        yield reference, ""
        at = found + len(form)
    yield text[at:], lower[at:]
