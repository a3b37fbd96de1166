"""A cache of open directories: consecutive entries of an archive or tree mostly share their parent.

Opens directories inside the root.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict

from imagewright.errors import FileSystemError, Reason
from imagewright.fs.paths import quote_path
from imagewright.fs.rootfs.root import Rootfs

_KEPT = 64


class DirectoryCache:
    """Open directories by path. A returned descriptor stays open until 64 others have been requested."""

    def __init__(self, rootfs: Rootfs) -> None:
        self._rootfs = rootfs
        self._open: OrderedDict[bytes, int] = OrderedDict()
        self._retired: list[int] = []
        self._real: dict[bytes, bytes] = {}  # real paths of the open ones, only where the root has foreign paths
        self._apart = bool(rootfs.excluded) or rootfs.masked is not None

    def find(self, path: bytes) -> int | None:
        """The directory at ``path`` (links followed inside the root), None if there is none."""
        fd = self._open.get(path)
        if fd is not None:
            self._open.move_to_end(path)
            return fd
        if not path:
            return self._rootfs.fd
        try:
            fd = self._rootfs.open_directory(path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            if error.errno == errno.ELOOP:
                raise too_many_links(path) from error
            raise
        return self.keep(path, fd)

    def keep(self, path: bytes, fd: int) -> int:
        """Keep an open directory, which is then found at ``path``."""
        if self._apart:
            try:
                self._real[path] = self._checked_real_path(fd, path)
            except BaseException:
                os.close(fd)
                raise
        self._open[path] = fd
        if len(self._open) > _KEPT:
            oldest, old_fd = self._open.popitem(last=False)
            self._real.pop(oldest, None)
            self._retire(old_fd)
        return fd

    def real_path(self, path: bytes, name: bytes) -> bytes:
        """The path of ``name`` in the directory at ``path``; links are resolved if the root has foreign paths."""
        if self._apart and path and path not in self._real:
            self.find(path)
        real = self._real.get(path, path)
        return real + b"/" + name if real else name

    def invalidate(self) -> None:
        """To be called when something was removed: paths may refer to other directories from now on."""
        for fd in self._open.values():
            self._retire(fd)
        self._open.clear()
        self._real.clear()

    def close(self) -> None:
        """Close everything."""
        self.invalidate()
        for fd in self._retired:
            os.close(fd)
        self._retired.clear()

    def _checked_real_path(self, fd: int, path: bytes) -> bytes:
        """A path may lead through links to a foreign one, so the real path of the open directory is checked."""
        real = self._rootfs.path_of(fd)
        if self._rootfs.is_excluded(real) and not self._rootfs.is_excluded(path):
            raise FileSystemError(
                f"cannot write to {quote_path(path)}: it leads to a directory of the executor, not of the image",
                reason=Reason.PATH_NOT_ALLOWED,
                hint="Use another directory, or the namespace sandbox, which has its own root.",
            )
        return real

    def _retire(self, fd: int) -> None:
        """Callers may still use it, so it is closed only when 64 more have been retired."""
        self._retired.append(fd)
        if len(self._retired) > 2 * _KEPT:
            for old in self._retired[:_KEPT]:
                os.close(old)
            del self._retired[:_KEPT]


def too_many_links(path: bytes) -> FileSystemError:
    """The error for a path that leads through too many links, in a circle perhaps."""
    return FileSystemError(
        f"cannot resolve {quote_path(path)}: too many levels of symbolic links",
        reason=Reason.PATH_NOT_ALLOWED,
        hint="Remove one of the links in an earlier step, or use another directory.",
    )


def link_target(directory: int, name: bytes) -> bytes | None:
    """The target of a symbolic link; None for anything else."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:
        return None
