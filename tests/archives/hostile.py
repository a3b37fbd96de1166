"""Archives of the hostile corpus as streams, made while they are read: some are larger than the memory. No I/O."""

from __future__ import annotations

import itertools
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

_BLOCK = 512


class Archive:
    """The parts of an entry of ``hostile/archives.json``, each repeated ``times`` its share ``part``."""

    def __init__(self, entry: Mapping[str, Any], part: float = 1) -> None:
        pieces = (self._pieces(each, max(1, int(each["times"] * part))) for each in entry["parts"])
        self._rest = itertools.chain(itertools.chain.from_iterable(pieces), [bytes(2 * _BLOCK)])
        self._data = b""

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes, all that are left if it is negative."""
        if size < 0:
            data, self._data = self._data + b"".join(self._rest), b""
            return data
        while len(self._data) < size and (piece := next(self._rest, b"")):
            self._data += piece
        data, self._data = self._data[:size], self._data[size:]
        return data

    def _pieces(self, part: Mapping[str, Any], times: int) -> Iterator[bytes]:
        for number in range(times):
            if "zeros" in part:
                yield bytes(part["zeros"])
            if "pax" in part:
                yield _extension(part, number)
            for name in ("entry", "marker"):
                if name in part:
                    yield _entry(_named(part[name], number), part.get("link", ""))


def _named(text: str, number: int) -> str:
    """``{}`` is the number of the repetition, ``{d/}`` a path of as many directories, ``{30/}`` one of up to 30."""
    return text.replace("{}", str(number)).replace("{d/}", "d/" * number).replace("{30/}", "d/" * (number % 31))


def _entry(name: str, link: str) -> bytes:
    info = tarfile.TarInfo(name)
    if link:
        info.type, info.linkname = tarfile.SYMTYPE, link
    return info.tobuf(tarfile.PAX_FORMAT)


def _extension(part: Mapping[str, Any], number: int) -> bytes:
    data = bytes(part.get("size", 0))
    if "key" in part:
        values = {_named(part["key"], number): part.get("value", "").encode() or data, **part.get("more", {})}
        data = b"".join(
            _record(key.encode(), value.encode() if isinstance(value, str) else value) for key, value in values.items()
        )
    info = tarfile.TarInfo("extension")
    info.type, info.size = part["pax"].encode(), len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % _BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while length != len(body) + len(str(length)):
        length = len(body) + len(str(length))
    return str(length).encode() + body
