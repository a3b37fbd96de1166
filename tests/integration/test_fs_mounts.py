"""A root file system with real mounts: layers give the same image as without them, and the mounts stay unchanged.

``IMAGEWRIGHT_SEED`` repeats a run; a failure prints the seed.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from archives.layers import unpack
from archives.tars import Item, directory, hardlink, make_tar, symlink

from imagewright.errors import FileSystemError
from imagewright.fs.copy.copier import CopyRequest, copy
from imagewright.fs.rootfs import tree
from imagewright.fs.rootfs.masked import MaskedEntries
from imagewright.fs.rootfs.root import Rootfs
from imagewright.sandbox.kernel import linux

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts")]

ROUNDS = 150
MOUNTS = ("a/b/m", "a/f", "b/m", "m")  # a directory two levels down, a file, directories


class Machine:
    def __init__(self, path: Path) -> None:
        self.path, self.volumes = path / "root", path / "volumes"
        (path / "masked").mkdir(parents=True)
        for name in MOUNTS:
            target, source = self.path / name, self.volumes / name.replace("/", "-")
            target.parent.mkdir(parents=True, exist_ok=True)
            if name == "a/f":
                source.write_text("kept")
                target.touch()
            else:
                (source / "a").mkdir(parents=True)
                (source / "a/b").write_text("kept")
                target.mkdir()
            linux.mount(str(source), str(target), "", linux.MS_BIND)
        self.rootfs = Rootfs(str(self.path), masked=MaskedEntries(str(self.path), str(path / "masked")))
        self.rootfs_is_empty()
        self._before = contents(self.volumes)

    def rootfs_is_empty(self) -> None:
        tree.remove(self.rootfs)
        assert {str(p.relative_to(self.path)) for p in self.path.rglob("*")} == {
            *("a", "a/b", "a/b/m", "a/b/m/a", "a/b/m/a/b", "a/f", "b", "b/m", "b/m/a", "b/m/a/b", "m", "m/a", "m/a/b")
        }

    def check(self) -> None:
        assert contents(self.volumes) == self._before


def contents(root: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in root.rglob("*"):
        info = path.lstat()
        content: object = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(root))] = (oct(info.st_mode), info.st_uid, info.st_gid, content)
    return found


def some_item(dice: random.Random) -> Item:
    def path() -> str:
        return "/".join(dice.choices("abfm", k=dice.randint(1, 4)))

    match dice.randrange(10):
        case 0 | 1:
            return directory(path(), dice.choice([0o755, 0o700]))
        case 2 | 3:
            return Item(path(), data=dice.choice([b"x", b"yy"]))
        case 4 | 5 | 6:
            return symlink(path(), dice.choice([path(), f"/{path()}", "..", "/", "../b", "m"]))
        case 7:
            return hardlink(path(), path())
        case 8:
            return Item(f"{path()}/.wh..wh..opq")
        case _:
            return Item(f"{path()}/.wh.{dice.choice('abfm')}")


def add(rootfs: Rootfs, archive: Path, destination: str) -> str:
    request = CopyRequest(Rootfs(str(archive.parent)), (archive.name,), f"/{destination}/", extract=True)
    try:
        copy(rootfs, request)
    except FileSystemError as error:
        return error.message
    return ""


def one_round(path: Path, seed: int) -> bool:
    """Whether mounts were moved on the way."""
    dice = random.Random(seed)
    layers = [[some_item(dice) for _ in range(dice.randint(1, 6))] for _ in range(dice.randint(1, 3))]
    archived, destination = [some_item(dice) for _ in range(dice.randint(0, 4))], dice.choice(["", "a", "b", "a/b/m"])
    machine = Machine(path)
    (path / "plain").mkdir()
    (path / "whole").mkdir()
    (path / "context").mkdir()
    archive = path / "context/archive"
    archive.write_bytes(make_tar(*archived))
    plain = Rootfs(str(path / "plain"))
    try:
        expected, happened = unpack(plain, layers), unpack(machine.rootfs, layers)
        if not expected and archived:
            expected, happened = (add(rootfs, archive, destination) for rootfs in (plain, machine.rootfs))
        machine.check()
        assert happened == expected
        assert machine.rootfs.masked is not None
        moved = machine.rootfs.masked.mounts != {os.fsencode(name) for name in MOUNTS}
        if not expected:
            tree.move_tree(machine.rootfs, Rootfs(str(path / "whole")))
            assert contents(path / "whole") == contents(path / "plain")
        machine.rootfs_is_empty()
        machine.check()
    except BaseException:
        print(f"seed {seed}: {layers}, then {archived} in /{destination}", file=sys.stderr)
        raise
    return moved


def test_layers_give_the_same_image_with_and_without_mounts(tmp_path: Path) -> None:
    seed = os.environ.get("IMAGEWRIGHT_SEED", str(time.time_ns() % 1_000_000_000))
    command = ["unshare", "--mount", "--propagation=private", sys.executable, __file__, str(tmp_path), seed]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr


def a_mount_goes_where_an_archives_link_leads_in_the_image(path: Path) -> None:
    machine = Machine(path)
    (path / "archive").write_bytes(make_tar(symlink("b", "/x"), Item("b/f", data=b"x")))
    assert add(machine.rootfs, path / "archive", "a") == ""
    assert machine.rootfs.masked is not None
    assert machine.rootfs.masked.mounts == {b"x/m", b"a/f", b"b/m", b"m"}
    assert (
        machine.rootfs.realpath(b"a/x/f") == b"a/x/f"
    )  # while it is unpacked, it leads nowhere out of the destination
    machine.rootfs_is_empty()
    machine.check()


def a_mount_stays_where_a_link_leads_too_deep(path: Path) -> None:
    machine = Machine(path)
    assert unpack(machine.rootfs, [[symlink("a", "/x" * 2000)]]) == ""
    assert machine.rootfs.masked is not None
    assert machine.rootfs.masked.mounts == {os.fsencode(name) for name in MOUNTS}
    machine.rootfs_is_empty()
    machine.check()


def main(directory: str, first: str) -> None:
    a_mount_goes_where_an_archives_link_leads_in_the_image(Path(directory, "link"))
    a_mount_stays_where_a_link_leads_too_deep(Path(directory, "deep"))
    moved = [one_round(Path(directory, str(seed)), seed) for seed in range(int(first), int(first) + ROUNDS)]
    assert any(moved), "no mount was ever moved"


if __name__ == "__main__":
    main(*sys.argv[1:])
