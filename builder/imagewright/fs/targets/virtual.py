"""A virtual root: the entries of layers, without their data, and what COPY, ADD and WORKDIR add to them.

Reads attributes of the files that are copied, and their data when they are packed or compared. What cannot be told so,
and more entries than memory should hold, need a disk: ``NotVirtualError``. What only a disk cannot do (devices, owners,
attributes that it has no room for) succeeds here.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import field

from imagewright.digest import Digest
from imagewright.errors import FileSystemError, Reason
from imagewright.fs.paths import quote_path
from imagewright.fs.rootfs.attributes import Attributes
from imagewright.fs.rootfs.directorycache import too_many_links
from imagewright.fs.rootfs.filecopy import OpenDirectory
from imagewright.fs.rootfs.holes import Holes
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.tar import entries
from imagewright.fs.tar.entries import Entry
from imagewright.fs.targets.contents import (
    LayerContents,
    NoLayers,
    SourceFiles,
    SpooledFiles,
    data_of,
    exact_time,
)
from imagewright.fs.targets.disk import TYPES, as_bytes, changed_meanwhile
from imagewright.fs.targets.model import DataReader, NotVirtualError, Owner, Packable, SourceEntry, Target
from imagewright.fs.targets.nodes import (
    MAX_LINK_BYTES,
    Data,
    Directory,
    LayerData,
    Node,
    SourceData,
    error,
    find_directory,
    is_link,
    resolve,
)
from imagewright.fs.targets.virtualstate import VirtualState
from imagewright.fs.targets.xattrs import possible_xattrs
from imagewright.records import dataclass

_KINDS = {type_: kind for kind, type_ in TYPES.items()}
_MAX_DEVICE = (1 << 32) - 1  # of mknod(2)
MAX_ROOT_BYTES = 192 << 20  # about 450,000 entries
_ENTRY_BYTES = 400  # of memory for one entry, besides what it holds
_MAX_FOUND = 1000  # directories of which a target knows the paths: 4 MB of the longest ones
_NO_LAYERS = NoLayers()


@dataclass(slots=True)
class IndexedEntry(Entry):
    """An entry of a layer without its data. ``kept``: the data of a small file that is often asked for.

    ``number``: its place in the layer, from 0.
    """

    kept: bytes | None = None
    number: int = 0


class VirtualRoot:
    """A root of which nothing is on disk. ``layers`` has the data of files that it has from layers.

    ``room``: bytes of memory that its entries may take.
    """

    def __init__(self, layers: LayerContents = _NO_LAYERS, room: int = MAX_ROOT_BYTES) -> None:
        self.layers = layers
        self.top = Directory(stat.S_IFDIR | 0o755, 0, 0, time.time_ns())
        self._room = room

    def take(self, count: int) -> None:
        """Account for ``count`` bytes of another entry.

        Raises:
            NotVirtualError: there are more than memory should hold.
        """
        self._room -= _ENTRY_BYTES + count
        if self._room < 0:
            raise NotVirtualError("the image has more files than are kept in memory")

    def mode_of(self, path: bytes) -> int:
        """As ``Rootfs.mode_of``."""
        return resolve(self.top, path)[2].mode

    def read_file(self, path: bytes, limit: int) -> bytes:
        """As ``Rootfs.read_file``."""

        def refused(why: str, reason: Reason) -> FileSystemError:
            return FileSystemError(f"cannot read {quote_path(path)}: {why}", why=why, reason=reason)

        node = resolve(self.top, path)[2]
        if not stat.S_ISREG(node.mode):
            raise refused("not a regular file", Reason.PATH_NOT_ALLOWED)
        if node.size > limit:
            raise refused(f"larger than {limit} bytes", Reason.LIMIT_EXCEEDED)
        return data_of(node.data)


class VirtualTarget(Target[Directory]):
    """A virtual root, or the directory ``top`` of one, while something is written to it."""

    def __init__(
        self, root: VirtualRoot, mtime_limit_ns: int | None = None, archive: Digest | SpooledFiles | None = None
    ) -> None:
        """``archive``: what entries are put from; a layer by its diff ID, or another archive, by where its files go."""
        self._root = root
        self._limit_ns = mtime_limit_ns
        self._archive = archive
        self._top = root.top
        self._found = {b"": self._top}  # what was looked up: entries mostly share their directory, or are near
        self._files = SourceFiles()
        self._holes = Holes()

    # --- paths

    def is_excluded(self, path: bytes) -> bool:
        return False

    def find(self, path: bytes) -> Directory | None:
        try:
            return self._found.get(path) or self._look_up(path)
        except OSError as failure:
            if failure.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            if failure.errno == errno.ELOOP:
                raise too_many_links(path) from failure
            raise

    def _look_up(self, path: bytes) -> Directory:
        """The directory at ``path``, one that isn't known yet.

        Raises:
            OSError, NotVirtualError: as ``resolve``.
        """
        parent, _, name = path.rpartition(b"/")
        above = self._found.get(parent)
        found = above.children.get(name) if above is not None and len(path) <= MAX_LINK_BYTES else None
        if not isinstance(found, Directory):
            found = find_directory(self._top, path)
        if len(self._found) >= _MAX_FOUND:
            self.invalidate()
        self._found[path] = found
        return found

    def path_of(self, directory: Directory) -> bytes:
        return directory.path_below(self._top)

    def real_path(self, path: bytes, name: bytes) -> bytes:
        return path + b"/" + name if path else name

    def opened(self, path: bytes, above: Directory, real_path: bytes) -> Directory:
        return _directory(above, real_path)

    def below(self, path: bytes, spool: Rootfs | None) -> VirtualTarget:
        if spool is None:
            raise NotVirtualError("an archive is unpacked")
        target = VirtualTarget(self._root, self._limit_ns, SpooledFiles(spool))
        target.full_hint = spool.full_hint
        target._top = find_directory(self._top, path)
        target.invalidate()
        return target

    def invalidate(self) -> None:
        self._found = {b"": self._top}

    def close(self) -> None:
        self._files.close()

    # --- questions

    def names(self, directory: Directory, path: bytes) -> list[bytes]:
        return list(directory.children)

    def stat(self, directory: Directory, path: bytes) -> tuple[int, Owner]:
        node = directory.child(_name(path))
        return node.mode, (node.uid, node.gid)

    def link_target(self, directory: Directory, path: bytes) -> bytes | None:
        node = directory.children.get(_name(path))
        return node.data if node is not None and is_link(node) and isinstance(node.data, bytes) else None

    def is_one(self, one: tuple[Directory, bytes], other: tuple[Directory, bytes]) -> bool:
        try:
            first, second = (directory.child(_name(path)) for directory, path in (one, other))
        except FileNotFoundError:
            return False
        if first is second:
            self._check_link(first)
        return first is second

    def state(self, directory: Directory, path: bytes) -> VirtualState:
        return VirtualState(directory.child(_name(path)), self._limit_ns, self._root.layers)

    def owner_of(self, directory: Directory) -> Owner:
        return directory.uid, directory.gid

    def way(self, directory: Directory) -> _VirtualWay:
        return _VirtualWay(directory)

    # --- writing

    def take(self, count: int) -> None:
        """As ``VirtualRoot.take``."""
        self._root.take(count)

    def mkdir(self, directory: Directory, path: bytes) -> None:
        self.make_directory(directory, path, (0, 0), 0o700)

    def make_directory(self, directory: Directory, path: bytes, owner: Owner, mode: int) -> None:
        name = _name(path)
        directory.add(name, Directory(stat.S_IFDIR | mode, *owner, time.time_ns()))
        self._root.take(len(name))

    def remove(self, directory: Directory, path: bytes) -> None:
        directory.discard(_name(path))
        self.invalidate()

    def set_mtime(self, directory: Directory, mtime_ns: int) -> None:
        directory.mtime_ns = mtime_ns

    def copy_attributes(self, source: OpenDirectory, directory: Directory, attributes: Attributes) -> None:
        inodes = source[0].inodes
        info = inodes.fstat(source[1])
        directory.uid, directory.gid = attributes.owner_of(info)
        directory.mode = stat.S_IFDIR | attributes.mode_of(info)
        added = possible_xattrs(as_bytes(inodes.xattrs(source[1])), directory.mode)
        directory.xattrs = {**directory.xattrs, **added} if added else directory.xattrs
        directory.mtime_ns = info.st_mtime_ns

    def copier(self, source: Rootfs) -> _VirtualCopier:
        return _VirtualCopier(self)

    def relocate_mounts(self, path: bytes, link: bytes) -> None:
        """No mount is in the way."""

    # --- entries of archives

    def put(self, directory: Directory, path: bytes, entry: Entry, reader: DataReader, owner: Owner) -> bool:
        name = _name(path)
        if name in directory.children:
            raise error(errno.EEXIST, path)
        if not isinstance(entry, IndexedEntry):  # else it was accounted for when it was read
            self._root.take(len(entry.name) + len(entry.linkname) + _size(entry.xattrs))
        node = Node(_KINDS[entry.type] | entry.mode & 0o7777, *owner, entry.mtime_ns)
        if entry.type == entries.REGULAR:
            node.size, node.data = self._data_of(entry, reader)
        elif entry.type == entries.SYMLINK:
            if len(entry.linkname) > MAX_LINK_BYTES:
                raise error(errno.ENAMETOOLONG, path)
            node.mode, node.data = stat.S_IFLNK | 0o777, entry.linkname
        elif entry.type != entries.FIFO:
            node.rdev = os.makedev(entry.major, entry.minor)
            if node.rdev > _MAX_DEVICE:
                raise error(errno.EINVAL, path)
        if entry.xattrs:
            node.xattrs = possible_xattrs(entry.xattrs, node.mode)
        directory.add(name, node)
        return True

    def _data_of(self, entry: Entry, reader: DataReader) -> tuple[int, Data]:
        """Size and data of a regular file."""
        if isinstance(entry, IndexedEntry):
            assert isinstance(self._archive, Digest)
            return entry.real_size, LayerData(self._archive, entry.number, entry.kept)
        assert isinstance(self._archive, SpooledFiles)
        return self._archive.add(entry, reader)

    def describe_directory(self, ref: tuple[Directory, bytes], entry: Entry, owner: Owner, *, existed: bool) -> None:
        self._describe(_directory(*ref), entry, owner)

    def describe_root(self, entry: Entry, owner: Owner) -> bool:
        self._describe(self._top, entry, owner)
        return True

    def _describe(self, directory: Directory, entry: Entry, owner: Owner) -> None:
        directory.uid, directory.gid = owner
        directory.mode = stat.S_IFDIR | entry.mode & 0o7777
        directory.xattrs = possible_xattrs(entry.xattrs, directory.mode)

    def link(self, source: tuple[Directory, bytes], target: tuple[Directory, bytes]) -> None:
        node, name = source[0].child(_name(source[1])), _name(target[1])
        if isinstance(node, Directory) and name not in target[0].children:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        self._check_link(node)
        target[0].add(name, node)

    def _check_link(self, node: Node) -> None:
        """
        Raises:
            NotVirtualError: the archive links a file that it doesn't have: the link is packed with data from below.
        """
        if isinstance(self._archive, SpooledFiles) and stat.S_ISREG(node.mode) and not self._archive.has(node.data):
            raise NotVirtualError("an archive has a link to a file of the image")

    def set_directory_time(self, path: bytes, mtime_ns: int) -> None:
        parent, _, name = path.rpartition(b"/")
        try:
            directory = self._found.get(parent) or self._look_up(parent)
        except OSError as failure:
            if failure.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return
            raise
        node = directory.children.get(name) if name else directory
        if isinstance(node, Directory):
            node.mtime_ns = mtime_ns

    # --- afterwards

    def packable(self, path: bytes) -> Packable | None:
        try:
            node = resolve(self._top, path, follow=False)[2]
        except OSError:
            raise changed_meanwhile(path, "removed") from None
        node.mtime_ns = exact_time(node.mtime_ns, self._root.layers)
        entry = entry_of(path, node)
        inode = id(node) if node.links > 1 and not isinstance(node, Directory) else None
        opened: AbstractContextManager[int | None] = nullcontext()
        if stat.S_ISREG(node.mode):
            opened = self._open_data(entry, node)
        return Packable(entry, inode, lambda: opened)

    @contextmanager
    def _open_data(self, entry: Entry, node: Node) -> Iterator[int | None]:
        if not isinstance(node.data, SourceData):
            raise NotVirtualError("a file of the image gets another name")
        with self._files.open(node.data) as fd:
            self._holes.add(fd, entry.name)
            yield fd


def entry_of(path: bytes, node: Node) -> Entry:
    """The entry that a layer has for a node."""
    kind = stat.S_IFMT(node.mode)
    entry = Entry(path, TYPES[kind], stat.S_IMODE(node.mode), node.uid, node.gid, 0, node.mtime_ns)
    entry.xattrs = dict(node.xattrs)
    entry.major, entry.minor = os.major(node.rdev), os.minor(node.rdev)
    if kind == stat.S_IFREG:
        entry.size = node.size
    elif is_link(node) and isinstance(node.data, bytes):
        entry.linkname = node.data
    return entry


class _VirtualWay:
    def __init__(self, directory: Directory) -> None:
        self._here = [directory]

    @property
    def directory(self) -> Directory:
        return self._here[-1]

    def enter(self, path: bytes) -> None:
        self._here.append(_directory(self._here[-1], path))

    def leave(self) -> None:
        self._here.pop()

    def __enter__(self) -> _VirtualWay:
        return self

    def __exit__(self, *_: object) -> None:
        self._here.clear()


@dataclass(slots=True)
class _VirtualCopier:
    """``_seen``: copies of files with several hard links, by the source's device and inode; ``_keys`` the reverse."""

    _target: VirtualTarget
    _seen: dict[tuple[int, int], Node] = field(default_factory=dict)
    _keys: dict[Node, tuple[int, int]] = field(default_factory=dict)

    def copy(
        self, source: SourceEntry, target: tuple[Directory, bytes], info: os.stat_result, attributes: Attributes
    ) -> None:
        kind = stat.S_IFMT(info.st_mode)
        if kind == stat.S_IFSOCK:
            return
        directory, name = target[0], _name(target[1])
        if name in directory.children:
            raise error(errno.EEXIST, name)
        self._target.take(len(name))
        key = (info.st_dev, info.st_ino)
        if info.st_nlink > 1 and key in self._seen:
            directory.add(name, self._seen[key])
            return
        mode = 0o777 if kind == stat.S_IFLNK else attributes.mode_of(info)
        node = Node(kind | mode, *attributes.owner_of(info), info.st_mtime_ns)
        if kind == stat.S_IFREG:
            node.size = info.st_size
            node.data = SourceData(source.root, source.directory, source.name, info.st_ino, info.st_ctime_ns)
        elif kind == stat.S_IFLNK:
            node.data = os.readlink(source.name, dir_fd=source.fd)
        else:
            node.rdev = info.st_rdev
        node.xattrs = possible_xattrs(as_bytes(source.root.inodes.xattrs(source.ref)), node.mode)
        directory.add(name, node)
        if info.st_nlink > 1:
            self._seen[key], self._keys[node] = node, key

    def remove(self, directory: Directory, path: bytes) -> None:
        node = directory.child(_name(path))
        if isinstance(node, Directory):
            raise error(errno.EISDIR, path)
        if (key := self._keys.pop(node, None)) is not None:
            del self._seen[key]
        self._target.remove(directory, path)


def _directory(above: Directory, path: bytes) -> Directory:
    node = above.child(_name(path))
    if not isinstance(node, Directory):
        raise error(errno.ENOTDIR, path)
    return node


def _size(xattrs: Mapping[bytes, bytes]) -> int:
    return sum(len(name) + len(value) for name, value in xattrs.items())


def _name(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]
