"""What a step changed in a root file system.

No I/O. Made by ``fs.diff``, ``fs.copy`` and ``fs.tree``; read by ``fs.pack``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Changes:
    """Root-relative paths without links in them, sorted bytewise: what was written, and what is gone (whiteouts)."""

    written: tuple[bytes, ...]
    removed: tuple[bytes, ...]

    @property
    def empty(self) -> bool:
        return not self.written and not self.removed
