"""Archives that ADD extracts: detection, and extraction without the whiteouts of layers.

Reads the archive, writes below the root it is given.
"""

from __future__ import annotations

from io import FileIO

from imagewright.errors import FileSystemError
from imagewright.fs.layer.unpack import UnpackOptions, unpack_into
from imagewright.fs.paths import join
from imagewright.fs.tar.decompress import inflate, sniff
from imagewright.fs.tar.entries import REGULAR
from imagewright.fs.tar.reader import TarReader
from imagewright.fs.targets.model import D, Target


def is_tar(file: FileIO) -> bool:
    """Whether a file is a tar archive, plain or compressed (gzip, bzip2, xz, zstd): its first header must be valid.

    The name does not matter (Dockerfile reference, "ADD"). The file is rewound afterwards.
    """
    try:
        found, stream = sniff(file)
        return TarReader(inflate(stream, found)).next() is not None
    except FileSystemError:
        return False
    finally:
        file.seek(0)


def newest(file: FileIO) -> int | None:
    """The mtime of the newest regular file in an archive, in seconds since 1970; None if it is not an archive."""
    try:
        found, stream = sniff(file)
        entries = TarReader(inflate(stream, found))
        time_ns = max((entry.mtime_ns for entry in entries if entry.type == REGULAR), default=None)
    except FileSystemError:
        return None
    return None if time_ns is None else time_ns // 1_000_000_000


def extract(target: Target[D], file: FileIO, ownership: tuple[int, int] | None) -> list[bytes]:
    """Extract into a root, and close it; returns the paths, without links, of the entries written.

    Raises:
        FileSystemError
    """
    found, stream = sniff(file)
    options = UnpackOptions(whiteouts=False, ownership=ownership, keep_written=True)
    reader = TarReader(inflate(stream, found), options.what)
    try:
        written = unpack_into(target, reader, options).written
        return [real_path for path in written if (real_path := _real_path(target, path)) is not None]
    finally:
        target.close()


def _real_path(target: Target[D], path: bytes) -> bytes | None:
    """The real path of an entry; None if a later entry replaced it or a directory above it."""
    parent, _, name = path.rpartition(b"/")
    directory = target.find(parent)
    if directory is None:
        return None
    real_path = join(target.path_of(directory), name)
    try:
        target.stat(directory, real_path)
    except FileNotFoundError:
        return None
    return real_path
