"""A virtual root is as good as one on disk: COPY and WORKDIR give the same layers, and bad layers are refused alike."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from archives.tars import CHARACTER, FIFO, Item, directory, hardlink, make_tar, symlink
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imagewright.digest import Digest
from imagewright.errors import ImagewrightError
from imagewright.fs.copy.copier import CopyRequest, copy
from imagewright.fs.copy.mode import ModeChange
from imagewright.fs.copy.workdir import make_workdir
from imagewright.fs.layer.changes import Changes
from imagewright.fs.layer.compress import PackOptions
from imagewright.fs.layer.index import apply_index, make_index
from imagewright.fs.layer.pack import pack_layer
from imagewright.fs.layer.unpack import unpack_layer
from imagewright.fs.rootfs.attributes import Ownership
from imagewright.fs.rootfs.inodes import RecordedInodes
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.targets.choice import Root
from imagewright.fs.targets.model import NotVirtualError
from imagewright.fs.targets.virtual import VirtualRoot

TIMES = [1_000_000_000, 1_100_000_000]
NOW = PackOptions("none", clamp_mtime_s=1_500_000_000)  # what was changed meanwhile gets one time in both roots
NAMES = st.sampled_from(["a", "b", "c", "é"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TARGETS = st.one_of(PATHS, st.sampled_from(["/a", "/a/b", "..", "../b", "../../c", ".", "a/..", "/", "b/c/", "x"]))
DATA = st.sampled_from([b"", b"1", b"2", b"22"])
MODES = st.sampled_from([0o600, 0o644, 0o4755])
FILES = st.builds(lambda name, *rest: ("file", name, *rest), PATHS, DATA, MODES, st.sampled_from(TIMES))
LINKS = st.builds(lambda name, target: ("link", name, target), PATHS, TARGETS)
HARD_LINKS = st.builds(lambda name, other: ("hard", name, other), PATHS, PATHS)
DIRECTORIES = st.builds(lambda name, mode: ("directory", name, mode), PATHS, st.sampled_from([0o755, 0o1777, 0o2700]))
SPECIAL = st.builds(lambda name: ("fifo", name), PATHS)
WHITEOUTS = st.builds(
    lambda name, kind: ("whiteout", name, kind), PATHS, st.sampled_from(["of", "opaque", "of nothing", "aufs"])
)
ODD = st.sampled_from(
    [("raw", "../x"), ("raw", "a/" + "n" * 256), ("raw", "./b/./c"), ("raw", "n" * 300 + "/b"), ("dev", "b")]
)
LAYERS = st.lists(
    st.lists(st.one_of(FILES, FILES, DIRECTORIES, LINKS, HARD_LINKS, SPECIAL, WHITEOUTS, ODD), max_size=9), max_size=3
)
CONTEXTS = st.lists(st.one_of(FILES, FILES, DIRECTORIES, LINKS, HARD_LINKS, SPECIAL), min_size=1, max_size=9)
DESTINATIONS = st.one_of(
    PATHS, PATHS.map(lambda path: path + "/"), st.sampled_from(["", "x/y", "a/../b/", "n" * 256, "../c", "a/x/y/z"])
).map(lambda path: f"/{path}")
OWNERS = st.sampled_from([None, Ownership(7, 8)])
CHMODS = st.sampled_from(["", "0700", "u=rwX,go=rX"])
COPIES = st.tuples(
    st.just("copy"),
    st.lists(st.one_of(st.just("."), PATHS, st.just("*")), min_size=1, max_size=2).map(tuple),
    DESTINATIONS,
    OWNERS,
    CHMODS,
    st.booleans(),
)
STEPS = st.lists(st.one_of(COPIES, COPIES, st.tuples(st.just("workdir"), DESTINATIONS, OWNERS)), min_size=1, max_size=4)


def _item(entry: tuple[object, ...]) -> Item:
    match entry:
        case "file", str() as name, bytes() as data, int() as mode, int() as time:
            return Item(name, data=data, mode=mode, mtime=time)
        case "directory", str() as name, int() as mode:
            return directory(name, mode, mtime=TIMES[0])
        case "link", str() as name, str() as target:
            return symlink(name, target)
        case "hard", str() as name, str() as target:
            return hardlink(name, target)
        case "fifo", str() as name:
            return Item(name, FIFO)
        case "dev", str() as name:
            return Item(name, CHARACTER, device=(1, 3))
        case "raw", str() as name:
            return Item(name, data=b"raw")
        case "whiteout", str() as name, str() as kind:
            above, slash, last = name.rpartition("/")
            marker = {"of": f".wh.{last}", "opaque": ".wh..wh..opq", "of nothing": ".wh.", "aufs": ".wh..wh.plnk"}[kind]
            return Item(above + slash + marker)
    raise AssertionError(entry)


def _make_context(root: Path, entries: list[tuple[object, ...]]) -> None:
    for entry in entries:
        name = str(entry[1])
        path = root / name
        try:
            if not Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(root)) or path.is_symlink():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            match entry:
                case "file", _, bytes() as data, int() as mode, int() as time:
                    path.unlink(missing_ok=True)  # a FIFO would wait for a reader
                    path.write_bytes(data)
                    path.chmod(mode)
                    os.utime(path, (time, time))
                case "directory", _, int() as mode:
                    path.mkdir(exist_ok=True)
                    path.chmod(mode)
                case "link", _, str() as target:
                    path.symlink_to(target)
                    os.utime(path, (TIMES[0], TIMES[0]), follow_symlinks=False)
                case "hard", _, str() as other:
                    os.link(root / other, path, follow_symlinks=False)
                case "fifo", _:
                    os.mkfifo(path)
                    os.utime(path, (TIMES[0], TIMES[0]))
        except OSError:
            continue  # it makes no sense here
    for path in root.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            os.utime(path, (TIMES[1], TIMES[1]))


def _failure(action: Callable[[], object]) -> str:
    try:
        action()
    except ImagewrightError as error:
        return f"{error.reason}: {error.message}"
    return ""


def _step(root: Root, source: Rootfs, step: tuple[object, ...]) -> Changes:
    match step:
        case "copy", tuple() as patterns, str() as destination, owner, str() as chmod, bool() as preserve:
            mode = ModeChange.parse(chmod) if chmod else None
            return copy(root, CopyRequest(source, patterns, destination, owner, mode, preserve_owner=preserve))  # type: ignore[arg-type]
        case "workdir", str() as path, owner:
            return Changes(make_workdir(root, path, owner), ())  # type: ignore[arg-type]
    raise AssertionError(step)


def _outcome(root: Root, source: Rootfs, step: tuple[object, ...]) -> tuple[Changes | None, str]:
    made: list[Changes] = []
    refused = _failure(lambda: made.append(_step(root, source, step)))
    return (made[0] if made else None), refused


def _apply(virtual: VirtualRoot, tar: bytes) -> None:
    apply_index(virtual, make_index(io.BytesIO(tar), Digest.of(tar)), Digest.of(tar))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(LAYERS, CONTEXTS, STEPS)
@example(  # an equal file, and one that has it under another name
    [],
    [("file", "a/a", b"1", 0o644, TIMES[0]), ("hard", "a/b", "a/a")],
    [("copy", ("a/a",), "/d/", None, "", True), ("copy", ("a",), "/d/", None, "", True)],
)
@example(  # an equal file, of which only the layer can tell that it is equal; and one that differs
    [[("file", "a/b", b"1", 0o644, TIMES[0]), ("file", "a/c", b"1", 0o644, TIMES[0])]],
    [("file", "a/b", b"1", 0o644, TIMES[0]), ("file", "a/c", b"2", 0o644, TIMES[0])],
    [("copy", (".",), "/", None, "", True), ("copy", (".",), "/", None, "", True)],
)
@example(  # through links, and over a hard link
    [[("directory", "a", 0o2700), ("link", "b", "a"), ("file", "a/a", b"1", 0o644, TIMES[0]), ("hard", "c", "b/a")]],
    [("file", "a", b"1", 0o644, TIMES[0]), ("hard", "b", "a")],
    [("copy", ("a",), "/b/", None, "", False), ("copy", (".",), "/b", None, "0700", False)],
)
def test_virtual_root_gives_the_same_layers(
    layers: list[list[tuple[object, ...]]], context: list[tuple[object, ...]], steps: list[tuple[object, ...]]
) -> None:
    with tempfile.TemporaryDirectory() as here:
        base, files = Path(here, "base"), Path(here, "context")
        base.mkdir(mode=0o755)
        files.mkdir()
        inodes = RecordedInodes() if os.geteuid() else None
        disk = Rootfs(str(base), inodes=inodes) if inodes else Rootfs(str(base))
        _make_context(files, context)
        source = Rootfs(str(files))

        virtual = VirtualRoot()
        for entries in layers:
            tar = make_tar(*map(_item, entries))
            refused = _failure(partial(unpack_layer, disk, io.BytesIO(tar)))
            try:
                assert _failure(partial(_apply, virtual, tar)) == refused
            except NotVirtualError:
                return
            if refused:
                return
        for step in steps:
            try:
                found = _outcome(virtual, source, step)
            except NotVirtualError:
                return  # the engine does it, and all that follows, on disk
            made, refused = _outcome(disk, source, step)
            assert found == (made, refused)
            if made is None:
                return
            packed = [io.BytesIO(), io.BytesIO()]
            for root, out in zip((disk, virtual), packed, strict=True):
                pack_layer(root, made, out, NOW)
            assert packed[0].getvalue() == packed[1].getvalue()
            for path in made.written:
                virtual.packed(path)
