"""Paths lead to the same place in a virtual root as in one on disk, whatever its links say."""

from __future__ import annotations

import errno
import io
import itertools
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from archives.tars import Item, directory, make_tar

from imagewright.digest import Digest
from imagewright.errors import FileSystemError
from imagewright.fs.layer.index import apply_index, make_index
from imagewright.fs.layer.limits import Limits
from imagewright.fs.rootfs.resolve import kernel_open, kernel_resolves, walk_open
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.targets.nodes import Directory, Node, resolve
from imagewright.fs.targets.virtual import VirtualRoot, VirtualTarget

DIGEST = Digest.of(b"")
TARGETS = (
    "d",
    "d/",
    "d/.",
    "d/..",
    "f",
    "f/",
    "f/.",
    "/",
    "/d/",
    ".",
    "./",
    "..",
    "../d/",
    "x",
    "x/",
    "m",
    "m/",
    "m/../f",
)
PATHS = ("l", "l/", "l/.", "l/..", "l/e", "l/e/", "l/../f", "l/f", "d/l2", "d/l2/", "d/l2/e", "d/l2/../f")


def _outcome(action: Callable[[], object]) -> object:
    try:
        return action()
    except OSError as error:
        return error.errno


def _on_disk(root: Rootfs, path: bytes, *, follow: bool) -> object:
    fd = root.open(path, os.O_PATH | (0 if follow else os.O_NOFOLLOW))
    try:
        return root.path_of(fd), stat.S_IFMT(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


def _virtual(top: Directory, path: bytes, *, follow: bool) -> object:
    above, name, node = resolve(top, path, follow=follow)
    place = (
        node.path_below(top) if isinstance(node, Directory) else b"/".join(filter(None, (above.path_below(top), name)))
    )
    return place, stat.S_IFMT(node.mode)


def _tree(folder: Path, links: dict[str, str]) -> Directory:
    """The same tree on disk and virtual: a directory in another, a file, and links."""
    directories = {"": Directory(stat.S_IFDIR | 0o755, 0, 0, 0)}
    for path in ("d", "d/e"):
        (folder / path).mkdir(parents=True)
        above, _, name = path.rpartition("/")
        directories[path] = Directory(stat.S_IFDIR | 0o755, 0, 0, 0)
        directories[above].add(name.encode(), directories[path])
    (folder / "f").touch()
    directories[""].add(b"f", Node(stat.S_IFREG | 0o644, 0, 0, 0))
    for path, target in links.items():
        os.symlink(target, folder / path)  # as it is: pathlib would drop a slash at the end
        above, _, name = path.rpartition("/")
        node = Node(stat.S_IFLNK | 0o777, 0, 0, 0)
        node.data = target.encode()
        directories[above].add(name.encode(), node)
    return directories[""]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("opener", [kernel_open, walk_open])
def test_links_lead_where_they_lead_on_disk(tmp_path: Path, target: str, opener: Callable[..., int]) -> None:
    if opener is kernel_open and not kernel_resolves():
        pytest.skip("this kernel has no openat2")
    for number, middle in enumerate(("d", "d/", "l", "f/", "/", "d/e/.")):
        folder = tmp_path / str(number)
        top = _tree(folder, {"l": target, "m": middle, "d/l2": f"../{target}"})
        root = Rootfs(str(folder), resolver=opener)
        for path, follow in itertools.product(PATHS, (True, False)):
            name = path.encode()
            expected = _outcome(lambda: _on_disk(root, name, follow=follow))  # noqa: B023
            assert _outcome(lambda: _virtual(top, name, follow=follow)) == expected, (target, middle, path, follow)  # noqa: B023


def test_directories_that_are_known_are_found_as_at_first() -> None:
    target = VirtualTarget(VirtualRoot())
    names = [b"%d" % number for number in range(2500)]  # more than it knows at a time
    above = target.find(b"")
    assert above is not None
    for name in names:
        target.make_directory(above, name, (0, 0), 0o755)
        below = target.find(name)
        assert below is not None
        target.make_directory(below, name + b"/x", (0, 0), 0o755)
    for _ in range(2):
        found = [target.find(name + b"/x") for name in names]
        assert [target.path_of(each) for each in found if each is not None] == [name + b"/x" for name in names]
    assert target.find(b"7") is not target.find(b"7/x") is not None
    target.remove(above, b"7")
    assert target.find(b"7/x") is target.find(b"7") is None
    target.make_directory(above, b"7", (0, 0), 0o755)
    assert target.find(b"7") is not None
    assert target.find(b"7/x") is None


def test_a_path_below_a_known_directory_can_be_too_long() -> None:
    target = VirtualTarget(VirtualRoot())
    path = b""
    here = target.find(b"")
    for _ in range(20):
        assert here is not None
        path = (path + b"/" + b"d" * 203).lstrip(b"/")
        target.make_directory(here, path, (0, 0), 0o755)
        here = target.find(path)
    assert here is not None
    target.make_directory(here, path + b"/" + b"e" * 16, (0, 0), 0o755)
    target.make_directory(here, path + b"/" + b"e" * 15, (0, 0), 0o755)
    assert target.find(path + b"/" + b"e" * 15) is not None
    with pytest.raises(OSError) as caught:  # noqa: PT011 -- its number is what matters
        target.find(path + b"/" + b"e" * 16)
    assert caught.value.errno == errno.ENAMETOOLONG


@pytest.mark.parametrize("name", ["a/../../x", "a/..", "a/./../../x", "a//../../x"])
def test_names_that_lead_out_in_their_middle_are_refused(name: str) -> None:
    tar = make_tar(directory("a"), Item(name))
    with pytest.raises(FileSystemError, match="outside the root"):
        apply_index(VirtualRoot(), make_index(io.BytesIO(tar), DIGEST), DIGEST)


@pytest.mark.parametrize("name", ["a//b", "a/./b", "./a/b", "/a/b", "a/b/"])
def test_a_name_that_is_written_otherwise_is_the_same_entry(name: str) -> None:
    """A whiteout in its layer doesn't hide it."""
    tar = make_tar(directory("a"), directory(name), Item("a/.wh.b"))
    root = VirtualRoot()
    apply_index(root, make_index(io.BytesIO(tar), DIGEST), DIGEST)
    assert stat.S_ISDIR(root.mode_of(b"a/b"))


def test_a_path_that_is_too_long_is_refused() -> None:
    tar = make_tar(Item("/".join(["d" * 200] * 21)))
    with pytest.raises(FileSystemError, match="is too long: 4220 bytes"):
        apply_index(VirtualRoot(), make_index(io.BytesIO(tar), DIGEST), DIGEST)


def test_names_count_as_paths() -> None:
    tar = make_tar(*(Item("n" * 90 + str(number)) for number in range(10)))
    make_index(io.BytesIO(tar), DIGEST, Limits(paths=910))
    with pytest.raises(FileSystemError, match="909 bytes of paths"):
        make_index(io.BytesIO(tar), DIGEST, Limits(paths=909))
