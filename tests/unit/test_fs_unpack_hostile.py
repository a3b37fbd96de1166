"""Hostile archives change nothing outside the root, with either way of resolving paths."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from archives.tars import CHARACTER, FIFO, Item, directory, hardlink, make_tar, symlink
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagewright.descent import remove_tree
from imagewright.digest import Digest
from imagewright.errors import FileSystemError, ImagewrightError, Reason
from imagewright.fs.layer.index import apply_index, make_index
from imagewright.fs.layer.unpack import Limits, UnpackOptions, unpack_layer
from imagewright.fs.rootfs.resolve import Resolver, kernel_open, kernel_resolves, walk_open
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.tar.reader import TarReader
from imagewright.fs.targets.virtual import VirtualRoot

RESOLVERS = [
    pytest.param(kernel_open, id="kernel", marks=pytest.mark.skipif(not kernel_resolves(), reason="no openat2 here")),
    pytest.param(walk_open, id="walk"),
]

# {out} is the absolute path of the directory outside, which is also ../outside of the root.
ATTACKS: dict[str, list[Item]] = {
    "dotdot": [Item("../outside/new", data=b"x")],
    "dotdot-absolute": [Item("/../outside/new", data=b"x")],
    "dotdot-inside": [directory("a"), Item("a/../../outside/new", data=b"x")],
    "absolute": [Item("{out}/new", data=b"x")],
    "link-relative": [symlink("l", "../outside"), Item("l/new", data=b"x"), Item("l/secret", data=b"x")],
    "link-absolute": [symlink("l", "{out}"), Item("l/new", data=b"x"), Item("l/secret", data=b"x")],
    "link-chain": [symlink("a", "b"), symlink("b", "c/.."), symlink("c", ".."), Item("a/outside/new", data=b"x")],
    "link-many-dots": [symlink("l", "../" * 30 + "{out}"), Item("l/secret", data=b"x")],
    "link-then-directory": [symlink("l", "{out}"), directory("l/", 0o777), directory("l", 0o777)],
    "link-then-file": [symlink("f", "{out}/secret"), Item("f", data=b"x", mode=0o777)],
    "link-then-fifo": [symlink("f", "{out}/secret"), Item("f", FIFO, mode=0o777)],
    "link-then-device": [symlink("f", "{out}/secret"), Item("f", CHARACTER, mode=0o777)],
    "file-through-link-in-parents": [directory("d"), symlink("d/l", "{out}"), Item("d/l/deep/er/new", data=b"x")],
    "hardlink-dotdot": [hardlink("h", "../outside/secret"), Item("h", data=b"x")],
    "hardlink-absolute": [hardlink("h", "{out}/secret"), Item("h", data=b"x")],
    "hardlink-through-link": [symlink("l", "{out}"), hardlink("h", "l/secret"), Item("h", data=b"x", mode=0o777)],
    "hardlink-to-link": [symlink("l", "{out}/secret"), hardlink("h", "l"), Item("h", data=b"x", mode=0o777)],
    "hardlink-chmod": [symlink("l", "{out}/secret"), hardlink("h", "l"), directory("h", 0o777)],
    "whiteout-dotdot": [Item("../outside/.wh.secret")],
    "whiteout-through-link": [symlink("l", "{out}"), Item("l/.wh.secret")],
    "whiteout-of-parent": [directory("d"), Item("d/.wh..."), Item("d/.wh...")],
    "whiteout-of-dot": [directory("d"), Item("d/.wh.."), Item("d/.wh.")],
    "opaque-through-link": [symlink("l", "{out}"), Item("l/.wh..wh..opq")],
    "opaque-then-link": [directory("l"), Item("l/.wh..wh..opq"), symlink("l", "{out}"), Item("l/.wh..wh..opq")],
    "times-of-replaced-directory": [directory("d", mtime=1), symlink("d", "{out}")],
    "times-of-parent-of-replaced": [directory("d"), directory("d/e", mtime=1), symlink("d", "{out}")],
    "directory-replaced-while-open": [Item("d/a", data=b"x"), symlink("d", "{out}"), Item("d/secret", data=b"x")],
    "xattr-through-link": [symlink("f", "{out}/secret"), Item("f", pax={"SCHILY.xattr.user.x": "y"})],
    "pax-path": [Item("innocent", data=b"x", pax={"path": "../outside/new"})],
    "pax-linkpath": [Item("h", b"1", link="ok", pax={"linkpath": "../outside/secret"})],
    "pax-path-nul": [Item("innocent", pax={"path": "a\0b"})],
    "pax-xattr-nul": [Item("innocent", pax={"SCHILY.xattr.user.\0": "x"})],
    "root-as-file": [Item(".", data=b"x"), Item("/", data=b"y"), symlink("./", "{out}")],
    "deep": [Item("d/" * 2000 + "f", data=b"x")],
    "deep-opaque": [directory("d/" * 250), Item("d/.wh..wh..opq")],
    "long-name": [Item("n" * 5000, data=b"x")],
    "link-loop": [symlink("a", "b"), symlink("b", "a"), Item("a/x", data=b"x")],
    "link-far-below": [symlink("l", "x/" * 1500 + "y"), Item("l/z", data=b"x")],
    "link-up-and-down": [symlink("l", "new/../../outside"), Item("l/secret", data=b"x")],
    "owner-huge": [Item("f", pax={"uid": str(1 << 70)})],
    "owner-minus-one": [Item("f", pax={"uid": str((1 << 32) - 1)})],
    "owner-negative": [Item("f", pax={"gid": "-5"})],
    "time-huge": [Item("f", pax={"mtime": "9" * 400})],
    "size-no-number": [Item("f", pax={"size": "many"})],
    "size-negative": [Item("f", pax={"size": "-512"})],
    "size-huge": [Item("f", data=b"x", pax={"size": str(1 << 62)})],
    "device-huge": [Item("f", CHARACTER, device=(0o7777777, 0o7777777))],
    "sparse-huge": [
        Item("f", pax={"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 62), "GNU.sparse.name": "../outside/new"})
    ],
    "sparse-overlap": [Item("f", data=b"xy", pax={"GNU.sparse.map": "5,1,5,1", "GNU.sparse.size": "9"})],
    "sparse-odd": [Item("f", data=b"xy", pax={"GNU.sparse.map": "5,1,5", "GNU.sparse.size": "9"})],
    "sparse-endless-number": [
        Item("f", data=b"1" * 9000, pax={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"})
    ],
    "sparse-no-size": [Item("f", data=b"x", pax={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})],
}


def _refusal(action: Callable[[], object]) -> str:
    """Why it was refused, "" if it was not: any refusal is good, a traceback is not."""
    try:
        action()
    except ImagewrightError as error:
        assert str(error)  # noqa: PT017
        return f"{error.reason}: {error}"
    return ""


def _apply_virtually(tar: bytes) -> None:
    """A root of which nothing is on disk refuses the same layers."""
    name = Digest.of(tar)
    apply_index(VirtualRoot(), make_index(io.BytesIO(tar), name), name)


def _state(path: Path) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for entry in [path, *sorted(path.rglob("*"))]:
        info = entry.lstat()
        content = entry.read_bytes() if entry.is_file() else b""
        found.append(
            (str(entry), info.st_mode, info.st_ino, info.st_nlink, info.st_mtime_ns, info.st_ctime_ns, content)
        )
    return found


@pytest.mark.parametrize("whiteouts", [True, False], ids=["layer", "archive"])
@pytest.mark.parametrize("resolver", RESOLVERS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_outside_the_root_changes(tmp_path: Path, attack: str, resolver: Resolver, whiteouts: bool) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (root / "below/it").mkdir(parents=True)
    (root / "below/beside").write_text("beside")
    before, beside = _state(outside), _state(root / "below/beside")
    items = [
        Item(
            item.name.replace("{out}", str(outside)),
            item.type,
            item.data,
            item.link.replace("{out}", str(outside)),
            item.mode,
            item.mtime,
            device=item.device,
            pax=item.pax,
        )
        for item in ATTACKS[attack]
    ]
    tar = make_tar(*items)
    place = Rootfs(str(root), resolver=resolver).below(b"below/it")
    refused = _refusal(lambda: unpack_layer(place, io.BytesIO(tar), UnpackOptions(whiteouts=whiteouts)))
    if whiteouts:
        assert _refusal(lambda: _apply_virtually(tar)) == refused
    assert _state(outside) == before
    assert _state(root / "below/beside") == beside
    assert [sorted(os.listdir(each)) for each in (tmp_path, root, root / "below")] == [
        ["outside", "root"],
        ["below"],
        ["beside", "it"],
    ]
    remove_tree(str(root), ignore_errors=True)  # some are too deep for whoever clears the tests' directories away


@pytest.mark.parametrize("resolver", RESOLVERS)
@pytest.mark.parametrize(
    "items",
    [
        [Item("engine/key", data=b"x")],
        [symlink("l", "/engine"), Item("l/key", data=b"x")],
        [symlink("l", "/engine"), Item("l/new", data=b"x")],
        [symlink("l", "engine"), Item("l/.wh.key")],
        [symlink("l", "engine"), Item("l/.wh..wh..opq")],
        [Item(".wh.engine")],
        [Item(".wh..wh..opq")],
        [directory("engine", 0o777)],
        [symlink("engine", "/tmp")],
        [hardlink("h", "engine/key"), Item("h", data=b"x")],
        [symlink("l", "engine"), hardlink("h", "l/key")],
        [symlink("e", "etc"), Item("e/.wh..wh..opq")],
        [symlink("e", "etc"), Item("e/hosts", data=b"x"), Item("e/.wh.hosts")],
        [Item(".wh.etc"), Item("etc/.wh..wh..opq"), Item("etc", data=b"x")],
    ],
)
def test_excluded_paths_are_never_touched(tmp_path: Path, resolver: Resolver, items: list[Item]) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine/key").write_text("engine")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hosts").write_text("hosts")
    for i in range(10):
        (tmp_path / f"etc/directory{i}").mkdir()
    before = [_state(tmp_path / "engine"), (tmp_path / "etc/hosts").stat()]
    try:
        unpack_layer(Rootfs(str(tmp_path), frozenset({"engine", "etc/hosts"}), resolver), io.BytesIO(make_tar(*items)))
    except FileSystemError as error:
        assert str(error)  # noqa: PT017
    assert [_state(tmp_path / "engine"), (tmp_path / "etc/hosts").stat()] == before


def test_entries_and_bytes_are_limited(tmp_path: Path) -> None:
    tar = make_tar(*(Item(f"f{i}", data=b"x" * 100) for i in range(10)))
    for limits in (Limits(entries=9), Limits(size=999)):
        with pytest.raises(FileSystemError) as caught:
            unpack_layer(Rootfs(str(tmp_path)), io.BytesIO(tar), UnpackOptions(limits=limits))
        assert caught.value.reason is Reason.LIMIT_EXCEEDED
    unpack_layer(Rootfs(str(tmp_path)), io.BytesIO(tar), UnpackOptions(limits=Limits(entries=10, size=1000)))


def test_truncated_archive_is_detected_anywhere(tmp_path: Path) -> None:
    tar = make_tar(Item("a", data=b"x" * 700), Item("b" * 150, data=b"y", pax={"SCHILY.xattr.user.k": "v"}))
    whole = tar.rstrip(b"\0")
    for cut in range(1, len(whole), 97):
        if cut % 512 == 0:
            continue
        with pytest.raises(FileSystemError):
            unpack_layer(Rootfs(str(tmp_path)), io.BytesIO(tar[:cut]))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_damage_is_always_an_error_with_a_reason(data: st.DataObject) -> None:
    tar = bytearray(
        make_tar(
            Item("f", data=b"12345", pax={"mtime": "1.5", "SCHILY.xattr.user.k": "v"}),
            Item("s", data=b"xy", pax={"GNU.sparse.map": "5,1,7,1", "GNU.sparse.size": "9", "GNU.sparse.name": "s"}),
            symlink("l" * 120, "t" * 120),
        ).rstrip(b"\0")
    )
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(tar) - 1))
        tar[position] = data.draw(st.integers(0, 255))
    for start in range(0, len(tar) - 511, 512):  # checksums made good again, so that damage gets past them
        block = tar[start : start + 512]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            tar[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    try:
        reader = TarReader(io.BytesIO(bytes(tar)))
        while reader.next() is not None:
            for _ in reader.chunks():
                pass
    except FileSystemError as error:
        assert error.reason in (Reason.LAYER_INVALID, Reason.LIMIT_EXCEEDED)  # noqa: PT017
