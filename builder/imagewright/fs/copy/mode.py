"""Modes of --chmod: octal, and symbolic as in chmod(1).

No I/O.
"""

from __future__ import annotations

import re
from typing import Self

from imagewright.errors import UsageError
from imagewright.records import dataclass

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=][rwxXst]*|[-+=][ugo])+)")
_ACTION = re.compile(r"([-+=])([ugo](?![rwxXst])|[rwxXst]*)")
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000, "t": 0o1000}
# The bits that a clause may change; without a letter all of them, as with an empty umask.
_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o1007, "a": 0o7777}


@dataclass(frozen=True, slots=True)
class ModeChange:
    """A parsed mode; ``octal`` is None for a symbolic one."""

    octal: int | None
    clauses: tuple[tuple[str, str, str], ...] = ()  # (who, operator, what)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``755``, ``0644`` or ``u=rwX,go=rX``.

        Raises:
            UsageError
        """
        if re.fullmatch(r"0*[0-7]{1,4}", text):
            return cls(int(text, 8))
        clauses: list[tuple[str, str, str]] = []
        for clause in text.split(","):
            match = _CLAUSE.fullmatch(clause)
            if match is None:
                raise UsageError(
                    f'invalid --chmod value "{text}"' + (f': "{clause}" is not a valid mode' if clause != text else ""),
                    hint="Use an octal mode (755) or a symbolic one (u=rwX,go=rX).",
                )
            clauses += [(match[1] or "a", a[1], a[2]) for a in _ACTION.finditer(match[2])]
        return cls(None, tuple(clauses))

    def apply(self, mode: int, *, is_directory: bool) -> int:
        """The permission bits for an entry that has ``mode``."""
        if self.octal is not None:
            return self.octal
        mode &= 0o7777
        for who, operator, what in self.clauses:
            affected = 0
            for letter in who:
                affected |= _WHO[letter]
            bits = self._bits(what, mode, is_directory) & affected
            if operator == "+":
                mode |= bits
            elif operator == "-":
                mode &= ~bits
            else:
                # chmod(1): a directory keeps setuid and setgid unless the clause mentions them
                kept = 0o6000 & ~bits if is_directory else 0
                mode = (mode & (~affected | kept)) | bits
        return mode

    @staticmethod
    def _bits(what: str, mode: int, is_directory: bool) -> int:
        if what in ("u", "g", "o"):
            return ((mode >> {"u": 6, "g": 3, "o": 0}[what]) & 7) * 0o111
        bits = 0
        for letter in what:
            if letter == "X":
                bits |= 0o111 if is_directory or mode & 0o111 else 0
            else:
                bits |= _BITS[letter]
        return bits
