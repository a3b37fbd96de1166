"""Tar archives for tests, made by the standard library and not by the engine, and a slow stream to read them from.

No I/O.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field

FILE, DIRECTORY, SYMLINK, HARDLINK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
FIFO, CHARACTER = tarfile.FIFOTYPE, tarfile.CHRTYPE


@dataclass(frozen=True)
class Item:
    """One entry, owned by the user who runs the test, so that unpacking it does not need root."""

    name: str
    type: bytes = FILE
    data: bytes = b""
    link: str = ""
    mode: int = 0o644
    mtime: float = 1_700_000_000
    uid: int = field(default_factory=os.getuid)
    gid: int = field(default_factory=os.getgid)
    device: tuple[int, int] = (0, 0)
    pax: Mapping[str, str] = field(default_factory=dict)


def directory(name: str, mode: int = 0o755, **more: object) -> Item:
    return Item(name, DIRECTORY, mode=mode, **more)  # type: ignore[arg-type]


def symlink(name: str, target: str) -> Item:
    return Item(name, SYMLINK, link=target, mode=0o777)


def hardlink(name: str, target: str) -> Item:
    return Item(name, HARDLINK, link=target)


def make_tar(*items: Item, form: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of these entries, in this order, with unchanged names."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for item in items:
            info = tarfile.TarInfo(item.name)
            info.type, info.linkname, info.mode, info.mtime = item.type, item.link, item.mode, item.mtime
            info.uid, info.gid, info.size = item.uid, item.gid, len(item.data)
            info.devmajor, info.devminor = item.device
            info.pax_headers = dict(item.pax)
            tar.addfile(info, io.BytesIO(item.data))
    return out.getvalue()


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """An archive of files with this content."""
    return make_tar(*(Item(name, data=data) for name, data in files.items()))


class Dribble:
    """A stream that gives a few bytes at a time, as a network does."""

    def __init__(self, data: bytes, count: int) -> None:
        self._file = io.BytesIO(data)
        self._count = count

    def read(self, size: int = -1, /) -> bytes:
        return self._file.read(min(size, self._count))


def of_line(line: str) -> Item:
    """An entry as the corpus writes it: ``a/``, ``a -> b``, ``a == b`` (hard link), ``a = content``, ``a |`` (FIFO)."""
    if " -> " in line:
        return symlink(*line.split(" -> "))
    if " == " in line:
        return hardlink(*line.split(" == "))
    name, _, data = line.partition(" = ")
    if name.endswith(" |"):
        return Item(name[:-2], FIFO)
    return directory(name) if name.endswith("/") else Item(name, data=data.encode())
