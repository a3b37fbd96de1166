"""Owners, devices, file capabilities and unmapped ids: files that only root can create."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from archives.tars import CHARACTER, Item, directory, hardlink, make_tar, symlink

from imagewright.fs.copy.contents import copied_contents, tree_contents
from imagewright.fs.copy.copier import CopyRequest
from imagewright.fs.layer.changes import diff
from imagewright.fs.layer.compress import PackOptions
from imagewright.fs.layer.pack import pack_layer
from imagewright.fs.layer.snapshot import Snapshot, scan
from imagewright.fs.layer.unpack import unpack_layer
from imagewright.fs.rootfs.root import Rootfs

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service=ep, revision 2


def _pack_all(root: Path) -> bytes:
    rootfs, out = Rootfs(str(root)), io.BytesIO()
    after = scan(rootfs)
    pack_layer(rootfs, diff(Snapshot({}, after.root), after), out, PackOptions("none"))
    return out.getvalue()


def test_owners_setuid_and_links_are_preserved(tmp_path: Path) -> None:
    items = (
        directory("home", 0o2775, uid=1000, gid=100),
        Item("home/su", data=b"x", mode=0o6755, uid=70_000, gid=4_000_000_000),
        Item("link", symlink("", "").type, link="home/su", uid=12, gid=13),
        directory("sticky", 0o1777, uid=0, gid=0),
    )
    unpack_layer(Rootfs(str(tmp_path)), io.BytesIO(make_tar(*items)))
    info = (tmp_path / "home/su").stat()
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (70_000, 4_000_000_000, 0o6755)
    info = (tmp_path / "link").lstat()
    assert (info.st_uid, info.st_gid) == (12, 13)
    with tarfile.open(fileobj=io.BytesIO(_pack_all(tmp_path))) as tar:
        found = {m.name: (m.uid, m.gid, m.mode) for m in tar}
    assert found == {
        "home": (1000, 100, 0o2775),
        "home/su": (70_000, 4_000_000_000, 0o6755),
        "link": (12, 13, 0o777),
        "sticky": (0, 0, 0o1777),
    }


def test_file_below_a_setgid_directory_keeps_its_group(tmp_path: Path) -> None:
    items = (directory("d", 0o2777, uid=5, gid=6), Item("d/f", uid=0, gid=0), Item("d/made/f", uid=0, gid=0))
    unpack_layer(Rootfs(str(tmp_path)), io.BytesIO(make_tar(*items)))
    assert (tmp_path / "d/f").stat().st_gid == 0
    assert (tmp_path / "d/made").stat().st_gid == 0


def test_file_capabilities_are_preserved_after_chown(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (first / "ping").write_bytes(b"x")
    os.chown(first / "ping", 33, 33)
    os.setxattr(first / "ping", "security.capability", CAPABILITY)
    unpack_layer(Rootfs(str(second)), io.BytesIO(_pack_all(first)))
    assert os.getxattr(second / "ping", "security.capability") == CAPABILITY
    assert (second / "ping").stat().st_uid == 33


def test_devices_are_created_and_packed(tmp_path: Path) -> None:
    items = (Item("null", CHARACTER, mode=0o666, device=(1, 3)), hardlink("zero", "null"))
    unpack_layer(Rootfs(str(tmp_path)), io.BytesIO(make_tar(*items)))
    info = (tmp_path / "null").stat()
    assert (info.st_rdev, info.st_mode, info.st_nlink) == (os.makedev(1, 3), stat.S_IFCHR | 0o666, 2)
    with tarfile.open(fileobj=io.BytesIO(_pack_all(tmp_path))) as tar:
        found = {m.name: (m.type, m.devmajor, m.devminor) for m in tar}
    assert found == {"null": (tarfile.CHRTYPE, 1, 3), "zero": (tarfile.LNKTYPE, 0, 0)}


_IN_NAMESPACE = """
import io, sys
from imagewright.errors import ImagewrightError
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.layer.unpack import unpack_layer
try:
    stats = unpack_layer(Rootfs(sys.argv[1]), io.BytesIO(sys.stdin.buffer.read()))
    print("skipped", stats.skipped_devices)
except ImagewrightError as error:
    print(error.reason, error, error.hint)
"""


def _unpack_in_namespace(root: Path, tar: bytes) -> str:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-Ur", "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("no user namespaces here")
    command = [unshare, "-Ur", sys.executable, "-c", _IN_NAMESPACE, str(root)]
    return subprocess.run(command, input=tar, stdout=subprocess.PIPE, check=True).stdout.decode()


def test_unmapped_id_has_its_own_reason(tmp_path: Path) -> None:
    for item in (Item("f", uid=1000), directory("d", gid=1000), Item("l", symlink("", "").type, link="x", uid=7)):
        said = _unpack_in_namespace(tmp_path, make_tar(item))
        assert said.startswith("IdOutOfRange"), said
        assert f"/{item.name}" in said


def test_skipped_devices_are_counted(tmp_path: Path) -> None:
    items = (Item("null", CHARACTER, device=(1, 3)), hardlink("zero", "null"), Item("f", data=b"x"))
    assert _unpack_in_namespace(tmp_path, make_tar(*items)).split() == ["skipped", "2"]
    assert os.listdir(tmp_path) == ["f"]


def test_cache_contents_include_preserved_owners_and_device_numbers(tmp_path: Path) -> None:
    """Another owner or device changes the hash for the layer cache."""

    def hashes(name: str, owner: tuple[int, int], minor: int) -> tuple[str, str, str]:
        root = tmp_path / name
        root.mkdir()
        (root / "file").touch()
        os.chown(root / "file", *owner)
        os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, minor))
        rootfs = Rootfs(str(root))
        kept, dropped = (CopyRequest(rootfs, (".",), "/", preserve_owner=keeps) for keeps in (True, False))
        return tree_contents(rootfs), copied_contents(kept), copied_contents(dropped)

    base = hashes("base", (0, 0), 3)
    for name, owner in (("user", (1, 0)), ("group", (0, 1))):
        other = hashes(name, owner, 3)
        assert (other[0] != base[0], other[1] != base[1], other[2] == base[2]) == (True, True, True)
    assert all(one != other for one, other in zip(base, hashes("device", (0, 0), 5), strict=True))
