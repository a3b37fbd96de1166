"""What has to be in a root file system while a command runs and must not be there afterwards: mount points, devices.

Makes and removes files by descriptors of their directories, so that renaming a directory above them misleads nobody, and
gives the directories their times back, so that they don't look changed. Called by every mode, in a process whose root is the
root file system.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class _MountPoint:
    directory: int
    name: str
    content: bytes


@dataclass(slots=True)
class MountPoints:
    """What was made, in order."""

    _made: list[_MountPoint] = field(default_factory=list)

    def directory(self, path: str) -> None:
        """Make a directory, and those above it, where there is none. ``path`` is absolute and holds no link."""
        missing = []
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for each in reversed(missing):
            self._make(each, b"", lambda name, directory: os.mkdir(name, 0o755, dir_fd=directory))

    def file(self, path: str, content: bytes = b"") -> None:
        """Make a file where there is nothing; it is removed unless the command changed what is in it."""

        def create(name: str, directory: int) -> None:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
            with os.fdopen(os.open(name, flags, 0o644, dir_fd=directory), "wb") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(content)

        if not os.path.lexists(path):
            self.directory(os.path.dirname(path))
            self._make(path, content, create)

    def device(self, path: str, number: tuple[int, int]) -> None:
        """Make a character device for everybody where there is nothing."""

        def create(name: str, directory: int) -> None:
            os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(*number), dir_fd=directory)
            os.chmod(name, 0o666, dir_fd=directory)  # noqa: S103 -- devices are for everybody

        if not os.path.lexists(path):
            self._make(path, b"", create)

    def remove(self) -> None:
        """Take everything out again, but what the command made its own."""
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
    """Where ``path`` leads inside the root file system, links followed.

    Raises:
        OSError: ELOOP, or the path is the root itself.
    """
    target = os.path.realpath(path)
    if target == "/" or os.path.islink(target):
        raise OSError(errno.ELOOP, f'cannot resolve "{path}" in the image: {os.strerror(errno.ELOOP)}')
    return target


def resolve_target(path: str) -> str:
    """``resolve`` for what a RUN mounts: not over the root, and not over the kernel's own files, in no mode.

    Raises:
        OSError
    """
    target = os.path.realpath(path)
    if target in ("/", "/proc", "/sys", "/dev") or target.startswith(("/proc/", "/sys/")):
        which = "it" if target == os.path.normpath(path) else f'"{target}", where it leads,'
        raise OSError(errno.EEXIST, f'cannot mount at "{path}": {which} belongs to the sandbox')
    return resolve(path)


def check_kind(written: str, place: str, *, directory: bool) -> None:
    """Refuse to cover a file by a directory or a directory by a file. ``place``: where ``written`` leads to.

    Raises:
        OSError
    """
    if directory and os.path.lexists(place) and not os.path.isdir(place):
        raise OSError(errno.ENOTDIR, f'cannot mount a directory at "{written}": a file exists there')
    if not directory and os.path.isdir(place):
        raise OSError(errno.EISDIR, f'cannot mount a file at "{written}": a directory exists there')


@contextlib.contextmanager
def times_kept(directory: int) -> Iterator[None]:
    """Give an open directory its times back after something in it was made or removed."""
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
