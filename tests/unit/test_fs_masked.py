"""A root file system with masked paths: the image is the same, and what masks them stays unchanged.

The paths are masked by kept files here, which needs no root; real mounts are in tests/integration.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
import tempfile
from pathlib import Path

import pytest
from archives.layers import unpack
from archives.tars import Item, directory, hardlink, make_tar, symlink
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagewright.errors import FileSystemError
from imagewright.fs.copy.copier import CopyRequest, copy
from imagewright.fs.layer.changes import diff
from imagewright.fs.layer.compress import PackOptions
from imagewright.fs.layer.pack import pack_layer
from imagewright.fs.layer.snapshot import scan
from imagewright.fs.rootfs import tree
from imagewright.fs.rootfs.attributes import Ownership
from imagewright.fs.rootfs.masked import MaskedEntries
from imagewright.fs.rootfs.root import Rootfs

KEPT = ("a/m", "b/a/m", "m")  # a directory, a file, a directory at the top


class Machine:
    """A root with files that do not belong to the image."""

    def __init__(self, path: Path) -> None:
        self.path = path / "root"
        (path / "masked").mkdir(parents=True)
        (self.path / "a/m/a").mkdir(parents=True)
        (self.path / "a/m/a/b").write_text("kept")
        (self.path / "b/a").mkdir(parents=True)
        (self.path / "b/a/m").write_text("kept")
        (self.path / "m/b").mkdir(parents=True)
        self.masked = MaskedEntries(str(self.path), str(path / "masked"), (), KEPT)
        self.rootfs = Rootfs(str(self.path), masked=self.masked)
        tree.remove(self.rootfs)
        self._before = self._kept()

    def _kept(self) -> list[tuple[str, os.stat_result, bytes]]:
        roots = [self.path / name for name in KEPT]
        paths = [each for root in roots for each in (root, *sorted(root.rglob("*")))]
        return [(str(p), _settled(p.lstat()), p.read_bytes() if p.is_file() else b"") for p in paths]

    def check(self) -> None:
        """Kept files are unchanged."""
        assert self._kept() == self._before

    def whole(self, directory: Path) -> dict[str, tuple[object, ...]]:
        """The image as another stage would copy it."""
        directory.mkdir()
        tree.copy_tree(self.rootfs, Rootfs(str(directory)))
        return listing(directory)


def _settled(info: os.stat_result) -> os.stat_result:
    fields = list(info)
    fields[7] = 0  # reading moves the atime
    return os.stat_result(fields)


def listing(root: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in root.rglob("*"):
        info = path.lstat()
        content: object = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(root))] = (stat.filemode(info.st_mode), info.st_uid, info.st_gid, content)
    return found


NAMES = st.sampled_from(["a", "b", "m"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
TARGETS = st.one_of(PATHS, PATHS.map(lambda path: f"/{path}"), st.sampled_from(["..", "../a", "/", "../../b", "m"]))
ITEMS = st.one_of(
    st.builds(directory, PATHS, st.sampled_from([0o755, 0o711, 0o700])),
    st.builds(lambda path, data: Item(path, data=data), PATHS, st.sampled_from([b"x", b"yy"])),
    st.builds(symlink, PATHS, TARGETS),
    st.builds(hardlink, PATHS, PATHS),
    st.builds(lambda path: Item(f"{path}/.wh..wh..opq"), PATHS),
    st.builds(lambda path, name: Item(f"{path}/.wh.{name}"), PATHS, NAMES),
    st.builds(lambda name: Item(f".wh.{name}"), NAMES),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(ITEMS, max_size=8), min_size=1, max_size=4))
def test_layers_give_the_same_image_with_masked_paths(layers: list[list[Item]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        plain = Path(name) / "plain"
        plain.mkdir()
        machine = Machine(Path(name) / "machine")
        expected, happened = unpack(Rootfs(str(plain)), layers), unpack(machine.rootfs, layers)
        machine.check()
        assert happened == expected
        if not expected:
            assert machine.whole(Path(name) / "whole") == listing(plain)
        tree.remove(machine.rootfs)
        machine.check()
        assert machine.whole(Path(name) / "empty") == {}
        left = {str(path.relative_to(machine.path)) for path in machine.path.rglob("*")}
        assert left == {"a", "a/m", "a/m/a", "a/m/a/b", "b", "b/a", "b/a/m", "m", "m/b"}


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files and links at kept paths."""
    directory = tmp_path_factory.mktemp("context")
    for name in ("a/m/a/b", "a/m/new", "b/a/m", "m/x"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text("mine")
    (directory / "m/link").symlink_to("x")
    (directory / "b/b").symlink_to("/a")
    return directory


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ITEMS, max_size=6), st.sampled_from([".", "a", "b", "m", "b/a/m", "b/b"]), PATHS, st.booleans())
def test_copy_makes_the_same_changes_with_masked_paths(
    context: Path, layer: list[Item], source: str, destination: str, into: bool
) -> None:
    request = CopyRequest(Rootfs(str(context)), (source,), f"/{destination}" + ("/" if into else ""))
    is_the_same_with_and_without_something_in_the_way(layer, [request])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ITEMS, max_size=6), st.lists(ITEMS, min_size=1, max_size=6), st.one_of(PATHS, st.just("")))
def test_archive_makes_the_same_changes_with_masked_paths(
    layer: list[Item], items: list[Item], destination: str
) -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name, "x.tar").write_bytes(make_tar(*items))
        once = CopyRequest(Rootfs(name), ("x.tar",), f"/{destination}", extract=True)
        is_the_same_with_and_without_something_in_the_way(layer, [once, once])


def is_the_same_with_and_without_something_in_the_way(layer: list[Item], requests: list[CopyRequest]) -> None:
    with tempfile.TemporaryDirectory() as name:
        plain = Path(name) / "plain"
        plain.mkdir()
        machine = Machine(Path(name) / "machine")
        both = [Rootfs(str(plain)), machine.rootfs]
        if unpack(both[0], [layer]):
            return
        assert unpack(both[1], [layer]) == ""
        results: list[object] = []
        for rootfs in both:
            try:
                for request in requests:
                    changes = copy(rootfs, request)
                    tar = io.BytesIO()
                    pack_layer(rootfs, changes, tar, PackOptions("none", clamp_mtime_s=1))
                    results.append((changes, tar.getvalue()))
            except FileSystemError as error:
                results.append(error.message)
        machine.check()
        assert results[len(results) // 2 :] == results[: len(results) // 2]
        assert machine.whole(Path(name) / "whole") == listing(plain)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


@pytest.mark.parametrize(
    "items",
    [
        [symlink("x", "/a"), Item("x/.wh.m"), Item("x/m/a/.wh.b")],
        [symlink("x", "a"), Item("x/.wh..wh..opq")],
        [symlink("x", "a/m"), Item("x/.wh..wh..opq"), Item("x/a/b", data=b"mine")],
        [symlink("x", "/a"), symlink("y", "x"), Item("y/m", data=b"mine")],
        [symlink("x", "b"), symlink("x/a", "/a"), Item("x/a/m/a/.wh.b"), Item("b/a/m/a/b", data=b"mine")],
        [symlink("x", "/b/a"), hardlink("h", "x/m"), Item("h", data=b"mine", mode=0o777)],
        [symlink("x", "/b/a"), Item("x/m", data=b"mine"), hardlink("h", "x/m")],
    ],
)
def test_links_do_not_lead_a_layer_to_kept_files(machine: Machine, items: list[Item]) -> None:
    for one_layer in ([items], [[item] for item in items]):
        unpack(machine.rootfs, [[directory("a"), directory("b"), directory("b/a")], *one_layer])
        machine.check()


def test_opaque_whiteout_does_not_follow_a_removed_link(machine: Machine) -> None:
    layers = [
        [directory("a"), symlink("a/x", ".."), Item("m/b", data=b"mine"), directory("b")],
        [Item("a/x/.wh..wh..opq")],
    ]
    assert unpack(machine.rootfs, layers) == ""
    machine.check()
    assert not any(machine.rootfs.has(name) for name in (b"a", b"b", b"m"))


def test_hard_link_to_a_masked_path_is_linked_or_copied(machine: Machine) -> None:
    assert unpack(machine.rootfs, [[Item("f", data=b"x"), hardlink("a/m/f", "f"), hardlink("g", "a/m/f")]]) == ""
    assert [machine.rootfs.read_file(path, 9) for path in (b"f", b"a/m/f", b"g")] == [b"x"] * 3


def test_paths_resolve_as_in_the_image(machine: Machine) -> None:
    unpack(machine.rootfs, [[symlink("a", "b"), directory("b"), Item("b/f", data=b"x"), symlink("m", "/b/f")]])
    assert machine.rootfs.read_file(b"a/f", 9) == b"x"
    assert machine.rootfs.read_file(b"m", 9) == b"x"
    assert machine.rootfs.realpath(b"a/../a/f") == b"b/f"
    assert machine.rootfs.resolve(b"a/new/er") == b"b/new/er"
    assert machine.rootfs.resolve(b"a" + b"/n" * 2000) == b"b" + b"/n" * 2000
    assert not machine.rootfs.has(b"b/a")


def test_copy_to_a_mount_is_in_the_layer_only(machine: Machine, context: Path) -> None:
    before = scan(machine.rootfs)
    changes = copy(machine.rootfs, CopyRequest(Rootfs(str(context)), (".",), "/"))
    machine.check()
    tar = io.BytesIO()
    pack_layer(machine.rootfs, changes, tar, PackOptions("none"))
    with tarfile.open(fileobj=io.BytesIO(tar.getvalue())) as packed:
        assert {member.name for member in packed} == set(listing(context))
    found = diff(before, scan(machine.rootfs)).written
    assert set(found) == {
        b"a",
        b"b",
        b"b/a",
        b"b/b",
    }  # directories on the way are the image's now; what is apart no scan sees


def test_copy_compares_with_masked_entries(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "context/m").mkdir(parents=True)
    (tmp_path / "context/f").write_text("mine")
    context = Rootfs(str(tmp_path / "context"))
    unpack(machine.rootfs, [[directory("a"), directory("a/m", 0o711), directory("b/a"), symlink("b/a/m", "../new")]])
    changes = copy(machine.rootfs, CopyRequest(context, ("f",), "/b/a/m"))  # through the image's link
    assert (changes.written, machine.rootfs.read_file(b"b/new", 9)) == ((b"b/new",), b"mine")
    os.chmod(tmp_path / "context/m", 0o711)
    request = CopyRequest(context, (".",), "/a", ownership=Ownership(os.getuid(), os.getgid()))
    owned = [directory("a/m", 0o711, uid=os.getuid(), gid=os.getgid())]
    assert unpack(machine.rootfs, [owned]) == ""
    assert copy(machine.rootfs, request).written == (b"a/f",)  # the image's a/m is its equal
    machine.check()


def test_subdirectory_as_root_has_its_masked_paths(machine: Machine) -> None:
    unpack(machine.rootfs, [[directory("b"), Item("b/a/f", data=b"x"), symlink("a", "b/a")]])
    part = machine.rootfs.below(b"b/a")
    link = [symlink("up", "../.."), symlink("m", "/f"), Item("up/a", data=b"mine"), Item("n/f", data=b"y")]
    assert unpack(part, [link]) == ""
    machine.check()
    assert (part.read_file(b"m", 9), part.read_file(b"a", 9), part.realpath(b"up/n")) == (b"x", b"mine", b"n")
    assert part.foreign == {b"m"}
    assert (part.is_foreign(b"m"), part.is_foreign(b"a")) == (True, False)
    assert sorted(part.names(part.fd, b"")) == [b"a", b"f", b"m", b"n", b"up"]
    assert os.readlink(b"m", dir_fd=part.parent_fd(part.fd, b"m")) == b"/f"
    with machine.rootfs.directory(b"b") as outside, pytest.raises(FileSystemError, match="not below"):
        part.path_of(outside)
    assert unpack(machine.rootfs.below(b"b"), [[Item("a", data=b"file")]]) == ""
    assert machine.rootfs.read_file(b"b/a", 9) == b"file"
    machine.check()


def test_adopted_directory_has_no_attributes_of_an_earlier_image(machine: Machine) -> None:
    unpack(machine.rootfs, [[directory("a", 0o711), Item("a/f")]])
    assert stat.S_IMODE((machine.path / "a").stat().st_mode) == 0o711
    tree.remove(machine.rootfs)
    assert stat.S_IMODE((machine.path / "a").stat().st_mode) == 0o755
    unpack(machine.rootfs, [[Item("a/g")]])
    assert sorted(os.listdir(machine.path / "a")) == ["g", "m"]
    assert stat.S_IMODE((machine.path / "a").stat().st_mode) == 0o755


def test_leftovers_behind_a_link_are_not_in_a_later_directory(machine: Machine) -> None:
    unpack(machine.rootfs, [[symlink("a", "b")]])
    machine.masked.before_command()
    (machine.path / "a/lost").write_text("lost")
    assert machine.masked.after_command().lost == (b"a/lost",)
    unpack(machine.rootfs, [[directory("a")]])
    assert os.listdir(machine.path / "a") == ["m"]


def test_released_path_belongs_to_the_image_again(machine: Machine, tmp_path: Path) -> None:
    assert machine.masked.can_release(b"a/m")
    machine.masked.release(b"a/m")
    assert b"a/m" not in machine.masked.mounts
    tree.remove(machine.rootfs)
    assert sorted(os.listdir(machine.path)) == ["b", "m"]
