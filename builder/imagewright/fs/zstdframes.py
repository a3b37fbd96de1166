"""Tells whether a zstd stream is whole (RFC 8878, "Zstandard Frames"): the library takes a frame that is cut off for its end.

No I/O of its own: reads from the stream it is given. Called by ``fs.decompress``. Only the sizes of frames and blocks
are looked at, some bytes in 128 KiB; what is in them is the library's to check.
"""

from __future__ import annotations

from imagewright.errors import FileSystemError
from imagewright.streams import Readable

_MAGIC = b"\x28\xb5\x2f\xfd"
_RLE_BLOCK = 1


class ZstdFrames:
    """Passes a stream through.

    Raises:
        FileSystemError: from ``read``, reason ``LayerInvalid``: the stream ends within a frame.
    """

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._head = b""  # what was read of the frame's or block's header
        self._skip = 0  # bytes that belong to the current block, or to what follows the last one
        self._in_frame = False
        self._checksum = 0  # bytes of it after the last block

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        if data:
            self._follow(data)
        elif self._in_frame or self._head or self._skip:
            raise FileSystemError("the zstd stream is cut off", hint="It is damaged; make it anew.")
        return data

    def _follow(self, data: bytes) -> None:
        position = 0
        while position < len(data):
            if self._skip:
                step = min(self._skip, len(data) - position)
                self._skip -= step
                position += step
                continue
            wanted = 3 if self._in_frame else _header_size(self._head)
            step = min(wanted - len(self._head), len(data) - position)
            self._head += data[position : position + step]
            position += step
            if self._in_frame:
                if len(self._head) == 3:
                    self._block()
            elif len(self._head) == _header_size(self._head):
                self._frame()

    def _frame(self) -> None:
        if self._head[:4] == _MAGIC:
            self._in_frame = True
            self._checksum = 4 if self._head[4] & 4 else 0
        else:  # a skippable frame; the library refuses whatever else it may be
            self._skip = int.from_bytes(self._head[4:8], "little")
        self._head = b""

    def _block(self) -> None:
        header = int.from_bytes(self._head, "little")
        self._head = b""
        self._skip = 1 if header >> 1 & 3 == _RLE_BLOCK else header >> 3
        if header & 1:
            self._in_frame = False
            self._skip += self._checksum


def _header_size(head: bytes) -> int:
    """How long a frame's header is, as far as ``head`` tells."""
    if len(head) < 5:
        return 5
    if head[:4] != _MAGIC:
        return 8
    descriptor = head[4]
    single_segment = descriptor >> 5 & 1
    content_size = (single_segment, 2, 4, 8)[descriptor >> 6]
    return 5 + (1 - single_segment) + (0, 1, 2, 4)[descriptor & 3] + content_size
