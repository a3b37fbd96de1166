"""Archives that ADD unpacks: what counts as one, and unpacking it without the meaning that names have in layers.

Reads the archive, writes below the root it is given. Called by ``fs.copy``.
"""

from __future__ import annotations

from io import FileIO

from imagewright.errors import FileSystemError
from imagewright.fs.decompress import inflate, sniff
from imagewright.fs.rootfs import Rootfs
from imagewright.fs.tarheader import REGULAR, TarReader
from imagewright.fs.unpack import UnpackOptions, unpack_layer


def is_tar(file: FileIO) -> bool:
    """Whether a file is a tar archive, plain or compressed with gzip, bzip2, xz or zstd: its first header must read.

    The name doesn't matter (Dockerfile reference, "ADD"). The file is back at its start afterwards.
    """
    try:
        found, stream = sniff(file)
        return TarReader(inflate(stream, found)).next() is not None
    except FileSystemError:
        return False
    finally:
        file.seek(0)


def newest(file: FileIO) -> int | None:
    """When the newest regular file in an archive was changed, in seconds since 1970; None for what is no archive."""
    try:
        found, stream = sniff(file)
        times = [entry.mtime_ns for entry in TarReader(inflate(stream, found)) if entry.type == REGULAR]
    except FileSystemError:
        return None
    return max(times) // 1_000_000_000 if times else None


def extract(rootfs: Rootfs, file: FileIO, below: bytes, ownership: tuple[int, int] | None) -> list[bytes]:
    """Unpack below a folder of the root; the paths that were written."""
    found, stream = sniff(file)
    options = UnpackOptions(whiteouts=False, below=below, ownership=ownership, keep_written=True)
    return unpack_layer(rootfs, inflate(stream, found), options).written
