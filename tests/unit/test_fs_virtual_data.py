"""The data of files in a virtual root: compared where they are known for certain, and otherwise left to a disk."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from archives.tars import Item, hardlink, make_tar, symlink

from imagewright.digest import Digest
from imagewright.fs.copy.copier import CopyRequest, copy
from imagewright.fs.layer.compress import PackOptions
from imagewright.fs.layer.filehashes import FileHashes
from imagewright.fs.layer.index import apply_index, make_index
from imagewright.fs.layer.pack import pack_layer
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.targets.model import NotVirtualError
from imagewright.fs.targets.nodes import LayerData
from imagewright.fs.targets.virtual import MAX_ROOT_BYTES, VirtualRoot

NAME = "etc/passwd"


class Layer:
    """A layer whose data are read when they are asked for, which is counted."""

    def __init__(self, *items: Item) -> None:
        self.tar = make_tar(*items)
        self.reads = 0

    def root(self) -> VirtualRoot:
        root, digest = VirtualRoot(self), Digest.of(self.tar)
        apply_index(root, make_index(io.BytesIO(self.tar), digest), digest)
        return root

    def sha256(self, data: LayerData) -> bytes | None:
        assert data.layer == Digest.of(self.tar)
        self.reads += 1
        return FileHashes(io.BytesIO(self.tar)).find(data.number)


def source(folder: Path, data: bytes = b"root:x:0:0::/:\n") -> CopyRequest:
    path = folder / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    path.chmod(0o644)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return CopyRequest(Rootfs(str(folder)), (".",), "/", preserve_owner=True)


def rewrite(path: Path) -> None:
    """Other data, and all else as it was but for the ctime."""
    info = path.stat()
    path.write_bytes(b"ROOT:x:0:0::/:\n")
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


GONE: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "its folder too": lambda path: path.parent.rename(path.parent.with_name("moved")),
    "rewritten": rewrite,
    "replaced by an equal one": lambda path: shutil.copy2(path.rename(path.with_name("old")), path),
}


@pytest.mark.parametrize("change", GONE.values(), ids=GONE)
def test_a_source_counts_as_it_was_when_it_was_copied(tmp_path: Path, change: Callable[[Path], object]) -> None:
    first, again = source(tmp_path / "first"), source(tmp_path / "again")
    root = VirtualRoot()
    assert copy(root, first).written == (b"etc", b"etc/passwd")
    assert root.read_file(NAME.encode(), 100) == b"root:x:0:0::/:\n"
    change(tmp_path / "first" / NAME)
    with pytest.raises(NotVirtualError):
        root.read_file(NAME.encode(), 100)
    with pytest.raises(NotVirtualError):
        copy(root, again)


def test_equal_files_of_two_sources(tmp_path: Path) -> None:
    root = VirtualRoot()
    copy(root, source(tmp_path / "first"))
    assert copy(root, source(tmp_path / "again")).empty
    assert copy(root, source(tmp_path / "other", b"ROOT:x:0:0::/:\n")).written == (b"etc/passwd",)


@pytest.mark.parametrize(("data", "reads"), [(b"1", 1), (b"", 0), (b"22", 0)], ids=["1", "empty", "of another size"])
def test_a_layer_is_asked_where_only_data_can_tell(tmp_path: Path, data: bytes, reads: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(data)
    path.chmod(0o644)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    layer = Layer(Item("before", data=b"2"), Item("a", data=data[:1]))
    changes = copy(layer.root(), CopyRequest(Rootfs(str(tmp_path)), ("a",), "/", preserve_owner=True))
    assert changes.empty == (data != b"22")
    assert layer.reads == reads


def test_hashes_are_those_of_entries() -> None:
    tar = make_tar(Item("a", data=b"a"), Item("d", b"5"), Item("b", data=b"b"), Item("c", b"1", link="a"))
    hashes = FileHashes(io.BytesIO(tar))
    assert [hashes.find(number) for number in (0, 2)] == [hashlib.sha256(data).digest() for data in (b"a", b"b")]
    assert [hashes.find(number) for number in (1, 3, 4, 1 << 40)] == [None] * 4


def test_a_sparse_file_of_a_layer_is_not_compared() -> None:
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a", "GNU.sparse.realsize": "1024"}
    tar = make_tar(Item("GNUSparseFile.0/a", data=b"1\n512\n1\n".ljust(512, b"\0") + b"1", pax=pax))
    assert FileHashes(io.BytesIO(tar)).find(0) is None


def archive(folder: Path, *items: Item) -> CopyRequest:
    for name in ("context", "spool"):
        (folder / name).mkdir()
    (folder / "context/x").write_bytes(make_tar(*items))
    return CopyRequest(Rootfs(str(folder / "context")), ("x",), "/", extract=True, spool=Rootfs(str(folder / "spool")))


def test_a_sparse_file_of_an_archive_is_packed_whole(tmp_path: Path) -> None:
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a", "GNU.sparse.realsize": "1024"}
    request = archive(tmp_path, Item("s/a", data=b"1\n600\n1\n".ljust(512, b"\0") + b"1", pax=pax))
    (tmp_path / "disk").mkdir()
    packed = []
    for root in (VirtualRoot(), Rootfs(str(tmp_path / "disk"))):
        out = io.BytesIO()
        pack_layer(root, copy(root, request), out, PackOptions("none", clamp_mtime_s=1))
        packed.append(out.getvalue())
    assert packed[0] == packed[1]
    assert b"\0" * 600 + b"1" + b"\0" * 423 in packed[0]


@pytest.mark.parametrize("name", ["of a layer", "of a layer, and empty", "of an earlier archive", "etc/passwd"])
def test_a_hard_link_of_an_archive_to_what_it_does_not_have_needs_a_disk(tmp_path: Path, name: str) -> None:
    root = Layer(Item("of a layer", data=b"a"), Item("of a layer, and empty"), Item("etc/passwd", data=b"a")).root()
    (tmp_path / "earlier").mkdir()
    copy(root, archive(tmp_path / "earlier", Item("of an earlier archive", data=b"a")))
    with pytest.raises(NotVirtualError):
        copy(root, archive(tmp_path, hardlink("link", name)))


def test_a_hard_link_of_an_archive_that_is_there_needs_a_disk(tmp_path: Path) -> None:
    """It is written again, as all files with several names are."""
    root = Layer(Item("a", data=b"a"), hardlink("b", "a")).root()
    with pytest.raises(NotVirtualError):
        copy(root, archive(tmp_path, hardlink("b", "a")))


def test_hard_links_within_an_archive_need_none(tmp_path: Path) -> None:
    root = Layer(Item("kept", data=b"a"), symlink("old", "kept")).root()
    items = Item("a", data=b"1"), hardlink("b", "a"), hardlink("same", "old")
    assert copy(root, archive(tmp_path, *items)).written == (b"a", b"b", b"same")
    assert root.read_file(b"b", 1) == b"1"


def test_an_archive_without_a_place_for_its_files_needs_a_disk(tmp_path: Path) -> None:
    with pytest.raises(NotVirtualError):
        copy(VirtualRoot(), replace(archive(tmp_path, Item("a")), spool=None))


def test_all_entries_count_for_the_memory_of_a_root(tmp_path: Path) -> None:
    layer = Layer(Item("/".join("d" * 9) + "/a"))  # with folders that have no entry of their own
    requests = {
        "copied": source(tmp_path / "copied"),
        "files of an archive": archive(tmp_path, *(Item(name) for name in "abcdefghi")),
    }
    for request in requests.values():
        root = layer.root()
        copy(root, request)
        root = layer.root()
        root.take(MAX_ROOT_BYTES - 8000)  # with 400 for each of the ten of the layer, and itself
        with pytest.raises(NotVirtualError):
            copy(root, *[replace(request, destination=f"/{number}/") for number in range(7)])
    root = VirtualRoot()
    root.take(MAX_ROOT_BYTES - 4000)
    digest = Digest.of(layer.tar)
    with pytest.raises(NotVirtualError):
        apply_index(root, make_index(io.BytesIO(layer.tar), digest), digest)
