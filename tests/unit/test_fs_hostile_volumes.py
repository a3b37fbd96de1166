"""Layers, archives and copies under exclusion: whatever their links lead to, volumes of the container stay as they are.

The attacks are data: ``tests/hostile/mounted-volumes.json``. Volumes are kept files here, which need no root, or real
mounts. Without volumes the same attacks make the same image.
"""

from __future__ import annotations

import io
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from archives.tars import Item, make_tar, of_line

from imagewright.errors import FileSystemError
from imagewright.fs.copy.copier import CopyRequest, copy, copy_linked
from imagewright.fs.copy.workdir import make_workdir
from imagewright.fs.layer.unpack import UnpackOptions, unpack_layer
from imagewright.fs.rootfs import tree
from imagewright.fs.rootfs.masked import MaskedEntries
from imagewright.fs.rootfs.root import Rootfs
from imagewright.sandbox.kernel import linux

ATTACKS = json.loads((Path(__file__).parents[1] / "hostile/mounted-volumes.json").read_text())
VOLUMES = ("data", "srv/deep/volume", "var/run/secrets/token", "etc/config")  # the last one is a file
EXCLUDED = frozenset({"engine"})
Step = Mapping[str, object]


def items(lines: object) -> list[Item]:
    """The entries of an archive, a line each."""
    assert isinstance(lines, list)
    return [of_line(line) for line in lines]


class Machine:
    """A root with an engine and, unless it has none, volumes."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.root, self.kind = path, path / "root", kind
        self.outside = path / "volumes"
        (self.root / "engine").mkdir(parents=True)
        (self.root / "engine/key").write_text("the engine's")
        (path / "masked").mkdir()
        self.mounted: list[Path] = []
        for number, name in enumerate(VOLUMES if kind != "none" else ()):
            place = self.root / name
            source = place if kind == "kept" else self.outside / str(number)
            source.parent.mkdir(parents=True, exist_ok=True)
            if name == "etc/config":
                source.write_text("kept")
            else:
                (source / "sub").mkdir(parents=True)
                (source / "keep").write_text("kept")
                (source / "sub/keep").write_text("kept")
            if kind == "mounts":
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch() if name == "etc/config" else place.mkdir()
                linux.mount(str(source), str(place), "", linux.MS_BIND)
                self.mounted.append(place)
        kept = VOLUMES if kind == "kept" else ()
        masked = MaskedEntries(str(self.root), str(path / "masked"), EXCLUDED, kept) if kind != "none" else None
        self.rootfs = Rootfs(str(self.root), EXCLUDED, masked=masked)
        tree.remove(self.rootfs)

    def volumes(self) -> list[tuple[object, ...]]:
        """Everything in the volumes and the engine's directory, which no attack may change."""
        tops = [
            self.root / "engine",
            *([self.root / name for name in VOLUMES] if self.kind == "kept" else [self.outside]),
        ]
        return [
            (str(path), info.st_mode, info.st_ino, info.st_mtime_ns, info.st_ctime_ns, content(path))
            for top in tops
            for path in (top, *sorted(top.rglob("*")))
            if (info := path.lstat())
        ]

    def do(self, step: Step) -> str:
        """Carry out a step; the reason if it is refused."""
        try:
            self._do(step)
        except FileSystemError as error:
            return error.reason.value
        return ""

    def _do(self, step: Step) -> None:
        to, kind = str(step.get("to", "/")), next(iter(step))
        if kind == "layer":
            unpack_layer(self.rootfs, io.BytesIO(make_tar(*items(step[kind]))))
        elif kind == "workdir":
            make_workdir(self.rootfs, str(step[kind]), None)
        elif kind == "remove":
            tree.remove(self.rootfs)
        else:
            with (
                tempfile.TemporaryDirectory(dir=self.path) as source,
                tempfile.TemporaryDirectory(dir=self.path) as empty,
            ):
                tar = make_tar(*items(step[kind]))
                if kind == "add":
                    Path(source, "archive.tar").write_bytes(tar)
                else:
                    unpack_layer(Rootfs(source), io.BytesIO(tar), UnpackOptions(whiteouts=False))
                request = CopyRequest(Rootfs(source), (str(step.get("file", "*")),), to, extract=kind == "add")
                if kind == "linked":
                    copy_linked(self.rootfs, Rootfs(empty), [request])
                else:
                    copy(self.rootfs, request)

    def image(self) -> dict[str, object]:
        """The image as another stage would copy it, but for times."""
        whole = Path(tempfile.mkdtemp(dir=self.path))
        tree.copy_tree(self.rootfs, Rootfs(str(whole)))
        return {str(p.relative_to(whole)): (stat.filemode(p.lstat().st_mode), content(p)) for p in whole.rglob("*")}

    def close(self) -> None:
        for _ in self.mounted:
            for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
                if (place := line.split()[4]).startswith(f"{self.root}/"):
                    linux.umount(place)


def content(path: Path) -> object:
    return os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[[str], Machine]]:
    made: list[Machine] = []

    def make(kind: str) -> Machine:
        (tmp_path / kind).mkdir()
        made.append(Machine(tmp_path / kind, kind))
        return made[-1]

    yield make
    for each in made:
        each.close()


needs_root = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts")]


@pytest.mark.parametrize("kind", ["kept", pytest.param("mounts", marks=needs_root)])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda each: each["name"].replace(" ", "-"))
def test_volumes_stay_as_they_are_and_the_image_is_the_same(
    machine: Callable[[str], Machine], attack: Mapping[str, Any], kind: str
) -> None:
    hidden, alone = machine(kind), machine("none")
    before = hidden.volumes()
    for step in attack["steps"]:
        said = hidden.do(step)
        assert hidden.volumes() == before
        assert said == alone.do(step), "refused exactly where it is without volumes"
        assert hidden.image() == alone.image()
        if said:
            break
    if kind == "mounts" and (place := attack.get("token at")):
        assert (hidden.root / str(place) / "keep").read_text() == "kept", "it is where the image's link leads"
    tree.remove(hidden.rootfs)
    assert hidden.volumes() == before
