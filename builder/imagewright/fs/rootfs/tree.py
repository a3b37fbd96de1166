"""Operations on whole trees: remove, copy, move, find changes since a moment.

Writes below the roots it is given.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import deque

from imagewright import descent
from imagewright.descent import Descent, Walk
from imagewright.errors import FileSystemError
from imagewright.fs.paths import check_length, quote_path
from imagewright.fs.rootfs.errors import explain
from imagewright.fs.rootfs.filecopy import FileCopier, copy_attributes, open_directory
from imagewright.fs.rootfs.masked import MaskedEntries
from imagewright.fs.rootfs.root import Rootfs


def remove(rootfs: Rootfs) -> None:
    """Empty a root file system, except for excluded paths and the directories above them."""
    try:
        masked = rootfs.masked
        if isinstance(masked, MaskedEntries):
            masked.adopt_all()
        for name in rootfs.names(rootfs.fd, b""):
            remove_entry(rootfs.fd, name, rootfs)
        if isinstance(masked, MaskedEntries):
            masked.reset()
    except OSError as error:
        raise explain(error, "remove a stage's files") from error


def remove_entry(directory: int, path: bytes, rootfs: Rootfs) -> bool:
    """Remove the image's entry ``path`` and everything below it, without following links.

    ``directory`` is its open parent; ``path`` contains no links, so that foreign paths are recognized. Returns whether
    the disk has nothing there any more.

    Raises:
        OSError: FileNotFoundError among others.
    """
    with Descent(directory) as down:
        return descent.run(_removing(down, path, rootfs))


def _removing(down: Descent, path: bytes, rootfs: Rootfs) -> Walk[bool]:
    if rootfs.excluded and path in rootfs.excluded:
        return False
    name, masked = path.rpartition(b"/")[2], rootfs.masked
    parent = rootfs.parent_fd(down.fd, path)
    if not any(
        apart.startswith(path + b"/") for apart in rootfs.foreign
    ):  # no foreign path below: paths no longer matter
        return _removed(parent, name, path, rootfs) and parent == down.fd
    if descent.try_unlink(parent, name):
        return parent == down.fd
    down.enter(name, parent)
    _check_is_there(down.fd, path, rootfs)
    gone = True
    for child in rootfs.names(down.fd, path):
        gone &= yield _removing(down, path + b"/" + child, rootfs)
    down.leave()
    if gone and masked is not None:
        gone = not masked.leads_to_mount(path)
    parent = rootfs.parent_fd(down.fd, path)
    if gone:
        os.rmdir(name, dir_fd=parent)
    elif masked is not None and masked.leads_to_mount(path):
        masked.drop(path)
    return gone and parent == down.fd


def _removed(directory: int, name: bytes, path: bytes, rootfs: Rootfs) -> bool:
    """Remove an entry with no foreign path below it."""
    if rootfs.masked is not None:
        if descent.try_unlink(directory, name):
            return True
        with open_directory(directory, name) as fd:
            _check_is_there(fd, path, rootfs)
    return descent.remove(directory, name)


def _check_is_there(fd: int, path: bytes, rootfs: Rootfs) -> None:
    if (
        rootfs.masked is not None and rootfs.path_of(fd) != path
    ):  # it may be a mount now, whose files must not be removed
        raise FileSystemError(
            f"cannot remove {quote_path(path)}: it has been moved to {quote_path(rootfs.path_of(fd))}"
        )


def copy_tree(source: Rootfs, target: Rootfs) -> None:
    """Copy everything with owners, modes, times, xattrs and hard links, except paths that either side excludes."""
    try:
        # A descriptor of its own: stages may copy one base concurrently, and listing changes a descriptor's position.
        with source.directory(b"") as opened, Descent(opened) as down, Descent(target.fd) as target_down:
            descent.run(_copying(source, target, (down, target_down), b"", FileCopier(source, target)))
        copy_attributes((source, source.fd), (target, target.fd))
    except OSError as error:
        raise explain(error, "copy a stage's files", full_hint=target.full_hint) from error


def _copying(
    source: Rootfs, target: Rootfs, ways: tuple[Descent, Descent], path: bytes, copier: FileCopier
) -> Walk[None]:
    down, target_down = ways
    for name in source.names(down.fd, path):
        child = path + b"/" + name if path else name
        if source.is_excluded(child) or target.is_excluded(child):
            continue
        parent = source.parent_fd(down.fd, child)
        info = source.inodes.stat((parent, name))
        if not stat.S_ISDIR(info.st_mode):
            if stat.S_ISLNK(info.st_mode):
                target.relocate_mounts(child, os.readlink(name, dir_fd=parent))
            copier.copy_entry((parent, name), (target.parent_fd(target_down.fd, child), name), info)
            continue
        check_length(child)
        with contextlib.suppress(FileExistsError):  # an excluded path is below it
            target.mkdir(target_down.fd, child)
        down.enter(name, parent)
        target_down.enter(name, target.parent_fd(target_down.fd, child))
        yield _copying(source, target, ways, child, copier)
        copy_attributes((source, down.fd), (target, target_down.fd))
        down.leave()
        target_down.leave()


def move_tree(source: Rootfs, target: Rootfs) -> None:
    """Move everything, by renaming within one file system, except paths that either side excludes."""
    try:
        mtime_ns = os.fstat(source.fd).st_mtime_ns  # it changes when entries leave
        for name in source.names(source.fd, b""):
            if not _renamed(source, target, name):
                copy_tree(source, target)  # all at once, for hard links across top-level directories
                remove(source)
                break
        else:
            copy_attributes((source, source.fd), (target, target.fd))
        os.utime(target.fd, ns=(mtime_ns, mtime_ns))
    except OSError as error:
        raise explain(error, "move a stage's files", full_hint=target.full_hint) from error


def _renamed(source: Rootfs, target: Rootfs, name: bytes) -> bool:
    """Rename a top-level entry; False if that is impossible. True for an excluded one, False for one above such."""
    if source.is_excluded(name) or target.is_excluded(name):
        return True
    apart = source.foreign | target.foreign
    if name in apart or any(path.startswith(name + b"/") for path in apart):
        return False
    try:
        os.rename(name, name, src_dir_fd=source.fd, dst_dir_fd=target.fd)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.EBUSY):
            return False
        raise
    return True


def changed_since(path: bytes, moment_ns: int, limit: int) -> bytes | None:
    """The first entry with a ctime at or after ``moment_ns``, nearest to ``path`` first; None if there is none.

    No process can set a ctime. For a changed directory, a changed entry in it is preferred. Gives up after ``limit``
    entries, and skips what cannot be read.
    """
    directories: list[bytes] = []
    waiting = deque([path])
    while waiting and limit > 0:
        current = waiting.popleft()
        try:
            info = os.stat(current, follow_symlinks=False)
            below = sorted(os.listdir(current)) if os.path.isdir(current) and not os.path.islink(current) else None
        except OSError:
            continue
        limit -= 1
        if below is not None:
            waiting.extend(os.path.join(current, name) for name in below[:limit])
        if info.st_ctime_ns >= moment_ns:
            if below is None:
                return current
            directories.append(current)
    return directories[-1] if directories else None
