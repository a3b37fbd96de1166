"""Copies a blob from where it is to a file, and looks whether it is what its descriptor says.

Reads and writes streams. Called by ``store.layout`` and ``store.archive``: what leaves the engine as a file was verified
as it was written.
"""

from __future__ import annotations

from imagewright.errors import ImagewrightError, Reason
from imagewright.oci.descriptor import Descriptor
from imagewright.streams import Readable, Writable

_CHUNK = 1 << 20


def copy_blob(stream: Readable, out: Writable, descriptor: Descriptor) -> None:
    """Copy all of ``stream``.

    Raises:
        ImagewrightError: reason ``LayerInvalid``, when size or digest are others.
        OSError: as reading and writing raise it.
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
            f"the blob {descriptor.digest} is not the {descriptor.size} bytes that its descriptor says",
            reason=Reason.LAYER_INVALID,
            hint="Files of the build were changed or damaged while it ran; build again.",
        )


class _Nowhere:
    def write(self, data: bytes, /) -> None:
        """Only the reading matters."""


def is_whole(path: str, descriptor: Descriptor) -> bool:
    """Whether the file at ``path`` is the blob."""
    try:
        with open(path, "rb") as file:
            copy_blob(file, _Nowhere(), descriptor)
    except (ImagewrightError, OSError):
        return False
    return True
