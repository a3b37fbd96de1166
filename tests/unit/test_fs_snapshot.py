"""Snapshots and the changes between them: everything that a RUN can change is detected, and nothing else."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagewright.fs.layer.changes import Changes, diff
from imagewright.fs.layer.snapshot import Snapshot, scan
from imagewright.fs.rootfs.root import Rootfs


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("etc/passwd", "usr/bin/tool", "usr/lib/a", "usr/lib/b", "var/log/x"):
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "root/bin").symlink_to("usr/bin")
    os.mkfifo(tmp_path / "root/fifo")
    return tmp_path / "root"


def tick() -> None:
    """ctimes are as coarse as the timer on many kernels."""
    begin = time.clock_gettime_ns(5)  # CLOCK_REALTIME_COARSE
    while time.clock_gettime_ns(5) == begin:
        time.sleep(0.001)


def changes(root: Path, action: Callable[[], object], excluded: str = "") -> Changes:
    rootfs = Rootfs(str(root), frozenset(excluded.split()))
    before = scan(rootfs)
    tick()
    action()
    return diff(before, scan(rootfs))


def rewrite_in_place(path: Path, text: str) -> None:
    """Same inode, same size, same mtime: only the ctime differs."""
    info = path.stat()
    with path.open("r+") as file:
        file.write(text)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def test_no_changes(root: Path) -> None:
    assert changes(root, lambda: None).empty


def test_reading_is_not_a_change(root: Path) -> None:
    def read() -> None:
        for parent, _, names in os.walk(root):
            for name in names:
                if name != "fifo":
                    Path(parent, name).read_bytes()

    assert changes(root, read).empty


def test_created_and_removed_entries_are_not_changes(root: Path) -> None:
    def action() -> None:
        (root / "tmp").mkdir()
        (root / "tmp/x").write_text("x")
        (root / "usr/lib/y").write_text("y")
        (root / "tmp/x").unlink()
        (root / "tmp").rmdir()
        (root / "usr/lib/y").unlink()

    assert changes(root, action).empty


WRITTEN: list[tuple[Callable[[Path], object], list[str]]] = [
    (lambda r: (r / "new").write_text(""), ["new"]),
    (lambda r: (r / "usr/lib/a").write_text("more"), ["usr/lib/a"]),
    (lambda r: (r / "usr/lib/a").write_text("usr/lib/A"), ["usr/lib/a"]),
    (lambda r: rewrite_in_place(r / "usr/lib/a", "usr/lib/A"), ["usr/lib/a"]),
    (lambda r: os.chmod(r / "usr/lib/a", 0o600), ["usr/lib/a"]),
    (lambda r: os.chmod(r / "usr/lib", 0o700), ["usr/lib"]),
    (lambda r: os.chmod(r / "usr/lib", 0o1755), ["usr/lib"]),
    (lambda r: os.utime(r / "usr/lib/a", ns=(1, 1)), ["usr/lib/a"]),
    (lambda r: (r / "deep/er/est").mkdir(parents=True), ["deep", "deep/er", "deep/er/est"]),
    (lambda r: (r / "link").symlink_to("nowhere"), ["link"]),
    (lambda r: os.link(r / "usr/lib/a", r / "again"), ["again", "usr/lib/a"]),
    (lambda r: os.mkfifo(r / "usr/fifo"), ["usr/fifo"]),
    (lambda r: os.replace(r / "usr/lib/a", r / "usr/lib/b"), ["usr/lib/b", "-usr/lib/a"]),
    (lambda r: os.rename(r / "var", r / "opt"), ["opt", "opt/log", "opt/log/x", "-var"]),
    (lambda r: (r / "usr/lib/a").unlink(), ["-usr/lib/a"]),
    (lambda r: (r / "bin").unlink(), ["-bin"]),
    (lambda r: ((r / "var/log/x").unlink(), (r / "var/log").rmdir()), ["-var/log"]),
    (lambda r: ((r / "var/log/x").unlink(), (r / "var/log").rmdir(), (r / "var/log").touch()), ["var/log"]),
    (lambda r: ((r / "usr/lib/a").unlink(), (r / "usr/lib/a").mkdir()), ["usr/lib/a"]),
    (lambda r: ((r / "bin").unlink(), (r / "bin").symlink_to("usr/lib")), ["bin"]),
    (lambda r: ((r / "bin").unlink(), (r / "bin").mkdir(), (r / "bin/sh").touch()), ["bin", "bin/sh"]),
    (lambda r: ((r / "etc/passwd").unlink(), (r / "etc/passwd").write_text("etc/passwd")), ["etc/passwd"]),
]


@pytest.mark.parametrize(("action", "expected"), WRITTEN)
def test_each_kind_of_change(root: Path, action: Callable[[Path], object], expected: list[str]) -> None:
    found = changes(root, lambda: action(root))
    names = [os.fsdecode(p) for p in found.written] + ["-" + os.fsdecode(p) for p in found.removed]
    assert names == expected


def test_extended_attributes(root: Path) -> None:
    try:
        os.setxattr(root / "usr/lib/a", "user.test", b"1")
    except OSError:
        pytest.skip("this file system has no user attributes")
    found = changes(root, lambda: os.setxattr(root / "usr/lib/a", "user.test", b"2"))
    assert found.written == (b"usr/lib/a",)
    assert changes(root, lambda: os.setxattr(root / "usr", "user.test", b"1")).written == (b"usr",)
    assert changes(root, lambda: os.removexattr(root / "usr", "user.test")).written == (b"usr",)


def test_excluded_paths_are_not_scanned(root: Path) -> None:
    def action() -> None:
        (root / "etc/passwd").write_text("changed")
        (root / "etc/hosts").write_text("the cluster's")
        (root / "var/log/x").unlink()

    found = changes(root, action, excluded="etc/hosts var/log")
    assert (found.written, found.removed) == ((b"etc/passwd",), ())


def test_root_itself_is_not_a_change(root: Path) -> None:
    assert changes(root, lambda: os.chmod(root, 0o700)).empty


def test_undecodable_names(root: Path) -> None:
    name = b"\xff\n\\" + b"x" * 200
    found = changes(root, lambda: open(os.fsencode(root) + b"/" + name, "wb").close())
    assert found.written == (name,)


def test_many_names_are_sorted(root: Path) -> None:
    def action() -> None:
        for name in ("b", "a-b", "a", "a.b", "B", "c"):
            (root / "usr" / name).mkdir()
            (root / "usr" / name / "x").touch()

    written = changes(root, action).written
    assert list(written) == sorted(written)
    assert len(written) == 12


def test_packed_entries_round_trip(root: Path) -> None:
    snapshot = scan(Rootfs(str(root)))
    entries = dict(Snapshot.entries(snapshot.directories[b"usr/lib"]))
    assert list(entries) == [b"a", b"b"]
    info = (root / "usr/lib/a").lstat()
    assert entries[b"a"].inode == info.st_ino
    assert entries[b"a"].ctime_ns == info.st_ctime_ns
    assert entries[b"a"].mtime_ns == info.st_mtime_ns
    assert (entries[b"a"].mode, entries[b"a"].size) == (info.st_mode, info.st_size)
    assert not entries[b"a"].is_directory


NAMES = st.sampled_from(["a", "b", "c", "d"])
ACTIONS = st.lists(
    st.tuples(st.sampled_from(["file", "directory", "link", "remove", "chmod"]), NAMES, NAMES), min_size=1, max_size=8
)


def act(root: Path, kind: str, place: Path) -> None:
    if kind == "chmod":
        if place.exists() and not place.is_symlink():
            os.chmod(place, place.stat().st_mode ^ 0o010)
        return
    if place.is_symlink() or place.is_file():
        place.unlink()
    elif place.is_dir():
        shutil.rmtree(place)
    if kind == "file":
        place.write_text(str(place))
    elif kind == "directory":
        place.mkdir()
        (place / "inner").write_text("inner")
    elif kind == "link":
        place.symlink_to("target")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=ACTIONS, second=ACTIONS)
def test_changes_match_a_naive_comparison(
    tmp_path_factory: pytest.TempPathFactory, first: list[tuple[str, str, str]], second: list[tuple[str, str, str]]
) -> None:
    """A slow and naive comparison of two trees finds the same changes."""
    root = tmp_path_factory.mktemp("tree")
    for directory in "abcd":
        (root / directory).mkdir()

    def apply(actions: list[tuple[str, str, str]]) -> None:
        for kind, directory, name in actions:
            if (root / directory).is_dir() and not (root / directory).is_symlink():
                act(root, kind, root / directory / name)
            else:
                act(root, kind, root / directory)

    def listing() -> dict[bytes, tuple[int, str]]:
        found = {}
        for path in root.rglob("*"):
            text = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else ""
            found[os.fsencode(path.relative_to(root))] = (path.lstat().st_mode, text)
        return found

    apply(first)
    before = listing()
    found = changes(root, lambda: apply(second))
    after = listing()

    def names_directory(path: bytes) -> bool:
        return not path or (path in after and stat.S_ISDIR(after[path][0]))

    gone = {p for p in before if p not in after and names_directory(p.rpartition(b"/")[0])}
    assert set(found.removed) == gone, "one whiteout for a directory, none for what was in it"
    differing = {p for p, value in after.items() if before.get(p) != value}
    assert differing <= set(found.written)
    assert set(found.written) <= set(after)
