"""Descriptors of the folders that are being written into, kept for a while: entries of a folder follow one another.

Opens and makes folders inside the root. Called by ``fs.unpack`` and ``fs.copy``.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Callable

from imagewright.errors import FileSystemError, Reason
from imagewright.fs.rootfs import Rootfs

_KEPT = 64
MakeFolder = Callable[[int, bytes], None]  # (descriptor of the parent, name)


class Places:
    """A cache of open folders by path. A descriptor that was handed out stays open until 32 others were asked for."""

    def __init__(self, rootfs: Rootfs) -> None:
        self._rootfs = rootfs
        self._open: OrderedDict[bytes, int] = OrderedDict()
        self._retired: list[int] = []

    def existing(self, path: bytes) -> int | None:
        """The folder at ``path`` (links followed inside the root), None where there is none."""
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
                raise FileSystemError(
                    f"/{os.fsdecode(path)} is a circle of symbolic links", reason=Reason.PATH_NOT_ALLOWED
                ) from error
            raise
        self._open[path] = fd
        if len(self._open) > _KEPT:
            self._retire(self._open.popitem(last=False)[1])
        return fd

    def directory(self, path: bytes, make: MakeFolder) -> int:
        """The folder at ``path``; those that are missing are made by ``make``, outermost first."""
        fd = self.existing(path)
        if fd is not None:
            return fd
        parent, _, name = path.rpartition(b"/")
        above = self.directory(parent, make) if parent else self._rootfs.fd
        try:
            make(above, name)
        except FileExistsError:
            # A dangling link, or something that is no folder: neither can be gone through.
            raise FileSystemError(
                f"/{os.fsdecode(path)} is in the way: a folder is needed there, and it is none",
                reason=Reason.PATH_NOT_ALLOWED,
            ) from None
        fd = self.existing(path)
        if fd is None:
            raise FileSystemError(f"/{os.fsdecode(path)} vanished while it was being made")
        return fd

    def forget(self) -> None:
        """Something was removed: a path may mean another folder from now on."""
        for fd in self._open.values():
            self._retire(fd)
        self._open.clear()

    def close(self) -> None:
        """Close everything."""
        self.forget()
        for fd in self._retired:
            os.close(fd)
        self._retired.clear()

    def _retire(self, fd: int) -> None:
        """Callers may still hold it: it is closed when 32 more are retired."""
        self._retired.append(fd)
        if len(self._retired) > 2 * _KEPT:
            for old in self._retired[:_KEPT]:
                os.close(old)
            del self._retired[:_KEPT]
