"""A context as RUN --mount=type=bind shows it: without what .dockerignore hides, and owned by root.

Copies files where the folder itself won't do, and of them what is mounted only. Called by ``engine.mounts``.
"""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import dataclass

from imagewright.engine.workspace import Workspace
from imagewright.fs.copy.copier import CopyRequest, copy
from imagewright.fs.copy.filters import Ignore, combine
from imagewright.fs.rootfs.root import Rootfs


class BindSources:
    """The views of a build, each made once. May be used from several threads."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._made: dict[tuple[str, str], Rootfs] = {}
        self._lock = threading.Lock()

    def of(self, name: str, root: Rootfs, ignore: Ignore | None, path: str) -> Rootfs:
        """A view of the context ``name``, whose files are in ``root``, in which at least ``path`` is.

        Raises:
            FileSystemError: when it can't be copied.
        """
        shown = _without_links(root, path)
        with self._lock:
            view = self._made.get((name, "")) or self._made.get((name, shown))
            if view is None:
                usable = ignore is None and _belongs_to_root(os.path.join(root.path, shown))
                view = root if usable else self._copied(root, combine(ignore, _Only(shown) if shown else None))
                self._made[name, shown] = view
            return view

    def _copied(self, root: Rootfs, ignore: Ignore | None) -> Rootfs:
        view = Rootfs(self._workspace.view(str(len(self._made))))
        copy(view, CopyRequest(root, (".",), "/", ignore=ignore))
        return view


@dataclass(frozen=True, slots=True)
class _Only:
    """Hides all but a file or folder and what is below it."""

    path: str

    def ignores(self, path: str, /) -> bool:
        return path != self.path and not path.startswith(f"{self.path}/")

    def may_include_below(self, directory: str, /) -> bool:
        return self.path.startswith(f"{directory}/") or not self.ignores(directory)


def _without_links(root: Rootfs, path: str) -> str:
    """``path`` as it is below the root; ``""``, which is the whole, where links have to be followed on the way."""
    place = path.strip("/")
    try:
        return place if os.fsdecode(root.realpath(os.fsencode(place))) == place else ""
    except OSError:
        return ""


def _belongs_to_root(path: str) -> bool:
    """Whether everything does, as BuildKit has all files of a context; nothing is read but metadata."""
    waiting = [path]
    try:
        while waiting:
            here = waiting.pop()
            info = os.lstat(here)
            if info.st_uid or info.st_gid:
                return False
            if stat.S_ISDIR(info.st_mode):
                with os.scandir(here) as entries:
                    waiting += [entry.path for entry in entries]
    except OSError:  # too deep for a path, say: whoever copies it has the error's words
        return False
    return True
