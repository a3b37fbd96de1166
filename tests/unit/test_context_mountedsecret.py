"""Secrets as the kubelet mounts them: links, line ends, keys of something else, and bytes that are no text."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagewright.context.mountedsecret import read_login, read_secret
from imagewright.contract.sources import HttpArchiveSource
from imagewright.errors import Reason, SourceError


def mounted(folder: Path, **values: bytes) -> str:
    """As the kubelet does: a link for each key, through a link to a folder with the time in its name."""
    data = folder / "..2026_11_27"
    data.mkdir()
    (folder / "..data").symlink_to(data.name)
    for name, value in values.items():
        (data / name).write_bytes(value)
        (folder / name).symlink_to(f"..data/{name}")
    return str(folder)


def source(folder: str) -> HttpArchiveSource:
    return HttpArchiveSource(url="https://files.example.com/a.tar", credentials_dir=folder)


def failing(folder: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        read_login(source(folder))
    assert caught.value.hint
    return caught.value


def test_only_the_kind_s_keys_are_read(tmp_path: Path) -> None:
    folder = mounted(tmp_path, username=b"me\n", other=b"x")
    assert read_secret(source(folder)) == {"username": b"me\n"}
    assert read_login(source(folder)) == {"username": "me"}


def test_no_secret_is_no_login() -> None:
    assert read_login(source("")) == {}


def test_secret_with_other_keys_is_refused_and_its_keys_listed(tmp_path: Path) -> None:
    error = failing(mounted(tmp_path, token=b"hunter2"))
    assert error.reason is Reason.SOURCE_AUTH_FAILED
    assert error.message.endswith("has none of the keys username, password, bearerToken, ca.crt; it has token")


def test_empty_secret_is_refused(tmp_path: Path) -> None:
    assert failing(mounted(tmp_path)).message.endswith("it has no keys")


def test_missing_secret_is_refused(tmp_path: Path) -> None:
    assert "No such file" in failing(str(tmp_path / "none")).message


def test_binary_value_is_refused_and_not_shown(tmp_path: Path) -> None:
    error = failing(mounted(tmp_path, password=b"\xffhunter2"))
    assert "not text" in error.message
    assert "hunter2" not in error.render()
