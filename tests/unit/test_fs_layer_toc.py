"""Indexes made of tables of contents: the same as those of the tar, or none."""

from __future__ import annotations

import dataclasses
import gzip
import io
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from archives.chunked import CHECKSUM, POSITION, STARGZ, Chunked, estargz, footer, zstd_chunked
from archives.tars import CHARACTER, FIFO, Item, directory, hardlink, make_tar, symlink
from hypothesis import given
from hypothesis import strategies as st

from imagewright.digest import Digest
from imagewright.fs.layer import chunked
from imagewright.fs.layer.index import exact_times, make_index
from imagewright.fs.layer.indexwriter import IndexWriter
from imagewright.fs.layer.toc import TableError, read_table
from imagewright.fs.tar.reader import TarReader

PASSWD = b"app:x:7:8::/:/bin/sh\n"
TAR = make_tar(
    directory("etc"),
    Item("etc/passwd", data=PASSWD * 900),
    Item("etc/group", data=b"app:x:8:\n", mtime=1_600_000_000.25),
    Item("etc/shadow", data=b"secret"),
    directory("usr", 0o1777, mtime=0.75),
    Item("usr/tool", data=b"t" * 5000, mode=0o4755, pax={"SCHILY.xattr.user.b": "2", "SCHILY.xattr.user.a": "ä"}),
    hardlink("usr/same", "usr/tool"),
    symlink("usr/link", "../etc/é"),
    Item("usr/pipe", FIFO),
    Item("usr/null", CHARACTER, device=(1, 3)),
    Item("usr/.wh.gone"),
    Item("n" * 120, mtime=-3.5),
)
WRITERS: list[Callable[[bytes], Chunked]] = [estargz, zstd_chunked, lambda tar: zstd_chunked(tar, rounded=True)]


@dataclasses.dataclass
class Counted:
    """Reads parts of a layer, and keeps how long they were."""

    layer: Chunked
    lengths: list[int] = dataclasses.field(default_factory=list)

    def read(self, offset: int, length: int) -> bytes:
        self.lengths.append(length)
        return self.layer.read(offset, length)


def index_of(layer: Chunked) -> bytes:
    return chunked.index_of(layer.descriptor, layer.diff_id, layer.read)


def check(layer: Chunked) -> None:
    """The index of the table is that of the layer, but for the rounded times."""
    right = make_index(io.BytesIO(layer.tar), layer.diff_id)
    times = [entry.mtime_ns for entry in TarReader(io.BytesIO(layer.tar))]
    assert exact_times(index_of(layer), right, layer.diff_id) == times


def test_what_identifies_a_table() -> None:
    """All that says where it is and what it is; "" if it cannot be verified."""
    assert gzip.decompress(estargz(TAR).blob) == estargz(TAR).tar
    plain = dataclasses.replace(estargz(TAR), annotations={})
    assert not chunked.table_of(plain.descriptor)
    assert not chunked.table_of(dataclasses.replace(zstd_chunked(TAR), annotations={CHECKSUM: "a"}).descriptor)
    one, other = (write(TAR).descriptor for write in (estargz, zstd_chunked))
    changed = [
        *(dataclasses.replace(each, size=each.size - 1) for each in (one, other)),
        *(dataclasses.replace(each, digest=Digest.of(b"other")) for each in (one, other)),
        dataclasses.replace(one, annotations={STARGZ: str(Digest.of(b"other"))}),
        *(
            dataclasses.replace(other, annotations={**other.annotations, key: other.annotations[key] + "1"})
            for key in (CHECKSUM, POSITION)
        ),
    ]
    assert len({chunked.table_of(each) for each in (one, other, *changed)} - {""}) == 9
    same = dataclasses.replace(one, annotations={**one.annotations, "a": "b"})
    assert chunked.table_of(same) == chunked.table_of(one)


@pytest.mark.parametrize("write", WRITERS)
def test_the_index_is_that_of_the_tar(write: Callable[[bytes], Chunked]) -> None:
    check(write(TAR))
    check(write(make_tar()))


def test_the_annotations_of_stargz_snapshotter() -> None:
    layer = zstd_chunked(TAR, rounded=True)
    renamed = {key.replace("io.github.", "io."): value for key, value in layer.annotations.items()}
    check(dataclasses.replace(layer, annotations=renamed))


def test_exact_times_give_the_same_index() -> None:
    layer = zstd_chunked(TAR)
    assert index_of(layer) == make_index(io.BytesIO(TAR), layer.diff_id)


NAMES = st.text(st.characters(exclude_characters="\0/\ufffd", exclude_categories=["Cs"]), min_size=1, max_size=60)
ITEMS = st.builds(
    Item,
    st.lists(NAMES, min_size=1, max_size=3).map("/".join).filter(lambda name: name.strip("./")),
    st.sampled_from([b"0", b"0", b"5", b"6", b"3"]),
    mode=st.integers(0, 0o7777),
    mtime=st.one_of(st.integers(-(1 << 31), 1 << 32), st.floats(1, 1 << 32).map(lambda value: round(value, 6))),
    uid=st.integers(0, (1 << 32) - 2),
    gid=st.integers(0, 70_000),
    device=st.tuples(st.integers(0, 4000), st.integers(0, 4000)),
    pax=st.dictionaries(st.just("SCHILY.xattr.user.x"), st.text(st.characters(codec="ascii", min_codepoint=32))),
)


@given(st.lists(ITEMS, max_size=8), st.sampled_from(WRITERS), st.binary(max_size=900))
def test_any_tar(items: list[Item], write: Callable[[bytes], Chunked], data: bytes) -> None:
    check(write(make_tar(*(dataclasses.replace(each, data=data if each.type == b"0" else b"") for each in items))))


def set_entry(number: int, **fields: object) -> Callable[[dict[str, Any]], object]:
    return lambda document: document["entries"][number].update(fields)


DEEP = b'{"version":1,"entries":[' + b"[" * 100_000
WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "another version": lambda document: document.update(version=2),
    "no version": lambda document: document.pop("version"),
    "no entries": lambda document: document.pop("entries"),
    "entries twice": lambda _: b'{"version":1,"entries":[],"entries":[]}',
    "a version twice": lambda _: b'{"version":2,"version":1,"entries":[]}',
    "entries that are none": lambda document: document.update(entries=[1]),
    "no list": lambda document: document.update(entries={}),
    "something after the end": lambda _: b'{"version":1,"entries":[]}{}',
    "an end that is missing": lambda _: b'{"version":1,"entries":[]',
    "no object": lambda _: b"[]",
    "deep": lambda _: DEEP,
    "many fields": lambda document: document.update({str(number): 0 for number in range(200)}),
    "a long field": lambda document: document.update(a=[0] * 200_000),
    "a long entry": set_entry(3, xattrs={"user.a": "A" * (256 << 10)}),
    "not UTF-8": lambda _: b'{"version":1,"entries":[],"a":"\xff"}',
    "a huge number": lambda _: b'{"version":1,"entries":[],"a":%s}' % (b"9" * 5000),
    "a lost name": set_entry(3, name="etc/\ufffd"),
    "half a character": lambda _: b'{"version":1,"entries":[{"type":"dir","name":"\\ud800"}]}',
    "a NUL": set_entry(3, name="etc/a\0b"),
    "no name": set_entry(3, name=""),
    "a name that is none": set_entry(3, name=["a"]),
    "a file like a directory": set_entry(3, name="etc/shadow/"),
    "a lost link": set_entry(7, linkName="\ufffd"),
    "an unknown type": set_entry(3, type="sparse"),
    "a type that is none": set_entry(3, type=["reg"]),
    "a negative mode": set_entry(3, mode=-1),
    "a mode that is none": set_entry(3, mode=True),
    "a large owner": set_entry(3, uid=1 << 32),
    "a size": set_entry(3, size=1 << 63),
    "a fraction of a size": set_entry(3, size=1.5),
    "all sizes": set_entry(3, size=1 << 50),
    "a device": set_entry(9, devMajor=1 << 31),
    "a time": set_entry(3, modtime="yesterday"),
    "a month": set_entry(3, modtime="2020-13-01T00:00:00Z"),
    "a time that is none": set_entry(3, modtime=5),
    "attributes": set_entry(3, xattrs=["a"]),
    "many attributes": set_entry(3, xattrs={str(number): "" for number in range(2000)}),
    "an attribute without a name": set_entry(3, xattrs={"": ""}),
    "an attribute with a sign": set_entry(3, xattrs={"a=b": ""}),
    "an attribute that is none": set_entry(3, xattrs={"a": 5}),
    "an attribute that is not base64": set_entry(3, xattrs={"a": "?"}),
    "data elsewhere": set_entry(1, offset=0),
    "data nowhere": set_entry(1, offset=1 << 40, endOffset=(1 << 40) + 10),
    "data of another file": set_entry(1, digest=str(Digest.of(b"other"))),
    "data without a digest": set_entry(1, digest=""),
    "data with a wrong digest": set_entry(1, digest="md5:1"),
    "data inside of others": set_entry(1, innerOffset=1),
    "another size of data": set_entry(1, size=10),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("write", [estargz, zstd_chunked])
def test_a_wrong_table_is_refused(write: Callable[..., Chunked], wrong: str) -> None:
    with pytest.raises(TableError):
        index_of(write(TAR, WRONG[wrong]))


@pytest.mark.parametrize("position", ["1:2:3", "1:2:3:2", "-1:2:3:1", "٣:2:3:1", "1:0:3:1", "9999999:9:9:1", "a", ""])
def test_a_wrong_position(position: str) -> None:
    layer = zstd_chunked(TAR)
    with pytest.raises(TableError):
        index_of(dataclasses.replace(layer, annotations={**layer.annotations, POSITION: position}))


def test_a_table_without_its_digest() -> None:
    for layer, key in ((estargz(TAR), STARGZ), (zstd_chunked(TAR), CHECKSUM)):
        for digest in (str(Digest.of(b"other")), "none", ""):
            with pytest.raises(TableError, match="digest"):
                index_of(dataclasses.replace(layer, annotations={**layer.annotations, key: digest}))


def set_header(name: str, value: object) -> Callable[[Any], object]:
    return lambda info: setattr(info, name, value)


@pytest.mark.parametrize(
    "change", [("name", "a"), ("mode", 0o644), ("uid", 1), ("mtime", 1), ("pax_headers", {"SCHILY.xattr.user.a": "1"})]
)
def test_the_tables_own_header_is_what_all_write(change: tuple[str, object]) -> None:
    """It is a file of the layer, of which nothing but the content is verified."""
    with pytest.raises(TableError, match="header"):
        index_of(estargz(TAR, header=set_header(*change)))


@pytest.mark.parametrize("tail", [b"", bytes(51), footer(1 << 62), footer(0), footer(10)[:-1] + b"", b"a" * 51])
def test_a_wrong_footer(tail: bytes) -> None:
    layer = estargz(TAR)
    with pytest.raises(TableError):
        index_of(dataclasses.replace(layer, blob=layer.blob[:-51] + tail))
    with pytest.raises(TableError):
        index_of(dataclasses.replace(layer, blob=tail))


def test_tables_are_bounded() -> None:
    """Before they are read, or while they are inflated."""
    bomb, zstd = (write(TAR, lambda _: b" " * (chunked.MAX_TABLE_BYTES + 1)) for write in (estargz, zstd_chunked))
    for counted in (Counted(bomb), Counted(zstd)):
        with pytest.raises(TableError):
            chunked.index_of(counted.layer.descriptor, counted.layer.diff_id, counted.read)
        assert sum(counted.lengths) < 1 << 20
    far = dataclasses.replace(zstd.descriptor, size=1 << 40, annotations={CHECKSUM: "a", POSITION: f"1:{1 << 30}:9:1"})
    counted = Counted(zstd)
    with pytest.raises(TableError, match="too large"):
        chunked.index_of(far, zstd.diff_id, counted.read)
    assert not counted.lengths


def test_a_small_file_is_read_alone() -> None:
    for layer, requests in ((estargz(TAR), 4), (zstd_chunked(TAR), 3)):
        counted = Counted(layer)
        chunked.index_of(layer.descriptor, layer.diff_id, counted.read)
        assert len(counted.lengths) == requests


def test_a_large_attribute() -> None:
    """Its entry is longer than most; the standard library is slow with longer ones."""
    check(estargz(make_tar(Item("a", pax={"SCHILY.xattr.user.a": "1" * 6000}))))


def test_a_time_with_an_offset() -> None:
    for text, other in (
        ("2020-01-01T02:00:00.5+02:00", "2020-01-01T00:00:00.5Z"),
        ("2019-12-31T23:30:00-00:30", "2020-01-01T00:00:00Z"),
    ):
        one, two = (index_of(zstd_chunked(TAR, set_entry(3, modtime=each))) for each in (text, other))
        right = make_index(io.BytesIO(TAR), Digest.of(TAR))
        assert one[-200:] == two[-200:] != right[-200:]


@pytest.mark.parametrize(("count", "works"), [(500, True), (1500, False)])
def test_few_members_are_inflated(count: int, works: bool) -> None:
    """Whoever inflates the next one copies the rest: a million of them would be terabytes."""
    layer = estargz(TAR, before=gzip.compress(b"", mtime=0) * count)
    if works:
        check(layer)
    else:
        with pytest.raises(TableError, match="another size"):
            index_of(layer)


def test_the_table_is_one_member() -> None:
    with pytest.raises(TableError, match="header"):
        index_of(estargz(TAR, before_table=gzip.compress(b"", mtime=0)))


def test_a_table_takes_little_memory() -> None:
    """Whatever it is made of: lists take many times what they are written with, and so does a rare character."""
    lists = b"[" + b"[]," * 80_000 + b"[]]"
    fields = b",".join(b'"%d":%s' % (number, lists) for number in range(5))
    entries = b",".join(b'{"type":"dir","name":"\xf0\x9f\xa6\x80%s"}' % (b"\xc3\xa9" * 2000) for _ in range(2000))
    for document in (b'{"version":1,"entries":[],%s}' % fields, b'{"version":1,"entries":[%s]}' % entries):
        tracemalloc.start()
        try:
            assert read_table(document, IndexWriter(), lambda _: b"") is False
            assert tracemalloc.get_traced_memory()[1] < 12_000_000
        finally:
            tracemalloc.stop()
