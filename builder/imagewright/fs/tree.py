"""Whole trees: removing, copying, moving, making folders.

Writes below the roots it is given. Called by ``fs.unpack`` and, between stages and for WORKDIR, by the engine.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass

from imagewright.errors import FileSystemError, Reason
from imagewright.fs.changes import Changes
from imagewright.fs.fileops import FileCopier, copy_attributes, make_folder, open_folder
from imagewright.fs.places import Places
from imagewright.fs.rootfs import OPEN_FOLDER, Rootfs, explain

MAX_DEPTH = 256  # folders inside each other; each holds a descriptor while it is walked


@dataclass(frozen=True, slots=True)
class Ownership:
    """Numeric owner and group."""

    uid: int
    gid: int


def too_deep(path: bytes) -> FileSystemError:
    """For a folder below ``MAX_DEPTH`` others."""
    return FileSystemError(
        f"/{os.fsdecode(path)[:200]}… is deeper than {MAX_DEPTH} folders",
        reason=Reason.LIMIT_EXCEEDED,
        hint="No image needs that many folders inside each other.",
    )


def remove(rootfs: Rootfs) -> None:
    """Empty a root file system; what is excluded stays, and so do the folders that lead to it."""
    try:
        if rootfs.shadow is not None:
            rootfs.shadow.give_up()
        for name in rootfs.names(rootfs.fd, b""):
            remove_entry(rootfs.fd, name, rootfs)
        if rootfs.shadow is not None:
            rootfs.shadow.reset()
    except OSError as error:
        raise explain(error, "removing a stage's files") from error


def remove_entry(directory: int, path: bytes, rootfs: Rootfs, depth: int = 0) -> bool:
    """Remove the image's entry ``path`` and all that is below it, without following any link.

    ``directory`` is the open folder above it; ``path`` has no links in it: what is set apart is told by it. Returns
    whether the disk has nothing there any more.

    Raises:
        OSError: FileNotFoundError among others.
    """
    if rootfs.excluded and path in rootfs.excluded:
        return False
    name, home = path.rpartition(b"/")[2], rootfs.home(directory, path)
    gone = _remove(home, name, path, rootfs, depth)
    if not gone and rootfs.shadow is not None and rootfs.shadow.leads_to_mount(path):
        rootfs.shadow.drop(path)
    return gone and home == directory


def _remove(directory: int, name: bytes, path: bytes, rootfs: Rootfs, depth: int) -> bool:
    try:
        os.unlink(name, dir_fd=directory)
        return True
    except IsADirectoryError:
        pass
    except PermissionError:  # what unlink(2) says of a folder on some file systems
        if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise
    if depth > MAX_DEPTH:
        raise too_deep(path)
    fd = os.open(name, OPEN_FOLDER, dir_fd=directory)
    gone = True
    try:
        if rootfs.shadow is not None and rootfs.path_of(fd) != path:  # then it may be a mount, whose files are not ours
            raise FileSystemError(
                f'cannot remove "/{os.fsdecode(path)}": it is "/{os.fsdecode(rootfs.path_of(fd))}" by now'
            )
        for child in rootfs.names(fd, path):
            gone &= remove_entry(fd, path + b"/" + child, rootfs, depth + 1)
        if gone and rootfs.shadow is not None:
            gone = not rootfs.shadow.leads_to_mount(path)
    finally:
        os.close(fd)
    if gone:
        os.rmdir(name, dir_fd=directory)
    return gone


def copy_tree(source: Rootfs, target: Rootfs) -> None:
    """Copy everything with owners, modes, times, xattrs and hard links; what either side excludes is left out."""
    try:
        # Opened anew: several stages may copy one base at a time, and a listing moves the descriptor that it reads.
        with source.directory(b"") as opened:
            _copy_folder(source, target, (opened, target.fd), b"", FileCopier(target))
        copy_attributes(source.fd, target.fd)
    except OSError as error:
        raise explain(error, "copying a stage's files") from error


def _copy_folder(source: Rootfs, target: Rootfs, fds: tuple[int, int], path: bytes, copier: FileCopier) -> None:
    source_fd, target_fd = fds
    if path.count(b"/") > MAX_DEPTH:
        raise too_deep(path)
    for name in source.names(source_fd, path):
        place = path + b"/" + name if path else name
        if source.is_excluded(place) or target.is_excluded(place):
            continue
        home = source.home(source_fd, place)
        info = os.stat(name, dir_fd=home, follow_symlinks=False)
        if not stat.S_ISDIR(info.st_mode):
            if stat.S_ISLNK(info.st_mode):
                target.make_way(place, os.readlink(name, dir_fd=home))
            copier.copy_entry((home, name), (target.home(target_fd, place), name), info)
            continue
        with contextlib.suppress(FileExistsError):  # it leads to something excluded
            target.mkdir(target_fd, place)
        with open_folder(home, name) as below, open_folder(target.home(target_fd, place), name) as target_below:
            _copy_folder(source, target, (below, target_below), place, copier)
            copy_attributes(below, target_below)


def move_tree(source: Rootfs, target: Rootfs) -> None:
    """Move everything, by renaming where both are on one file system; what either side excludes stays."""
    try:
        mtime_ns = os.fstat(source.fd).st_mtime_ns  # it moves with what leaves
        for name in source.names(source.fd, b""):
            if not _renamed(source, target, name):
                copy_tree(source, target)  # hard links across top-level folders need it to be done in one go
                remove(source)
                break
        else:
            copy_attributes(source.fd, target.fd)
        os.utime(target.fd, ns=(mtime_ns, mtime_ns))
    except OSError as error:
        raise explain(error, "moving a stage's files") from error


def _renamed(source: Rootfs, target: Rootfs, name: bytes) -> bool:
    """Whether a top-level entry could be renamed; one that is excluded counts as done, one that leads there not."""
    if source.is_excluded(name) or target.is_excluded(name):
        return True
    apart = source.set_apart | target.set_apart
    if name in apart or any(path.startswith(name + b"/") for path in apart):
        return False
    try:
        os.rename(name, name, src_dir_fd=source.fd, dst_dir_fd=target.fd)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.EBUSY):
            return False
        raise
    return True


def make_directory(rootfs: Rootfs, path: str, ownership: Ownership | None) -> Changes:
    """Make a folder and its missing parents (WORKDIR), each with mode 0755 and the given owner; root without.

    Raises:
        FileSystemError: when something that is no folder is in the way.
    """
    made: set[bytes] = set()
    owner = ownership or Ownership(0, 0)
    wanted = b"/".join(part for part in os.fsencode(path).split(b"/") if part not in (b"", b"."))

    def make(parent_fd: int, path: bytes) -> None:
        make_folder(rootfs, parent_fd, path, (owner.uid, owner.gid))
        made.add(path)

    places = Places(rootfs)
    try:
        if not wanted or places.existing(wanted) is not None:
            return Changes((), ())
        places.directory(wanted, make)
        return Changes(tuple(sorted(made)), ())
    except OSError as error:
        raise explain(error, f"making the folder {path}") from error
    finally:
        places.close()
