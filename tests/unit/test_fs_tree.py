"""Whole trees: copying, moving, removing, and the directories of WORKDIR. Links are never followed."""

from __future__ import annotations

import gc
import os
import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from imagewright.errors import FileSystemError, Reason
from imagewright.fs.copy.workdir import make_workdir
from imagewright.fs.rootfs import tree
from imagewright.fs.rootfs.attributes import Ownership
from imagewright.fs.rootfs.root import Rootfs

ME = Ownership(os.getuid(), os.getgid())


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A tree with one of everything that needs no root."""
    root = tmp_path / "full"
    for name in ("etc/passwd", "usr/lib/a", "var/x/y/z"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    os.link(root / "usr/lib/a", root / "var/again")
    (root / "bin").symlink_to("/usr/bin")
    (root / "out").symlink_to("../../..")
    os.mkfifo(root / "var/fifo", 0o640)
    os.chmod(root / "usr/lib/a", 0o4711)
    os.chmod(root / "var/x", 0o1777)
    os.chmod(root, 0o711)
    for name in ("usr/lib/a", "usr", "var/x/y/z", "bin", ""):
        os.utime(root / name, ns=(7, 1_222_333_444_555_666_777), follow_symlinks=False)
    return root


def listing(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything about a tree but inode numbers; files that are one have the same number in their last place."""
    groups: dict[int, int] = {}
    found: dict[str, tuple[object, ...]] = {}
    for path in [root, *sorted(root.rglob("*"))]:
        info = path.lstat()
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        group = groups.setdefault(info.st_ino, len(groups)) if not stat.S_ISDIR(info.st_mode) else None
        xattrs = {n: os.getxattr(path, n, follow_symlinks=False) for n in os.listxattr(path, follow_symlinks=False)}
        moves = stat.S_ISDIR(info.st_mode)
        time = None if moves and str(path.relative_to(root)) in ("var", "etc") else info.st_mtime_ns
        found[str(path.relative_to(root))] = (oct(info.st_mode), info.st_uid, info.st_gid, time, content, xattrs, group)
    return found


def test_copied_tree_is_equal(full: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    tree.copy_tree(Rootfs(str(full)), Rootfs(str(tmp_path / "copy")))
    assert listing(tmp_path / "copy") == listing(full)


def test_moved_tree_is_equal(full: Path, tmp_path: Path) -> None:
    before = listing(full)
    (tmp_path / "moved").mkdir()
    tree.move_tree(Rootfs(str(full)), Rootfs(str(tmp_path / "moved")))
    assert listing(tmp_path / "moved") == before
    assert list(full.iterdir()) == []


def test_tree_is_moved_to_another_file_system(full: Path, tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not os.access(other, os.W_OK) or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is not another file system")
    before = listing(full)
    with tempfile.TemporaryDirectory(dir=other) as directory:
        tree.move_tree(Rootfs(str(full)), Rootfs(directory))
        assert listing(Path(directory)) == before
        assert list(full.iterdir()) == []


def test_excluded_paths_are_not_moved(full: Path, tmp_path: Path) -> None:
    """As between the build's root, which has the cluster's files in it, and a directory for a stage."""
    (full / "etc/hosts").write_text("the cluster's")
    (full / "proc").mkdir()
    (full / "proc/1").write_text("process")
    source = Rootfs(str(full), frozenset({"proc", "etc/hosts"}))
    (tmp_path / "moved").mkdir()
    expected = {k: v[4] for k, v in listing(full).items() if k not in ("proc", "proc/1", "etc/hosts")}
    tree.move_tree(source, Rootfs(str(tmp_path / "moved")))
    assert {k: v[4] for k, v in listing(tmp_path / "moved").items()} == expected
    left = {str(p.relative_to(full)) for p in full.rglob("*")}
    assert left == {"proc", "proc/1", "etc", "etc/hosts"}
    tree.move_tree(Rootfs(str(tmp_path / "moved")), source)
    assert {k: v[4] for k, v in listing(full).items() if k not in ("proc", "proc/1", "etc/hosts")} == expected
    assert (full / "etc/hosts").read_text() == "the cluster's"
    assert list((tmp_path / "moved").iterdir()) == []


def test_removing_leaves_what_is_excluded_and_what_links_lead_to(full: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").touch()
    (full / "var/x/away").symlink_to(tmp_path / "precious")
    (full / "var/lib/kubelet").mkdir(parents=True)
    (full / "var/lib/other").touch()
    os.chmod(full / "var/x", 0o700)
    tree.remove(Rootfs(str(full), frozenset({"var/lib/kubelet"})))
    assert [str(p.relative_to(full)) for p in sorted(full.rglob("*"))] == ["var", "var/lib", "var/lib/kubelet"]
    assert (tmp_path / "precious/file").exists()


# --- WORKDIR


def test_missing_directories_are_created(tmp_path: Path) -> None:
    root = Rootfs(str(tmp_path))
    (tmp_path / "old").mkdir(mode=0o711)
    assert make_workdir(root, "/old/a/b", ME) == (b"old/a", b"old/a/b")
    assert [oct((tmp_path / p).stat().st_mode & 0o7777) for p in ("old", "old/a", "old/a/b")] == [
        "0o711",
        "0o755",
        "0o755",
    ]
    assert make_workdir(root, "/old/a/b", ME) == ()
    assert make_workdir(root, "/", ME) == ()


def test_directories_are_created_through_links_inside_the_root(tmp_path: Path) -> None:
    (tmp_path / "root/real").mkdir(parents=True)
    (tmp_path / "root/link").symlink_to("/real")
    (tmp_path / "root/dangling").symlink_to("../../run/deep")
    root = Rootfs(str(tmp_path / "root"))
    assert make_workdir(root, "/link/a", ME) == (b"real/a",)
    assert make_workdir(root, "/dangling/b", ME) == (b"run", b"run/deep", b"run/deep/b")
    assert (tmp_path / "root/dangling").is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["root"]


def test_non_directory_at_the_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("/file", "/file/below"):
        with pytest.raises(FileSystemError, match="/file") as caught:
            make_workdir(Rootfs(str(tmp_path)), path, ME)
        assert caught.value.reason is Reason.PATH_NOT_ALLOWED


def test_failed_copy_leaves_no_descriptors_open(tmp_path: Path) -> None:
    (tmp_path / "source" / "name").mkdir(parents=True)
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "name").write_text("a file where the source has a directory")
    source, target = Rootfs(str(tmp_path / "source")), Rootfs(str(tmp_path / "target"))
    before = {source.fd, target.fd} | _descriptors()
    with pytest.raises(FileSystemError):
        tree.copy_tree(source, target)
    assert _descriptors() == before


def test_foreign_directory_is_not_kept_open(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "link").symlink_to("own")
    rootfs = Rootfs(str(tmp_path), frozenset({"own"}))
    gc.collect()
    before = {rootfs.fd} | _descriptors()
    with pytest.raises(FileSystemError) as caught:
        make_workdir(rootfs, "/link/below", None)
    assert caught.value.reason is Reason.PATH_NOT_ALLOWED
    assert _descriptors() <= before, "what an earlier test left may be collected meanwhile"


def _descriptors() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}


def test_one_tree_is_copied_by_several_threads(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(1500):  # more than one getdents(2)
        (source / f"file-{number}").write_text(str(number))
    rootfs = Rootfs(str(source))

    def copied(number: int) -> int:
        target = tmp_path / f"target-{number}"
        target.mkdir()
        tree.copy_tree(rootfs, Rootfs(str(target)))
        return len(list(target.iterdir()))

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(copied, range(8))) == {1500}
