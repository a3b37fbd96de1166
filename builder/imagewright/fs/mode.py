"""The modes of --chmod: octal, and symbolic as chmod(1) takes it.

Pure; no I/O. Called by the engine and ``fs.copy``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from imagewright.errors import UsageError

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=][rwxXst]*|[-+=][ugo])+)")
_ACTION = re.compile(r"([-+=])([ugo](?![rwxXst])|[rwxXst]*)")
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111}
_WHO = {"u": 0o700, "g": 0o070, "o": 0o007}


@dataclass(frozen=True, slots=True)
class ModeChange:
    """A parsed mode. ``octal`` is None for a symbolic one."""

    octal: int | None
    clauses: tuple[tuple[str, str, str], ...] = ()  # (who, operator, what)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``755``, ``0644`` or ``u=rwX,go=rX``.

        Raises:
            UsageError
        """
        if re.fullmatch(r"[0-7]{1,5}", text) and int(text, 8) <= 0o7777:
            return cls(int(text, 8))
        clauses: list[tuple[str, str, str]] = []
        for clause in text.split(","):
            match = _CLAUSE.fullmatch(clause)
            if match is None:
                raise UsageError(
                    f"--chmod={text}: {clause!r} is no mode",
                    hint="Write an octal mode (755) or a symbolic one (u=rwX,go=rX).",
                )
            clauses += [(match[1] or "a", a[1], a[2]) for a in _ACTION.finditer(match[2])]
        return cls(None, tuple(clauses))

    def apply(self, mode: int, *, is_directory: bool) -> int:
        """The permission bits that an entry with ``mode`` gets."""
        if self.octal is not None:
            return self.octal
        mode &= 0o7777
        for who, operator, what in self.clauses:
            mask = 0o777 if "a" in who else sum({_WHO[w] for w in who})
            bits = self._bits(what, mode, is_directory) & mask
            if "s" in what:
                bits |= (0o4000 if {"u", "a"} & set(who) else 0) | (0o2000 if {"g", "a"} & set(who) else 0)
            if "t" in what and {"o", "a"} & set(who):
                bits |= 0o1000
            if operator == "+":
                mode |= bits
            elif operator == "-":
                mode &= ~bits
            else:
                # chmod(1): a folder keeps setuid and setgid unless they are named
                mode = (mode & ~mask & (0o7777 if is_directory else 0o1777)) | bits
        return mode

    @staticmethod
    def _bits(what: str, mode: int, is_directory: bool) -> int:
        if what in ("u", "g", "o"):
            three = (mode >> {"u": 6, "g": 3, "o": 0}[what]) & 7
            return three * 0o111
        bits = 0
        for letter in what:
            if letter == "X":
                bits |= 0o111 if is_directory or mode & 0o111 else 0
            else:
                bits |= _BITS.get(letter, 0)
        return bits
