"""Moves the folders that lead to mounts, and with them the mounts: what no process may do to a mount point itself.

Renames folders of a root file system. The kernel refuses to rename a mount point; of a folder above it, it doesn't mind.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator


def relocate(root: bytes, source: bytes, target: bytes, mounts: Iterable[bytes]) -> bool:
    """Bring what is mounted below the folder ``source`` to the same places below ``target``; whether that was possible.

    Paths are relative to ``root``, without links. ``source`` holds nothing but the folders that lead to ``mounts``, and is
    gone afterwards. It stays where a folder with a mount in it would have to become one that is there already, or where
    the file system can't rename it (one of a lower layer of overlayfs).
    """
    for mount in mounts:
        parent = _join(target, mount[len(source) + 1 :].rpartition(b"/")[0])
        if not _is_free(root, parent):
            return False
    try:
        with _times_kept(root, target):
            os.makedirs(os.path.dirname(_join(root, target)), mode=0o755, exist_ok=True)
            _merge(_join(root, source), _join(root, target))
    except OSError:
        return False
    return True


def return_mount(root: bytes, now: bytes, before: bytes) -> None:
    """Bring a mount back from ``now`` to ``before``, with what else is mounted in its folder; folders left empty go.

    Raises:
        OSError
    """
    source, target = (_join(root, path.rpartition(b"/")[0]) for path in (now, before))
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    os.rename(source, target)
    while (source := os.path.dirname(source)) != root.rstrip(b"/"):
        try:
            os.rmdir(source)
        except OSError:
            break


def _is_free(root: bytes, path: bytes) -> bool:
    """Whether nothing is at ``path``, and nothing but folders above it."""
    if os.path.lexists(_join(root, path)):
        return False
    while path:
        path = path.rpartition(b"/")[0]
        place = _join(root, path)
        if os.path.lexists(place):
            return os.path.isdir(place) and not os.path.islink(place)
    return True


def _merge(source: bytes, target: bytes) -> None:
    if not os.path.lexists(target):
        os.rename(source, target)
        return
    for name in os.listdir(source):
        _merge(_join(source, name), _join(target, name))
    os.rmdir(source)


@contextlib.contextmanager
def _times_kept(root: bytes, path: bytes) -> Iterator[None]:
    """Of the innermost folder that is there on the way to ``path``, and of that itself."""
    places = [_join(root, path)]
    while not os.path.isdir(places[-1]) or len(places) == 1:
        places.append(os.path.dirname(places[-1]))
    times = {place: os.stat(place) for place in places if os.path.isdir(place)}
    yield
    for place, info in times.items():
        os.utime(place, ns=(info.st_atime_ns, info.st_mtime_ns))


def _join(folder: bytes, name: bytes) -> bytes:
    return os.path.join(folder, name) if name else folder
