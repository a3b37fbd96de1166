"""``COPY --link``: copied into an empty root, whose content then lies over the image as a layer would.

Writes below both roots. Called by ``engine.copying``. So no link of the image is followed, and what is in the way is
replaced, whatever it is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

from imagewright.fs.changes import Changes
from imagewright.fs.copy import CopyRequest, copy
from imagewright.fs.pack import PackOptions, pack_layer
from imagewright.fs.rootfs import Rootfs
from imagewright.fs.unpack import unpack_layer


def copy_linked(rootfs: Rootfs, empty: Rootfs, requests: Sequence[CopyRequest]) -> Changes:
    """Carry the requests out in ``empty``, an empty root, and lay what they made over ``rootfs``.

    Raises:
        FileSystemError: as ``fs.copy.copy``.
    """
    changes = copy(empty, *requests)
    with tempfile.TemporaryFile(dir=empty.path) as layer:
        pack_layer(empty, changes, layer, PackOptions("none"))
        layer.seek(0)
        unpack_layer(rootfs, layer)
    return changes
