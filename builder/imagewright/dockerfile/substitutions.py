"""The values that replaced variables in an instruction, so that messages name the variables instead.

No I/O. A value may be a build argument with a password in it, and logs are read by more people than that.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from imagewright.errors import ImagewrightError

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
        written = {form.lower(): reference for reference, value in self.pairs for form in _forms(value)}
        if not written:
            return text
        # The longest first: one value may contain another.
        pattern = "|".join(re.escape(form) for form in sorted(written, key=len, reverse=True))
        return re.sub(pattern, lambda match: written.get(match[0].lower(), match[0]), text, flags=re.IGNORECASE)

    def restore(self, error: ImagewrightError, hint: str = "") -> None:
        """Make an error name variables instead of values. ``hint`` is added if its message contained a value."""
        message = self.as_written(error.message)
        hints = [self.as_written(error.hint), hint * (message != error.message)]
        error.message, error.hint = message, " ".join(filter(None, hints))
        error.args = (message,)


NO_SUBSTITUTIONS = Substitutions()
# For errors in steps that were planned successfully.
VALUES_HINT = "Run imagewright plan --values to see what the variables stand for."


def _forms(value: str) -> Iterable[str]:
    """The forms of a value in messages: host names in lower case, paths normalized, URLs with escapes."""
    plain = value.strip()
    path = posixpath.normpath(plain).strip("/") if "/" in plain else plain
    forms = {value, plain, path, repr(plain)[1:-1], quote(plain), quote(plain, safe="")}
    return (form for form in forms if len(form) >= _SHORTEST)
