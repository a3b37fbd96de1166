"""Layers as tools for lazy pulling write them: eStargz and zstd:chunked, made of a tar by the standard library.

No I/O.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import math
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

import zstandard

from imagewright.digest import Digest
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.mediatypes import OCI_LAYER

STARGZ = "containerd.io/snapshot/stargz/toc.digest"
CHECKSUM, POSITION = (f"io.github.containers.zstd-chunked.manifest-{name}" for name in ("checksum", "position"))
_TYPES = {
    tarfile.REGTYPE: "reg",
    tarfile.DIRTYPE: "dir",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
    tarfile.FIFOTYPE: "fifo",
}
_SKIPPABLE = b"\x50\x2a\x4d\x18"
_XATTR = "SCHILY.xattr."
Change = Callable[[dict[str, Any]], object]


@dataclass(frozen=True)
class Chunked:
    """``blob`` as it is stored, and the ``tar`` that it has."""

    blob: bytes
    tar: bytes
    media_type: str
    annotations: dict[str, str]

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, Digest.of(self.blob), len(self.blob), self.annotations)

    @property
    def diff_id(self) -> Digest:
        return Digest.of(self.tar)

    def read(self, offset: int, length: int) -> bytes:
        return self.blob[offset : offset + length]


def _same(document: dict[str, Any]) -> None:
    """The table as it should be."""


def estargz(
    tar: bytes,
    change: Change = _same,
    header: Callable[[tarfile.TarInfo], object] = lambda _: None,
    *,
    before: bytes = b"",
    before_table: bytes = b"",
) -> Chunked:
    """As stargz-snapshotter writes it; ``change`` makes the table, and ``header`` its header, another one.

    ``before`` the data of each file, and before the table, members of gzip are stored.
    """
    blob, table = _parts(tar, lambda data: before + gzip.compress(data, 1, mtime=0), rounded=True)
    document = _document(table, change, indent="\t")
    offset = len(blob)
    end = io.BytesIO()
    with tarfile.open(fileobj=end, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("stargz.index.json")
        info.mode, info.size = 0, len(document)
        header(info)
        archive.addfile(info, io.BytesIO(document))
    blob += before_table + gzip.compress(end.getvalue(), 1, mtime=0) + footer(offset)
    return Chunked(blob, _tar(tar) + end.getvalue(), f"{OCI_LAYER}+gzip", {STARGZ: str(Digest.of(document))})


def footer(offset: int) -> bytes:
    """What tells where the table is."""
    packer = zlib.compressobj(0, zlib.DEFLATED, -15)
    packer.compress(b"")
    extra = b"SG\x16\x00" + b"%016xSTARGZ" % offset
    return b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff\x1a\x00" + extra + b"\x01\x00\x00\xff\xff" + bytes(8)


def zstd_chunked(tar: bytes, change: Change = _same, *, rounded: bool = False, level: int = 1) -> Chunked:
    """As containers/storage writes it, or ``rounded`` as stargz-snapshotter does."""
    pack = zstandard.ZstdCompressor(level).compress
    blob, table = _parts(tar, pack, rounded=rounded)
    blob += pack(tar[len(_tar(tar)) :])
    if not rounded:
        table["tarSplitDigest"] = f"sha256:{'0' * 64}"
    document = _document(table, change)
    stored = pack(document)
    position = f"{len(blob) + 8}:{len(stored)}:{len(document)}:1"
    blob += _SKIPPABLE + len(stored).to_bytes(4, "little") + stored
    return Chunked(blob, tar, f"{OCI_LAYER}+zstd", {CHECKSUM: str(Digest.of(stored)), POSITION: position})


def _document(table: dict[str, Any], change: Change, indent: str | None = None) -> bytes:
    changed = change(table)
    return changed if isinstance(changed, bytes) else json.dumps(table, ensure_ascii=False, indent=indent).encode()


def _tar(tar: bytes) -> bytes:
    """Without the blocks at its end."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        members = archive.getmembers()
        return tar[: members[-1].offset_data + -(-members[-1].size // 512) * 512] if members else b""


def _parts(tar: bytes, pack: Callable[[bytes], bytes], *, rounded: bool) -> tuple[bytes, dict[str, Any]]:
    """The files of a tar, those with data stored for themselves, and the table."""
    blob, begin, listed = b"", 0, []
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for member in archive:
            entry = _entry(member, rounded=rounded)
            listed.append(entry)
            if not (member.isreg() and member.size):
                continue
            blob += pack(tar[begin : member.offset_data])
            begin = member.offset_data + member.size
            data = tar[member.offset_data : begin]
            entry["offset"], entry["digest"] = len(blob), f"sha256:{sha256(data).hexdigest()}"
            blob += pack(data)
            entry["endOffset"] = len(blob)
    rest = _tar(tar)[begin:]
    return blob + (pack(rest) if rest else b""), {"version": 1, "entries": listed}


def _entry(member: tarfile.TarInfo, *, rounded: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": member.name + "/" * member.isdir(),
        "type": _TYPES[member.type],
        "mode": member.mode,
        "uid": member.uid,
        "gid": member.gid,
        "modtime": _time(member, rounded=rounded),
    }
    if member.isreg():
        entry["size"] = member.size
    if member.linkname:
        entry["linkName"] = member.linkname
    if member.isdev():
        entry["devMajor"], entry["devMinor"] = member.devmajor, member.devminor
    xattrs = {key.removeprefix(_XATTR): value for key, value in member.pax_headers.items() if key.startswith(_XATTR)}
    if xattrs:
        entry["xattrs"] = {
            key: base64.b64encode(value.encode("utf-8", "surrogateescape")).decode() for key, value in xattrs.items()
        }
    return entry


def _time(member: tarfile.TarInfo, *, rounded: bool) -> str:
    exact = Decimal(member.pax_headers.get("mtime", member.mtime))
    seconds = math.floor(exact + Decimal("0.5")) if rounded else math.floor(exact)
    if rounded and math.floor(exact) == 0:
        return ""
    text = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = "" if rounded else f"{exact - math.floor(exact):.9f}"[1:].rstrip("0").rstrip(".")
    return f"{text}{fraction}Z"
