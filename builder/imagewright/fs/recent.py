"""Whether something in a folder changed since a moment, by ctimes, which no process can set.

Reads folders and inodes, never content, and not more of them than is asked for.
"""

from __future__ import annotations

import os
from collections import deque


def changed_since(path: bytes, moment_ns: int, limit: int) -> bytes | None:
    """The first entry found whose ctime isn't before ``moment_ns``, nearest to ``path`` first; None without.

    Of a folder, what is in it is told rather than itself. After ``limit`` entries it is left open, and so is what can't
    be read.
    """
    folders: list[bytes] = []
    waiting = deque([path])
    while waiting and limit > 0:
        place = waiting.popleft()
        try:
            info = os.stat(place, follow_symlinks=False)
            below = sorted(os.listdir(place)) if os.path.isdir(place) and not os.path.islink(place) else None
        except OSError:
            continue
        limit -= 1
        if below is not None:
            waiting.extend(os.path.join(place, name) for name in below[:limit])
        if info.st_ctime_ns >= moment_ns:
            if below is None:
                return place
            folders.append(place)
    return folders[-1] if folders else None
