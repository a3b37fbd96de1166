"""Indexes of layers that are eStargz or zstd:chunked, made of their tables of contents, without the layers.

Reads ranges of blobs from registries. A table is what the image's author says of one blob: it is never stored in a
cache, nor used for a layer of another image that has the same diff ID.
"""

from __future__ import annotations

import threading
from functools import partial

from imagewright.digest import Digest
from imagewright.engine.events import Reporter, timed
from imagewright.engine.layers import Layer
from imagewright.errors import ImagewrightError, Reason
from imagewright.fs.layer.chunked import index_of, table_of
from imagewright.fs.layer.toc import TableError

Key = tuple[Digest, str]  # the diff ID, and what identifies the table


class Tables:
    """The indexes that were made of tables in a build, each once. May be used from several threads."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._made: dict[Key, bytes] = {}  # b"" for a table that cannot be used
        self._used: dict[Key, bytes] = {}  # the same, also those that were refused later
        self._lock = threading.Lock()  # also, so that only one table is in memory

    def known(self, layer: Layer) -> bytes:
        """The index of a layer if it was made; b"" if not."""
        return self._made.get(key_of(layer), b"")

    def find(self, layer: Layer) -> bytes:
        """The index of a layer; b"" if it has no table that can be used.

        Raises:
            ImagewrightError: the build is cancelled.
        """
        if layer.origin is None or layer.origin.read_range is None or not table_of(layer.descriptor):
            return b""
        with self._lock:
            key = key_of(layer)
            if key not in self._made:
                self._made[key] = self._read(layer, partial(layer.origin.read_range, layer.descriptor))
                self._used[key] = self._made[key]
            return self._made[key]

    def _read(self, layer: Layer, read: partial[bytes]) -> bytes:
        try:
            with timed(self._reporter, "index", layer.name):
                return index_of(layer.descriptor, layer.diff_id, read)
        except TableError as error:
            self._warn(layer, str(error))
        except ImagewrightError as error:
            if error.reason is Reason.CANCELLED:
                raise
            # Many registries and proxies don't send ranges.
            self._reporter.debug(f"cannot read the table of contents of layer {layer.name}: {error.message}")
        return b""

    def made(self, layer: Layer, index: bytes) -> bool:
        """Whether an index was made of a layer's table."""
        return bool(index) and self._used.get(key_of(layer)) is index

    def refuse(self, layer: Layer, index: bytes, why: str) -> bool:
        """Use no table for a layer any more, if ``index`` was made of it; another thread may have said so."""
        key = key_of(layer)
        with self._lock:
            if not self.made(layer, index):
                return False
            if self._made[key]:
                self._made[key] = b""
                self._warn(layer, why)
        return True

    def _warn(self, layer: Layer, why: str) -> None:
        self._reporter.warning(f"cannot use the table of contents of layer {layer.name}, so the layer is read: {why}")


def key_of(layer: Layer) -> Key:
    """What an index of a layer is known by if it may be made of its table."""
    return layer.diff_id, table_of(layer.descriptor)
