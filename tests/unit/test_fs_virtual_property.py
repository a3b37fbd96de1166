"""COPY and WORKDIR give the same layers on disk and in a virtual root, with and without cached layers below them.

Bad layers are refused alike. ``IMAGEWRIGHT_EXAMPLES`` says how many examples are tried.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from archives.tars import CHARACTER, FIFO, Item, directory, hardlink, make_tar, symlink
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from imagewright.digest import Digest
from imagewright.dockerfile.ignore import IgnorePatterns
from imagewright.errors import ImagewrightError
from imagewright.fs.copy.copier import CopyRequest, ParentsPattern, copy, copy_linked
from imagewright.fs.copy.mode import ModeChange
from imagewright.fs.copy.workdir import make_workdir
from imagewright.fs.layer.changes import Changes
from imagewright.fs.layer.compress import PackOptions
from imagewright.fs.layer.filehashes import FileHashes
from imagewright.fs.layer.index import apply_index, make_index
from imagewright.fs.layer.pack import pack_layer
from imagewright.fs.layer.unpack import unpack_layer
from imagewright.fs.rootfs import users
from imagewright.fs.rootfs.inodes import RecordedInodes
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.targets.choice import Root
from imagewright.fs.targets.model import NotVirtualError
from imagewright.fs.targets.nodes import LayerData
from imagewright.fs.targets.virtual import VirtualRoot

TIMES = [1_000_000_000, 1_100_000_000, 1_600_000_000, 1_700_000_000]
NOW = PackOptions("none", clamp_mtime_s=1_500_000_000)  # what was changed meanwhile gets one time in all roots
EXAMPLES = int(os.environ.get("IMAGEWRIGHT_EXAMPLES", "100"))
NAMES = st.sampled_from(["a", "b", "c", "é"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TARGETS = st.one_of(
    PATHS, st.sampled_from(["/a", "/a/b", "..", "../b", "../../c", ".", "a/..", "/", "b/c/", "a/", "b/.", "x/", "x"])
)
DATA = st.sampled_from([b"", b"1", b"2", b"22"])
MODES = st.sampled_from([0o600, 0o644, 0o4755])
XATTRS = st.sampled_from(["", "", "", "user.x", "user.y"])
FILES = st.builds(lambda name, *rest: ("file", name, *rest), PATHS, DATA, MODES, st.sampled_from(TIMES), XATTRS)
PASSWD = st.sampled_from(
    [("file", "etc/passwd", f"u:x:{uid}:8::/:\n".encode(), 0o644, TIMES[0], "") for uid in (7, 9)]
    + [("link", "etc/passwd", "/a/b"), ("link", "etc", "a")]
)
SPARSE = st.builds(lambda name, data: ("sparse", name, data), PATHS, DATA)
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
    st.lists(st.one_of(FILES, FILES, DIRECTORIES, LINKS, HARD_LINKS, SPECIAL, WHITEOUTS, PASSWD, ODD), max_size=9),
    max_size=3,
)
ARCHIVES = st.builds(
    lambda name, items: ("archive", name, items),
    PATHS,
    st.lists(st.one_of(FILES, FILES, DIRECTORIES, LINKS, HARD_LINKS, SPECIAL, WHITEOUTS, ODD), min_size=1, max_size=6),
)
CONTEXTS = st.lists(
    st.one_of(FILES, FILES, DIRECTORIES, LINKS, HARD_LINKS, HARD_LINKS, SPECIAL, SPARSE, ARCHIVES, PASSWD),
    min_size=1,
    max_size=9,
)
DESTINATIONS = st.one_of(
    PATHS, PATHS.map(lambda path: path + "/"), st.sampled_from(["", "x/y", "a/../b/", "n" * 256, "../c", "a/x/y/z"])
).map(lambda path: f"/{path}")
OWNERS = st.sampled_from(["", "", "7:8", "u", "u:9"])
CHMODS = st.sampled_from(["", "0700", "u=rwX,go=rX"])
REQUESTS = st.tuples(
    st.lists(st.one_of(st.just("."), PATHS, st.just("*")), min_size=1, max_size=2).map(tuple),
    DESTINATIONS,
    CHMODS,
    st.sampled_from(["", "", "--parents", "--exclude", "ADD"]),
    st.booleans(),
)
COPIES = st.tuples(
    st.sampled_from(["copy", "copy", "link"]), st.lists(REQUESTS, min_size=1, max_size=2).map(tuple), OWNERS
)
STEPS = st.lists(st.one_of(COPIES, COPIES, st.tuples(st.just("workdir"), DESTINATIONS, OWNERS)), min_size=1, max_size=4)


def _item(entry: tuple[object, ...]) -> Item:
    match entry:
        case "file", str() as name, bytes() as data, int() as mode, int() as time, str() as xattr:
            return Item(name, data=data, mode=mode, mtime=time, pax={f"SCHILY.xattr.{xattr}": "v"} if xattr else {})
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
                case "file", _, bytes() as data, int() as mode, int() as time, str() as xattr:
                    path.unlink(missing_ok=True)  # a FIFO would wait for a reader
                    path.write_bytes(data)
                    path.chmod(mode)
                    if xattr:
                        os.setxattr(path, xattr, b"v")
                    os.utime(path, (time, time))
                case "archive", _, list() as items:
                    path.unlink(missing_ok=True)
                    path.write_bytes(make_tar(*map(_item, items)))
                    os.utime(path, (TIMES[0], TIMES[0]))
                case "sparse", _, bytes() as data:
                    path.unlink(missing_ok=True)
                    with path.open("wb") as out:
                        os.pwrite(out.fileno(), data, 1 << 17)
                        out.truncate(1 << 18)
                    os.utime(path, (TIMES[0], TIMES[0]))
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


def _requests(root: Root, source: Rootfs, requests: tuple[Any, ...], owner: str, scratch: Path) -> list[CopyRequest]:
    ownership = users.lookup_ownership(root, owner) if owner else None
    made = []
    for patterns, destination, chmod, more, preserve in requests:
        mode = ModeChange.parse(chmod) if chmod else None
        request = CopyRequest(source, patterns, destination, ownership, mode, preserve_owner=preserve)
        match more:
            case "--parents":
                only = tuple(ParentsPattern("", each, IgnorePatterns.parse(each, more)) for each in patterns)
                request = replace(request, only=only)
            case "ADD":
                request = replace(request, extract=True, spool=Rootfs(str(scratch)))
            case "--exclude":
                request = replace(request, exclude=IgnorePatterns.parse("**/b", more))
        made.append(request)
    return made


def _step(root: Root, source: Rootfs, step: tuple[object, ...], scratch: Path) -> tuple[Root, Changes]:
    """Execute a step; its changes, and the root that has them."""
    match step:
        case "copy", tuple() as requests, str() as owner:
            return root, copy(
                root, *_requests(root, source, requests, owner, scratch), mtime_limit_ns=NOW.mtime_limit_ns
            )
        case "link", tuple() as requests, str() as owner:
            asked = _requests(root, source, requests, owner, scratch)
            if isinstance(root, VirtualRoot):
                apart = VirtualRoot()
                return apart, copy(apart, *asked, mtime_limit_ns=NOW.mtime_limit_ns)
            (scratch / "linked").mkdir(0o755)
            return root, copy_linked(root, Rootfs(str(scratch / "linked"), inodes=root.inodes), asked)
        case "workdir", str() as path, str() as owner:
            ownership = users.lookup_ownership(root, owner) if owner else None
            return root, Changes(make_workdir(root, path, ownership), ())
    raise AssertionError(step)


class _Layers:
    """The layers so far, and their data."""

    def __init__(self) -> None:
        self.tars: list[bytes] = []
        self.hashes: dict[Digest, FileHashes] = {}

    def sha256(self, data: LayerData) -> bytes | None:
        return self.hashes[data.layer].find(data.number)

    def add(self, tar: bytes) -> None:
        self.tars.append(tar)
        self.hashes[Digest.of(tar)] = FileHashes(io.BytesIO(tar))

    def apply(self, root: Root, tar: bytes) -> None:
        if isinstance(root, VirtualRoot):
            apply_index(root, make_index(io.BytesIO(tar), Digest.of(tar)), Digest.of(tar))
        else:
            unpack_layer(root, io.BytesIO(tar))

    def unpacked(self, folder: Path) -> Rootfs:
        root = _on_disk(folder)
        for tar in self.tars:
            self.apply(root, tar)
        return root

    def indexed(self) -> VirtualRoot | None:
        root = VirtualRoot(self)
        try:
            for tar in self.tars:
                self.apply(root, tar)
        except NotVirtualError:
            return None
        return root


def _on_disk(folder: Path) -> Rootfs:
    folder.mkdir(mode=0o755)
    return Rootfs(str(folder), inodes=RecordedInodes()) if os.geteuid() else Rootfs(str(folder))


def _file(name: str, data: bytes = b"1", time: int = TIMES[0]) -> tuple[object, ...]:
    return "file", name, data, 0o644, time, ""


def _copy(*patterns: str, to: str, chmod: str = "", preserve: bool = True) -> tuple[object, ...]:
    return "copy", ((patterns, to, chmod, "", preserve),), ""


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(LAYERS, CONTEXTS, STEPS)
@example(  # an equal file, and one that has it under another name
    [], [_file("a/a"), ("hard", "a/b", "a/a")], [_copy("a/a", to="/d/"), _copy("a", to="/d/"), _copy("a/a", to="/d/")]
)
@example(  # an equal file, of which only the layer can tell that it is equal; and one that differs
    [[_file("a/b"), _file("a/c")]],
    [_file("a/b"), _file("a/c", b"2")],
    [_copy(".", to="/"), _copy(".", to="/")],
)
@example(  # times that are equal in layers only
    [[_file("a", time=TIMES[2])]],
    [_file("a", time=TIMES[3])],
    [_copy("a", to="/b/"), _copy("a", to="/b/"), _copy(".", to="/")],
)
@example(  # through links, and over a hard link
    [[("directory", "a", 0o2700), ("link", "b", "a"), _file("a/a"), ("hard", "c", "b/a")]],
    [_file("a"), ("hard", "b", "a")],
    [_copy("a", to="/b/", preserve=False), _copy(".", to="/b", chmod="0700", preserve=False)],
)
@example(  # a directory that becomes a link between two of its files
    [[("directory", "b", 0o755), _file("a/a"), _file("a/c"), ("link", "a", "b"), _file("a/b")]],
    [("archive", "x", [("directory", "b", 0o755), _file("c/a"), _file("c/c"), ("link", "c", "b"), _file("c/b")])],
    [("copy", ((("x",), "/", "", "ADD", False),), ""), _copy("x", to="/a/"), _copy("x", to="/b/")],
)
@example(  # an archive again, with a time that is another one in layers
    [],
    [("archive", "x", [_file("a", time=TIMES[2])])],
    [("copy", ((("x",), "/d/", "", "ADD", False),), "")] * 2,
)
@example(  # files of an archive over others, and under several names
    [[_file("d/a"), _file("d/b"), ("link", "l", "d")]],
    [("archive", "x", [_file("a"), _file("b", b"2"), ("hard", "c/d", "b"), _file("a", b"2"), ("link", "b", "a")])],
    [("copy", (((".",), "/l/", "", "ADD", False),), ""), ("copy", ((("x",), "/d", "", "ADD", False),), "")],
)
def test_all_roots_give_the_same_layers(
    layers: list[list[tuple[object, ...]]], context: list[tuple[object, ...]], steps: list[tuple[object, ...]]
) -> None:
    with tempfile.TemporaryDirectory() as here:
        files = Path(here, "context")
        files.mkdir()
        _make_context(files, context)
        source = Rootfs(str(files))
        known = _Layers()
        disk, virtual = _on_disk(Path(here, "base")), VirtualRoot(known)
        fresh: list[Root] = [disk, virtual]  # those in which all steps are executed
        for entries in layers:
            tar = make_tar(*map(_item, entries))
            refused = _failure(partial(known.apply, disk, tar))
            try:
                assert _failure(partial(known.apply, virtual, tar)) == refused
            except NotVirtualError:
                fresh.remove(virtual)
                event("an index that needs a disk")
                return
            if refused:
                return
            known.add(tar)
        for number, step in enumerate(steps):
            cached = [known.unpacked(Path(here, f"cached-{number}")), known.indexed()]
            found: list[tuple[Root, tuple[Root, Changes] | None, str]] = []
            for place, root in enumerate([*fresh, *cached]):
                made: list[tuple[Root, Changes]] = []
                if root is None:
                    continue
                try:
                    scratch = Path(here, f"scratch-{number}-{place}")
                    scratch.mkdir()
                    refused = _failure(lambda: made.append(_step(root, source, step, scratch)))  # noqa: B023
                except NotVirtualError:
                    event("a step that needs a disk")
                    if root is virtual:
                        fresh.remove(virtual)
                    continue
                found.append((root, made[0] if made else None, refused))
            _, first, refused = found[0]
            assert [each[2] for each in found] == [refused] * len(found)
            if first is None:
                return
            changes = first[1]
            assert [each[1][1] for each in found if each[1]] == [changes] * len(found)
            if changes.empty:
                continue
            packed = []
            for _, each, _ in found:
                assert each is not None
                out = io.BytesIO()
                pack_layer(each[0], changes, out, NOW)
                packed.append(out.getvalue())
            assert packed == [packed[0]] * len(packed)
            known.add(packed[0])
            if virtual in fresh and step[0] == "link":
                known.apply(virtual, packed[0])
