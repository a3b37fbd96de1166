"""Opens paths below a root directory, whatever their symbolic links say.

Opens files. Paths are resolved by the kernel if it has openat2(2) with RESOLVE_IN_ROOT (Linux 5.6), else by walking
them component by component. Both pass the same tests with hostile trees.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import struct
from collections.abc import Callable

MAX_LINKS = 40  # as the kernel: path_resolution(7)
_SYS_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_IN_ROOT = 0x10
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_LIBC = ctypes.CDLL(None, use_errno=True)
_RETRIES = 64
Resolver = Callable[[int, bytes, int, int], int]  # (descriptor of the root, path, flags, mode) -> descriptor


@functools.cache
def kernel_resolves() -> bool:
    """Whether openat2 is available: old kernels and some seccomp filters reject it."""
    try:
        os.close(kernel_open(-100, b"/", os.O_PATH | os.O_CLOEXEC, 0))
    except OSError:
        return False
    return True


def kernel_open(dir_fd: int, path: bytes, flags: int, mode: int, *, links: bool = True) -> int:
    """Open ``path`` below ``dir_fd`` with openat2(2), which treats the directory as the root of every link.

    Raises:
        OSError: as openat2(2); ELOOP if a link would be followed and ``links`` is False.
    """
    resolve = _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS | (0 if links else _RESOLVE_NO_SYMLINKS)
    how = struct.pack("=QQQ", flags, mode, resolve)
    for _ in range(_RETRIES):
        fd = _LIBC.syscall(_SYS_OPENAT2, dir_fd, path or b".", how, len(how))
        if fd >= 0:
            return int(fd)
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):  # EAGAIN: something was renamed while the kernel resolved ".."
            break
    raise OSError(code, os.strerror(code), os.fsdecode(path))


def ends_in_directory(path: bytes) -> bool:
    """Whether only a directory can be at a path, because it goes on after the last name: path_resolution(7)."""
    return path.endswith((b"/", b"/."))


def _same(directory: int, path: bytes) -> int:
    return directory


def walk_open(
    root_fd: int, path: bytes, flags: int, mode: int = 0, *, parent_fd: Callable[[int, bytes], int] = _same
) -> int:
    """Open ``path`` below ``root_fd`` by walking it, with the result of openat2 on kernels without it.

    ``parent_fd`` maps the directory reached so far and the root-relative path of the next component, without links, to
    the directory in which that component is looked up.

    Raises:
        OSError: as open(2); ELOOP after 40 links.
    """
    pending = [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]
    want_directory = ends_in_directory(path)
    walk = _Walk(root_fd, parent_fd)
    links = 0
    try:
        while pending:
            part = pending.pop()
            if part == b"..":
                walk.go_to(walk.names[:-1])
                continue
            here = walk.parent_of(part)
            last = not pending
            if last and flags & (os.O_CREAT | os.O_NOFOLLOW) and not want_directory:
                follow = not flags & os.O_NOFOLLOW and not flags & os.O_EXCL
            else:
                follow = True
            try:
                target = os.readlink(part, dir_fd=here) if follow else None
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOENT):
                    raise
                target = None
            if target is not None:
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fsdecode(path))
                want_directory |= last and ends_in_directory(target)
                if target.startswith(b"/"):
                    walk.go_to([])
                pending.extend(p for p in reversed(target.split(b"/")) if p not in (b"", b"."))
                continue
            if last and not want_directory:
                return os.open(part, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=here)
            walk.enter(part)
        return os.open(".", (flags & ~os.O_CREAT & ~os.O_EXCL) | os.O_CLOEXEC, dir_fd=walk.fd)
    finally:
        walk.close()


class _Walk:
    """A directory below a root and its path there, without links. Only this directory is open, however deep it is."""

    def __init__(self, root_fd: int, parent_fd: Callable[[int, bytes], int]) -> None:
        self._root = root_fd
        self._parent_fd = parent_fd
        self.fd = os.dup(root_fd)
        self.names: list[bytes] = []

    def parent_of(self, name: bytes) -> int:
        return self.fd if self._parent_fd is _same else self._parent_fd(self.fd, b"/".join((*self.names, name)))

    def enter(self, name: bytes) -> None:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        below = os.open(name, flags, dir_fd=self.parent_of(name))
        self.close()
        self.fd = below
        self.names.append(name)

    def go_to(self, names: list[bytes]) -> None:
        root = os.dup(self._root)
        self.close()
        self.fd, self.names = root, []
        for name in names:
            self.enter(name)

    def close(self) -> None:
        os.close(self.fd)
