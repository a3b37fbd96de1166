"""Paths inside a root: the kernel's resolution and the walk that replaces it agree on hostile trees."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from imagewright.errors import FileSystemError, Reason
from imagewright.fs.rootfs.resolve import Resolver, kernel_open, kernel_resolves, walk_open
from imagewright.fs.rootfs.root import Rootfs

RESOLVERS = [
    pytest.param(kernel_open, id="kernel", marks=pytest.mark.skipif(not kernel_resolves(), reason="no openat2 here")),
    pytest.param(walk_open, id="walk"),
]

# path in the root -> what it is: a path in the root (identity is compared), or the errno it fails with
CORPUS: dict[str, str | int] = {
    "": "",
    "/": "",
    ".": "",
    "etc/passwd": "etc/passwd",
    "/etc//./passwd": "etc/passwd",
    "..": "",
    "../../..": "",
    "../etc/passwd": "etc/passwd",
    "etc/../../../etc/passwd": "etc/passwd",
    "up/etc/passwd": "etc/passwd",
    "far/etc/passwd": "etc/passwd",
    "abs": "etc",
    "abs/passwd": "etc/passwd",
    "abs/../secret": errno.ENOENT,
    "chain": "etc/passwd",
    "nested/in/abs-up/etc/passwd": "etc/passwd",
    "nested/in/rel": "nested/beside",
    "nested/in/../beside": "nested/beside",
    "outside-abs": errno.ENOENT,
    "outside-rel": errno.ENOENT,
    "outside-abs/secret": errno.ENOENT,
    "loop": errno.ELOOP,
    "self": errno.ELOOP,
    "self/x": errno.ELOOP,
    "etc/passwd/x": errno.ENOTDIR,
    "etc/passwd/..": errno.ENOTDIR,
    "etc/passwd/": errno.ENOTDIR,
    "missing": errno.ENOENT,
    "missing/..": errno.ENOENT,
    "dangling": errno.ENOENT,
    "nul\0byte": errno.EINVAL,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("inside")
    (root / "nested/in").mkdir(parents=True)
    (root / "nested/beside").write_text("beside")
    for name, target in {
        "up": "..",
        "far": "../../../../../..",
        "abs": "/etc",
        "chain": "abs/../up/chain2",
        "chain2": "/etc/passwd",
        "nested/in/abs-up": "/..",
        "nested/in/rel": "../beside",
        "outside-abs": str(outside),
        "outside-rel": "../outside/secret",
        "loop": "loop2",
        "loop2": "loop",
        "self": "self",
        "dangling": "/nowhere",
    }.items():
        os.symlink(target, root / name)
    return root


@pytest.mark.parametrize("resolver", RESOLVERS)
@pytest.mark.parametrize("path", CORPUS)
def test_paths_never_leave_the_root(root: Path, resolver: Resolver, path: str) -> None:
    rootfs = Rootfs(str(root), resolver=resolver)
    wanted = CORPUS[path]
    if isinstance(wanted, int):
        with pytest.raises(OSError) as caught:  # noqa: PT011 -- the number is what is compared
            os.close(rootfs.open(path.encode(), os.O_RDONLY))
        assert caught.value.errno == wanted
        return
    fd = rootfs.open(path.encode(), os.O_RDONLY)
    try:
        assert os.path.samestat(os.fstat(fd), os.stat(root / wanted))
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("resolver", RESOLVERS)
def test_lstat_does_not_follow_the_last_link(root: Path, resolver: Resolver) -> None:
    rootfs = Rootfs(str(root), resolver=resolver)
    for name in ("abs", "outside-abs", "self", "up/abs"):
        assert os.path.samestat(rootfs.lstat(name.encode()), os.lstat(root / name.removeprefix("up/")))


@pytest.mark.parametrize("resolver", RESOLVERS)
def test_file_is_created_where_links_lead_inside_the_root(root: Path, resolver: Resolver) -> None:
    rootfs = Rootfs(str(root), resolver=resolver)
    fd = rootfs.open(b"far/abs/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.close(fd)
    assert (root / "etc/new").exists()
    with pytest.raises(FileExistsError):
        rootfs.open(b"outside-rel", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


@pytest.mark.parametrize("resolver", RESOLVERS)
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, Reason.PATH_NOT_ALLOWED),
        (lambda path: path.mkdir(), Reason.PATH_NOT_ALLOWED),
        (lambda path: path.write_bytes(b"x" * 101), Reason.LIMIT_EXCEEDED),
    ],
    ids=["fifo", "directory", "large"],
)
def test_read_file_accepts_only_regular_files_of_bounded_size(
    root: Path, resolver: Resolver, make: Callable[[Path], object], reason: Reason
) -> None:
    rootfs = Rootfs(str(root), resolver=resolver)
    make(root / "file")
    with pytest.raises(FileSystemError) as caught:
        rootfs.read_file(b"file", 100)
    assert caught.value.reason is reason
    assert caught.value.message == f'cannot read "/file": {caught.value.why}'


def test_read_file_follows_links_inside(root: Path) -> None:
    assert Rootfs(str(root)).read_file(b"chain", 100) == b"inside"


def test_path_of_returns_the_real_path(root: Path) -> None:
    rootfs = Rootfs(str(root))
    with rootfs.directory(b"far/nested/in") as fd:
        assert rootfs.path_of(fd) == b"nested/in"
    with rootfs.directory(b"") as fd:
        assert rootfs.path_of(fd) == b""
    elsewhere = os.open(root.parent / "outside", os.O_RDONLY)
    try:
        with pytest.raises(FileSystemError):
            rootfs.path_of(elsewhere)
    finally:
        os.close(elsewhere)


def test_excluded_paths_include_everything_below() -> None:
    rootfs = Rootfs("/", frozenset({"/proc/", "etc/hosts"}))
    for path in (b"proc", b"proc/1/mem", b"etc/hosts"):
        assert rootfs.is_excluded(path)
    for path in (b"", b"process", b"etc", b"etc/hosts.allow"):
        assert not rootfs.is_excluded(path)
