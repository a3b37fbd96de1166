"""Archives as contexts, made by the tar program and unpacked by the engine's own reader."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from imagewright.context.fetch import FetchedContext, Fetcher
from imagewright.contract.sources import TarSource
from imagewright.engine.inputs import unpack_archive
from imagewright.errors import SourceError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    (folder / "src").mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM scratch\n")
    (folder / "src" / "main").write_text("x")
    (folder / "src" / "main").chmod(0o755)
    (folder / "src" / "link").symlink_to("main")
    (folder / ".wh.not-a-whiteout").write_text("a context may hold any name")
    return folder


def fetch(tmp_path: Path, archive: Path) -> FetchedContext:
    work = tmp_path / "work"
    work.mkdir()
    return Fetcher(str(work), lambda text: None, unpack_archive).fetch(TarSource(path=str(archive)))


@pytest.mark.parametrize("option", ["", "--gzip", "--bzip2", "--xz"])
def test_plain_or_compressed(tmp_path: Path, folder: Path, option: str) -> None:
    archive = tmp_path / "context"
    subprocess.run(["tar", "-C", folder, "-c", *([option] if option else []), "-f", archive, "."], check=True)
    root = Path(fetch(tmp_path, archive).path)
    names = {str(path.relative_to(root)) for path in root.rglob("*")}
    assert names == {"Dockerfile", "src", "src/main", "src/link", ".wh.not-a-whiteout"}
    assert os.access(root / "src" / "main", os.X_OK)
    assert os.readlink(root / "src" / "link") == "main"


def test_one_that_is_cut_off(tmp_path: Path, folder: Path) -> None:
    archive = tmp_path / "context"
    (folder / "big").write_bytes(os.urandom(100_000))
    subprocess.run(["tar", "-C", folder, "-czf", archive, "."], check=True)
    archive.write_bytes(archive.read_bytes()[:50_000])
    with pytest.raises(SourceError, match="can't be unpacked"):
        fetch(tmp_path, archive)


def test_what_is_no_archive(tmp_path: Path, folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM scratch\n" * 1000)
    with pytest.raises(SourceError, match="no tar archive"):
        fetch(tmp_path, folder / "Dockerfile")
