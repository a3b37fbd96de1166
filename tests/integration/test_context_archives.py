"""Contexts that are archives behind an address: logins, checksums, cuts, pages that are not archives."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from archives.tars import tar_of
from servers.scripted import Answer, Asked, ScriptedServer

from imagewright.contract.sources import HttpArchiveSource
from imagewright.errors import ImagewrightError, Reason, SourceError

TAR = tar_of({name: name.encode() for name in ("Dockerfile", "folder/file")})

Fetch = Callable[..., Path]
FetchError = Callable[..., ImagewrightError]


@pytest.mark.parametrize(
    "packed",
    [TAR, gzip.compress(TAR), bz2.compress(TAR), lzma.compress(TAR), zstandard.compress(TAR)],
    ids=["tar", "gz", "bz2", "xz", "zstd"],
)
def test_archives_of_every_kind(fetch_archive: Fetch, packed: bytes) -> None:
    with ScriptedServer(lambda asked: Answer(200, {}, packed)) as server:
        folder = fetch_archive(HttpArchiveSource(url=f"http://{server.host}/a"))
    assert (folder / "folder/file").read_text() == "folder/file"


def test_a_checksum_pins_it(fetch_archive: Fetch, fetch_error: FetchError) -> None:
    with ScriptedServer(lambda asked: Answer(200, {}, TAR)) as server:
        url = f"http://{server.host}/a.tar"
        error = fetch_error(HttpArchiveSource(url=url, sha256="0" * 64))
        assert "does not match spec.source.http.sha256" in error.message
        assert "invalid SHA-256" in fetch_error(HttpArchiveSource(url=url, sha256="abc")).message
        fetch_archive(HttpArchiveSource(url=url, sha256=hashlib.sha256(TAR).hexdigest()))


@pytest.mark.parametrize(
    ("secret", "sent"),
    [
        ({"username": "me", "password": "hunter2"}, "Basic bWU6aHVudGVyMg=="),
        ({"bearerToken": "hunter2"}, "Bearer hunter2"),
    ],
)
def test_login_goes_only_to_the_named_server(
    fetch_archive: Fetch, tmp_path: Path, secret: dict[str, str], sent: str
) -> None:
    folder = tmp_path / "secret"
    folder.mkdir()
    for name, value in secret.items():
        (folder / name).write_text(value + "\n")
    with ScriptedServer(lambda asked: Answer(200, {}, TAR)) as other:

        def answer(asked: Asked) -> Answer:
            if asked.authorization != sent:
                return Answer(401)
            return Answer(302, {"Location": f"http://{other.host}/elsewhere"})

        with ScriptedServer(answer) as server:
            fetch_archive(HttpArchiveSource(url=f"http://{server.host}/a.tar", credentials_dir=str(folder)))
        assert [asked.authorization for asked in other.asked] == [""]


def test_refusal_says_how_to_log_in(fetch_error: FetchError) -> None:
    with ScriptedServer(lambda asked: Answer(403)) as server:
        error = fetch_error(HttpArchiveSource(url=f"http://user:hunter2@{server.host}/a.tar?sig=hunter2"))
    assert error.reason is Reason.SOURCE_AUTH_FAILED
    assert "hunter2" not in error.render()


@pytest.mark.parametrize(
    ("answer", "reason", "says"),
    [
        (Answer(404), Reason.FILE_NOT_FOUND, "no such file"),
        (
            Answer(200, {}, b"\n<!DOCTYPE html><html><body>Log in</body></html>"),
            Reason.SOURCE_FETCH_FAILED,
            "is a web page",
        ),
        (Answer(200, {}, b""), Reason.SOURCE_FETCH_FAILED, "it is empty"),
        (Answer(200, {}, TAR[: len(TAR) // 2], length=len(TAR)), Reason.SOURCE_UNREACHABLE, "interrupted 3 times"),
        (Answer(200, {}, gzip.compress(TAR)[:-20]), Reason.SOURCE_FETCH_FAILED, "cannot unpack"),
        (Answer(302, {"Location": "ftp://example.com/a"}), Reason.SOURCE_FETCH_FAILED, "not an http or https address"),
        (Answer(503), Reason.SOURCE_UNREACHABLE, "status 503"),
    ],
)
def test_failed_downloads_and_other_files_have_a_reason(
    fetch_error: FetchError, answer: Answer, reason: Reason, says: str
) -> None:
    with ScriptedServer(lambda asked: answer) as server:
        error = fetch_error(HttpArchiveSource(url=f"http://{server.host}/a.tar.gz"))
    assert error.reason is reason, error.render()
    assert says in error.message


def test_an_invalid_address_is_refused_without_its_login(fetch_error: FetchError) -> None:
    for url in ("https://me:sec/ret@a.test/x.tar", "https://me:secret@a.test\\@b.test/x.tar"):
        error = fetch_error(HttpArchiveSource(url=url))
        assert (error.reason, "ret" in error.render()) == (Reason.USAGE_INVALID, False)


def test_interrupted_download_is_retried(fetch_archive: Fetch) -> None:
    answers = [Answer(200, {}, TAR[:600], length=len(TAR)), Answer(502), Answer(200, {}, TAR)]
    with ScriptedServer(lambda asked: answers.pop(0)) as server:
        assert (fetch_archive(HttpArchiveSource(url=f"http://{server.host}/a.tar")) / "Dockerfile").exists()


def test_path_that_leads_out_of_the_context_is_refused(fetch_archive: Fetch) -> None:
    evil = tar_of({"../../evil": b""})
    with ScriptedServer(lambda asked: Answer(200, {}, evil)) as server:
        try:
            folder = fetch_archive(HttpArchiveSource(url=f"http://{server.host}/a.tar"))
        except SourceError:
            return
    assert not (folder.parent.parent / "evil").exists()
