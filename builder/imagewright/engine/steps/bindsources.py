"""A context as RUN --mount=type=bind shows it: without the files that .dockerignore excludes, and owned by root.

Copies files only if the folder itself cannot be mounted, and then only those that are mounted.
"""

from __future__ import annotations

import os
import stat
import threading

from imagewright.engine.workspace import Workspace
from imagewright.fs.copy.copier import CopyRequest, copy
from imagewright.fs.copy.filters import Ignore, combine
from imagewright.fs.rootfs.root import Rootfs
from imagewright.records import dataclass


class BindSources:
    """The sources of a build's bind mounts, each made once. May be used from several threads."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._sources: dict[tuple[str, str], Rootfs] = {}
        self._lock = threading.Lock()

    def of(self, name: str, root: Rootfs, ignore: Ignore | None, path: str) -> Rootfs:
        """A folder with at least ``path`` of the context ``name``, whose files are in ``root``.

        Raises:
            FileSystemError: it cannot be copied.
        """
        mounted = _without_links(root, path)
        with self._lock:
            source = self._sources.get((name, "")) or self._sources.get((name, mounted))
            if source is None:
                as_is = ignore is None and _belongs_to_root(os.path.join(root.path, mounted))
                source = root if as_is else self._copied(root, combine(ignore, _Only(mounted) if mounted else None))
                self._sources[name, mounted] = source
            return source

    def _copied(self, root: Rootfs, ignore: Ignore | None) -> Rootfs:
        source = self._workspace.bind_source(str(len(self._sources)))
        copy(source, CopyRequest(root, (".",), "/", ignore=ignore))
        return source


@dataclass(frozen=True, slots=True)
class _Only:
    """Hides all but a file or folder and what is below it."""

    path: str

    def ignores(self, path: str, /) -> bool:
        return path != self.path and not path.startswith(f"{self.path}/")

    def may_include_below(self, directory: str, /) -> bool:
        return self.path.startswith(f"{directory}/") or not self.ignores(directory)


def _without_links(root: Rootfs, path: str) -> str:
    """``path`` relative to the root; ``""``, the whole context, if a symbolic link is on the way."""
    relative = path.strip("/")
    try:
        return relative if os.fsdecode(root.realpath(os.fsencode(relative))) == relative else ""
    except OSError:
        return ""


def _belongs_to_root(path: str) -> bool:
    """Whether root owns everything, as in BuildKit's contexts; reads metadata only."""
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
    except OSError:  # for example, too deep for a path: copying it will give a better error
        return False
    return True
