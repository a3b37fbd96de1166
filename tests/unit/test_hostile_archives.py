"""Hostile archives: unpacking takes work in proportion to what is read, and bounded memory, or names the limit."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
from pathlib import Path
from typing import Any

import pytest
from archives.hostile import Archive
from archives.tars import Item, make_tar
from hostile.work import lines, peak_bytes

from imagewright.errors import FileSystemError, Reason
from imagewright.fs.copy.contents import tree_contents
from imagewright.fs.layer.changes import Changes
from imagewright.fs.layer.pack import pack_layer
from imagewright.fs.layer.unpack import Limits, UnpackOptions, unpack_layer
from imagewright.fs.rootfs.holes import MAX_HOLES
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.tar.decompress import _Inflater, open_layer
from imagewright.fs.tar.reader import TarReader, read_rest

ENTRIES = json.loads((Path(__file__).parents[1] / "hostile" / "archives.json").read_text())
LINEAR = [entry for entry in ENTRIES if "reason" not in entry]
LIMITED = [entry for entry in ENTRIES if "reason" in entry]
LINES = 2_000_000
BYTES = 32 << 20
ME = (os.getuid(), os.getgid())


def unpack(entry: dict[str, Any], root: Path, part: float = 1) -> None:
    root.mkdir()
    stream = Archive(entry, part)
    unpack_layer(Rootfs(str(root)), stream, UnpackOptions(ownership=ME, limits=Limits(**entry.get("limits", {}))))
    read_rest(stream, "the layer")


@pytest.mark.parametrize("entry", LINEAR, ids=[entry["name"] for entry in LINEAR])
def test_twice_as_much_is_twice_the_work(entry: dict[str, Any], tmp_path: Path) -> None:
    half = lines(lambda: unpack(entry, tmp_path / "half", 0.5), LINES)
    whole = lines(lambda: unpack(entry, tmp_path / "whole"), LINES)
    assert 0 < whole < half * 2.4


@pytest.mark.parametrize("entry", LIMITED, ids=[entry["name"] for entry in LIMITED])
def test_a_limit_is_named(entry: dict[str, Any], tmp_path: Path) -> None:
    def refused(root: Path) -> None:
        with pytest.raises(FileSystemError) as caught:
            unpack(entry, root)
        assert caught.value.reason is Reason(entry["reason"])
        assert caught.value.hint

    lines(lambda: refused(tmp_path / "counted"), LINES)
    assert peak_bytes(lambda: refused(tmp_path / "measured")) < BYTES


def test_an_opaque_marker_works_in_any_order(tmp_path: Path) -> None:
    root = Rootfs(str(tmp_path))
    unpack_layer(root, io.BytesIO(make_tar(Item("d/lower"), Item("d/s/lower"), Item("e/lower"))))
    marker = Item("d/.wh..wh..opq")
    unpack_layer(root, io.BytesIO(make_tar(Item("d/a"), marker, Item("d/s/b"), marker, Item("d/s/.wh..wh..opq"))))
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert found == ["d/a", "d/s/b", "e/lower"]


@pytest.mark.parametrize("name", ["a\0b", "d/a\0b", ".wh.a\0", "a\0/b"])
def test_a_null_byte_in_a_name_is_called_that(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileSystemError, match="has a NUL byte in its name") as caught:
        unpack_layer(Rootfs(str(tmp_path)), io.BytesIO(make_tar(Item("x", pax={"path": name}))))
    assert caught.value.reason is Reason.LAYER_INVALID


def test_holes_are_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(MAX_HOLES + (1 << 20))
    root = Rootfs(str(tmp_path))
    for call in (
        lambda: pack_layer(root, Changes((b"sparse",), ()), io.BytesIO()),
        lambda: tree_contents(root),
    ):
        with pytest.raises(FileSystemError, match="most of them holes") as caught:
            call()
        assert caught.value.reason is Reason.LIMIT_EXCEEDED


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_many_members_are_one_stream(compress: Any) -> None:
    data = b"".join(compress(b"x") for _ in range(300)) + compress(b"y" * 1_000_000) + bytes(3000) + compress(b"z")
    stream = open_layer(io.BytesIO(data))
    found = b"".join(iter(lambda: stream.read(1 << 16), b""))
    assert found == b"x" * 300 + b"y" * 1_000_000 + b"z"


def test_empty_members_are_fed_a_few_times() -> None:
    fed = 0

    class Counting:
        def __init__(self) -> None:
            self._inner = bz2.BZ2Decompressor()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def decompress(self, data: bytes, max_length: int = -1) -> bytes:
            nonlocal fed
            fed += len(data)
            return self._inner.decompress(data, max_length)

    data = bz2.compress(b"") * 20_000
    assert _Inflater(io.BytesIO(data), Counting, "bzip2").read(1) == b""
    assert len(data) <= fed < 100 * len(data)


def test_a_chain_before_one_entry_does_not_count_for_the_next() -> None:
    tar = make_tar(*(Item(f"f{number}", pax={"comment": "x" * 900_000}) for number in range(5)))
    assert len(list(TarReader(io.BytesIO(tar)))) == 5
