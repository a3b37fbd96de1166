"""What a step changed in a root file system.

No I/O. Made by ``fs.diff``, ``fs.copy`` and ``fs.tree``; read by ``fs.settle`` and ``fs.pack``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Changes:
    """Root-relative paths without links in them, sorted bytewise: what was written, and what is gone (whiteouts).

    ``touched`` are those of ``written`` of which nothing but the ctime says that they changed.
    """

    written: tuple[bytes, ...]
    removed: tuple[bytes, ...]
    touched: frozenset[bytes] = frozenset()

    @property
    def empty(self) -> bool:
        return not self.written and not self.removed

    def along_with(self, written: Iterable[bytes]) -> Changes:
        """The same, and these paths written too."""
        return replace(self, written=tuple(sorted({*self.written, *written})))

    def without(self, places: Iterable[bytes]) -> Changes:
        """The same but for what is at these paths and below them."""
        covered = frozenset(places)
        below = tuple(place + b"/" for place in covered)

        def rest(paths: tuple[bytes, ...]) -> tuple[bytes, ...]:
            return tuple(path for path in paths if path not in covered and not path.startswith(below))

        return Changes(rest(self.written), rest(self.removed), self.touched) if covered else self
