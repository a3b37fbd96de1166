"""Attributes that an ordinary user may not set on the disk: recorded, and seen wherever files are read."""

from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
from pathlib import Path

import pytest
from archives.tars import CHARACTER, FIFO, Item, directory, hardlink, make_tar, symlink

from imagewright.errors import FileSystemError
from imagewright.fs.copy.contents import tree_contents
from imagewright.fs.layer.changes import Changes, diff
from imagewright.fs.layer.compress import PackOptions
from imagewright.fs.layer.pack import pack_layer
from imagewright.fs.layer.snapshot import Snapshot, scan
from imagewright.fs.layer.unpack import unpack_layer
from imagewright.fs.rootfs import tree
from imagewright.fs.rootfs.inodes import RecordedInodes
from imagewright.fs.rootfs.root import Rootfs

CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
PAX = {"SCHILY.xattr.security.capability": CAPABILITY.decode("utf-8", "surrogateescape")}

ITEMS = (
    directory("closed", 0, uid=3, gid=4),
    Item("closed/inside", data=b"x", mode=0, uid=70_000, gid=4_000_000_000),
    Item("disk", tarfile.BLKTYPE, mode=0o660, uid=0, gid=6, device=(8, 1)),
    Item("link", symlink("", "").type, link="closed", mode=0o777, uid=14, gid=15),
    directory("mail", 0o2775, uid=0, gid=8),
    Item("null", CHARACTER, mode=0o4666, uid=18, gid=19, device=(1, 3)),
    Item("ping", data=b"x", mode=0o755, uid=0, gid=0, pax=PAX),
    hardlink("ping-too", "ping"),
    Item("pipe", FIFO, mode=0o020, uid=16, gid=17),
    Item("plain", data=b"x", uid=0, gid=0),
    Item("su", data=b"x", mode=0o6711, uid=1, gid=2),
    directory("tmp", 0o1777, uid=0, gid=0),
)


@pytest.fixture
def rootfs(tmp_path: Path) -> Rootfs:
    (tmp_path / "root").mkdir()
    return Rootfs(str(tmp_path / "root"), inodes=RecordedInodes())


def unpack(rootfs: Rootfs, *items: Item) -> None:
    unpack_layer(rootfs, io.BytesIO(make_tar(*items)))


def packed(rootfs: Rootfs) -> dict[str, tuple[object, ...]]:
    """What a layer of everything in ``rootfs`` says."""
    out, after = io.BytesIO(), scan(rootfs)
    pack_layer(rootfs, diff(Snapshot({}, after.root), after), out, PackOptions("none"))
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        return {m.name: _described(m) for m in tar}


def _described(m: tarfile.TarInfo) -> tuple[object, ...]:
    capability = m.pax_headers.get("SCHILY.xattr.security.capability", "")
    return m.type, m.mode, m.uid, m.gid, (m.devmajor, m.devminor) if m.isdev() else (), m.linkname, capability


def expected(*items: Item) -> dict[str, tuple[object, ...]]:
    with tarfile.open(fileobj=io.BytesIO(make_tar(*items))) as tar:
        return {m.name: _described(m) for m in tar}


def test_layer_is_packed_as_it_was_unpacked(rootfs: Rootfs) -> None:
    unpack(rootfs, *ITEMS)
    found, wanted = packed(rootfs), expected(*ITEMS)
    mode, *_, capability = wanted["ping"][1:]
    wanted["ping-too"] = (tarfile.LNKTYPE, mode, 0, 0, (), "ping", found["ping-too"][-1])
    assert capability
    assert found == wanted


def test_everything_on_the_disk_is_the_users_own_and_open_to_them(rootfs: Rootfs) -> None:
    unpack(rootfs, *ITEMS)
    for path in Path(rootfs.path).rglob("*"):
        info = path.lstat()
        assert (info.st_uid, info.st_gid) == (os.geteuid(), os.getegid())
        assert not info.st_mode & 0o7000
        wanted = 0o700 if stat.S_ISDIR(info.st_mode) else 0o600
        assert path.is_symlink() or info.st_mode & wanted == wanted
    assert (Path(rootfs.path) / "null").read_bytes() == b""


def test_root_owns_what_nothing_is_recorded_of(rootfs: Rootfs) -> None:
    (Path(rootfs.path) / "by-hand").write_text("x")
    info = rootfs.lstat(b"by-hand")
    assert (info.st_uid, info.st_gid) == (0, 0)
    assert info.st_mtime_ns == (Path(rootfs.path) / "by-hand").stat().st_mtime_ns


def test_copied_and_moved_trees_keep_everything(rootfs: Rootfs, tmp_path: Path) -> None:
    unpack(rootfs, *ITEMS)
    before, contents = packed(rootfs), tree_contents(rootfs)
    for name in ("copied", "moved"):
        (tmp_path / name).mkdir()
    copied, moved = (Rootfs(str(tmp_path / name), inodes=rootfs.inodes) for name in ("copied", "moved"))
    tree.copy_tree(rootfs, copied)
    assert packed(copied) == before
    assert tree_contents(copied) == contents
    tree.move_tree(rootfs, moved)
    assert packed(moved) == before


@pytest.mark.parametrize(
    "item",
    [
        Item("entry", data=b"x", mode=0o600, uid=0, gid=0),
        directory("entry", 0o700, uid=0, gid=0),
        Item("entry", symlink("", "").type, link="x", mode=0o777, uid=0, gid=0),
        Item("entry", FIFO, mode=0o600, uid=0, gid=0),
    ],
    ids=["file", "directory", "link", "fifo"],
)
def test_entry_in_the_place_of_a_removed_one_has_none_of_its_attributes(rootfs: Rootfs, item: Item) -> None:
    """File systems give a new inode the number of a removed one; here it is made to look like that."""
    inodes = rootfs.inodes
    assert isinstance(inodes, RecordedInodes)
    unpack(rootfs, Item("old", CHARACTER, mode=0o4666, uid=1, gid=2, device=(1, 3), pax=PAX))
    (record,) = inodes._records.values()
    every = _Everything(record)
    inodes._records = every
    unpack(rootfs, item)
    assert every.removed
    assert packed(rootfs)["entry"] == expected(item)["entry"]


class _Everything(dict):  # type: ignore[type-arg]
    """The records of a file system of which every number was in use before, until it is forgotten."""

    def __init__(self, record: object) -> None:
        super().__init__()
        self._record, self.removed = record, set[object]()

    def get(self, key: object, default: object = None) -> object:
        return super().get(key, default if key in self.removed else self._record)

    def pop(self, key: object, *default: object) -> object:
        self.removed.add(key)
        return super().pop(key, *default)

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key not in self.removed

    def setdefault(self, key: object, default: object = None) -> object:
        return super().setdefault(key, default if key in self.removed else self._record)


def test_device_is_no_file_to_be_read(rootfs: Rootfs) -> None:
    """Users are looked up in /etc/passwd; on the disk a device is an empty file."""
    unpack(rootfs, Item("passwd", CHARACTER, device=(1, 3)))
    with pytest.raises(FileSystemError, match="not a regular file"):
        rootfs.read_file(b"passwd", 100)


def test_owner_of_a_directory_is_a_change(rootfs: Rootfs) -> None:
    unpack(rootfs, directory("folder", uid=0, gid=0))
    before = scan(rootfs)
    unpack(rootfs, directory("folder", uid=0, gid=9))
    assert diff(before, scan(rootfs)) == Changes((b"folder",), ())
    unpack(rootfs, directory("folder", uid=0, gid=0))
    assert diff(before, scan(rootfs)) == Changes((), ())


def test_nothing_is_recorded_of_what_the_disk_can_hold(rootfs: Rootfs) -> None:
    """Base images have files of root by the ten thousand."""
    unpack(rootfs, directory("bin", uid=0, gid=0), Item("bin/sh", data=b"x", mode=0o755, uid=0, gid=0))
    inodes = rootfs.inodes
    assert isinstance(inodes, RecordedInodes)
    assert not inodes._records


def test_capabilities_can_be_removed(rootfs: Rootfs) -> None:
    unpack(rootfs, directory("folder", pax=PAX))
    assert packed(rootfs)["folder"][-1]
    unpack(rootfs, directory("folder"))
    assert not packed(rootfs)["folder"][-1]
