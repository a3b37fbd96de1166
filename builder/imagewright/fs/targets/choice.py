"""The target for a root, on disk or virtual.

No I/O.
"""

from __future__ import annotations

import stat
from typing import Any

from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.targets.disk import DiskTarget
from imagewright.fs.targets.model import Target
from imagewright.fs.targets.virtual import VirtualRoot, VirtualTarget

Root = Rootfs | VirtualRoot


def is_file(root: Root, path: bytes) -> bool:
    """Whether something other than a directory exists at ``path``, links followed inside the root."""
    try:
        return not stat.S_ISDIR(root.mode_of(path))
    except OSError:
        return False


def target_of(root: Root, mtime_limit_ns: int | None = None) -> Target[Any]:
    """What writes to a root; to be closed. ``mtime_limit_ns``: the latest modification time that layers have."""
    return DiskTarget(root, mtime_limit_ns) if isinstance(root, Rootfs) else VirtualTarget(root, mtime_limit_ns)
