"""A guess at which entries of an image are read, made while its layers pass by, before all of them are known.

No I/O. It follows the links that it has seen so far. A wrong guess costs time, and no more: ``Selection`` decides.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from imagewright.errors import FileSystemError
from imagewright.fs.copy import glob
from imagewright.fs.copy.filters import Ignore, while_copying
from imagewright.fs.copy.selection import Selection
from imagewright.fs.copy.sources import clean
from imagewright.fs.tar.entries import SYMLINK, Entry

_MAX_SOURCES = 200  # to look for in every entry's name
_MAX_FOLLOWED = 50  # that links lead to: a hostile image could have any number
_MAX_BYTES = 4095  # of a path


class Guess:
    """What ``selections`` may read. May be used from several threads: what one learns of links others know, too."""

    def __init__(self, selections: Sequence[Selection]) -> None:
        self._wanted: list[_Wanted] = []
        self._room = _MAX_SOURCES
        for selection in selections:
            if selection.path is not None:
                self._add(_Wanted(clean(selection.path), literal=True))
            elif selection.only:
                for only in selection.only:
                    self._add(_Wanted(clean(f"{only.base}/{only.pattern}")))
            else:
                for pattern in selection.patterns:
                    self._add(_Wanted(clean(pattern), selection.exclude))
        self._room = _MAX_FOLLOWED

    def may_be_read(self, entry: Entry) -> bool:
        """Whether the data of an entry may be read. Every entry has to be shown."""
        path = clean(os.fsdecode(entry.name))
        if entry.type == SYMLINK:
            target = os.fsdecode(entry.linkname)
            there = clean(target if target.startswith("/") else f"{path.rpartition('/')[0]}/{target}")
            for wanted in list(self._wanted):
                if (rest := wanted.rest_after(path)) is not None:
                    self._add(_Wanted(f"{there}{rest}".strip("/"), wanted.exclude, literal=wanted.literal))
            return False
        return any(wanted.matches(path) for wanted in self._wanted)

    def _add(self, wanted: _Wanted) -> None:
        known = any(wanted.pattern == each.pattern for each in self._wanted)
        if self._room > 0 and not known and len(wanted.pattern) <= _MAX_BYTES:
            self._room -= 1
            self._wanted.append(wanted)


class _Wanted:
    """A source: a path, or a pattern with wildcards, and what is below."""

    def __init__(self, pattern: str, exclude: Ignore | None = None, *, literal: bool = False) -> None:
        self.pattern = pattern
        self.exclude = exclude
        self.literal = literal or not glob.has_wildcard(pattern)
        self._hidden = while_copying(os.fsencode(pattern), exclude, None) if self.literal else None
        parts = pattern.split("/")
        self._parts = parts[: parts.index("**")] if "**" in parts else parts
        first = next((index for index, part in enumerate(parts) if glob.has_wildcard(part)), len(parts))
        self._begin = pattern if self.literal else "/".join(parts[:first])

    def rest_after(self, link: str) -> str | None:
        """What of the path remains after a link on the way, or at its end; None if the link is elsewhere."""
        if self._begin == link or self._begin.startswith(f"{link}/"):
            return self.pattern[len(link) :]
        at_end = not self.literal and link.count("/") == self.pattern.count("/") and self.matches(link)
        return "" if at_end else None

    def matches(self, path: str) -> bool:
        if self._begin and path != self._begin and not path.startswith(f"{self._begin}/"):
            return False
        if self.literal:
            return self._hidden is None or path == self.pattern or not self._hidden.ignores(path)
        names = path.split("/")
        if len(names) < len(self._parts):
            return False
        try:
            return all(glob.compiled(part).fullmatch(name) for part, name in zip(self._parts, names, strict=False))
        except FileSystemError:
            return False  # the copy refuses the pattern
