"""A root file system in a folder: every path is resolved inside it, whatever its symbolic links say.

Opens files. Called by everything in ``fs``; the engine makes the values. The kernel resolves where it knows openat2(2)
with RESOLVE_IN_ROOT (Linux 5.6), a walk component by component does elsewhere; both pass the same hostile corpus.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from imagewright.errors import FileSystemError, Reason
from imagewright.fs.privilege import permission_hint

if TYPE_CHECKING:
    from imagewright.fs.shadow import Shadow, ShadowView

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC  # the folder itself, through no link
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
DISK_FULL_HINT = "Give the build a larger work folder: --work-dir, or the size of the Pod's workspace volume."
_MAX_PATH_BYTES = 4095  # PATH_MAX without the NUL: limits.h(0p)
_TOO_LONG_HINT = (
    "Use shorter names, or fewer folders inside each other: Linux takes names of 255 bytes and paths of 4095."
)
_MOST_MOVED = 100  # folders on the way to where mounts are moved
MAX_LINKS = 40  # as the kernel: path_resolution(7)
_SYS_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_IN_ROOT = 0x10
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_LIBC = ctypes.CDLL(None, use_errno=True)
_RETRIES = 64
_DOTS = re.compile(rb"^/|//|(^|/)\.")  # a path that has them may not be what ``real`` gives for it
Resolver = Callable[[int, bytes, int, int], int]  # (descriptor of the root, path, flags, mode) -> descriptor


class Rootfs:
    """A folder that is some image's ``/``.

    Args:
        path: the folder.
        excluded: root-relative paths ("proc", "etc/hosts") that are not the image's: never read, written, deleted or
            packed by those who walk the tree.
        resolver: how paths are opened inside the root; the kernel's way where it has one.
        shadow: what the image has where something else is mounted on the disk. Then a path is resolved as the image has
            it, and whoever works with the entries of an open folder asks ``home`` where each of them is.
    """

    def __init__(
        self,
        path: str,
        excluded: frozenset[str] = frozenset(),
        resolver: Resolver | None = None,
        shadow: Shadow | ShadowView | None = None,
    ) -> None:
        self.path = path
        self.shadow = shadow
        self._plain = resolver or (kernel_open if kernel_resolves() else walk_open)
        self._resolve = self._plain if shadow is None else self._open_around_mounts
        self.excluded = frozenset(os.fsencode(name.strip("/")) for name in excluded)
        self._below_excluded = tuple(name + b"/" for name in self.excluded)
        self._fd = -1
        self._in_whole: tuple[Rootfs, bytes] | None = None  # of one that is below another: that, and where in it

    @property
    def fd(self) -> int:
        """A descriptor of the root folder; lives as long as this value."""
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._fd

    def below(self, path: bytes) -> Rootfs:
        """The folder at ``path``, which holds no link, as a root of its own.

        Raises:
            OSError
        """
        if not path:
            return self
        inside = (os.fsdecode(name[len(path) + 1 :]) for name in self.excluded if name.startswith(path + b"/"))
        # At or below a mask all is in the shadow, which is a folder like any other then.
        shadow = None if self.shadow is None or self.is_apart(path) else self.shadow.seen_from(path)
        root = Rootfs(os.path.join(self.path, os.fsdecode(path)), frozenset(inside), self._plain, shadow)
        root._fd = self.open_directory(path)
        root._in_whole = (self, path)
        return root

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            os.close(self._fd)

    def __repr__(self) -> str:
        return f"Rootfs({self.path!r})"

    def open(self, path: bytes, flags: int, mode: int = 0) -> int:
        """Open a path inside the root, following links inside the root; the descriptor is close-on-exec.

        Raises:
            OSError: as open(2).
        """
        flags |= os.O_CLOEXEC
        if b"\0" in path:
            raise OSError(errno.EINVAL, "a path with a NUL byte", os.fsdecode(path))
        return self._resolve(self.fd, path, flags, mode)

    def open_directory(self, path: bytes) -> int:
        """A descriptor of a folder inside the root, good for ``dir_fd=`` and for listing."""
        return self.open(path, os.O_RDONLY | os.O_DIRECTORY)

    @contextmanager
    def directory(self, path: bytes) -> Iterator[int]:
        """``open_directory`` that closes."""
        fd = self.open_directory(path)
        try:
            yield fd
        finally:
            os.close(fd)

    def lstat(self, path: bytes) -> os.stat_result:
        """The entry at ``path``; links among its parents are followed inside the root, the last component is not."""
        fd = self.open(path, os.O_PATH | os.O_NOFOLLOW)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def read_file(self, path: bytes, limit: int) -> bytes:
        """The content of a regular file, links followed inside the root.

        Raises:
            OSError: as open(2).
            FileSystemError: when it is no regular file, or has more than ``limit`` bytes (reason ``LimitExceeded``).
        """
        # O_NONBLOCK: opening a fifo that a hostile image put there must not wait for a writer.
        fd = self.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise FileSystemError(f"/{os.fsdecode(path)} is no regular file", reason=Reason.PATH_NOT_ALLOWED)
            with os.fdopen(os.dup(fd), "rb") as file:
                data = file.read(limit + 1)
        finally:
            os.close(fd)
        if len(data) > limit:
            raise FileSystemError(f"/{os.fsdecode(path)} is larger than {limit} bytes", reason=Reason.LIMIT_EXCEEDED)
        return data

    def path_of(self, fd: int) -> bytes:
        """The root-relative path, without any link in it, of an open file or folder below the root.

        Raises:
            FileSystemError: when it is not below the root.
        """
        here, root = os.readlink(b"/proc/self/fd/%d" % fd), os.readlink(b"/proc/self/fd/%d" % self.fd)
        if self.shadow is not None and here.startswith(self.shadow.folder + b"/"):
            return here[len(self.shadow.folder) + 1 :]
        prefix = root if root.endswith(b"/") else root + b"/"
        if here != root and not here.startswith(prefix):
            raise FileSystemError(f"{os.fsdecode(here)} is not below {self.path}", reason=Reason.PATH_NOT_ALLOWED)
        return here[len(prefix) :]

    def real(self, path: bytes) -> bytes:
        """Where ``path`` leads, root-relative: links are followed inside the root, the one at its end too.

        Raises:
            OSError: nothing is there.
        """
        fd = self.open(path, os.O_PATH)
        try:
            return self.path_of(fd)
        finally:
            os.close(fd)

    def led_to(self, path: bytes) -> bytes:
        """Where a path leads or will lead: what is there already may be a link, and the rest is yet to be made."""
        rest: list[bytes] = []
        while path:
            try:
                return b"/".join(part for part in (self.real(path), *reversed(rest)) if part)
            except OSError:
                path, _, name = path.rpartition(b"/")
                rest.append(name)
        return b"/".join(reversed(rest))

    def is_excluded(self, path: bytes) -> bool:
        """Whether ``path`` is one of the excluded ones or lies below one."""
        return path in self.excluded or path.startswith(self._below_excluded)

    def _open_around_mounts(self, directory: int, path: bytes, flags: int, mode: int) -> int:
        """As the image has it. Where there is neither link nor mask on the way the kernel does it, which is far quicker."""
        if kernel_resolves() and not _DOTS.search(path) and not self.is_apart(path):
            try:
                return kernel_open(directory, path, flags, mode, links=False)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
        return walk_open(directory, path, flags, mode, home=self.home)

    # --- entries of open folders; paths are link-free, as those of ``real``

    @property
    def set_apart(self) -> frozenset[bytes]:
        """The paths at which the disk has nothing of the image's: the excluded ones, and those masked by a mount."""
        return self.excluded | self.shadow.masks if self.shadow is not None else self.excluded

    def is_apart(self, path: bytes) -> bool:
        """Whether ``path`` is at or below one of ``set_apart``."""
        shadow = self.shadow
        return self.is_excluded(path) or (
            shadow is not None and (path in shadow.masks or path.startswith(shadow.below))
        )

    def has(self, path: bytes) -> bool:
        """Whether the image has an entry at ``path``."""
        try:
            self.lstat(path)
        except OSError:
            return False
        return True

    def home(self, directory: int, path: bytes) -> int:
        """The open folder that has the image's entry ``path``: ``directory``, unless something else is mounted there."""
        if self.shadow is None or path not in self.shadow.masks:
            return directory
        return self.shadow.parent_of(path)

    def names(self, directory: int, path: bytes) -> list[bytes]:
        """The names in the open folder ``path``, as the image has them; what is excluded among them too."""
        names = [os.fsencode(name) for name in os.listdir(directory)]
        if self.shadow is None:
            return names
        masks, prefix = self.shadow.masks, path + b"/" if path else b""
        return [name for name in names if prefix + name not in masks] + self.shadow.names(path)

    def mkdir(self, directory: int, path: bytes) -> None:
        """Make the folder ``path``, for root alone, in the open folder above it.

        Raises:
            OSError: FileExistsError among others.
        """
        shadow = self.shadow
        if shadow is not None and path in shadow.masks and shadow.leads_to_mount(path):
            shadow.adopt(path)
        else:
            os.mkdir(path.rpartition(b"/")[2], 0o700, dir_fd=self.home(directory, path))

    def make_way(self, path: bytes, link: bytes) -> bool:
        """Before a link is made at ``path``: have mounts that are in its way moved to where it leads, if that is possible.

        Whether they were moved: then a descriptor that was open may be of another path.
        """
        shadow = self.shadow
        if shadow is None or path not in shadow.masks or not shadow.leads_to_mount(path):
            return False
        if self._in_whole is not None:  # the link leads to where it does in the image
            whole, top = self._in_whole
            return whole.make_way(top + b"/" + path, link)
        if link.count(b"/") > _MOST_MOVED:
            return False
        wanted = link if link.startswith(b"/") else path.rpartition(b"/")[0] + b"/" + link
        target = self.led_to(b"/".join(part for part in wanted.split(b"/") if part not in (b"", b".")))
        if b".." in target.split(b"/") or target == path or target.startswith(path + b"/") or self.is_excluded(target):
            return False
        return shadow.make_way(path, target)


@functools.cache
def kernel_resolves() -> bool:
    """Whether openat2 works here: old kernels and some seccomp filters refuse it."""
    try:
        os.close(kernel_open(-100, b"/", os.O_PATH | os.O_CLOEXEC, 0))
    except OSError:
        return False
    return True


def kernel_open(dir_fd: int, path: bytes, flags: int, mode: int, *, links: bool = True) -> int:
    """Open ``path`` below ``dir_fd`` with openat2(2), which takes the folder for the root of every link.

    Raises:
        OSError: as openat2(2); ELOOP where a link would be followed and ``links`` is False.
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


def _same(directory: int, path: bytes) -> int:
    return directory


def walk_open(
    root_fd: int, path: bytes, flags: int, mode: int = 0, *, home: Callable[[int, bytes], int] = _same
) -> int:
    """Open ``path`` below ``root_fd`` by walking it: what openat2 does, for kernels without it.

    ``home`` gives the folder in which the next component is looked for, from the one that was walked to and the path
    from the root on, without links.

    Raises:
        OSError: as open(2); ELOOP after 40 links.
    """
    pending = [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]
    want_directory = path.endswith(b"/")
    walk = _Walk(root_fd, home)
    links = 0
    try:
        while pending:
            part = pending.pop()
            if part == b"..":
                walk.go_to(walk.names[:-1])
                continue
            here = walk.home_of(part)
            last = not pending
            if last and flags & (os.O_CREAT | os.O_NOFOLLOW):
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
    """A folder below a root, and how it is reached from there without links. However deep it is, only it is open."""

    def __init__(self, root_fd: int, home: Callable[[int, bytes], int]) -> None:
        self._root = root_fd
        self._home = home
        self.fd = os.dup(root_fd)
        self.names: list[bytes] = []

    def home_of(self, name: bytes) -> int:
        return self.fd if self._home is _same else self._home(self.fd, b"/".join((*self.names, name)))

    def enter(self, name: bytes) -> None:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        below = os.open(name, flags, dir_fd=self.home_of(name))
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


def check_length(path: bytes) -> None:
    """Refuse a root-relative path that no system call takes: nobody could unpack a layer that has it.

    Raises:
        FileSystemError: reason ``LimitExceeded``.
    """
    if len(path) > _MAX_PATH_BYTES:
        raise FileSystemError(
            f"the path /{os.fsdecode(path)[:100]}… is {len(path)} bytes long, in {path.count(b'/')} folders",
            reason=Reason.LIMIT_EXCEEDED,
            hint=_TOO_LONG_HINT,
        )


def explain(error: OSError, what: str) -> FileSystemError:
    """A failure of the file system as users see it: a full disk and ids that are not mapped have reasons of their own."""
    if error.errno == errno.ENAMETOOLONG:
        return FileSystemError(f"{what} failed: {error.strerror}", reason=Reason.LIMIT_EXCEEDED, hint=_TOO_LONG_HINT)
    if error.errno in DISK_FULL:
        return FileSystemError(
            f"no space left while {what}",
            reason=Reason.DISK_FULL,
            hint=DISK_FULL_HINT,
        )
    denied = error.errno in (errno.EPERM, errno.EACCES)
    return FileSystemError(
        f"{what} failed: {error.strerror or error}",
        reason=Reason.LAYER_INVALID,
        hint=permission_hint() if denied else "",
    )
