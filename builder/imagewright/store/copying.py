"""Copies blobs and verifies them, so that every file that leaves the engine was verified as it was written.

Reads and writes streams.
"""

from __future__ import annotations

from imagewright.errors import ImagewrightError, Reason
from imagewright.oci.descriptor import Descriptor
from imagewright.store.files import open_regular
from imagewright.streams import Readable, Writable

_CHUNK = 1 << 20


def copy_blob(stream: Readable, out: Writable, descriptor: Descriptor) -> None:
    """Copy all of ``stream``.

    Raises:
        ImagewrightError: reason ``LayerInvalid``: another size or digest.
        OSError: reading or writing failed.
    """
    hasher = descriptor.digest.hasher()
    size = 0
    while data := stream.read(_CHUNK):
        size += len(data)
        if size > descriptor.size:
            break
        hasher.update(data)
        out.write(data)
    if size != descriptor.size or hasher.hexdigest() != descriptor.digest.hex:
        raise ImagewrightError(
            f"cannot copy the blob {descriptor.digest}: its content differs from its descriptor, of {descriptor.size} bytes",
            reason=Reason.LAYER_INVALID,
            hint="Make sure that nothing changes the build's files while it runs, and build again.",
        )


class _Nowhere:
    def write(self, data: bytes, /) -> None:
        """Discard."""


def is_whole(path: str, descriptor: Descriptor) -> bool:
    """Whether the file at ``path`` has the content of a descriptor."""
    try:
        with open_regular(path) as file:
            copy_blob(file, _Nowhere(), descriptor)
    except (ImagewrightError, OSError):
        return False
    return True
