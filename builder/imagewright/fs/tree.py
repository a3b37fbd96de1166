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
        for name in os.listdir(rootfs.fd):
            encoded = os.fsencode(name)
            remove_entry(rootfs.fd, encoded, encoded, rootfs)
    except OSError as error:
        raise explain(error, "removing a stage's files") from error


def remove_entry(directory: int, name: bytes, path: bytes, rootfs: Rootfs, depth: int = 0) -> bool:
    """Remove ``name`` from the folder ``directory`` and all that is below it, without following any link.

    ``path`` is its place in ``rootfs``, for what is excluded. Returns whether it is gone.

    Raises:
        OSError: FileNotFoundError among others.
    """
    if rootfs.excluded and path in rootfs.excluded:
        return False
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
        for child in os.listdir(fd):
            encoded = os.fsencode(child)
            gone &= remove_entry(fd, encoded, path + b"/" + encoded, rootfs, depth + 1)
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
    for name_ in os.listdir(source_fd):
        name = os.fsencode(name_)
        place = path + b"/" + name if path else name
        if source.is_excluded(place) or target.is_excluded(place):
            continue
        info = os.stat(name, dir_fd=source_fd, follow_symlinks=False)
        if not stat.S_ISDIR(info.st_mode):
            copier.copy_entry((source_fd, name), (target_fd, name), info)
            continue
        with contextlib.suppress(FileExistsError):  # it leads to something excluded
            os.mkdir(name, 0o700, dir_fd=target_fd)
        with open_folder(source_fd, name) as below, open_folder(target_fd, name) as target_below:
            _copy_folder(source, target, (below, target_below), place, copier)
            copy_attributes(below, target_below)


def move_tree(source: Rootfs, target: Rootfs) -> None:
    """Move everything, by renaming where both are on one file system; what either side excludes stays."""
    try:
        mtime_ns = os.fstat(source.fd).st_mtime_ns  # it moves with what leaves
        for name in os.listdir(source.fd):
            if not _renamed(source, target, os.fsencode(name)):
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
    if any(e.startswith(name + b"/") for e in (*source.excluded, *target.excluded)):
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

    def make(parent_fd: int, name: bytes) -> None:
        make_folder(parent_fd, name, (owner.uid, owner.gid))
        above = rootfs.path_of(parent_fd)
        made.add(above + b"/" + name if above else name)

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
