"""Layers given as items, applied one after the other. Writes below a root."""

from __future__ import annotations

import io
from collections.abc import Sequence

from archives.tars import Item, make_tar

from imagewright.errors import FileSystemError
from imagewright.fs.layer.unpack import unpack_layer
from imagewright.fs.rootfs.root import Rootfs


def unpack(rootfs: Rootfs, layers: Sequence[Sequence[Item]]) -> str:
    """Unpack layers until one fails; returns the error, ``""`` if none fails."""
    for items in layers:
        try:
            unpack_layer(rootfs, io.BytesIO(make_tar(*items)))
        except FileSystemError as error:
            return error.message
    return ""
