"""Archives as contexts, made by the tar program and unpacked by the engine's own reader."""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from imagewright.context.job import FetchedContext
from imagewright.contract.sources import TarSource
from imagewright.errors import ImagewrightError, Reason, SourceError

Fetch = Callable[..., FetchedContext]
FetchError = Callable[..., ImagewrightError]


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


@pytest.mark.parametrize("option", ["", "--gzip", "--bzip2", "--xz"])
def test_plain_or_compressed(tmp_path: Path, fetch: Fetch, folder: Path, option: str) -> None:
    archive = tmp_path / "context"
    subprocess.run(["tar", "-C", folder, "-c", *([option] if option else []), "-f", archive, "."], check=True)
    root = Path(fetch(TarSource(path=str(archive))).path)
    names = {str(path.relative_to(root)) for path in root.rglob("*")}
    assert names == {"Dockerfile", "src", "src/main", "src/link", ".wh.not-a-whiteout"}
    assert os.access(root / "src" / "main", os.X_OK)
    assert os.readlink(root / "src" / "link") == "main"


def test_truncated_archive(tmp_path: Path, fetch: Fetch, folder: Path) -> None:
    archive = tmp_path / "context"
    (folder / "big").write_bytes(os.urandom(100_000))
    subprocess.run(["tar", "-C", folder, "-czf", archive, "."], check=True)
    archive.write_bytes(archive.read_bytes()[:50_000])
    with pytest.raises(SourceError, match="cannot unpack"):
        fetch(TarSource(path=str(archive)))


def test_an_entry_that_cannot_be_created_is_named_in_one_sentence(tmp_path: Path, fetch_error: FetchError) -> None:
    archive, name = tmp_path / "context.tar", "x" * 256
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo(name))
    error = fetch_error(TarSource(path=str(archive)))
    assert error.message == f'cannot unpack the context archive {archive}: "/{name}": File name too long'
    assert error.reason is Reason.LIMIT_EXCEEDED


def test_file_that_is_not_an_archive(tmp_path: Path, fetch: Fetch, folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM scratch\n" * 1000)
    with pytest.raises(SourceError, match="not a tar archive"):
        fetch(TarSource(path=str(folder / "Dockerfile")))
