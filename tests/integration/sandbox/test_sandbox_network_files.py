"""Images whose files of name resolution are no ordinary ones, in the modes with a root of their own: commands run, /dev
is whole, and nothing remains.

The images are data: ``tests/hostile/network-files.json``.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagewright.sandbox.model import NetworkFile, RunCommand

if TYPE_CHECKING:
    from conftest import Mode  # pytest gives it; only its name is needed here

DATA = Path(__file__).parents[2] / "hostile/network-files.json"
IMAGES = json.loads(DATA.read_text().replace("%LONG%", "x" * 300))
FILES = tuple(NetworkFile(f"/etc/{name}", b"the engine's", 0o644) for name in ("resolv.conf", "hosts", "hostname"))
SCRIPT = """
for each in resolv.conf hosts hostname; do cat /etc/$each; echo attack >/etc/$each; done >/dev/null 2>&1
test -c /dev/null && test ! -s /dev/null && echo x >/dev/null && test ! -s /dev/null && echo done
"""


def make(root: Path, entries: Mapping[str, str | int]) -> None:
    for name, what in entries.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(what, int):
            path.mkdir(mode=what)
        elif what.startswith("-> "):
            path.symlink_to(what[3:])
        else:
            path.write_text(what)


def contents(root: Path) -> dict[str, str]:
    """What the image has, but for its programs."""
    found = {}
    for directory, _, names in os.walk(root):
        for path in (Path(directory), *(Path(directory, name) for name in names)):
            if root / "bin" in (path, *path.parents):
                continue
            text = str(path.readlink()) if path.is_symlink() else path.read_text() if path.is_file() else ""
            found[str(path)] = f"{stat.S_IFMT(path.lstat().st_mode):o} {text}"
    return found


@pytest.mark.parametrize("image", IMAGES, ids=lambda each: each["name"].replace(" ", "-"))
@pytest.mark.parametrize("kind", ["namespace", "chroot"])
def test_a_command_runs_whatever_the_image_has_there(
    request: pytest.FixtureRequest, kind: str, image: Mapping[str, object]
) -> None:
    mode: Mode = request.getfixturevalue(kind)
    entries = image["image"]
    assert isinstance(entries, dict)
    make(mode.rootfs, entries)
    before = contents(mode.rootfs)
    mounts = FILES if kind == "chroot" else ()  # a runner in another container gets them as mounts
    shell = ("/bin/sh", "-c", SCRIPT)
    done = mode.command(RunCommand(str(mode.rootfs), shell, (("PATH", "/bin"),), "/", mounts=mounts))
    assert (done.code, done.text) == (0, "done\n")
    after = contents(mode.rootfs)
    attacked = [path for path in after if "attack" in after[path]]
    changed = {path for path in after if after[path] != before.get(path)}
    assert all(any(path == each or path.startswith(f"{each}/") for path in attacked) for each in changed), (
        "only what the command wrote"
    )
    assert set(before) <= set(after)
