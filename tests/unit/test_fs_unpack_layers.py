"""Applying layers: whiteouts, replacements, links, metadata (OCI image specification, layer.md)."""

from __future__ import annotations

import io
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from archives.tars import FIFO, Item, directory, hardlink, make_tar, symlink

from imagewright.errors import FileSystemError
from imagewright.fs.layer.unpack import UnpackOptions, UnpackStats, unpack_layer
from imagewright.fs.rootfs.root import Rootfs


def apply(root: Path, *items: Item, options: UnpackOptions | None = None) -> UnpackStats:
    mine = (os.getuid(), os.getgid())  # missing directories would be root's, who need not be the one who runs this
    return unpack_layer(
        Rootfs(str(root)), io.BytesIO(make_tar(*items)), replace(options or UnpackOptions(), ownership=mine)
    )


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_files_keep_content_mode_and_nanoseconds(tmp_path: Path) -> None:
    old_umask = os.umask(0o077)
    try:
        apply(
            tmp_path,
            directory("d", 0o2750, pax={"mtime": "1600000000.123456789"}),
            Item("d/f", data=b"data" * 1000, mode=0o4777, pax={"mtime": "1500000000.000000001"}),
            Item("d/old", mode=0o600, pax={"mtime": "-1.5"}),
        )
    finally:
        os.umask(old_umask)
    assert (tmp_path / "d/f").read_bytes() == b"data" * 1000
    assert stat.S_IMODE((tmp_path / "d/f").stat().st_mode) == 0o4777
    assert (tmp_path / "d/f").stat().st_mtime_ns == 1_500_000_000_000_000_001
    assert (tmp_path / "d/old").stat().st_mtime_ns == -1_500_000_000
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o2750
    assert (tmp_path / "d").stat().st_mtime_ns == 1_600_000_000_123_456_789  # though files came into it after it


def test_file_in_many_chunks_is_complete(tmp_path: Path) -> None:
    data = os.urandom(3_500_001)
    apply(tmp_path, Item("big", data=data), Item("after", data=b"x"))
    assert (tmp_path / "big").read_bytes() == data
    assert (tmp_path / "after").read_bytes() == b"x"


def test_directory_without_an_entry_gets_the_default_mode(tmp_path: Path) -> None:
    apply(tmp_path, Item("a/b/c", data=b"x"))
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o755


def test_names_are_relative_to_the_root(tmp_path: Path) -> None:
    apply(tmp_path, Item("./a", data=b"1"), Item("/b", data=b"2"), Item("c//./d", data=b"3"))
    assert names(tmp_path) == ["a", "b", "c", "c/d"]


class TestWhiteouts:
    @pytest.fixture(autouse=True)
    def lower(self, tmp_path: Path) -> None:
        apply(tmp_path, directory("d"), Item("d/a"), Item("d/b"), directory("d/sub"), Item("d/sub/x"), Item("top"))

    def test_a_file_and_a_directory_go(self, tmp_path: Path) -> None:
        apply(tmp_path, Item("d/.wh.a"), Item("d/.wh.sub"), Item(".wh.top"))
        assert names(tmp_path) == ["d", "d/b"]

    def test_no_marker_reaches_the_disk(self, tmp_path: Path) -> None:
        apply(tmp_path, Item(".wh.none"), Item("d/.wh..wh..opq"), Item(".wh..wh.plnk"), Item("gone/.wh.x"))
        assert names(tmp_path) == ["d", "top"]

    @pytest.mark.parametrize("last", [True, False])
    def test_an_opaque_directory_hides_the_lower_ones_whatever_its_place(self, tmp_path: Path, last: bool) -> None:
        marker, new = Item("d/.wh..wh..opq"), [directory("d/sub"), Item("d/sub/new"), Item("d/b", data=b"new")]
        apply(tmp_path, *([*new, marker] if last else [marker, *new]))
        assert names(tmp_path) == ["d", "d/b", "d/sub", "d/sub/new", "top"]
        assert (tmp_path / "d/b").read_bytes() == b"new"

    def test_an_opaque_root(self, tmp_path: Path) -> None:
        apply(tmp_path, Item("new"), Item(".wh..wh..opq"))
        assert names(tmp_path) == ["new"]

    def test_what_this_layer_brings_below_an_unnamed_directory_stays(self, tmp_path: Path) -> None:
        apply(tmp_path, Item("d/sub/new"), Item("d/.wh..wh..opq"))
        assert names(tmp_path) == ["d", "d/sub", "d/sub/new", "top"]

    @pytest.mark.parametrize("last", [True, False])
    def test_a_whiteout_hides_lower_layers_and_not_its_own(self, tmp_path: Path, last: bool) -> None:
        marker, new = Item("d/.wh.sub"), [directory("d/sub"), Item("d/sub/new")]
        apply(tmp_path, *([*new, marker] if last else [marker, *new]))
        assert names(tmp_path) == ["d", "d/a", "d/b", "d/sub", "d/sub/new", "top"]

    @pytest.mark.parametrize("name", [".wh.", "d/.wh..", "d/.wh..."])
    def test_a_whiteout_of_nothing_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(FileSystemError):
            apply(tmp_path, Item(name))

    def test_in_an_archive_that_is_added_they_are_names_like_others(self, tmp_path: Path) -> None:
        apply(tmp_path, Item(".wh.top", data=b"x"), options=UnpackOptions(whiteouts=False))
        assert ".wh.top" in names(tmp_path)
        assert "top" in names(tmp_path)


class TestReplacing:
    def test_every_kind_gives_way_to_every_other(self, tmp_path: Path) -> None:
        kinds = {
            "file": Item("x", data=b"new"),
            "directory": directory("x"),
            "link": symlink("x", "nowhere"),
            "fifo": Item("x", FIFO),
        }
        for old in kinds.values():
            for kind, new in kinds.items():
                apply(tmp_path, Item(".wh.x"))
                apply(tmp_path, old, *([Item("x/below")] if old.type == directory("x").type else []))
                apply(tmp_path, new)
                mode = (tmp_path / "x").lstat().st_mode
                assert {
                    "file": stat.S_ISREG,
                    "directory": stat.S_ISDIR,
                    "link": stat.S_ISLNK,
                    "fifo": stat.S_ISFIFO,
                }[kind](mode)

    def test_a_directory_over_a_directory_keeps_what_is_in_it(self, tmp_path: Path) -> None:
        apply(tmp_path, directory("d", 0o700), Item("d/a"))
        apply(tmp_path, directory("d", 0o755), Item("d/b"))
        assert names(tmp_path) == ["d", "d/a", "d/b"]
        assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o755

    def test_a_file_is_replaced_and_not_written_into(self, tmp_path: Path) -> None:
        apply(tmp_path, Item("a", data=b"old"), hardlink("b", "a"))
        apply(tmp_path, Item("a", data=b"new"))
        assert (tmp_path / "a").read_bytes() == b"new"
        assert (tmp_path / "b").read_bytes() == b"old"

    def test_many_replaced_directories_leave_no_stale_descriptor(self, tmp_path: Path) -> None:
        apply(tmp_path, *(Item(f"d{i}/f", data=b"old") for i in range(300)))
        items: list[Item] = []
        for i in range(300):
            items += [Item(f"d{i}/g"), symlink(f"d{i}", "t"), directory("t"), Item(f"d{i}/h{i}", data=b"new")]
        apply(tmp_path, *items)
        assert len(names(tmp_path / "t")) == 300

    def test_a_missing_directory_is_made_where_a_link_says(self, tmp_path: Path) -> None:
        apply(tmp_path, directory("var"), symlink("var/run", "../run"), Item("var/run/lock/x", data=b"x"))
        assert (tmp_path / "run/lock/x").read_bytes() == b"x"
        assert (tmp_path / "var/run").is_symlink()


class TestLinks:
    def test_hard_links_share_an_inode(self, tmp_path: Path) -> None:
        apply(tmp_path, Item("d/a", data=b"x"), hardlink("b", "./d/a"), hardlink("c", "/b"))
        assert len({(tmp_path / n).stat().st_ino for n in ("d/a", "b", "c")}) == 1

    def test_a_hard_link_to_a_link_is_the_link(self, tmp_path: Path) -> None:
        apply(tmp_path, symlink("l", "target"), hardlink("h", "l"))
        assert os.readlink(tmp_path / "h") == "target"

    def test_a_hard_link_to_a_file_of_a_lower_layer(self, tmp_path: Path) -> None:
        apply(tmp_path, Item("a", data=b"x"))
        apply(tmp_path, hardlink("b", "a"))
        assert (tmp_path / "a").samefile(tmp_path / "b")

    @pytest.mark.parametrize("target", ["missing", "missing/x", "h", "", "d"])
    def test_a_hard_link_to_nothing_names_both(self, tmp_path: Path, target: str) -> None:
        with pytest.raises(FileSystemError, match="/h"):
            apply(tmp_path, directory("d"), hardlink("h", target))

    def test_symbolic_links_keep_their_text_and_time(self, tmp_path: Path) -> None:
        apply(tmp_path, symlink("l", "../../../etc/passwd"), symlink("long", "t" * 300))
        assert os.readlink(tmp_path / "l") == "../../../etc/passwd"
        assert os.readlink(tmp_path / "long") == "t" * 300
        assert (tmp_path / "l").lstat().st_mtime == 1_700_000_000


def test_archive_keeps_attributes_of_its_directory(tmp_path: Path) -> None:
    (tmp_path / "opt").mkdir(mode=0o700)
    stats = apply(
        tmp_path / "opt",
        directory(".", 0o777),
        Item("a", data=b"x"),
        hardlink("b", "a"),
        directory("d"),
        options=UnpackOptions(whiteouts=False, keep_written=True),
    )
    assert names(tmp_path) == ["opt", "opt/a", "opt/b", "opt/d"]
    assert stats.written == [b"a", b"b", b"d"]
    assert stat.S_IMODE((tmp_path / "opt").stat().st_mode) == 0o700


@pytest.mark.parametrize("whiteouts", [True, False], ids=["layer", "archive"])
def test_hard_link_to_itself_keeps_the_file(tmp_path: Path, whiteouts: bool) -> None:
    """As GNU tar does with archives that it wrote when given a file twice."""
    options = UnpackOptions(whiteouts=whiteouts)
    apply(
        tmp_path,
        directory("d"),
        Item("d/a", data=b"x", mode=0o751),
        hardlink("d/a", "d/a"),
        hardlink("./d//a", "d/a"),
        symlink("l", "d"),
        hardlink("l/a", "d/a"),
        hardlink("d/a", "l/a"),
        hardlink("d/b", "d/a"),
        hardlink("d/b", "d/a"),
        options=options,
    )
    assert names(tmp_path) == ["d", "d/a", "d/b", "l"]
    assert (tmp_path / "d/a").read_bytes() == b"x"
    assert (tmp_path / "d/a").stat().st_nlink == 2
    with pytest.raises(FileSystemError, match="which does not exist"):
        apply(tmp_path, hardlink("new", "new"), options=options)


def test_xattrs_are_set_and_removed(tmp_path: Path) -> None:
    try:
        os.setxattr(tmp_path, "user.probe", b"1")
    except OSError:
        pytest.skip("this file system has no user xattrs")
    pax = {"SCHILY.xattr.user.a": "1", "SCHILY.xattr.user.b": ""}
    apply(tmp_path, directory("d", pax=pax), Item("d/f", pax=pax))
    assert {n: os.getxattr(tmp_path / "d/f", n) for n in os.listxattr(tmp_path / "d/f")} == {
        "user.a": b"1",
        "user.b": b"",
    }
    apply(tmp_path, directory("d", pax={"SCHILY.xattr.user.b": "2"}))
    assert os.listxattr(tmp_path / "d") == ["user.b"]
    assert os.getxattr(tmp_path / "d", "user.b") == b"2"
