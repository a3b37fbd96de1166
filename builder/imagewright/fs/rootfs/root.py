"""A root file system below a directory: every path is resolved inside it, whatever its symbolic links say.

Opens files.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from imagewright.errors import FileSystemError, Reason
from imagewright.fs.paths import quote_path
from imagewright.fs.rootfs.errors import DISK_FULL_HINT
from imagewright.fs.rootfs.inodes import ON_DISK, Inodes
from imagewright.fs.rootfs.masked import MaskedEntries, MaskedEntriesView
from imagewright.fs.rootfs.resolve import Resolver, kernel_open, kernel_resolves, walk_open

OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC  # never through a link
_MOST_MOVED = 100  # components of the path that mounts are moved to
_DOTS = re.compile(rb"^/|//|(^|/)\.")  # a path with one of these may differ from its ``realpath``


class Rootfs:
    """The root directory of an image's file system.

    Args:
        path: the directory.
        excluded: root-relative paths ("proc", "etc/hosts") that do not belong to the image: never read, written,
            deleted or packed when the tree is walked.
        resolver: opens paths inside the root; by default the kernel if it can.
        masked: the image's entries at paths where the container has mounts. Paths are then resolved as the image has
            them, and ``parent_fd`` tells in which open directory an entry is.
        inodes: creates, describes and changes its inodes.

    ``full_hint``, to be changed where that is not the work folder: what to do if the disk below it is full.
    """

    def __init__(
        self,
        path: str,
        excluded: frozenset[str] = frozenset(),
        resolver: Resolver | None = None,
        masked: MaskedEntries | MaskedEntriesView | None = None,
        *,
        inodes: Inodes = ON_DISK,
    ) -> None:
        self.path = path
        self.inodes = inodes
        self.full_hint = DISK_FULL_HINT
        self.masked = masked
        self._plain = resolver or (kernel_open if kernel_resolves() else walk_open)
        self._resolve = self._plain if masked is None else self._open_around_mounts
        self.excluded = frozenset(os.fsencode(name.strip("/")) for name in excluded)
        self._below_excluded = tuple(name + b"/" for name in self.excluded)
        self._fd = -1
        self._in_whole: tuple[Rootfs, bytes] | None = None  # if it is below another root: that, and the path in it

    @property
    def fd(self) -> int:
        """A descriptor of the root directory, open as long as this object exists, or until ``close``."""
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._fd

    def below(self, path: bytes) -> Rootfs:
        """The directory at ``path``, which contains no links, as a root of its own.

        Raises:
            OSError
        """
        if not path:
            return self
        inside = (os.fsdecode(name[len(path) + 1 :]) for name in self.excluded if name.startswith(path + b"/"))
        # At or below a mask everything is among the masked entries, which are an ordinary directory then.
        masked = None if self.masked is None or self.is_foreign(path) else self.masked.seen_from(path)
        root = Rootfs(
            os.path.join(self.path, os.fsdecode(path)), frozenset(inside), self._plain, masked, inodes=self.inodes
        )
        root._fd = self.open_directory(path)
        root._in_whole = (self, path)
        root.full_hint = self.full_hint
        return root

    def close(self) -> None:
        """Close the descriptor; it is opened again, by path, when it is needed again."""
        if getattr(self, "_fd", -1) >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Rootfs({self.path!r})"

    def open(self, path: bytes, flags: int, mode: int = 0) -> int:
        """Open a path inside the root, following links inside the root; the descriptor is close-on-exec.

        Raises:
            OSError: as open(2).
        """
        flags |= os.O_CLOEXEC
        if b"\0" in path:
            raise OSError(errno.EINVAL, "path contains a NUL byte", os.fsdecode(path))
        return self._resolve(self.fd, path, flags, mode)

    def open_directory(self, path: bytes) -> int:
        """A descriptor of a directory inside the root, for ``dir_fd=`` and for listing."""
        return self.open(path, os.O_RDONLY | os.O_DIRECTORY)

    @contextmanager
    def directory(self, path: bytes) -> Iterator[int]:
        """``open_directory`` as a context manager."""
        fd = self.open_directory(path)
        try:
            yield fd
        finally:
            os.close(fd)

    def lstat(self, path: bytes) -> os.stat_result:
        """The entry at ``path``; links among its parents are followed inside the root, the last component is not."""
        fd = self.open(path, os.O_PATH | os.O_NOFOLLOW)
        try:
            return self.inodes.fstat(fd)
        finally:
            os.close(fd)

    def mode_of(self, path: bytes) -> int:
        """The mode, with the type, of what is at ``path``, links followed inside the root.

        Raises:
            OSError: nothing exists there.
        """
        fd = self.open(path, os.O_PATH)
        try:
            return self.inodes.fstat(fd).st_mode
        finally:
            os.close(fd)

    def read_file(self, path: bytes, limit: int) -> bytes:
        """The content of a regular file, links followed inside the root.

        Raises:
            OSError: as open(2).
            FileSystemError: it is not a regular file, or has more than ``limit`` bytes (reason ``LimitExceeded``).
        """

        def refused(why: str, reason: Reason) -> FileSystemError:
            return FileSystemError(f"cannot read {quote_path(path)}: {why}", why=why, reason=reason)

        # O_NONBLOCK: opening a fifo of a hostile image must not wait for a writer.
        fd = self.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            info = self.inodes.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise refused("not a regular file", Reason.PATH_NOT_ALLOWED)
            with os.fdopen(os.dup(fd), "rb") as file:
                data = file.read(limit + 1)
        finally:
            os.close(fd)
        if len(data) > limit:
            raise refused(f"larger than {limit} bytes", Reason.LIMIT_EXCEEDED)
        return data

    def path_of(self, fd: int) -> bytes:
        """The root-relative path, without links, of an open file or directory below the root.

        Raises:
            FileSystemError: it is not below the root.
        """
        here, root = os.readlink(b"/proc/self/fd/%d" % fd), os.readlink(b"/proc/self/fd/%d" % self.fd)
        if self.masked is not None and here.startswith(self.masked.directory + b"/"):
            return here[len(self.masked.directory) + 1 :]
        prefix = root if root.endswith(b"/") else root + b"/"
        if here != root and not here.startswith(prefix):
            raise FileSystemError(f'"{os.fsdecode(here)}" is not below "{self.path}"', reason=Reason.PATH_NOT_ALLOWED)
        return here[len(prefix) :]

    def realpath(self, path: bytes) -> bytes:
        """The root-relative real path of ``path``: links are followed inside the root, including one at the end.

        Raises:
            OSError: nothing exists there.
        """
        fd = self.open(path, os.O_PATH)
        try:
            return self.path_of(fd)
        finally:
            os.close(fd)

    def resolve(self, path: bytes) -> bytes:
        """As ``realpath``, but the last components need not exist."""
        rest: list[bytes] = []
        while path:
            try:
                return b"/".join(part for part in (self.realpath(path), *reversed(rest)) if part)
            except OSError:
                path, _, name = path.rpartition(b"/")
                rest.append(name)
        return b"/".join(reversed(rest))

    def is_excluded(self, path: bytes) -> bool:
        """Whether ``path`` is at or below an excluded path."""
        return path in self.excluded or path.startswith(self._below_excluded)

    def _open_around_mounts(self, directory: int, path: bytes, flags: int, mode: int) -> int:
        """Open a path as the image has it. The kernel does it where no link and no mask is involved, much faster."""
        if kernel_resolves() and not _DOTS.search(path) and not self.is_foreign(path):
            try:
                return kernel_open(directory, path, flags, mode, links=False)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
        return walk_open(directory, path, flags, mode, parent_fd=self.parent_fd)

    # --- entries of open directories; paths contain no links, as those of ``realpath``

    @property
    def foreign(self) -> frozenset[bytes]:
        """The paths at which the disk has nothing of the image: the excluded ones, and those masked by a mount."""
        return self.excluded | self.masked.masks if self.masked is not None else self.excluded

    def is_foreign(self, path: bytes) -> bool:
        """Whether ``path`` is at or below one of ``foreign``."""
        masked = self.masked
        return self.is_excluded(path) or (
            masked is not None and (path in masked.masks or path.startswith(masked.below))
        )

    def has(self, path: bytes) -> bool:
        """Whether the image has an entry at ``path``."""
        try:
            self.lstat(path)
        except OSError:
            return False
        return True

    def parent_fd(self, directory: int, path: bytes) -> int:
        """The open directory that contains the image's entry ``path``: ``directory``, unless the path is masked."""
        if self.masked is None or path not in self.masked.masks:
            return directory
        return self.masked.parent_of(path)

    def names(self, directory: int, path: bytes) -> list[bytes]:
        """The names in the open directory ``path``, as the image has them, including excluded ones."""
        names = [os.fsencode(name) for name in os.listdir(directory)]
        if self.masked is None:
            return names
        masks, prefix = self.masked.masks, path + b"/" if path else b""
        return [name for name in names if prefix + name not in masks] + self.masked.names(path)

    def mkdir(self, directory: int, path: bytes) -> None:
        """Create the directory ``path``, with mode 0700, in its open parent.

        Raises:
            OSError: FileExistsError among others.
        """
        masked = self.masked
        if masked is not None and path in masked.masks and masked.leads_to_mount(path):
            masked.adopt(path)
        else:
            self.inodes.create_directory((self.parent_fd(directory, path), path.rpartition(b"/")[2]))

    def relocate_mounts(self, path: bytes, link: bytes) -> bool:
        """Before a link is created at ``path``, move mounts below it to where the link leads, if possible.

        Returns whether they were moved: open descriptors may then refer to other paths.
        """
        masked = self.masked
        if masked is None or path not in masked.masks or not masked.leads_to_mount(path):
            return False
        if self._in_whole is not None:  # the link is resolved as in the whole image
            whole, top = self._in_whole
            return whole.relocate_mounts(top + b"/" + path, link)
        if link.count(b"/") > _MOST_MOVED:
            return False
        wanted = link if link.startswith(b"/") else path.rpartition(b"/")[0] + b"/" + link
        target = self.resolve(b"/".join(part for part in wanted.split(b"/") if part not in (b"", b".")))
        if b".." in target.split(b"/") or target == path or target.startswith(path + b"/") or self.is_excluded(target):
            return False
        return masked.relocate_mounts(path, target)
