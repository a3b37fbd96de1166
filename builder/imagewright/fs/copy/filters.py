"""Filters of sources: .dockerignore, ``--exclude`` and ``--parents`` combined.

No I/O. Paths are relative to the source's root, with ``/``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

from imagewright.fs.copy import glob
from imagewright.records import dataclass


class Ignore(Protocol):
    """Paths hidden by a list of patterns (moby's rules)."""

    def ignores(self, path: str, /) -> bool: ...

    def may_include_below(self, directory: str, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class RelativeTo:
    """Patterns relative to the directory ``base`` (``""``: the root); paths elsewhere are not hidden."""

    patterns: Ignore
    base: str

    def ignores(self, path: str, /) -> bool:
        below = self._below(path)
        return bool(below) and self.patterns.ignores(below)

    def may_include_below(self, directory: str, /) -> bool:
        return self.patterns.may_include_below(self._below(directory))

    def _below(self, path: str) -> str:
        if not self.base:
            return path
        return path[len(self.base) + 1 :] if path.startswith(f"{self.base}/") else ""


@dataclass(frozen=True, slots=True)
class ParentsPattern:
    """A source of ``COPY --parents``: ``pattern`` is relative to the directory ``base``; ``matcher`` matches it."""

    base: str
    pattern: str
    matcher: Ignore


@dataclass(frozen=True, slots=True)
class OnlyMatching:
    """Hides everything except matches of ``patterns`` and what is below them; ``pattern`` is their source."""

    patterns: Ignore
    pattern: str

    def ignores(self, path: str, /) -> bool:
        return not self.patterns.ignores(path)

    def may_include_below(self, directory: str, /) -> bool:
        parts = [part for part in self.pattern.split("/") if part not in ("", ".")]
        for part, name in zip(parts, directory.split("/"), strict=False):
            if part == "**":
                return True
            if not glob.compiled(part).fullmatch(name):
                return False
        return True


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Hides what any of several filters hides."""

    several: Sequence[Ignore]

    def ignores(self, path: str, /) -> bool:
        return any(one.ignores(path) for one in self.several)

    def may_include_below(self, directory: str, /) -> bool:
        return all(not one.ignores(directory) or one.may_include_below(directory) for one in self.several)


def combine(*several: Ignore | None) -> Ignore | None:
    """One filter for all given ones; None if there are none."""
    given = [one for one in several if one is not None]
    return given[0] if len(given) == 1 else AnyOf(given) if given else None


def while_copying(base: bytes, exclude: Ignore | None, only: ParentsPattern | None) -> Ignore | None:
    """What is hidden while ``base`` is copied: --exclude is relative to that, and so is ``only``, the pattern of
    --parents with ``base`` as its base directory.
    """
    prefix = os.fsdecode(base)
    matching = RelativeTo(OnlyMatching(only.matcher, only.pattern), prefix) if only is not None else None
    return combine(exclude and RelativeTo(exclude, prefix), matching)
