"""Temporary entries of a root file system while a command runs: mount points, devices.

Creates and removes files through descriptors of their directories, which stay valid when a directory is renamed, and
restores the times of the directories, so that they do not look changed. To be used in a process whose root is the root
file system.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import field

from imagewright.records import dataclass

NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/hostname")  # commands are given copies of them
_MAX_NETWORK_FILE_BYTES = 1 << 20
_MAX_NAME_BYTES = 255  # NAME_MAX (limits.h)
_KERNEL = ("/proc", "/sys", "/dev")


def read_network_file(path: str) -> bytes | None:
    """The content of one of ``NETWORK_FILES`` of this process's root; None if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_NETWORK_FILE_BYTES)
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class _MountPoint:
    directory: int
    name: str
    content: bytes


@dataclass(slots=True)
class MountPoints:
    """The entries that were created, in order."""

    _made: list[_MountPoint] = field(default_factory=list)

    def directory(self, path: str) -> None:
        """Create a directory and its parents, unless they exist. ``path`` is absolute and contains no links."""
        missing = []
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for each in reversed(missing):
            self._make(each, b"", lambda name, directory: os.mkdir(name, 0o755, dir_fd=directory))

    def file(self, path: str, content: bytes = b"") -> None:
        """Create a file unless something exists there; it is removed later, unless the command changed its content."""

        def create(name: str, directory: int) -> None:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
            with os.fdopen(os.open(name, flags, 0o644, dir_fd=directory), "wb") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(content)

        if not os.path.lexists(path):
            self.directory(os.path.dirname(path))
            self._make(path, content, create)

    def device(self, path: str, number: tuple[int, int]) -> None:
        """Create a character device for everybody unless something exists there."""

        def create(name: str, directory: int) -> None:
            os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(*number), dir_fd=directory)
            os.chmod(name, 0o666, dir_fd=directory)  # noqa: S103 -- devices are for everybody

        if not os.path.lexists(path):
            self._make(path, b"", create)

    def remove(self) -> None:
        """Remove everything again, except what the command changed."""
        for point in reversed(self._made):
            with contextlib.suppress(OSError), times_kept(point.directory):
                _remove(point)
            os.close(point.directory)
        self._made.clear()

    def _make(self, path: str, content: bytes, create: Callable[[str, int], None]) -> None:
        directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
        name = os.path.basename(path)
        try:
            with times_kept(directory):
                create(name, directory)
        except BaseException:
            os.close(directory)
            raise
        self._made.append(_MountPoint(directory, name, content))


def resolve(path: str) -> str:
    """The real path of ``path`` in the root file system.

    Raises:
        OSError: ELOOP, also if the path is the root itself.
    """
    target = os.path.realpath(path)
    if target == "/" or os.path.islink(target):
        raise OSError(errno.ELOOP, f'cannot resolve "{path}" in the image: {os.strerror(errno.ELOOP)}')
    return target


def resolve_target(path: str) -> str:
    """``resolve`` for the target of a mount, which in no mode may be the root or among the kernel's files.

    Raises:
        OSError
    """
    target = os.path.realpath(path)
    if target in ("/", "/proc", "/sys", "/dev") or target.startswith(("/proc/", "/sys/")):
        which = "it" if target == os.path.normpath(path) else f'"{target}", where it leads,'
        raise OSError(errno.EEXIST, f'cannot mount at "{path}": {which} belongs to the sandbox')
    return resolve(path)


def network_file_target(path: str) -> str | None:
    """The real path of one of ``NETWORK_FILES``, at which a file can be put or covered.

    None if the image has a directory there, or a link that leads to the kernel's files, to itself or below a file: a
    command can do without a file of name resolution, but not without /dev/null.
    """
    try:
        target = resolve(path)
        if stat.S_ISDIR(os.lstat(target).st_mode):
            return None
    except FileNotFoundError:
        if max(len(os.fsencode(name)) for name in target.split("/")) > _MAX_NAME_BYTES:
            return None
    except OSError:
        return None
    return None if any(target == top or target.startswith(f"{top}/") for top in _KERNEL) else target


def check_kind(written: str, path: str, *, directory: bool) -> None:
    """Refuse to mount a directory over a file or a file over a directory. ``path``: the real path of ``written``.

    Raises:
        OSError
    """
    if directory and os.path.lexists(path) and not os.path.isdir(path):
        raise OSError(errno.ENOTDIR, f'cannot mount a directory at "{written}": a file exists there')
    if not directory and os.path.isdir(path):
        raise OSError(errno.EISDIR, f'cannot mount a file at "{written}": a directory exists there')


@contextlib.contextmanager
def times_kept(directory: int) -> Iterator[None]:
    """Preserve the times of an open directory while entries are created or removed."""
    info = os.fstat(directory)
    try:
        yield
    finally:
        os.utime(directory, ns=(info.st_atime_ns, info.st_mtime_ns))


def _remove(point: _MountPoint) -> None:
    info = os.stat(point.name, dir_fd=point.directory, follow_symlinks=False)
    if stat.S_ISDIR(info.st_mode):
        os.rmdir(point.name, dir_fd=point.directory)
    elif stat.S_ISCHR(info.st_mode) or (stat.S_ISREG(info.st_mode) and _reads(point, info.st_size)):
        os.unlink(point.name, dir_fd=point.directory)


def _reads(point: _MountPoint, size: int) -> bool:
    if size != len(point.content):
        return False
    with os.fdopen(os.open(point.name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=point.directory), "rb") as file:
        return file.read() == point.content
