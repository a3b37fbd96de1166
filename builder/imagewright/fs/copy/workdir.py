"""WORKDIR: creates a directory and those above it (Dockerfile reference, "WORKDIR").

Writes to the root that it is given, on disk or virtual.
"""

from __future__ import annotations

import os
from typing import Any

from imagewright.fs.rootfs.attributes import Ownership
from imagewright.fs.rootfs.errors import explain
from imagewright.fs.targets.choice import Root, target_of
from imagewright.fs.targets.model import Target


def make_workdir(root: Root, path: str, ownership: Ownership | None) -> tuple[bytes, ...]:
    """Create a directory and its missing parents, each with mode 0755 and the given owner, by default root.

    Returns the paths of the created directories, sorted.

    Raises:
        FileSystemError: a non-directory exists at one of the paths.
    """
    target = target_of(root)
    try:
        return _made(target, path, ownership or Ownership(0, 0))
    except OSError as error:
        raise explain(error, f'create directory "{path}"', full_hint=target.full_hint) from error
    finally:
        target.close()


def _made(target: Target[Any], path: str, owner: Ownership) -> tuple[bytes, ...]:
    made: set[bytes] = set()
    wanted = b"/".join(part for part in os.fsencode(path).split(b"/") if part not in (b"", b"."))
    if not wanted or target.find(wanted) is not None:
        return ()

    def make(parent: Any, path: bytes) -> None:
        target.make_directory(parent, path, (owner.uid, owner.gid), 0o755)
        made.add(path)

    target.ensure(wanted, make)
    return tuple(sorted(made))
