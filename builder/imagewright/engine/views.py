"""A context as RUN --mount=type=bind shows it: without what .dockerignore hides, and owned by root.

Copies files where the folder itself won't do. Called by ``engine.mounts``.
"""

from __future__ import annotations

import os
import threading

from imagewright.engine.workspace import Workspace
from imagewright.fs.copy import CopyRequest, copy
from imagewright.fs.filters import Ignore
from imagewright.fs.rootfs import Rootfs


class ContextViews:
    """The views of a build, each made once. May be used from several threads."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._made: dict[str, Rootfs] = {}
        self._lock = threading.Lock()

    def of(self, name: str, root: Rootfs, ignore: Ignore | None) -> Rootfs:
        """The view of the context ``name``, whose files are in ``root``.

        Raises:
            FileSystemError: when it can't be copied.
        """
        with self._lock:
            if name not in self._made:
                self._made[name] = (
                    root if ignore is None and _belongs_to_root(root.path) else self._copied(root, ignore)
                )
            return self._made[name]

    def _copied(self, root: Rootfs, ignore: Ignore | None) -> Rootfs:
        view = Rootfs(self._workspace.view(str(len(self._made))))
        copy(view, CopyRequest(root, (".",), "/", ignore=ignore))
        return view


def _belongs_to_root(path: str) -> bool:
    """Whether everything does, as BuildKit has all files of a context; nothing is read but metadata."""
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        info = os.lstat(folder)
        if info.st_uid or info.st_gid:
            return False
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                    continue
                info = entry.stat(follow_symlinks=False)
                if info.st_uid or info.st_gid:
                    return False
    return True
