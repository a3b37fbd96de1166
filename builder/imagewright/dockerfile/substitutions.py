"""What took the place of variables in an instruction, so that what is said of the instruction names the variables again.

No I/O. A value may be a build argument that somebody passes a password in, and a log is read by more people than that.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from imagewright.errors import ImagewrightError

_SHORTEST = 6  # a shorter value is a word like "root" or a version, and no secret


@dataclass(frozen=True, slots=True)
class Substitutions:
    """Pairs of a reference as it is written (``${VERSION#v}``) and the text that took its place."""

    pairs: tuple[tuple[str, str], ...] = ()

    def __or__(self, other: Substitutions) -> Substitutions:
        return Substitutions(tuple(dict.fromkeys(self.pairs + other.pairs)))

    def as_written(self, text: str) -> str:
        """``text`` with each value, also as it is in a path or an address, replaced by its reference.

        Values of fewer than six characters are left alone.
        """
        written = {form.lower(): reference for reference, value in self.pairs for form in _forms(value)}
        if not written:
            return text
        # The longest first: one value may be a part of another.
        pattern = "|".join(re.escape(form) for form in sorted(written, key=len, reverse=True))
        return re.sub(pattern, lambda match: written.get(match[0].lower(), match[0]), text, flags=re.IGNORECASE)

    def restore(self, error: ImagewrightError, hint: str = "") -> None:
        """Have an error name the variables instead of their values. Where its message had some, ``hint`` is added."""
        message = self.as_written(error.message)
        hints = [self.as_written(error.hint), hint * (message != error.message)]
        error.message, error.hint = message, " ".join(filter(None, hints))
        error.args = (message,)


NO_SUBSTITUTIONS = Substitutions()
# For errors of steps that could be planned.
VALUES_HINT = "Run imagewright plan --values to see what the variables stand for."


def _forms(value: str) -> Iterable[str]:
    """A host's name is shown in lower case, a path without what means nothing in it, an address with its escapes."""
    plain = value.strip()
    path = posixpath.normpath(plain).strip("/") if "/" in plain else plain
    forms = {value, plain, path, repr(plain)[1:-1], quote(plain), quote(plain, safe="")}
    return (form for form in forms if len(form) >= _SHORTEST)
