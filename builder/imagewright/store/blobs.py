"""A directory of blobs by digest.

Reads and writes files. A blob appears under its name only when it is complete.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from imagewright.digest import Digest


class BlobWriter:
    """A blob that is being written."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        fd, self._path = tempfile.mkstemp(prefix="partial-", dir=store.folder)
        self._file = os.fdopen(fd, "wb", buffering=0)

    def write(self, data: bytes | memoryview, /) -> int:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]
        return len(data)

    def commit(self, digest: Digest) -> None:
        """Move the blob to its name."""
        self._file.close()
        os.rename(self._path, self._store.path(digest))

    def discard(self) -> None:
        """Remove what was not committed."""
        self._file.close()
        if os.path.exists(self._path):
            os.unlink(self._path)


class BlobStore:
    """Blobs in ``folder``, named by their digest's hexadecimal part."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        os.makedirs(folder, exist_ok=True)

    def path(self, digest: Digest) -> str:
        """The path of a blob, whether it exists or not."""
        return os.path.join(self.folder, digest.hex)

    def has(self, digest: Digest) -> bool:
        return os.path.exists(self.path(digest))

    @contextmanager
    def open(self, digest: Digest) -> Iterator[BinaryIO]:
        with open(self.path(digest), "rb") as file:
            yield file

    @contextmanager
    def writer(self) -> Iterator[BlobWriter]:
        """A new blob; what is not committed at the end is removed."""
        writer = BlobWriter(self)
        try:
            yield writer
        finally:
            writer.discard()
