"""Hashes of the files of a layer, by which copied files are compared with those of a base that isn't on disk.

No I/O of its own.
"""

from __future__ import annotations

import hashlib

from imagewright.fs.layer.limits import Limits, Meter
from imagewright.fs.tar.entries import REGULAR
from imagewright.fs.tar.reader import TarReader
from imagewright.streams import Readable

_SIZE = hashlib.sha256().digest_size
_UNKNOWN = bytes(_SIZE)
_LIMITS = Limits()


class FileHashes:
    """The SHA-256 of each file's data, by the number of its entry in the layer: 32 bytes for each entry."""

    def __init__(self, stream: Readable, limits: Limits = _LIMITS) -> None:
        """Read a layer, an uncompressed tar.

        Raises:
            FileSystemError: as ``unpack_layer``, for what the archive itself shows.
        """
        self._hashes = bytearray()
        reader = TarReader(stream)
        meter = Meter(limits, "the layer")
        for entry in reader:
            meter.entry(entry)
            found = _UNKNOWN
            if entry.type == REGULAR and entry.segments is None:  # of a sparse file not all data are in the archive
                hasher = hashlib.sha256()
                for chunk in reader.chunks():
                    hasher.update(chunk)
                found = hasher.digest()
            self._hashes += found

    def find(self, number: int) -> bytes | None:
        """None if the entry has no data that could be compared, or is none of the layer."""
        found = bytes(self._hashes[number * _SIZE : (number + 1) * _SIZE])
        return found if found and found != _UNKNOWN else None
