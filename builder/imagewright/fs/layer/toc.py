"""The table of contents of a layer that is eStargz or zstd:chunked: what its tar has, without the tar.

No I/O of its own. A table is hostile input: whatever it says, reading it takes bounded memory and time, and what cannot
be told exactly (names that are not UTF-8, unknown types) is refused, since the layer itself can be read instead.
"""

from __future__ import annotations

import base64
import binascii
import calendar
import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from imagewright.fs.layer.indexwriter import IndexWriter
from imagewright.fs.layer.limits import Limits, Meter
from imagewright.fs.tar import entries
from imagewright.fs.tar.entries import Entry, implausible, plausible_time
from imagewright.records import dataclass

_TYPES = {
    "reg": entries.REGULAR,
    "hardlink": entries.HARDLINK,
    "symlink": entries.SYMLINK,
    "char": entries.CHARACTER,
    "block": entries.BLOCK_DEVICE,
    "dir": entries.DIRECTORY,
    "fifo": entries.FIFO,
}
_CHUNK = "chunk"  # a further part of the file before it
_MAX_NUMBER = (1 << 63) - 1
_MAX_XATTRS = 1000
_USED_FIELDS = frozenset({"version", "tarSplitDigest"})  # besides the entries
_MAX_FIELDS = 100
_COMMON_BYTES, _MAX_BYTES = 4096, 256 << 10  # of an entry: most, and all
_SPACE = re.compile(rb"[ \t\r\n]*")
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII)
_LIMITS = Limits()


class TableError(Exception):
    """A table cannot be used; ``str()`` says why."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Where the data of a file begin in the blob, and where they end if that is known; and their digest."""

    offset: int
    end: int | None
    size: int
    digest: str


ReadStored = Callable[[Stored], bytes]  # the verified data of a small file; may raise TableError


def read_table(document: bytes, index: IndexWriter, read: ReadStored, limits: Limits = _LIMITS) -> bool:
    """Add the entries of a table, a JSON document, to ``index``; whether their times are exact.

    Tables written by eStargz tools have times rounded to seconds; those of containers/storage have the digest of its
    tar-split data, and times as they are.

    Raises:
        TableError: the table is wrong, too large, or doesn't tell all that its tar would.
        FileSystemError: as ``make_index``.
    """
    meter = Meter(limits, "the table of contents")
    exact = False
    try:
        table = _Table(document)
        for value in table.entries():
            kind = value.get("type")
            if kind == _CHUNK:
                continue
            entry, fraction = _entry(value, kind)
            exact = exact or fraction
            meter.entry(entry)
            index.add(entry, read(_stored(value, entry)) if index.keeps(entry) else None)
    except (ValueError, RecursionError) as error:
        raise TableError(f"it is malformed: {error}") from error
    if table.others.get("version") != 1:
        raise TableError("it is of an unknown version")
    return exact or bool(table.others.get("tarSplitDigest"))


class _Table:
    """A document, of which only one value at a time is in memory. ``others`` are fields besides the entries."""

    def __init__(self, document: bytes) -> None:
        self._document = document
        self._at = 0
        self._decoder = json.JSONDecoder()
        self._fields: set[str] = set()
        self.others: dict[str, Any] = {}

    def entries(self) -> Iterator[dict[str, Any]]:
        self._next(b"{")
        while True:
            key = self._value()
            self._next(b":")
            if not isinstance(key, str) or key in self._fields or len(self._fields) >= _MAX_FIELDS:
                raise ValueError("an invalid field")
            self._fields.add(key)
            if key == "entries":
                yield from self._list()
            else:
                value = self._value()
                if key in _USED_FIELDS:
                    self.others[key] = value
            if self._next(b",}") == b"}":
                break
        if self._skip() != len(self._document) or "entries" not in self._fields:
            raise ValueError("no list of entries, or something after the end")

    def _list(self) -> Iterator[dict[str, Any]]:
        self._next(b"[")
        if self._document.startswith(b"]", self._skip()):
            self._at += 1
            return
        while True:
            value = self._value()
            if not isinstance(value, dict):
                raise ValueError("an entry is not an object")
            yield value
            if self._next(b",]") == b"]":
                return

    def _value(self) -> Any:
        """The next value, which is short: a document of brackets alone would take many times its size in memory."""
        at = self._skip()
        try:
            value, length = self._decoded(at, _COMMON_BYTES)
        except ValueError:
            value, length = self._decoded(at, _MAX_BYTES)
        self._at = at + length
        return value

    def _decoded(self, at: int, limit: int) -> tuple[Any, int]:
        """A value, and how many bytes it has. Text takes up to four times its bytes, so not all is decoded at once."""
        text, _ = codecs.utf_8_decode(self._document[at : at + limit], "strict", False)
        value, length = self._decoder.raw_decode(text)
        return value, len(text[:length].encode())

    def _next(self, characters: bytes) -> bytes:
        """The next character, which has to be one of these."""
        at = self._skip()
        found = self._document[at : at + 1]
        if not found or found not in characters:
            raise ValueError(f"no {' or '.join(characters.decode())} at {at}")
        self._at += 1
        return found

    def _skip(self) -> int:
        match = _SPACE.match(self._document, self._at)
        assert match is not None
        self._at = match.end()
        return self._at


def _entry(value: dict[str, Any], kind: object) -> tuple[Entry, bool]:
    """An entry as a reader of its tar would return it, and whether its time has a fraction of a second."""
    type_ = _TYPES.get(kind) if isinstance(kind, str) else None
    if type_ is None:
        raise ValueError("an entry of an unknown type")
    name = _name(value.get("name"))
    if not name or (type_ == entries.REGULAR and name.endswith(b"/")):
        raise ValueError("an entry without a name")
    mtime_ns, fraction = _nanoseconds(value.get("modtime", ""))
    link = _name(value.get("linkName", "")) if type_ in (entries.HARDLINK, entries.SYMLINK) else b""
    mode, uid, gid = (_number(value, field) for field in ("mode", "uid", "gid"))
    size = _number(value, "size") if type_ == entries.REGULAR else 0
    entry = Entry(name, type_, mode & 0o7777, uid, gid, size, plausible_time(mtime_ns), link)
    if type_ in (entries.CHARACTER, entries.BLOCK_DEVICE):
        entry.major, entry.minor = _number(value, "devMajor"), _number(value, "devMinor")
    if why := implausible(entry):
        raise ValueError(f"an entry has {why}")
    entry.real_size = entry.size
    entry.xattrs = _xattrs(value.get("xattrs"))
    return entry, fraction


def _name(value: object) -> bytes:
    # The writers replace what is not UTF-8 by U+FFFD, so that the bytes are lost.
    if not isinstance(value, str) or "\ufffd" in value or "\0" in value:
        raise ValueError("a name that cannot be told")
    return value.encode()


def _number(value: dict[str, Any], field: str) -> int:
    number = value.get(field, 0)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= _MAX_NUMBER:
        raise ValueError(f"an entry has an invalid {field}")
    return number


def _nanoseconds(value: object) -> tuple[int, bool]:
    """A time of RFC 3339, since 1970, and whether it has a fraction; an empty one is unknown, or zero."""
    if value in ("", None):
        return 0, False
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("an entry has an invalid time")
    year, month, day, hour, minute, second = (int(match[group]) for group in range(1, 7))
    if not (1 <= month <= 12 and 1 <= day <= 31 and year):
        raise ValueError("an entry has an invalid time")
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    if match[8]:
        offset = int(match[9]) * 3600 + int(match[10]) * 60
        seconds -= offset if match[8] == "+" else -offset
    return seconds * 1_000_000_000 + int((match[7] or "0").ljust(9, "0")), bool(match[7])


def _xattrs(value: object) -> dict[bytes, bytes]:
    if not value:
        return {}
    if not isinstance(value, dict) or len(value) > _MAX_XATTRS:
        raise ValueError("an entry has invalid extended attributes")
    found = {}
    for key, data in value.items():
        name = _name(key)
        if not name or b"=" in name or not isinstance(data, str | None):
            raise ValueError("an entry has an invalid extended attribute")
        try:
            found[name] = base64.b64decode(data or "", validate=True)
        except binascii.Error:
            raise ValueError("an extended attribute is not base64") from None
    return found


def _stored(value: dict[str, Any], entry: Entry) -> Stored:
    whole = "chunkSize" not in value or value["chunkSize"] in (0, entry.size)
    digest = value.get("digest") or (value.get("chunkDigest") if whole else None)
    if _number(value, "innerOffset"):
        raise ValueError("the data of a small file are within those of another")
    end = _number(value, "endOffset") or None
    return Stored(_number(value, "offset"), end, entry.size, digest if isinstance(digest, str) else "")
