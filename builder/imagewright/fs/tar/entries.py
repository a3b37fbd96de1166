"""Entries of tar archives, and the fields of their headers: numbers, checksums, PAX records.

No I/O. ``what`` names the archive in errors.
"""

from __future__ import annotations

import struct
from dataclasses import field

from imagewright.errors import FileSystemError, Reason, quoted
from imagewright.records import dataclass

BLOCK = 512
REGULAR, HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_MAX_ID = (1 << 32) - 2  # -1 means "leave as it is" to chown(2)
_MAX_DEVICE = (1 << 31) - 1
MAX_FILE_BYTES = (1 << 63) - 1  # of off_t
_MAX_TIME_NS = (1 << 33) * 1_000_000_000  # supported by every file system; utimensat takes 64 bits, Python has no limit


@dataclass(slots=True)
class Entry:
    """One entry. ``type`` is one of this module's constants; names are bytes as written; ``size``: of the stored data.

    ``segments`` (offset, length) tell where the stored data of a sparse file belong, ``real_size`` how long the file
    is.
    """

    name: bytes
    type: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    linkname: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    segments: tuple[tuple[int, int], ...] | None = None
    real_size: int = 0


def implausible(entry: Entry) -> str:
    """Which of an entry's numbers no system call would accept, before Python fails on it later; ``""`` for none."""
    if not 0 <= entry.size <= MAX_FILE_BYTES:
        return f"a size of {entry.size} bytes"
    if not (0 <= entry.uid <= _MAX_ID and 0 <= entry.gid <= _MAX_ID):
        return f"an owner out of range ({entry.uid}:{entry.gid})"
    if not (0 <= entry.major <= _MAX_DEVICE and 0 <= entry.minor <= _MAX_DEVICE):
        return f"a device number out of range ({entry.major}, {entry.minor})"
    return ""


def plausible_time(mtime_ns: int) -> int:
    """A modification time; 0 for nonsense that nobody relies on."""
    return mtime_ns if -_MAX_TIME_NS < mtime_ns < _MAX_TIME_NS else 0


def malformed(message: str, reason: Reason | None = None) -> FileSystemError:
    """The error for a malformed archive. ``reason`` defaults to ``LayerInvalid``."""
    return FileSystemError(
        message, reason=reason, hint="Rebuild the image or archive: it is damaged, or was written by a faulty program."
    )


def number(field_: bytes, what: str) -> int:
    """Octal text, or GNU's base-256: the high bit of the first byte set, followed by big-endian two's complement."""
    if field_[0] & 0x80:
        value = int.from_bytes(field_, "big") & ((1 << (8 * len(field_) - 1)) - 1)
        return value if field_[0] == 0x80 else value - (1 << (8 * len(field_) - 1))
    text = field_.rstrip(b"\0 ")
    if not text:
        return 0
    try:
        return int(text, 8)
    except ValueError:
        text = text.partition(b"\0")[0].strip(b" ")
        if not text:
            return 0
        try:
            return int(text, 8)
        except ValueError:
            pass
        raise malformed(
            f"{what} is malformed: invalid number {quoted(text[:20].decode('latin-1'))} in a header"
        ) from None


def signed_sum(block: bytes) -> int:
    """The checksum as old implementations computed it, over signed characters."""
    signed = struct.unpack("512b", block)
    return int(sum(signed) - sum(signed[148:156]) + 256)


def pax_records(data: bytes, what: str) -> list[tuple[bytes, bytes]]:
    """``length key=value\\n`` records (POSIX.1-2001, pax)."""
    records = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 20)
        try:
            length = int(data[position:space])
        except ValueError:
            length = 0
        end = position + length
        if space < 0 or length < 5 or end > len(data) or data[end - 1] != 0x0A:
            raise malformed(f"{what} is malformed: invalid PAX header")
        key, separator, value = data[space + 1 : end - 1].partition(b"=")
        if not separator:
            raise malformed(f"{what} is malformed: PAX record without '='")
        records.append((key, value))
        position = end
    return records


def nanoseconds(value: bytes) -> int:
    """A PAX time, decimal seconds with a fraction, as nanoseconds since 1970; further digits are truncated.

    Raises:
        ValueError
    """
    whole, _, fraction = value.partition(b".")
    below = int(fraction[:9].ljust(9, b"0") or b"0")
    seconds = int(whole or b"0")
    return seconds * 1_000_000_000 + (-below if whole.startswith(b"-") else below)
