"""The fields of tar headers: numbers, checksums and PAX records; and the error for what is none.

No I/O. Called by ``fs.tarheader`` and ``fs.unpack``. ``what`` names the archive for the error.
"""

from __future__ import annotations

import struct

from imagewright.errors import FileSystemError, Reason


def malformed(message: str, reason: Reason | None = None) -> FileSystemError:
    """For an archive that no sound program writes. ``reason`` is ``LayerInvalid`` unless another is given."""
    return FileSystemError(
        message, reason=reason, hint="It was damaged or written by a faulty program: make the image or archive anew."
    )


def number(field_: bytes, what: str) -> int:
    """Octal text, or GNU's base-256: the first byte's high bit set, big-endian two's complement after it."""
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
        raise malformed(f"{what} has a header with a number that is none: {text[:20]!r}") from None


def signed_sum(block: bytes) -> int:
    """Old implementations summed signed characters."""
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
            raise malformed(f"{what} has a PAX header that can't be read")
        key, separator, value = data[space + 1 : end - 1].partition(b"=")
        if not separator:
            raise malformed(f"{what} has a PAX record without '='")
        records.append((key, value))
        position = end
    return records


def nanoseconds(value: bytes) -> int:
    """A PAX time, decimal seconds with a fraction, as nanoseconds since 1970; digits beyond those are cut off.

    Raises:
        ValueError
    """
    whole, _, fraction = value.partition(b".")
    below = int(fraction[:9].ljust(9, b"0") or b"0")
    seconds = int(whole or b"0")
    return seconds * 1_000_000_000 + (-below if whole.startswith(b"-") else below)
