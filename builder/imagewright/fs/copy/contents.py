"""Hashes over the sources of a COPY or ADD, or over a whole tree: content and metadata, without times.

Reads files below the source's root. As in BuildKit, modification times do not count: every checkout changes them.
"""

from __future__ import annotations

import hashlib
import os
import stat

from imagewright.descent import Descent, Walk, run
from imagewright.digest import FramedHash
from imagewright.fs.copy.copier import CopyRequest, filtered
from imagewright.fs.copy.sources import Source, Sources, clean
from imagewright.fs.paths import check_length
from imagewright.fs.rootfs.attributes import EntryRef
from imagewright.fs.rootfs.errors import explain
from imagewright.fs.rootfs.holes import Holes
from imagewright.fs.rootfs.inodes import Inodes
from imagewright.fs.rootfs.root import Rootfs

_CHUNK_BYTES = 1 << 20


def copied_contents(request: CopyRequest) -> str:
    """A hash over everything that ``copy`` would copy for this request.

    Names, types, modes, content, links, devices and extended attributes; owners if the copy preserves them. The
    request's own fields (destination, --chown) are not included.

    Raises:
        FileSystemError: as ``copy``, for a missing source.
    """
    walker = _Walker(request.source.inodes, owners=request.preserve_owner)
    whole = Sources(request.source, request.ignore)
    try:
        if request.only:
            for pattern in request.only:
                with whole.open(os.fsencode(clean(pattern.base))) as source:
                    walker.add_source(source, filtered(request, source.path, pattern))
        else:
            for match in whole.matches(request.patterns):
                with whole.open(match) as source:
                    walker.add_source(source, filtered(request, source.path))
    except OSError as error:
        raise explain(error, "read the files to copy") from error
    return walker.hexdigest()


def tree_contents(rootfs: Rootfs) -> str:
    """A hash over everything in a root file system, owners included.

    Raises:
        OSError, FileSystemError
    """
    walker = _Walker(rootfs.inodes, owners=True)
    walker.add_metadata(b"", rootfs.inodes.fstat(rootfs.fd))
    walker.add_directory(rootfs.fd, b"", Sources(rootfs, None))
    return walker.hexdigest()


class _Walker:
    def __init__(self, inodes: Inodes, *, owners: bool) -> None:
        self._inodes = inodes
        self._owners = owners
        self._hash = FramedHash()
        self._holes = Holes()
        self._seen: dict[tuple[int, int], int] = {}  # inodes with several hard links, numbered

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def add_source(self, source: Source, shown: Sources) -> None:
        if stat.S_ISDIR(source.info.st_mode):
            opened = os.open(b"/proc/self/fd/%d" % source.fd, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self.add_directory(opened, source.path, shown)  # its own name and mode are not copied
            finally:
                os.close(opened)
            return
        above, _, name = source.path.rpartition(b"/")
        with shown.root.directory(above) as directory:
            self._add_entry(directory, name, source.name, source.info)

    def add_directory(self, directory: int, path: bytes, shown: Sources) -> None:
        with Descent(directory) as down:
            run(self._adding(down, path, shown))

    def _adding(self, down: Descent, path: bytes, shown: Sources) -> Walk[None]:
        check_length(path)
        with os.scandir(down.fd) as entries:
            found = sorted(
                (os.fsencode(entry.name), self._inodes.seen(entry.stat(follow_symlinks=False))) for entry in entries
            )
        for name, info in found:
            child = path + b"/" + name if path else name
            if shown.root.is_excluded(child):
                continue
            hidden = shown.hides(child)
            if not stat.S_ISDIR(info.st_mode):
                if not hidden:
                    self._add_entry(down.fd, name, name, info)
                continue
            below = down.enter(name)
            if not hidden or shown.shows_below(child, below):
                self.add_metadata(name, info)
                self._add_xattrs(below)
                yield self._adding(down, child, shown)
            down.leave()
        self._hash.add(None)  # end of the directory

    def add_metadata(self, name: bytes, info: os.stat_result) -> None:
        self._hash.add(name, info.st_mode)
        if self._owners:
            self._hash.add(info.st_uid, info.st_gid)

    def _add_entry(self, directory: int, name: bytes, shown_as: bytes, info: os.stat_result) -> None:
        self.add_metadata(shown_as, info)
        if info.st_nlink > 1:
            self._hash.add(self._seen.setdefault((info.st_dev, info.st_ino), len(self._seen)))
        if stat.S_ISREG(info.st_mode):
            self._hash.add(info.st_size, self._content(directory, name))
            self._add_xattrs((directory, name))
        elif stat.S_ISLNK(info.st_mode):
            self._hash.add(os.readlink(name, dir_fd=directory))
        else:
            self._hash.add(info.st_rdev)

    def _add_xattrs(self, target: int | EntryRef) -> None:
        for key, value in sorted(self._inodes.xattrs(target).items()):
            self._hash.add(key, value)
        self._hash.add(None)

    def _content(self, directory: int, name: bytes) -> bytes:
        hasher = hashlib.sha256()
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        with os.fdopen(fd, "rb", buffering=0) as file:
            self._holes.add(fd, name)
            while chunk := file.read(_CHUNK_BYTES):
                hasher.update(chunk)
        return hasher.digest()
