"""Indexes of layers: the same however they are made, and bounded whatever they say."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard
from archives.tars import FIFO, Item, directory, hardlink, make_tar, symlink
from hypothesis import given
from hypothesis import strategies as st

from imagewright.cache import artifact
from imagewright.digest import Digest
from imagewright.errors import FileSystemError, Reason
from imagewright.fs.layer.changes import Changes
from imagewright.fs.layer.compress import PackOptions
from imagewright.fs.layer.index import apply_index, make_index
from imagewright.fs.layer.indexwriter import END, MAX_INDEX_BYTES, RECORD, XATTR, IndexWriter, head
from imagewright.fs.layer.pack import pack_layer
from imagewright.fs.layer.unpack import unpack_layer
from imagewright.fs.rootfs.inodes import RecordedInodes
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.tar.entries import REGULAR
from imagewright.fs.targets.model import NotVirtualError
from imagewright.fs.targets.virtual import VirtualRoot

LAYER = make_tar(
    directory("etc"),
    Item("etc/passwd", data=b"app:x:7:8::/:/bin/sh\n"),
    Item("etc/group", data=b"app:x:8:\n", mtime=1_600_000_000.25),
    Item("etc/shadow", data=b"secret"),
    directory("usr", 0o1777),
    Item("usr/tool", data=b"t" * 5000, mode=0o4755, pax={"SCHILY.xattr.user.b": "2", "SCHILY.xattr.user.a": "1"}),
    hardlink("usr/same", "usr/tool"),
    symlink("usr/link", "../etc/é"),
    Item("usr/pipe", FIFO),
    Item("usr/.wh.gone"),
    Item("n" * 120),
)
NAME = Digest.of(LAYER)


def rootfs(folder: Path) -> Rootfs:
    folder.mkdir()
    return Rootfs(str(folder), inodes=RecordedInodes()) if os.getuid() else Rootfs(str(folder))


def test_unpacking_makes_the_index_that_streaming_makes(tmp_path: Path) -> None:
    with_index, without = rootfs(tmp_path / "a"), rootfs(tmp_path / "b")
    index = IndexWriter()
    assert unpack_layer(with_index, io.BytesIO(LAYER), index=index) == unpack_layer(without, io.BytesIO(LAYER))
    assert index.finish(NAME) == make_index(io.BytesIO(LAYER), NAME)
    for name in ("etc/passwd", "etc/group", "usr/tool"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_packing_makes_the_index_that_streaming_makes(tmp_path: Path) -> None:
    root = rootfs(tmp_path / "root")
    unpack_layer(root, io.BytesIO(LAYER))
    os.utime(
        tmp_path / "root" / "usr/pipe", (1 << 33, 1 << 33)
    )  # a time that the reader of archives takes for nonsense
    written = [b"etc/group", b"etc/passwd", b"usr/link", b"usr/pipe", b"usr/same", b"usr/tool", b"n" * 120]
    changes = Changes(tuple(written), (b"usr/gone",))
    index, tar, alone = IndexWriter(), io.BytesIO(), io.BytesIO()
    packed = pack_layer(root, changes, tar, PackOptions("none"), index=index)
    pack_layer(root, changes, alone, PackOptions("none"))
    assert tar.getvalue() == alone.getvalue()
    tar.seek(0)
    assert index.finish(packed.diff_id) == make_index(tar, packed.diff_id)


def test_no_index_is_made_that_is_larger_than_a_cache_takes(tmp_path: Path) -> None:
    """A hostile layer could fill the memory, also of a build that only unpacks it."""
    links = [symlink(f"{number}", os.urandom(2000).hex()) for number in range(100)]  # half of it remains
    small, large = IndexWriter(100_000), IndexWriter(300_000)
    for index in (small, large):
        unpack_layer(rootfs(tmp_path / str(id(index))), io.BytesIO(make_tar(*links)), index=index)
    assert small.finish(NAME) == b""
    assert 200_000 < len(large.finish(NAME)) < 300_000
    assert MAX_INDEX_BYTES == artifact.MAX_INDEX_BYTES


def test_a_layer_that_is_too_large_for_an_index_needs_a_disk() -> None:
    attributes = [Item("a", pax={"SCHILY.xattr.user.a": os.urandom(500_000).hex()}) for _ in range(36)]
    with pytest.raises(NotVirtualError):
        make_index(io.BytesIO(make_tar(*attributes)), NAME)


HUGE = {
    "a size": Item("f", pax={"size": str(1 << 64)}),
    "a size without end": Item("f", pax={"size": "9" * 30}),
    "a sparse size": Item("f", pax={"GNU.sparse.map": "", "GNU.sparse.size": str(1 << 70), "GNU.sparse.name": "g"}),
}


@pytest.mark.parametrize("item", HUGE.values(), ids=HUGE)
def test_a_size_that_no_disk_takes_is_refused_as_ever(tmp_path: Path, item: Item) -> None:
    """An entry is added to an index before its size is held against the limits."""
    said = []
    for index in (None, IndexWriter()):
        with pytest.raises(FileSystemError) as error:
            unpack_layer(Rootfs(str(tmp_path)), io.BytesIO(make_tar(item)), index=index)
        said.append((error.value.reason, str(error.value)))
    with pytest.raises(FileSystemError) as error:
        make_index(io.BytesIO(make_tar(item)), NAME)
    assert said == [(error.value.reason, str(error.value))] * 2
    assert error.value.reason is Reason.LAYER_INVALID


def test_names_of_owners_are_in_an_index_and_no_other_data() -> None:
    content = zstandard.ZstdDecompressor().stream_reader(make_index(io.BytesIO(LAYER), NAME), read_across_frames=True)
    text = content.read()
    assert text.startswith(head(NAME))
    assert b"app:x:7:8" in text
    assert b"app:x:8:" in text
    assert b"secret" not in text
    root = VirtualRoot()
    apply_index(root, make_index(io.BytesIO(LAYER), NAME), NAME)
    assert root.read_file(b"etc/passwd", 100) == b"app:x:7:8::/:/bin/sh\n"


def test_an_index_is_that_of_its_layer_only() -> None:
    with pytest.raises(FileSystemError, match="of another layer, or of another version"):
        apply_index(VirtualRoot(), make_index(io.BytesIO(LAYER), NAME), Digest.of(b"another"))


def compressed(*records: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(b"".join((head(NAME), *records)))


def record(type_: bytes = REGULAR, size: int = 0, name: bytes = b"a", **fields: int) -> bytes:
    values = {"mode": 0o644, "uid": 0, "gid": 0, "real": size, "time": 0, "major": 0, "minor": 0, "link": 0, "kept": -1}
    values |= {"name": len(name), "xattrs": 0} | fields
    order = ("real", "time", "major", "minor", "name", "link", "kept", "xattrs")
    return (
        RECORD.pack(type_, values["mode"], values["uid"], values["gid"], size, *(values[key] for key in order)) + name
    )


def last(count: int) -> bytes:
    return record(END, count, b"")


def test_what_is_well_formed_is_applied() -> None:
    apply_index(VirtualRoot(), compressed(record(), record(name=b"b"), last(2)), NAME)


BAD = {
    "of an unknown type": [record(b"9"), last(1)],
    "a mode with a type": [record(mode=0o100644), last(1)],
    "an owner that means none": [record(uid=(1 << 32) - 1), last(1)],
    "a group that means none": [record(gid=(1 << 32) - 1), last(1)],
    "a device that is none": [record(b"3", major=(1 << 32) - 1), last(1)],
    "a time that is nonsense": [record(time=(1 << 63) - 1), last(1)],
    "larger than any disk": [record(size=(1 << 64) - 1), last(1)],
    "kept data that are large": [record(kept=(1 << 20) + 1) + bytes((1 << 20) + 1), last(1)],
    "data of any file": [record(size=1, kept=1) + b"1", last(1)],
    "data of another size": [record(name=b"etc/passwd", size=2, kept=1) + b"1", last(1)],
    "a name without an end": [record(name=b"") + RECORD.pack(REGULAR, 0, 0, 0, 0, 0, 0, 0, 0, (1 << 32) - 1, 0, -1, 0)],
    "outside": [record(name=b"../a"), last(1)],
    "a name with a NUL": [record(name=b"a\0b"), last(1)],
    "a name that is too long": [record(name=b"a" * 5000), last(1)],
    "an attribute without a name": [record(xattrs=1) + XATTR.pack(0, 0), last(1)],
    "an attribute that no archive can have": [record(xattrs=1) + XATTR.pack(3, 0) + b"a=b", last(1)],
    "cut off between entries": [record()],
    "cut off": [record(), last(1)[:-1]],
    "an entry is missing": [record(), last(2)],
    "more after the end": [record(), last(1), b"\0"],
    "nothing": [],
}


@pytest.mark.parametrize("records", BAD.values(), ids=BAD)
def test_what_no_layer_has_is_refused(records: list[bytes]) -> None:
    with pytest.raises(FileSystemError):
        apply_index(VirtualRoot(), compressed(*records), NAME)


def bomb(part: bytes, count: int) -> bytes:
    """A small index of ``count`` times ``part``."""
    packed = zstandard.ZstdCompressor().compressobj()
    parts = [packed.compress(head(NAME)), *(packed.compress(part) for _ in range(count)), packed.flush()]
    return b"".join(parts)


ATTRIBUTE = XATTR.pack(1, 0) + b"u"
BOMBS = {
    "entries": (record() * 1000, 1000),
    "long names": (record(name=(b"n" * 250 + b"/") * 16) * 100, 200),
    "long links": ((record(b"2", link=4000) + b"l" * 4000) * 100, 200),
    "large attributes": (record(xattrs=65535) + (XATTR.pack(1, 1 << 20) + b"u" + bytes(1 << 20)) * 4, 20),
    "empty attributes": (record(xattrs=65535) + ATTRIBUTE * 65535, 100),
}


@pytest.mark.parametrize(("part", "count"), BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_left_in_time(part: bytes, count: int) -> None:
    """Memory, or hours, if it were read to its end: a registry needs a few megabytes for terabytes of this."""
    root = VirtualRoot(room=8 << 20)
    with pytest.raises((NotVirtualError, FileSystemError)):
        apply_index(root, bomb(part, count), NAME)


ROOM = {
    "a long link": (3000, record(b"2", link=4000) + b"l" * 4000),
    "attributes without content": (2 << 20, record(xattrs=65535) + ATTRIBUTE * 65535),
}


@pytest.mark.parametrize(("room", "entry"), ROOM.values(), ids=ROOM)
def test_what_an_entry_holds_counts(room: int, entry: bytes) -> None:
    with pytest.raises(NotVirtualError):
        apply_index(VirtualRoot(room=room), compressed(entry, last(1)), NAME)


def test_an_entry_is_no_longer_than_that_of_an_archive() -> None:
    attribute = XATTR.pack(1, 1 << 20) + b"u" + bytes(1 << 20)
    with pytest.raises(FileSystemError, match="an entry is too long"):
        apply_index(VirtualRoot(), compressed(record(xattrs=4), attribute * 4, last(1)), NAME)


def test_nothing_follows_the_end_wherever_that_is() -> None:
    """Also where it is the end of what was read at once."""
    whole = 1 << 18
    size = whole - len(head(NAME)) - len(record(name=b"etc/passwd")) - len(last(1))
    entry = record(name=b"etc/passwd", size=size, kept=size) + bytes(size)
    apply_index(VirtualRoot(), compressed(entry, last(1)), NAME)
    with pytest.raises(FileSystemError, match="the count of its entries"):
        apply_index(VirtualRoot(), compressed(entry, last(1), b"\0"), NAME)


def test_a_sparse_file_is_not_kept() -> None:
    """What the archive has of it is not what it contains."""
    sparse = {"GNU.sparse.map": "8,4", "GNU.sparse.size": "100"}
    tar = make_tar(Item("etc/passwd", data=b"root", pax=sparse))
    assert (
        b"root"
        not in zstandard.ZstdDecompressor()
        .stream_reader(make_index(io.BytesIO(tar), NAME), read_across_frames=True)
        .read()
    )


def test_memory_of_the_decompressor_is_bounded() -> None:
    """A frame's window is what it says, up to 128 MiB by default."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=26, enable_ldm=True)
    packed = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    index = packed.compress(head(NAME) + os.urandom(9 << 20)) + packed.flush()
    with pytest.raises(FileSystemError, match="memory"):
        apply_index(VirtualRoot(), index, NAME)


WHOLE = zstandard.ZstdDecompressor().stream_reader(make_index(io.BytesIO(LAYER), NAME), read_across_frames=True).read()


@given(st.integers(len(head(NAME)), len(WHOLE) - 1), st.binary(min_size=1, max_size=4), st.booleans())
def test_whatever_it_says_nothing_else_is_raised(position: int, data: bytes, cut: bool) -> None:
    changed = WHOLE[:position] + data + (b"" if cut else WHOLE[position + len(data) :])
    with suppress(FileSystemError, NotVirtualError):
        apply_index(VirtualRoot(), zstandard.ZstdCompressor().compress(changed), NAME)
