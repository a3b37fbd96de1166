"""What of a source is copied: .dockerignore, ``--exclude`` and ``--parents`` as one answer about a path.

No I/O. Called by ``fs.copy``; asked by ``fs.sources``. Paths are relative to the source's root, with ``/``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from imagewright.fs.copy import glob


class Ignore(Protocol):
    """What a list of patterns hides (moby's rules)."""

    def ignores(self, path: str, /) -> bool: ...

    def may_include_below(self, directory: str, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class RelativeTo:
    """Patterns that are relative to the directory ``base`` (``""`` the root): what lies elsewhere they don't hide."""

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
class OnlyMatching:
    """Hides all but what ``patterns`` match and what is below that; ``pattern`` is the one they were made of."""

    patterns: Ignore
    pattern: str

    def ignores(self, path: str, /) -> bool:
        return not self.patterns.ignores(path)

    def may_include_below(self, directory: str, /) -> bool:
        parts = [part for part in self.pattern.split("/") if part not in ("", ".")]
        for part, name in zip(parts, directory.split("/"), strict=False):
            if part == "**":
                return True
            if not glob.translate(part).fullmatch(name):
                return False
        return True


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Hides what one of several hides."""

    several: Sequence[Ignore]

    def ignores(self, path: str, /) -> bool:
        return any(one.ignores(path) for one in self.several)

    def may_include_below(self, directory: str, /) -> bool:
        return all(not one.ignores(directory) or one.may_include_below(directory) for one in self.several)


def combine(*several: Ignore | None) -> Ignore | None:
    """One for those that are there."""
    given = [one for one in several if one is not None]
    return given[0] if len(given) == 1 else AnyOf(given) if given else None
