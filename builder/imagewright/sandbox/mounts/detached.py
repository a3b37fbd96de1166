"""What a RUN mounts, made ready outside the rootfs as detached mounts, which nothing in an image can lead astray.

Mounts in the calling process's mount namespace. Called by ``sandbox.namespace``, before the root is changed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from imagewright.sandbox.kernel import linux
from imagewright.sandbox.model import DirectoryMount, FileMount, SandboxMount, SocketMount, TmpfsMount
from imagewright.sandbox.mounts.copies import copy

_SAFE = linux.MS_NOSUID | linux.MS_NODEV


@dataclass(frozen=True, slots=True)
class DetachedMount:
    """A mount that waits for its place. ``fd`` is None for a tmpfs of so many bytes, which is made in its place."""

    target: str
    directory: bool
    fd: int | None = None
    size_bytes: int = 0

    def attach(self, place: str, mode: int) -> None:
        """Mount it at ``place``, a path without links. A tmpfs has the mode of the directory that it covers."""
        if self.fd is None:
            size = f",size={self.size_bytes}" if self.size_bytes else ""
            linux.mount("tmpfs", place, "tmpfs", _SAFE, f"mode={mode:o}{size}")
        else:
            linux.attach_mount(self.fd, place)
            os.close(self.fd)


def prepare(mounts: Sequence[SandboxMount], scratch: str) -> list[DetachedMount]:
    """Make each ready, in order. ``scratch`` is an empty directory of this command's own.

    Raises:
        OSError: naming the source that isn't there or the call that isn't allowed.
    """
    return [_prepare(mount, os.path.join(scratch, f"mount-{number}")) for number, mount in enumerate(mounts)]


def _prepare(mount: SandboxMount, scratch: str) -> DetachedMount:
    match mount:
        case DirectoryMount(target=target, source=source):
            directory = os.path.isdir(source)
            place = _thrown_away(source, scratch) if mount.discard else source
            fd = linux.clone_mount(place, recursive=True)
            attributes = linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV
            if not (mount.writable or mount.discard):
                attributes |= linux.MOUNT_ATTR_RDONLY
            linux.restrict_mount(fd, attributes, recursive=True)
            return DetachedMount(target, directory, fd)
        case TmpfsMount(target=target, size_bytes=size):
            return DetachedMount(target, True, size_bytes=size)
        case FileMount(target=target):
            return DetachedMount(target, False, _file_in_memory(mount, scratch))
        case SocketMount(target=target, source=source):
            return DetachedMount(target, False, linux.clone_mount(source, recursive=False))


def _file_in_memory(file: FileMount, scratch: str) -> int:
    """A detached mount of one file on a tmpfs of its own, which is mounted nowhere else."""
    os.mkdir(scratch, 0o700)
    linux.mount("tmpfs", scratch, "tmpfs", _SAFE, f"mode=700,size={len(file.content) + 65536}")
    path = os.path.join(scratch, "file")
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(fd, "wb") as out:
        out.write(file.content)
        os.fchown(out.fileno(), file.uid, file.gid)
        os.fchmod(out.fileno(), file.mode)
    detached = linux.clone_mount(path, recursive=False)
    linux.restrict_mount(detached, linux.MOUNT_ATTR_RDONLY, recursive=False)
    linux.umount(scratch)
    return detached


def _thrown_away(source: str, scratch: str) -> str:
    """Where ``source`` can be written and nothing of it lasts: an overlay, or a copy where there are none."""
    os.mkdir(scratch, 0o700)
    if not os.path.isdir(source):
        return _copied(source, os.path.join(scratch, "copy"))
    directories = {name: os.path.join(scratch, name) for name in ("upper", "work", "merged")}
    for directory in directories.values():
        os.mkdir(directory, 0o755)
    info = os.stat(source)
    os.chown(directories["upper"], info.st_uid, info.st_gid)
    os.chmod(directories["upper"], stat.S_IMODE(info.st_mode))
    os.utime(directories["upper"], ns=(info.st_atime_ns, info.st_mtime_ns))
    options = {"lowerdir": source, "upperdir": directories["upper"], "workdir": directories["work"]}
    data = ",".join(f"{key}={_escaped(path)}" for key, path in options.items())
    try:
        linux.mount("overlay", directories["merged"], "overlay", _SAFE, f"{data},userxattr")
    except OSError:  # an old kernel, or a file system that can't be below one
        return _copied(source, os.path.join(scratch, "copy"))
    return directories["merged"]


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _copied(source: str, target: str) -> str:
    copy(source, target)
    return target
