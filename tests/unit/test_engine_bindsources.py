"""What a bind mount shows of a context: without ignored files, and copying only what is mounted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from imagewright.dockerfile.ignore import IgnorePatterns
from imagewright.engine.steps.bindsources import BindSources
from imagewright.engine.workspace import Workspace
from imagewright.errors import FileSystemError
from imagewright.fs.rootfs.root import Rootfs

pytestmark = pytest.mark.root  # files get owners


@pytest.fixture
def views(tmp_path: Path) -> Iterator[BindSources]:
    with closing(Workspace(str(tmp_path / "work"))) as workspace:
        yield BindSources(workspace)


@pytest.fixture
def context(tmp_path: Path) -> Rootfs:
    folder = tmp_path / "context"
    (folder / "a" / "deep").mkdir(parents=True)
    (folder / "b").mkdir()
    for name in ("a/kept", "a/secret", "a/deep/kept", "b/kept", "kept"):
        (folder / name).write_text(name)
    (folder / "link").symlink_to("a")
    (folder / "a" / "out").symlink_to("/etc/passwd")
    return Rootfs(str(folder))


IGNORE = IgnorePatterns.parse("**/secret\n", ".dockerignore")


def names(view: Rootfs) -> list[str]:
    found = (Path(folder, name) for folder, folders, files in os.walk(view.path) for name in (*folders, *files))
    return sorted(str(path.relative_to(view.path)) for path in found)


def test_nothing_is_copied_if_the_folder_itself_can_be_mounted(views: BindSources, context: Rootfs) -> None:
    assert views.of("", context, None, "/a") is context


def test_only_the_mounted_part_is_copied(views: BindSources, context: Rootfs) -> None:
    assert names(views.of("", context, IGNORE, "/a")) == ["a", "a/deep", "a/deep/kept", "a/kept", "a/out"]
    assert names(views.of("", context, IGNORE, "/b/kept")) == ["b", "b/kept"]
    whole = views.of("", context, IGNORE, "/")
    assert "a/secret" not in names(whole)
    assert len(names(whole)) == 9
    assert views.of("", context, IGNORE, "/kept") is whole, "what is there already is used"


def test_each_source_is_made_once(views: BindSources, context: Rootfs) -> None:
    assert views.of("", context, IGNORE, "/a") is views.of("", context, IGNORE, "/a/")
    assert views.of("", context, IGNORE, "/a") is not views.of("other", context, IGNORE, "/a")


@pytest.mark.parametrize("path", ["/a/secret", "/none", "/kept/none"])
def test_ignored_files_are_absent(views: BindSources, context: Rootfs, path: str) -> None:
    assert not os.path.exists(views.of("", context, IGNORE, path).path + path)


def test_a_link_on_the_way_is_followed(views: BindSources, context: Rootfs) -> None:
    view = views.of("", context, IGNORE, "/link/deep")
    assert Path(view.path, "link", "deep", "kept").read_text() == "a/deep/kept"


def test_root_owns_everything(views: BindSources, context: Rootfs) -> None:
    os.chown(Path(context.path, "a", "deep", "kept"), 5, 6)
    assert views.of("", context, None, "/b") is context, "what isn't mounted doesn't matter"
    view = views.of("", context, None, "/a")
    assert os.stat(Path(view.path, "a", "deep", "kept")).st_uid == 0


def test_folders_deeper_than_a_path_are_an_error(views: BindSources, context: Rootfs) -> None:
    folder = os.open(Path(context.path, "b"), os.O_RDONLY)
    for _ in range(50):
        os.mkdir("d" * 200, dir_fd=folder)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    try:
        with pytest.raises(FileSystemError, match="too long"):
            views.of("", context, None, "/b")
    finally:
        subprocess.run(["rm", "-rf", "b"], cwd=context.path, check=True)  # pytest couldn't
