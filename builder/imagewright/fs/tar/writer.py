"""Builds tar headers: ustar where that suffices, else preceded by a PAX header (POSIX.1-2001).

No I/O. The same entry always gives the same bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from imagewright.fs.tar.entries import BLOCK, DIRECTORY, Entry

_ASCII = bytes(b if b < 0x80 else 0x5F for b in range(256))
_MAX_OCTAL_7 = 0o7777777
_MAX_OCTAL_11 = 0o77777777777


def header(entry: Entry) -> bytes:
    """The header blocks of an entry: relative names, directories with a trailing slash, no user or group names."""
    name = entry.name + b"/" if entry.type == DIRECTORY else entry.name
    records: dict[bytes, bytes] = {}
    if len(name) > 100 or not name.isascii():
        records[b"path"] = name
    if len(entry.linkname) > 100 or not entry.linkname.isascii():
        records[b"linkpath"] = entry.linkname
    seconds, nanoseconds = divmod(entry.mtime_ns, 1_000_000_000)
    if nanoseconds or not 0 <= seconds <= _MAX_OCTAL_11:
        records[b"mtime"] = _time(entry.mtime_ns)
        seconds = min(max(seconds, 0), _MAX_OCTAL_11)
    uid, gid, size = entry.uid, entry.gid, entry.size
    if uid > _MAX_OCTAL_7:
        records[b"uid"], uid = b"%d" % uid, 0
    if gid > _MAX_OCTAL_7:
        records[b"gid"], gid = b"%d" % gid, 0
    if size > _MAX_OCTAL_11:
        records[b"size"], size = b"%d" % size, 0
    for key, value in sorted(entry.xattrs.items()):
        records[b"SCHILY.xattr." + key] = value
    block = _block(
        (name[:100], entry.linkname[:100]),
        entry.type,
        (entry.mode, uid, gid, size, seconds),
        (entry.major, entry.minor),
    )
    return _pax(name, records) + block if records else block


def padding(size: int) -> bytes:
    """Zeros that fill the last block of a file."""
    return bytes(-size % BLOCK)


END = bytes(2 * BLOCK)  # of the archive


def _block(
    names: tuple[bytes, bytes], kind: bytes, numbers: tuple[int, int, int, int, int], device: tuple[int, int]
) -> bytes:
    raw = (
        names[0].ljust(100, b"\0")
        + b"%07o\0%07o\0%07o\0%011o\0%011o\0        " % numbers
        + kind
        + names[1].ljust(100, b"\0")
        + b"ustar\x0000"
        + bytes(64)
        + b"%07o\0%07o\0" % device
        + bytes(167)
    )
    # Adler-32's low half is 1 + the sum of the bytes modulo 65521, which 512 ASCII bytes don't reach.
    total = (zlib.adler32(raw) & 0xFFFF) - 1 if raw.isascii() else sum(raw)
    return raw[:148] + b"%06o\0 " % total + raw[156:]


def _pax(name: bytes, records: Mapping[bytes, bytes]) -> bytes:
    body = b"".join(_record(key, value) for key, value in records.items())
    short = b"PaxHeaders.0/" + name.rstrip(b"/").rpartition(b"/")[2]
    return (
        _block((short[:100].translate(_ASCII), b""), b"x", (0o644, 0, 0, len(body), 0), (0, 0))
        + body
        + padding(len(body))
    )


def _record(key: bytes, value: bytes) -> bytes:
    """``length key=value\\n``; the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) > len(str(rest)):
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _time(nanoseconds: int) -> bytes:
    sign = b"-" if nanoseconds < 0 else b""
    seconds, fraction = divmod(abs(nanoseconds), 1_000_000_000)
    return b"%s%d.%09d" % (sign, seconds, fraction) if fraction else b"%s%d" % (sign, seconds)
