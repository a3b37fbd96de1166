"""Sources that are on this machine: folders, mounted ConfigMaps, inline Dockerfiles, archives."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from imagewright.context.fetch import fetch as fetch_source
from imagewright.context.job import FetchedContext, FetchJob, Readable
from imagewright.contract.sources import ConfigMapSource, DirectorySource, InlineSource, Source, TarSource
from imagewright.errors import FileSystemError, Reason, SourceError


class Unpack:
    """An unpacker that takes the first bytes for the whole archive, as one that ignores padding does."""

    def __init__(self, reads: int, error: FileSystemError | None = None) -> None:
        self.reads = reads
        self.error = error

    def __call__(self, stream: Readable, folder: str) -> None:
        Path(folder, "unpacked").write_bytes(stream.read(self.reads))
        if self.error is not None:
            raise self.error


@pytest.fixture
def work(tmp_path: Path) -> Path:
    path = tmp_path / "work"
    path.mkdir()
    return path


def fetch(work: Path, source: Source, unpack: Unpack | None = None) -> FetchedContext:
    return fetch_source(source, FetchJob(str(work), {}, lambda text: None, unpack=unpack or Unpack(0)))


def test_directory_is_used_in_place(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app").mkdir()
    monkeypatch.chdir(tmp_path)
    assert fetch(work, DirectorySource(path="app")) == FetchedContext(str(tmp_path / "app"))
    assert not os.listdir(work)


@pytest.mark.parametrize(("name", "words"), [("nope", "no such directory"), ("file", "not a directory")])
def test_context_must_be_a_directory(work: Path, tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match=words) as caught:
        fetch(work, DirectorySource(path=str(tmp_path / name)))
    assert caught.value.reason is Reason.FILE_NOT_FOUND


def test_an_inline_dockerfile_arrives_byte_for_byte(work: Path) -> None:
    text = "FROM scratch\r\nENV A=$$ B=$(HOME) C='\"'\n# 構築\n"
    context = fetch(work, InlineSource(dockerfile=text))
    assert context.dockerfile == text.encode()
    assert os.listdir(context.path) == []


def test_a_mounted_configmap_becomes_plain_files(work: Path, tmp_path: Path) -> None:
    """As the kubelet mounts it: keys link through ``..data`` to a folder with a date, which an update replaces."""
    mount = tmp_path / "mount"
    data = mount / "..2026_11_25_12_00_00.123"
    (data / "sub").mkdir(parents=True)
    (data / "Dockerfile").write_text("FROM scratch\n")
    (data / ".dockerignore").write_text("x\n")
    (data / "sub" / "file").write_text("deep")
    (data / "Dockerfile").chmod(0o400)
    (mount / "..data").symlink_to(data.name)
    for key in ("Dockerfile", ".dockerignore", "sub"):
        (mount / key).symlink_to(f"..data/{key}")
    previous = os.umask(0o077)
    try:
        context = fetch(work, ConfigMapSource(path=str(mount)))
    finally:
        os.umask(previous)
    found = {str(path.relative_to(context.path)): path for path in Path(context.path).rglob("*")}
    assert set(found) == {"Dockerfile", ".dockerignore", "sub", "sub/file"}
    assert not any(path.is_symlink() for path in found.values())
    assert found["Dockerfile"].read_text() == "FROM scratch\n"
    modes = {name: stat.S_IMODE(path.stat().st_mode) for name, path in found.items()}
    assert modes == {"Dockerfile": 0o644, ".dockerignore": 0o644, "sub": 0o755, "sub/file": 0o644}
    assert stat.S_IMODE(os.stat(context.path).st_mode) == 0o755


def test_missing_configmap_is_refused(work: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot read the ConfigMap") as caught:
        fetch(work, ConfigMapSource(path=str(tmp_path / "nope")))
    assert caught.value.reason is Reason.FILE_NOT_FOUND


def test_an_archive_s_digest_is_of_all_its_bytes(work: Path, tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    (tmp_path / "a.tar").write_bytes(data)
    context = fetch(work, TarSource(path=str(tmp_path / "a.tar")), Unpack(10))
    assert context.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert Path(context.path, "unpacked").read_bytes() == data[:10]


def test_standard_input(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tar").write_bytes(b"data")
    with open(tmp_path / "a.tar", encoding="utf-8") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        context = fetch(work, TarSource(path="-"), Unpack(-1))
    assert Path(context.path, "unpacked").read_bytes() == b"data"


def test_missing_archive_is_refused(work: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot read the context archive .*nope\.tar: No such file") as caught:
        fetch(work, TarSource(path=str(tmp_path / "nope.tar")))
    assert caught.value.reason is Reason.FILE_NOT_FOUND


def test_empty_archive_is_refused(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull, encoding="utf-8") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        with pytest.raises(SourceError, match="on standard input: it is empty") as caught:
            fetch(work, TarSource(path="-"))
    assert "stdin: true" in caught.value.hint


@pytest.mark.parametrize(
    ("reason", "expected"),
    [(Reason.LAYER_INVALID, Reason.SOURCE_FETCH_FAILED), (Reason.LIMIT_EXCEEDED, Reason.LIMIT_EXCEEDED)],
)
def test_damaged_archive_is_a_source_error(work: Path, tmp_path: Path, reason: Reason, expected: Reason) -> None:
    (tmp_path / "a.tar").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"a\.tar: cut off") as caught:
        fetch(work, TarSource(path=str(tmp_path / "a.tar")), Unpack(1, FileSystemError("cut off", reason=reason)))
    assert caught.value.reason is expected
