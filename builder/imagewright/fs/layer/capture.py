"""Data of a layer's files that are written to a folder while the layer is read for another reason.

Writes to the folder that it is given.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import field

from imagewright.fs.paths import quote_entry
from imagewright.fs.rootfs.attributes import EntryRef
from imagewright.fs.rootfs.errors import explain
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.tar.entries import REGULAR, Entry
from imagewright.fs.targets.model import DataReader
from imagewright.fs.targets.restore import write_entry_data
from imagewright.records import dataclass


@dataclass(frozen=True, slots=True)
class Captured:
    """A file whose data are at ``ref``, without owner, mode and time."""

    entry: Entry
    ref: EntryRef


@dataclass(slots=True)
class Capture:
    """Files of one layer, for which ``wanted`` holds, in ``folder``; ``files`` by the number of their entry."""

    folder: Rootfs
    wanted: Callable[[Entry], bool]
    prefix: str  # of names in the folder, which several layers share
    files: dict[int, Captured] = field(default_factory=dict)

    def see(self, number: int, entry: Entry, reader: DataReader) -> None:
        """Take the data of an entry if it is wanted.

        Raises:
            FileSystemError: as ``unpack_layer``, for a full disk among others.
        """
        if not self.wanted(entry) or entry.type != REGULAR or not entry.real_size:
            return
        ref = self.folder.fd, os.fsencode(f"{self.prefix}-{number}")
        try:
            fd = self.folder.inodes.create_file(ref)
            try:
                write_entry_data(fd, reader, entry)
            finally:
                os.close(fd)
        except OSError as error:
            raise explain(error, "unpack", quote_entry(entry.name), self.folder.full_hint) from error
        self.files[number] = Captured(entry, ref)
