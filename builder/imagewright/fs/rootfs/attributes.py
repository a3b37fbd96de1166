"""Names of single entries, and the attributes that a copy of one is given.

No I/O.
"""

from __future__ import annotations

import os
import stat

from imagewright.records import dataclass

EntryRef = tuple[int, bytes]  # (descriptor of the directory, name in it)


@dataclass(frozen=True, slots=True)
class Ownership:
    """Numeric owner and group."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Attributes:
    """Attributes of a copy that differ from its source's; None keeps the source's. ``mode``: permission bits."""

    owner: tuple[int, int] | None = None
    mode: int | None = None

    def owner_of(self, info: os.stat_result) -> tuple[int, int]:
        """The owner of a copy of the entry ``info``."""
        return self.owner or (info.st_uid, info.st_gid)

    def mode_of(self, info: os.stat_result) -> int:
        """The permission bits of a copy of the entry ``info``."""
        return stat.S_IMODE(info.st_mode) if self.mode is None else self.mode


AS_SOURCE = Attributes()


def proc_path(ref: EntryRef) -> bytes:
    """A path of an entry of an open directory, for calls without ``dir_fd``."""
    return b"/proc/self/fd/%d/" % ref[0] + ref[1]
