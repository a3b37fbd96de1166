"""Directories nested deeper than the call stack and the number of open descriptors permit."""

from __future__ import annotations

import errno
import io
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from archives.tars import Item, directory, make_tar

from imagewright import descent
from imagewright.descent import Descent
from imagewright.dockerfile.ignore import IgnorePatterns
from imagewright.engine.workspace import Workspace
from imagewright.errors import FileSystemError, Reason
from imagewright.fs.copy.contents import copied_contents, tree_contents
from imagewright.fs.copy.copier import CopyRequest, copy, copy_linked
from imagewright.fs.copy.workdir import make_workdir
from imagewright.fs.layer.changes import diff
from imagewright.fs.layer.compress import PackOptions
from imagewright.fs.layer.pack import pack_layer
from imagewright.fs.layer.snapshot import scan
from imagewright.fs.layer.unpack import UnpackOptions, unpack_layer
from imagewright.fs.rootfs import tree
from imagewright.fs.rootfs.attributes import Ownership
from imagewright.fs.rootfs.masked import MaskedEntries
from imagewright.fs.rootfs.resolve import Resolver, kernel_open, kernel_resolves, walk_open
from imagewright.fs.rootfs.root import Rootfs

LEVELS = 450
DESCRIPTORS, CALLS = 350, 300
LONG = "d" * 40  # in as many levels, the path is longer than one can be
PATH = b"/".join([b"d"] * LEVELS)
ME = Ownership(os.getuid(), os.getgid())
RESOLVERS = [
    pytest.param(kernel_open, id="kernel", marks=pytest.mark.skipif(not kernel_resolves(), reason="no openat2 here")),
    pytest.param(walk_open, id="walk"),
]


@pytest.fixture(autouse=True)
def _narrow() -> Iterator[None]:
    descriptors, calls = resource.getrlimit(resource.RLIMIT_NOFILE), sys.getrecursionlimit()
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, descriptors[1]))
    sys.setrecursionlimit(CALLS)
    yield
    sys.setrecursionlimit(calls)
    resource.setrlimit(resource.RLIMIT_NOFILE, descriptors)


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Path]:
    """A directory that is emptied however deep it has become."""
    yield tmp_path
    descent.remove_tree(str(tmp_path), ignore_errors=True)


class Counting:
    """A .dockerignore that counts queries."""

    def __init__(self, patterns: IgnorePatterns) -> None:
        self.patterns = patterns
        self.asked = 0

    def ignores(self, path: str, /) -> bool:
        self.asked += 1
        return self.patterns.ignores(path)

    def may_include_below(self, directory: str, /) -> bool:
        return self.patterns.may_include_below(directory)


def dig(top: Path, directory: str = "d", file: str = "file") -> Rootfs:
    """Nested directories with a file in the innermost."""
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(LEVELS):
        os.mkdir(directory, dir_fd=fd)
        fd, above = os.open(directory, os.O_RDONLY, dir_fd=fd), fd
        os.close(above)
    os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o640, dir_fd=fd))
    os.close(fd)
    return Rootfs(str(top))


def empty(top: Path, resolver: Resolver | None = None) -> Rootfs:
    top.mkdir()
    return Rootfs(str(top), resolver=resolver)


def test_descent_returns_through_the_same_directories(space: Path) -> None:
    root = dig(space / "a")
    with Descent(root.fd) as down:
        way = []
        for _ in range(LEVELS):
            way.append(os.fstat(down.fd).st_ino)
            down.enter(b"d")
        assert os.listdir(down.fd) == ["file"]
        back = []
        for _ in range(LEVELS):
            down.leave()
            back.append(os.fstat(down.fd).st_ino)
    assert back == way[::-1]
    assert down.fd == root.fd


def test_descent_returns_from_a_masked_directory(space: Path) -> None:
    root, other = dig(space / "a"), dig(space / "b")
    with Descent(root.fd) as down:
        for _ in range(5):
            down.enter(b"d")
        fifth = os.fstat(down.fd).st_ino
        down.enter(b"d", other.fd)
        for _ in range(200):
            down.enter(b"d")
        for _ in range(201):
            down.leave()
        assert os.fstat(down.fd).st_ino == fifth
        assert os.listdir(down.fd) == ["d"]


def test_descent_detects_moved_directories(space: Path) -> None:
    """Moving a directory during a walk must not lead the walk elsewhere."""
    root = dig(space / "a")
    with Descent(root.fd) as down:
        for _ in range(LEVELS):
            down.enter(b"d")
        (space / "elsewhere").mkdir()
        os.rename(space / "a/d/d/d", space / "elsewhere/d")
        for _ in range(LEVELS - 3):
            down.leave()
        with pytest.raises(OSError, match="moved") as caught:
            down.leave()
        assert caught.value.errno == errno.ESTALE


def test_walk_propagates_exceptions() -> None:
    closed = []

    def walk(level: int) -> descent.Walk[int]:
        try:
            if not level:
                raise KeyError("deep")
            return 1 + (yield walk(level - 1))
        finally:
            closed.append(level)

    with pytest.raises(KeyError, match="deep"):
        descent.run(walk(LEVELS))
    assert closed == list(range(LEVELS + 1))


@pytest.mark.parametrize("resolver", RESOLVERS)
def test_a_layer_of_deep_directories(space: Path, resolver: Resolver) -> None:
    root = dig(space / "a")
    before = scan(empty(space / "nothing"))
    packed = io.BytesIO()
    changes = diff(before, scan(root))
    assert changes.written[-1] == PATH + b"/file"
    pack_layer(Rootfs(root.path, resolver=resolver), changes, packed, PackOptions("none"))
    packed.seek(0)
    other = empty(space / "b", resolver)
    unpack_layer(other, packed, UnpackOptions(ownership=(ME.uid, ME.gid)))
    assert [*scan(other).directories] == [*scan(root).directories]
    assert other.lstat(PATH + b"/file").st_mode & 0o777 == 0o640
    unpack_layer(
        other, io.BytesIO(make_tar(directory("d"), Item("d/.wh..wh..opq"))), UnpackOptions(ownership=(ME.uid, ME.gid))
    )
    assert os.listdir(space / "b/d") == []


def test_an_opaque_directory_of_a_layer_that_is_deep_itself(space: Path) -> None:
    root = dig(space / "a", file="old")
    items = [Item(os.fsdecode(PATH) + "/new", data=b"x"), Item("d/.wh..wh..opq")]
    unpack_layer(root, io.BytesIO(make_tar(*items)), UnpackOptions(ownership=(ME.uid, ME.gid)))
    with root.directory(PATH) as fd:
        assert os.listdir(fd) == ["new"]


def test_stages(space: Path) -> None:
    root = dig(space / "a")
    copied, moved = empty(space / "b"), empty(space / "c")
    tree.copy_tree(root, copied)
    tree.move_tree(copied, moved)
    assert tree_contents(moved) == tree_contents(root)
    tree.remove(moved)
    assert os.listdir(moved.path) == []


def test_removing_leaves_what_is_excluded(space: Path) -> None:
    root = dig(space / "a")
    tree.remove(Rootfs(root.path, frozenset({os.fsdecode(PATH[:801])})))
    with root.directory(PATH[:801]):
        pass
    assert root.lstat(PATH + b"/file").st_size == 0


@pytest.mark.parametrize("resolver", RESOLVERS)
def test_copying(space: Path, resolver: Resolver) -> None:
    source = dig(space / "a")
    root = empty(space / "b", resolver)
    request = CopyRequest(Rootfs(source.path, resolver=resolver), (".",), "/", ownership=ME)
    assert copied_contents(request)
    changes = copy(root, request)
    assert changes.written[-1] == PATH + b"/file"
    linked = copy_linked(empty(space / "c"), empty(space / "d"), [request])
    assert linked == changes


def test_copying_with_dockerignore_exceptions(space: Path) -> None:
    source = dig(space / "a")
    ignore = Counting(IgnorePatterns.parse("*\n!**/file"))
    request = CopyRequest(source, (".",), "/", ownership=ME, ignore=ignore)
    assert copied_contents(request)
    assert copy(empty(space / "b"), request).written[-1] == PATH + b"/file"
    assert ignore.asked < 10 * LEVELS, "a directory is looked at for all above it at once, not for each of them"


def test_extracting_an_archive(space: Path) -> None:
    context = empty(space / "a")
    (space / "a/x.tar").write_bytes(make_tar(Item(os.fsdecode(PATH) + "/file", data=b"x")))
    root = empty(space / "b")
    changes = copy(root, CopyRequest(context, ("x.tar",), "/", ownership=ME, extract=True))
    assert changes.written == (PATH + b"/file",)


@pytest.mark.parametrize("resolver", RESOLVERS)
def test_a_working_directory(space: Path, resolver: Resolver) -> None:
    root = empty(space / "a", resolver)
    assert make_workdir(root, os.fsdecode(b"/" + PATH), ME)[-1] == PATH
    os.symlink(os.fsdecode(b"../" * 40 + PATH + b"/more/directories"), space / "a/link")
    assert make_workdir(root, "/link/x", ME) == tuple(
        PATH + below for below in (b"/more", b"/more/directories", b"/more/directories/x")
    )


def test_path_too_long_for_system_calls_is_named(space: Path) -> None:
    root = dig(space / "a", LONG)
    target = empty(space / "b")
    (space / "x.tar").write_bytes(make_tar(Item(f"{LONG}/" * LEVELS + "file", data=b"x")))
    for action in (
        lambda: scan(root),
        lambda: tree.copy_tree(root, target),
        lambda: tree_contents(root),
        lambda: copy(target, CopyRequest(root, (".",), "/", ownership=ME)),
        lambda: copy(target, CopyRequest(Rootfs(str(space)), ("x.tar",), "/", ownership=ME, extract=True)),
        lambda: unpack_layer(target, io.BytesIO((space / "x.tar").read_bytes())),
        lambda: make_workdir(target, f"/{LONG}" * LEVELS, ME),
    ):
        with pytest.raises(FileSystemError) as caught:
            action()
        assert caught.value.reason is Reason.LIMIT_EXCEEDED
        assert "4095" in caught.value.hint


def test_anything_a_command_created_is_removed(space: Path) -> None:
    workspace = Workspace(str(space))
    tree.remove(dig(Path(workspace.stage(0).path) / "x", LONG))
    dig(Path(workspace.stage(0).path) / "y", LONG)
    workspace.close()
    with descent.temporary_directory("some", str(space)) as scratch:
        dig(Path(scratch) / "z", LONG)
    assert os.listdir(space) == []


def test_mounts_below_directories_of_any_depth(space: Path) -> None:
    kept, plain = space / "root/a/b/m", space / "plain"
    for path in (kept / "theirs", space / "masked", plain):
        path.mkdir(parents=True)
    (kept / "d").write_text("theirs")
    rootfs = Rootfs(
        str(space / "root"), masked=MaskedEntries(str(space / "root"), str(space / "masked"), (), ("a/b/m",))
    )
    tree.remove(rootfs)
    context = dig(space / "context")
    for top in (b"a/b/m", b"a/b", b"a"):  # at the mount, and in the directories that lead there
        copy(rootfs, CopyRequest(context, (".",), f"/{os.fsdecode(top)}/"))
        assert rootfs.has(top + b"/" + PATH + b"/file")
    tree.copy_tree(rootfs, Rootfs(str(plain)))
    assert all((plain / top / os.fsdecode(PATH) / "file").is_file() for top in ("a/b/m", "a/b", "a"))
    dig(space / "root/a/long", LONG)  # as a command may leave it
    tree.remove(rootfs)
    assert os.listdir(space / "root/a") == ["b"]
    assert os.listdir(space / "root/a/b") == ["m"]
    assert sorted(os.listdir(kept)) == ["d", "theirs"]
    assert rootfs.names(rootfs.fd, b"") == []


def test_removal_continues_after_errors(space: Path) -> None:
    dig(space / "a")
    with pytest.raises(FileNotFoundError):
        descent.remove_tree(str(space / "nothing"))
    descent.remove_tree(str(space / "nothing"), ignore_errors=True)
    fd = os.open(space, os.O_RDONLY)
    try:
        assert not descent.remove(fd, b"a", frozenset({b"a/d/d"}))
        assert os.listdir(space / "a/d") == ["d"]
        assert descent.remove(fd, b"a")
    finally:
        os.close(fd)
