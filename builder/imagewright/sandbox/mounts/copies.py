"""Copies of trees with everything that a command can see: owners, modes, times, links, attributes.

Reads and writes files by path without following links; the trees must not change meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat

_FileId = tuple[int, int]  # device and inode


def copy(source: str, target: str) -> None:
    """Copy a file, link or directory to ``target``, which must not exist. Hard links within it are preserved.

    Raises:
        OSError
    """
    seen: dict[_FileId, str] = {}  # files with several hard links
    directories = []
    waiting = [(source, target)]
    while waiting:
        old, new = waiting.pop()
        info = os.lstat(old)
        if stat.S_ISDIR(info.st_mode):
            os.mkdir(new, 0o700)
            directories.append((old, new, info))
            waiting += [(os.path.join(old, name), os.path.join(new, name)) for name in os.listdir(old)]
        elif info.st_nlink > 1 and (first := seen.setdefault((info.st_dev, info.st_ino), new)) != new:
            os.link(first, new, follow_symlinks=False)
        elif _make(old, new, info):
            _copy_metadata(old, new, info)
    for old, new, info in reversed(directories):  # last, since copying entries changes their times
        _copy_metadata(old, new, info)


def break_hard_links(directory: str) -> None:
    """Replace files that have hard links outside ``directory`` with copies, so that writes there do not affect it.

    Raises:
        OSError
    """
    names: dict[_FileId, list[str]] = {}
    counts: dict[_FileId, int] = {}
    waiting = [directory]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    waiting.append(entry.path)
                elif info.st_nlink > 1 and stat.S_ISREG(info.st_mode):
                    names.setdefault((info.st_dev, info.st_ino), []).append(entry.path)
                    counts[info.st_dev, info.st_ino] = info.st_nlink
    for file, paths in names.items():
        if len(paths) == counts[file]:
            continue
        own = f"{directory}.own"
        copy(paths[0], own)
        for path in paths:
            os.unlink(path)
            os.link(own, path)
        os.unlink(own)


def _make(old: str, new: str, info: os.stat_result) -> bool:
    kind = stat.S_IFMT(info.st_mode)
    if kind == stat.S_IFREG:
        shutil.copyfile(old, new)
    elif kind == stat.S_IFLNK:
        os.symlink(os.readlink(old), new)
    elif kind == stat.S_IFSOCK:
        return False  # nobody listens on it any more
    else:
        os.mknod(new, kind | 0o600, info.st_rdev)
    return True


def _copy_metadata(source: str, target: str, info: os.stat_result) -> None:
    os.chown(target, info.st_uid, info.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(info.st_mode):
        os.chmod(target, stat.S_IMODE(info.st_mode))  # after chown, which drops setuid
        for name in os.listxattr(source, follow_symlinks=False):
            with contextlib.suppress(OSError):  # may be reserved to the kernel or the parent namespace
                os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)
