"""Prepares the mounts of a RUN outside the rootfs, as detached mounts, which nothing in an image can redirect.

Mounts in the calling process's mount namespace, before the root is changed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from imagewright.records import dataclass
from imagewright.sandbox.kernel import linux
from imagewright.sandbox.model import DirectoryMount, FileMount, SandboxMount, SocketMount, TmpfsMount
from imagewright.sandbox.mounts.copies import copy

_SAFE = linux.MS_NOSUID | linux.MS_NODEV


@dataclass(frozen=True, slots=True)
class DetachedMount:
    """A mount to be attached. ``fd`` is None for a tmpfs of ``size_bytes``, which is mounted directly at its target."""

    target: str
    directory: bool
    fd: int | None = None
    size_bytes: int = 0

    def attach(self, path: str, mode: int) -> None:
        """Attach it at ``path``, a path without links. ``mode``: for a tmpfs."""
        if self.fd is None:
            size = f",size={self.size_bytes}" if self.size_bytes else ""
            linux.mount("tmpfs", path, "tmpfs", _SAFE, f"mode={mode:o}{size}")
        else:
            linux.attach_mount(self.fd, path)
            os.close(self.fd)


def prepare(mounts: Sequence[SandboxMount], scratch: str) -> list[DetachedMount]:
    """Prepare each mount, in order. ``scratch`` is an empty directory for this command.

    Raises:
        OSError: naming the missing source or the system call that is not permitted.
    """
    return [_prepare(mount, os.path.join(scratch, f"mount-{number}")) for number, mount in enumerate(mounts)]


def _prepare(mount: SandboxMount, scratch: str) -> DetachedMount:
    match mount:
        case DirectoryMount(target=target, source=source):
            directory = os.path.isdir(source)
            origin = _discardable(source, scratch) if mount.discard else source
            fd = linux.clone_mount(origin, recursive=True)
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
    """A detached mount of one file on its own tmpfs, which is not mounted anywhere else."""
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


def _discardable(source: str, scratch: str) -> str:
    """A path with the content of ``source`` for writes that are discarded: an overlay, else a copy."""
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
    except OSError:  # an old kernel, or a file system that overlayfs does not support
        return _copied(source, os.path.join(scratch, "copy"))
    return directories["merged"]


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _copied(source: str, target: str) -> str:
    copy(source, target)
    return target
