"""A copy of a tree with everything that a command could see of it: owners, modes, times, links, attributes.

Reads and writes files by path, and follows no link: what it is used on must not change meanwhile. Called where a folder
can't be mounted as it is: by ``sandbox.attach`` and ``sandbox.standins``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat


def copy(source: str, target: str) -> None:
    """Copy a file, link or folder to ``target``, where nothing is. Hard links within stay what they are.

    Raises:
        OSError
    """
    _Copier().copy(source, target)


class _Copier:
    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], str] = {}  # files of several names, by device and inode

    def copy(self, source: str, target: str) -> None:
        info = os.lstat(source)
        kind = stat.S_IFMT(info.st_mode)
        if kind == stat.S_IFDIR:
            os.mkdir(target, 0o700)
            with os.scandir(source) as entries:
                for entry in entries:
                    self.copy(entry.path, os.path.join(target, entry.name))
        elif info.st_nlink > 1 and (first := self._seen.setdefault((info.st_dev, info.st_ino), target)) != target:
            os.link(first, target, follow_symlinks=False)
            return
        elif kind == stat.S_IFREG:
            shutil.copyfile(source, target)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(source), target)
        elif kind == stat.S_IFSOCK:
            return  # one that nobody listens on any more
        else:
            os.mknod(target, kind | 0o600, info.st_rdev)
        _like(source, target, info)


def _like(source: str, target: str, info: os.stat_result) -> None:
    os.chown(target, info.st_uid, info.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(info.st_mode):
        os.chmod(target, stat.S_IMODE(info.st_mode))  # after chown, which takes setuid away
        for name in os.listxattr(source, follow_symlinks=False):
            with contextlib.suppress(OSError):  # one that only the kernel or a larger namespace may set
                os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)
