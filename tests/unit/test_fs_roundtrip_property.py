"""The layer of a step makes the same changes to a copy of the file system: scan, diff, pack and unpack round trip."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imagewright.fs.layer.changes import diff
from imagewright.fs.layer.compress import PackedLayer, PackOptions
from imagewright.fs.layer.pack import pack_layer
from imagewright.fs.layer.snapshot import Snapshot, scan
from imagewright.fs.layer.unpack import unpack_layer
from imagewright.fs.rootfs.root import Rootfs

NAMES = ["a", "a-b", "b", "c", "é", "n" * 120, os.fsdecode(b"\xff")]
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
TIMES = st.integers(-(10**18), 4 * 10**18)
OPERATIONS = st.one_of(
    st.tuples(
        st.just("file"), PATHS, st.binary(max_size=1500), st.sampled_from([0o600, 0o644, 0o4755, 0o2711, 0o1777])
    ),
    st.tuples(st.just("directory"), PATHS, st.sampled_from([0o700, 0o755, 0o1777, 0o2775]), TIMES),
    st.tuples(st.just("symlink"), PATHS, st.sampled_from(["x", "../../..", "/etc", "t" * 150, "é"]), TIMES),
    st.tuples(st.just("hardlink"), PATHS, PATHS, TIMES),
    st.tuples(st.just("fifo"), PATHS, st.just(0), TIMES),
    st.tuples(st.just("remove"), PATHS, st.just(0), TIMES),
    st.tuples(st.just("chmod"), PATHS, st.sampled_from([0o700, 0o755, 0o4711]), TIMES),
    st.tuples(st.just("rename"), PATHS, PATHS, TIMES),
    st.tuples(st.just("touch"), PATHS, st.just(0), TIMES),
)
Operation = tuple[str, str, object, object]


def _perform(root: Path, operation: Operation) -> None:
    """What makes no sense here is passed over: the next operation may."""
    kind, name, first, second = operation
    path = root / name
    other = root / first if kind in ("hardlink", "rename") and isinstance(first, str) else path
    # Links lead out of the tree on purpose: nothing may be done through them to the machine that runs this.
    # (os.path, since Path.resolve takes a circle of links for an error of its own.)
    real = Path(os.path.realpath(root))
    if not all(Path(os.path.realpath(place.parent)).is_relative_to(real) for place in (path, other)):
        return
    if kind in ("file", "directory", "chmod") and (path.is_symlink() or path.is_fifo()):
        return  # these follow a link at the end; opening a fifo would wait for ever
    try:
        if kind in ("file", "directory", "symlink", "hardlink", "fifo"):
            path.parent.mkdir(parents=True, exist_ok=True)
        match kind, first, second:
            case "file", bytes() as data, int() as mode:
                path.write_bytes(data)
                path.chmod(mode)
            case "directory", int() as mode, int() as time:
                path.mkdir(exist_ok=True)
                path.chmod(mode)
                os.utime(path, ns=(time, time))
            case "symlink", str() as target, int() as time:
                path.symlink_to(target)
                os.utime(path, ns=(time, time), follow_symlinks=False)
            case "hardlink", str() as target, _:
                os.link(root / target, path, follow_symlinks=False)
            case "fifo", _, _:
                os.mkfifo(path)
            case "remove", _, _:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            case "chmod", int() as mode, _:
                path.chmod(mode)
            case "rename", str() as target, _:
                path.rename(root / target)
            case "touch", _, int() as time:
                os.utime(path, ns=(time, time), follow_symlinks=False)
    except OSError:
        pass


def _describe(root: Path) -> dict[str, tuple[object, ...]]:
    """All that a layer can carry; hard links by the first name of their inode.

    A directory's time moves with what is in it.
    """
    found: dict[str, os.stat_result] = {}
    for directory, directories, files in os.walk(root):
        for name in directories + files:
            path = os.path.join(directory, name)
            found[os.path.relpath(path, root)] = os.lstat(path)
    first: dict[int, str] = {}
    for name in sorted(found):
        first.setdefault(found[name].st_ino, name)
    described: dict[str, tuple[object, ...]] = {}
    for name, info in found.items():
        content: object = None
        if stat.S_ISREG(info.st_mode):
            content = (root / name).read_bytes()
        elif stat.S_ISLNK(info.st_mode):
            content = os.readlink(root / name)
        time = None if stat.S_ISDIR(info.st_mode) else info.st_mtime_ns
        described[name] = (info.st_mode, info.st_uid, info.st_gid, content, time, first[info.st_ino])
    return described


def _layer(root: Path, before: Snapshot) -> tuple[bytes, PackedLayer, Snapshot]:
    rootfs = Rootfs(str(root))
    after = scan(rootfs)
    out = io.BytesIO()
    packed = pack_layer(rootfs, diff(before, after), out, PackOptions("none"))
    return out.getvalue(), packed, after


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    st.lists(st.lists(OPERATIONS, min_size=1, max_size=12), min_size=1, max_size=3),
)
@example([[("symlink", "c", "c", 0), ("file", "c/a", b"", 0o600)]])
def test_layers_reproduce_the_file_system(steps: list[list[Operation]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        here, there = Path(directory, "here"), Path(directory, "there")
        here.mkdir()
        there.mkdir()
        snapshot = scan(Rootfs(str(here)))
        for operations in steps:
            for operation in operations:
                _perform(here, operation)
            layer, _packed, snapshot = _layer(here, snapshot)
            unpack_layer(Rootfs(str(there)), io.BytesIO(layer))
            assert _describe(there) == _describe(here)
            assert (
                pack_layer(  # packing reads and changes nothing
                    Rootfs(str(here)), diff(snapshot, scan(Rootfs(str(here)))), io.BytesIO(), PackOptions("none")
                ).raw_size
                == 1024
            )
        # Both trees in one layer each: the same bytes, whatever the order in which they came to be.
        empty = Snapshot({}, snapshot.root)
        for tree in (here, there):  # directories' own times are not told by every layer
            for path in sorted(tree.rglob("*")):
                if path.is_dir() and not path.is_symlink():
                    os.utime(path, (0, 0))
        first, second = _layer(here, empty), _layer(there, empty)
        assert first[1] == second[1]
        assert first[0] == second[0]
