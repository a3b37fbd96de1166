"""The tree of a virtual root: directories and other entries in memory, and where paths lead in it.

No I/O. Symbolic links are followed as openat2(2) does with RESOLVE_IN_ROOT; a name, a link or a path that no disk could
hold is refused with the same error.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import field
from types import MappingProxyType
from typing import ClassVar, Self

from imagewright.digest import Digest
from imagewright.fs.rootfs.entrystate import Description
from imagewright.fs.rootfs.resolve import MAX_LINKS, ends_in_directory
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.targets.model import NotVirtualError
from imagewright.records import dataclass

MAX_NAME_BYTES = 255  # NAME_MAX: limits.h(0p)
MAX_LINK_BYTES = 4095  # PATH_MAX without the NUL
_MAX_WALKED = 30_000_000  # names: seconds, and many times what a million entries take
NO_XATTRS: Mapping[bytes, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class SourceData:
    """The data of a file that is copied: ``name`` in a directory of ``root``. Equal ones are one file, unchanged."""

    root: Rootfs
    directory: bytes
    name: bytes
    inode: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class LayerData:
    """The data of a file of a layer, which is named by its diff ID: those of its entry ``number``, from 0.

    ``said``: what the layer's index says they are, if it does. Names are looked up in them; only the layer can tell
    what is copied or compared.
    """

    layer: Digest
    number: int
    said: bytes | None = field(default=None, compare=False)


class RoundedTime(int):
    """A modification time of which only the second is known, rounded: of entry ``number`` of a layer, from 0."""

    STEP_NS: ClassVar[int] = 1_000_000_000  # it differs from the exact one by less
    layer: Digest
    number: int

    def __new__(cls, mtime_ns: int, layer: Digest, number: int) -> Self:
        made = super().__new__(cls, mtime_ns)
        made.layer, made.number = layer, number
        return made


Data = SourceData | LayerData | bytes | None  # of a regular file; bytes are the target of a link


class Node:
    """An entry other than a directory, or the attributes of one. ``links``: names that it has."""

    __slots__ = ("data", "gid", "links", "mode", "mtime_ns", "rdev", "size", "uid", "xattrs")

    def __init__(self, mode: int, uid: int, gid: int, mtime_ns: int) -> None:
        self.mode = mode  # with the type
        self.uid = uid
        self.gid = gid
        self.mtime_ns = mtime_ns
        self.size = 0
        self.rdev = 0
        self.links = 0
        self.xattrs = NO_XATTRS
        self.data: Data = None


class Directory(Node):
    """A directory; ``parent`` is None for the root, and once it has been removed. ``walked``: names that were looked
    up from here, also by way of links.
    """

    __slots__ = ("children", "name", "parent", "walked")

    def __init__(self, mode: int, uid: int, gid: int, mtime_ns: int) -> None:
        super().__init__(mode, uid, gid, mtime_ns)
        self.children: dict[bytes, Node] = {}
        self.parent: Directory | None = None
        self.name = b""
        self.walked = 0

    def add(self, name: bytes, node: Node) -> None:
        """Add an entry.

        Raises:
            OSError: FileExistsError, or the name is too long.
        """
        if name in self.children:
            raise error(errno.EEXIST, name)
        if len(name) > MAX_NAME_BYTES:
            raise error(errno.ENAMETOOLONG, name)
        self.children[name] = node
        node.links += 1
        self.mtime_ns = time.time_ns()
        if isinstance(node, Directory):
            node.parent, node.name = self, name

    def discard(self, name: bytes) -> None:
        """Remove an entry with everything below it.

        Raises:
            FileNotFoundError
        """
        node = self.child(name)
        del self.children[name]
        self.mtime_ns = time.time_ns()
        waiting = [node]
        while waiting:
            gone = waiting.pop()
            gone.links -= 1
            if isinstance(gone, Directory):
                waiting += gone.children.values()
                gone.parent = None
                gone.children = {}

    def child(self, name: bytes) -> Node:
        """
        Raises:
            OSError: FileNotFoundError, or the name is too long.
        """
        node = self.children.get(name)
        if node is None:
            raise error(errno.ENOENT if len(name) <= MAX_NAME_BYTES else errno.ENAMETOOLONG, name)
        return node

    def path_below(self, top: Directory) -> bytes:
        """Its path from ``top``, which is above it or the same."""
        names: list[bytes] = []
        here = self
        while here is not top and here.parent is not None:
            names.append(here.name)
            here = here.parent
        return b"/".join(reversed(names))


def error(number: int, path: bytes) -> OSError:
    """As the system call would fail."""
    return OSError(number, os.strerror(number), os.fsdecode(path))


def _ignore(directory: Directory, name: bytes) -> None:
    """For ``resolve``."""


def resolve(
    top: Directory, path: bytes, *, follow: bool = True, visit: Callable[[Directory, bytes], None] = _ignore
) -> tuple[Directory, bytes, Node]:
    """The entry at ``path`` below ``top``: its directory, its name, and itself; ``top`` has no name.

    ``follow``: also a link at the end. ``visit`` is given the directory and the name of every entry on the way, also if
    it is not the right one.

    Raises:
        OSError: as open(2) with O_PATH.
        NotVirtualError: links take too long.
    """
    if b"\0" in path:
        raise error(errno.EINVAL, path)
    if len(path) > MAX_LINK_BYTES:
        raise error(errno.ENAMETOOLONG, path)
    pending = [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]
    here: Directory = top
    links = 0
    must_be_directory = ends_in_directory(path)
    while pending:
        part = pending.pop()
        top.walked += 1
        if part == b"..":
            here = here.parent if here is not top and here.parent is not None else top
            continue
        node = here.child(part)
        visit(here, part)
        if isinstance(node, Directory):
            here = node
        elif isinstance(node.data, bytes) and is_link(node) and (pending or follow or must_be_directory):
            links += 1
            if links > MAX_LINKS:
                raise error(errno.ELOOP, path)
            if top.walked > _MAX_WALKED:
                raise NotVirtualError("symbolic links lead through too many directories")
            must_be_directory |= not pending and ends_in_directory(node.data)
            if node.data.startswith(b"/"):
                here = top
            pending += [each for each in reversed(node.data.split(b"/")) if each not in (b"", b".")]
        elif pending or must_be_directory:
            raise error(errno.ENOTDIR, path)
        else:
            return here, part, node
    return here.parent or here, here.name, here


def find_directory(top: Directory, path: bytes) -> Directory:
    """
    Raises:
        OSError: as open(2) with O_DIRECTORY.
    """
    node = resolve(top, path)[2]
    if not isinstance(node, Directory):
        raise error(errno.ENOTDIR, path)
    return node


def is_link(node: Node) -> bool:
    return node.mode & 0o170000 == 0o120000


def described(node: Node) -> Description:
    link = node.data if is_link(node) and isinstance(node.data, bytes) else b""
    owner = node.uid, node.gid
    return Description(node.mode, owner, node.rdev, node.size, node.mtime_ns, node.links, link, dict(node.xattrs))
