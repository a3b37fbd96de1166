"""COPY and stages with files that only root can create: other owners, devices, file capabilities, setuid."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from imagewright.fs.copy.copier import CopyRequest, copy
from imagewright.fs.copy.mode import ModeChange
from imagewright.fs.copy.workdir import make_workdir
from imagewright.fs.layer.changes import diff
from imagewright.fs.layer.snapshot import scan
from imagewright.fs.rootfs import tree
from imagewright.fs.rootfs.attributes import Ownership
from imagewright.fs.rootfs.root import Rootfs

pytestmark = pytest.mark.root

CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service=ep


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory whose entries belong to several users."""
    root = tmp_path / "source"
    (root / "app/data").mkdir(parents=True)
    (root / "app/tool").write_text("tool")
    (root / "app/data/file").write_text("file")
    (root / "app/link").symlink_to("tool")
    os.mknod(root / "app/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    for name, uid, gid, mode in (
        ("app", 10, 11, 0o750),
        ("app/data", 20, 21, 0o2770),
        ("app/data/file", 30, 31, 0o4755),
        ("app/tool", 40, 41, 0o755),
        ("app/null", 50, 51, 0o666),
    ):
        os.chown(root / name, uid, gid)
        os.chmod(root / name, mode)
    os.chown(root / "app/link", 60, 61, follow_symlinks=False)
    os.setxattr(root / "app/tool", "security.capability", CAPABILITY)
    os.setxattr(root / "app/data", "trusted.test", b"of the directory")
    return root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def owners(root: Path) -> dict[str, tuple[int, int]]:
    return {str(p.relative_to(root)): (p.lstat().st_uid, p.lstat().st_gid) for p in sorted(root.rglob("*"))}


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.lstat().st_mode))


def test_files_of_the_context_get_owned_by_root(source: Path, target: Path) -> None:
    copy(Rootfs(str(target)), CopyRequest(Rootfs(str(source)), ("app",), "/new/app"))
    assert set(owners(target).values()) == {(0, 0)}
    assert mode(target / "new/app/data/file") == "0o4755", "the mode comes after the owner, or setuid is lost"
    assert mode(target / "new/app/data") == "0o2770"


def test_copy_from_keeps_owners_devices_and_attributes(source: Path, target: Path) -> None:
    request = CopyRequest(Rootfs(str(source)), ("app",), "/app", preserve_owner=True)
    copy(Rootfs(str(target)), request)
    assert owners(target) == {
        "app": (0, 0),  # contents are copied, not the directory itself
        "app/data": (20, 21),
        "app/data/file": (30, 31),
        "app/tool": (40, 41),
        "app/null": (50, 51),
        "app/link": (60, 61),
    }
    assert os.getxattr(target / "app/tool", "security.capability") == CAPABILITY
    assert os.getxattr(target / "app/data", "trusted.test") == b"of the directory"
    info = (target / "app/null").lstat()
    assert (stat.S_ISCHR(info.st_mode), info.st_rdev, mode(target / "app/null")) == (True, os.makedev(1, 3), "0o666")


def test_chown_applies_to_files_and_created_parents(source: Path, target: Path) -> None:
    (target / "old").mkdir()
    request = CopyRequest(Rootfs(str(source)), ("app",), "/old/new/app", Ownership(7, 8), ModeChange.parse("a+s"))
    copy(Rootfs(str(target)), request)
    found = owners(target)
    assert found.pop("old") == (0, 0)
    assert set(found.values()) == {(7, 8)}
    assert mode(target / "old/new") == "0o755"  # a symbolic mode is not for it
    assert mode(target / "old/new/app/tool") == "0o6755"
    assert mode(target / "old/new/app/link") == "0o777"


_IN_NAMESPACE = """
import sys
from imagewright.errors import ImagewrightError
from imagewright.fs.copy.copier import CopyRequest, copy
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.rootfs.attributes import Ownership
from imagewright.fs.copy.workdir import make_workdir
source, target = Rootfs(sys.argv[1]), Rootfs(sys.argv[2])
for action in (
    lambda: copy(target, CopyRequest(source, ("app/tool",), "/mine")),
    lambda: copy(target, CopyRequest(source, ("app/tool",), "/a/b", Ownership(1000, 1000))),
    lambda: copy(target, CopyRequest(source, ("app",), "/c", preserve_owner=True)),
    lambda: make_workdir(target, "/work", Ownership(1000, 1000)),
):
    try:
        action()
        print("done")
    except ImagewrightError as error:
        print(error.reason, error, error.hint)
"""


def test_unmapped_id_has_its_own_reason(source: Path, target: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-Ur", "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("no user namespaces here")
    shutil.rmtree(source / "app/data")
    (source / "app/null").unlink()
    os.chown(source / "app", 0, 0)
    command = [unshare, "-Ur", sys.executable, "-c", _IN_NAMESPACE, str(source), str(target)]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
    assert said[0] == "done"
    assert [line.split()[0] for line in said[1:]] == ["IdOutOfRange"] * 3
    assert all("1000:1000" in line for line in (said[1], said[3]))
    assert os.getxattr(target / "mine", "security.capability")[4:8] == CAPABILITY[4:8]


def test_copied_stages_keep_all_attributes(source: Path, target: Path) -> None:
    tree.copy_tree(Rootfs(str(source)), Rootfs(str(target)))
    assert owners(target) == owners(source)
    assert os.getxattr(target / "app/tool", "security.capability") == CAPABILITY
    assert mode(target / "app/data/file") == "0o4755"


def test_workdir_is_owned_by_its_user(target: Path) -> None:
    make_workdir(Rootfs(str(target)), "/home/app/work", Ownership(1000, 1001))
    assert set(owners(target).values()) == {(1000, 1001)}
    make_workdir(Rootfs(str(target)), "/srv", None)
    assert owners(target)["srv"] == (0, 0)


def test_changed_owner_is_detected(source: Path) -> None:
    root = Rootfs(str(source))
    before = scan(root)
    os.chown(source / "app/link", 1, 1, follow_symlinks=False)
    os.chown(source / "app/data", 20, 99)
    os.setxattr(source / "app/data", "trusted.other", b"")
    os.removexattr(source / "app/tool", "security.capability")
    found = diff(before, scan(root))
    assert (found.written, found.removed) == ((b"app/data", b"app/link", b"app/tool"), ())
