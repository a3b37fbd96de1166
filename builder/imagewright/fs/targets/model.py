"""The interface of roots that layers are applied to and that COPY, ADD and WORKDIR write to: on disk, or virtual.

No I/O. What decides (where a path leads, what replaces what, what has changed, what is refused) is written once,
against this interface. An entry is named by its open directory and its path, of which the directory's part is only
looked at where the root has foreign paths.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager
from typing import Generic, Protocol, TypeVar

from imagewright.errors import FileSystemError, Reason
from imagewright.fs.paths import quote_path
from imagewright.fs.rootfs.attributes import Attributes, EntryRef
from imagewright.fs.rootfs.filecopy import OpenDirectory
from imagewright.fs.rootfs.resolve import MAX_LINKS
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.tar.entries import Entry
from imagewright.records import dataclass

D = TypeVar("D")  # an open directory
D_contra = TypeVar("D_contra", contravariant=True)
Owner = tuple[int, int]


class NotVirtualError(Exception):
    """A virtual root cannot do this: it has to be done on disk. The message completes "on disk, since …"."""


class DataReader(Protocol):
    """Reads the data of an archive's current entry."""

    def buffered(self) -> memoryview | None: ...

    def chunks(self) -> Iterator[bytes | memoryview]: ...


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """An entry to copy: ``name`` in an open directory of ``root`` with the path ``directory``, without links."""

    root: Rootfs
    fd: int
    directory: bytes
    name: bytes

    @property
    def ref(self) -> EntryRef:
        return self.fd, self.name


class State(Protocol[D_contra]):
    """An entry as it was before something overwrote it."""

    def equals(self, directory: D_contra, path: bytes) -> bool:
        """Whether a layer would have the same entry for it; as ``EntryState.equals``."""

    def close(self) -> None: ...


class Way(Protocol[D]):
    """A descent from a directory of a target, as ``Descent``."""

    @property
    def directory(self) -> D:
        """The current one."""

    def enter(self, path: bytes) -> None:
        """Enter the directory ``path``, which is in the current one."""

    def leave(self) -> None: ...

    def __enter__(self) -> Way[D]: ...

    def __exit__(self, *_: object) -> None: ...


class EntryCopier(Protocol[D_contra]):
    """Copies entries other than directories into a target; hard links among them are preserved."""

    def copy(
        self, source: SourceEntry, target: tuple[D_contra, bytes], info: os.stat_result, attributes: Attributes
    ) -> None:
        """Copy an entry to a directory and path. Sockets are skipped, since layers cannot hold them.

        Raises:
            OSError: FileExistsError among others.
        """

    def remove(self, directory: D_contra, path: bytes) -> None:
        """Unlink an entry that a copy will replace.

        Raises:
            OSError: IsADirectoryError or PermissionError for a directory.
        """


@dataclass(slots=True)
class Packable:
    """An entry to pack. ``inode`` identifies one with several hard links, None for others.

    ``opened``: a descriptor of the data of a regular file, None of others; completes ``entry``.
    """

    entry: Entry
    inode: Hashable | None
    opened: Callable[[], AbstractContextManager[int | None]]


class Target(ABC, Generic[D]):
    """A root file system while something is written to it.

    ``full_hint``: what to do if the disk below it is full. Methods with an open directory raise OSError.
    """

    full_hint = ""

    # --- paths

    @abstractmethod
    def is_excluded(self, path: bytes) -> bool:
        """Whether a path does not belong to the image."""

    @abstractmethod
    def find(self, path: bytes) -> D | None:
        """The directory at ``path`` (links followed inside the root), None if there is none."""

    @abstractmethod
    def path_of(self, directory: D) -> bytes:
        """The root-relative path, without links, of an open directory."""

    @abstractmethod
    def real_path(self, path: bytes, name: bytes) -> bytes:
        """The path of ``name`` in the directory at ``path``; links are resolved if the root has foreign paths."""

    @abstractmethod
    def opened(self, path: bytes, above: D, real_path: bytes) -> D:
        """The directory that was created at ``real_path``, in ``above``, to be found at ``path``."""

    @abstractmethod
    def below(self, path: bytes, spool: Rootfs | None) -> Target[D]:
        """The directory at ``path``, which contains no links, as a root of its own.

        ``spool``: a folder for the data of an archive that is extracted there, until they are packed.
        """

    @abstractmethod
    def invalidate(self) -> None:
        """To be called when something was removed: paths may lead to other directories from now on."""

    @abstractmethod
    def close(self) -> None: ...

    def ensure(self, path: bytes, make: Callable[[D, bytes], None], links: int = 0) -> D:
        """The directory at ``path``; ``make`` creates the missing ones, outermost first, given parent and path.

        For a dangling link among the parents, the directory that it names is created (inside the root, as BuildKit
        does).
        """
        missing: list[bytes] = []
        while (directory := self.find(path)) is None:
            missing.append(path)
            path = path.rpartition(b"/")[0]
        for each in reversed(missing):
            directory = self._made(each, directory, make, links)
        return directory

    def _made(self, path: bytes, above: D, make: Callable[[D, bytes], None], links: int) -> D:
        """The directory at ``path``, created in the open directory ``above``."""
        # The target of a link may contain "..", after which existing directories follow.
        if b".." in path and (there := self.find(path)) is not None:
            return there
        parent, _, name = path.rpartition(b"/")
        real = self.path_of(above)
        real_path = real + b"/" + name if real else name
        try:
            make(above, real_path)
            return self.opened(path, above, real_path)
        except FileExistsError:
            target = self.link_target(above, real_path)
            if target is None or links >= MAX_LINKS:
                raise FileSystemError(
                    f"cannot create directory {quote_path(path)}: a non-directory exists there",
                    reason=Reason.PATH_NOT_ALLOWED,
                    hint="Remove it in an earlier step, or use another directory.",
                ) from None
            wanted = target if target.startswith(b"/") else parent + b"/" + target
            self.ensure(b"/".join(p for p in wanted.split(b"/") if p not in (b"", b".")), make, links + 1)
        directory = self.find(path)
        if directory is None:
            raise FileSystemError(f"cannot create directory {quote_path(path)}: it was removed at the same time")
        return directory

    # --- questions

    @abstractmethod
    def names(self, directory: D, path: bytes) -> list[bytes]:
        """The names in the open directory ``path``, including excluded ones."""

    @abstractmethod
    def stat(self, directory: D, path: bytes) -> tuple[int, Owner]:
        """Mode, with the type, and owner of an entry; links are not followed.

        Raises:
            FileNotFoundError
        """

    @abstractmethod
    def link_target(self, directory: D, path: bytes) -> bytes | None:
        """The target of a symbolic link; None for anything else."""

    @abstractmethod
    def is_one(self, one: tuple[D, bytes], other: tuple[D, bytes]) -> bool:
        """Whether two names are hard links of one entry; False if one of them does not exist."""

    @abstractmethod
    def state(self, directory: D, path: bytes) -> State[D]:
        """The present state of an entry.

        Raises:
            FileNotFoundError
        """

    @abstractmethod
    def owner_of(self, directory: D) -> Owner: ...

    @abstractmethod
    def way(self, directory: D) -> Way[D]: ...

    # --- writing

    @abstractmethod
    def mkdir(self, directory: D, path: bytes) -> None:
        """Create the directory ``path``, with mode 0700.

        Raises:
            FileExistsError
        """

    @abstractmethod
    def make_directory(self, directory: D, path: bytes, owner: Owner, mode: int) -> None:
        """``mkdir`` with owner and mode."""

    @abstractmethod
    def remove(self, directory: D, path: bytes) -> None:
        """Remove an entry and everything below it.

        Raises:
            FileNotFoundError
        """

    @abstractmethod
    def set_mtime(self, directory: D, mtime_ns: int) -> None: ...

    @abstractmethod
    def copy_attributes(self, source: OpenDirectory, directory: D, attributes: Attributes) -> None:
        """Copy owner, mode, xattrs and mtime of a directory; ``attributes`` take precedence."""

    @abstractmethod
    def copier(self, source: Rootfs) -> EntryCopier[D]: ...

    @abstractmethod
    def relocate_mounts(self, path: bytes, link: bytes) -> None:
        """To be called before a link is created at ``path``."""

    # --- entries of archives

    @abstractmethod
    def put(self, directory: D, path: bytes, entry: Entry, reader: DataReader, owner: Owner) -> bool:
        """Create a regular file, link, fifo or device; False for a device that cannot be created here.

        Raises:
            FileExistsError
        """

    @abstractmethod
    def describe_directory(self, ref: tuple[D, bytes], entry: Entry, owner: Owner, *, existed: bool) -> None:
        """Give a directory the attributes of its entry, except times."""

    @abstractmethod
    def describe_root(self, entry: Entry, owner: Owner) -> bool:
        """The same for the root; False if it is not the image's."""

    @abstractmethod
    def link(self, source: tuple[D, bytes], target: tuple[D, bytes]) -> None:
        """Create a hard link.

        Raises:
            FileExistsError, FileNotFoundError
            PermissionError: ``source`` is a directory.
        """

    @abstractmethod
    def set_directory_time(self, path: bytes, mtime_ns: int) -> None:
        """Set the mtime of a directory of an archive, unless a later entry replaced it."""

    # --- afterwards

    @abstractmethod
    def packable(self, path: bytes) -> Packable | None:
        """An entry to pack; None for one that no layer can hold.

        Raises:
            FileSystemError: nothing is there any more.
        """
