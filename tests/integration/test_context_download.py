"""Files at a URL: a server that really answers, wrongly too, and what is left on disk."""

from __future__ import annotations

import gzip
import hashlib
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.certificates import Authority, Identity
from servers.scripted import Answer, Asked, ScriptedServer

from imagewright.context.download import Downloaded, HttpOptions, download
from imagewright.errors import ImagewrightError, Reason, SourceError

BODY = b"what the server has\n" * 1000
DIGEST = "sha256:" + hashlib.sha256(BODY).hexdigest()


def script(asked: Asked) -> Answer:
    """Paths that say how they are answered."""
    if asked.path.startswith("/to/"):
        return Answer(302, {"Location": asked.path.removeprefix("/to/")})
    if asked.path.startswith("/status/"):
        return Answer(int(asked.path.removeprefix("/status/").partition("?")[0]))
    if asked.path == "/gzip":
        return Answer(200, {"Content-Encoding": "gzip"}, gzip.compress(BODY))
    if asked.path == "/cut":
        return Answer(200, {}, BODY, length=len(BODY) + 1)
    if asked.path == "/login":
        return Answer(200 if asked.authorization else 401, {}, BODY)
    return Answer(200, {"Last-Modified": "Sat, 03 Feb 2001 04:05:06 GMT"}, BODY)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(script) as server:
        yield server


@pytest.fixture
def other() -> Iterator[ScriptedServer]:
    with ScriptedServer(script) as server:
        yield server


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """One that speaks TLS, trusted as SSL_CERT_FILE says."""
    state = tmp_path / "tls"
    Authority(state, "imagewright test web server").issue(Identity("server", "127.0.0.1", hosts=("127.0.0.1",)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(state / "server.crt", state / "server.key")
    monkeypatch.setenv("SSL_CERT_FILE", str(state / "ca.crt"))
    with ScriptedServer(script, context) as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "file"


def fetch(url: str, target: Path, checksum: str = "", *, login: str = "", max_bytes: int = 1 << 30) -> Downloaded:
    log: list[str] = []
    options = HttpOptions(log.append, lambda host: login, retry_delays_s=(0.0, 0.0), max_bytes=max_bytes)
    return download(url, str(target), checksum, options)


def failing(url: str, target: Path, checksum: str = "", *, max_bytes: int = 1 << 30) -> ImagewrightError:
    with pytest.raises(SourceError) as caught:
        fetch(url, target, checksum, max_bytes=max_bytes)
    return caught.value


def test_a_file_is_written_with_mode_and_time(server: ScriptedServer, target: Path) -> None:
    assert fetch(f"http://{server.host}/a", target) == Downloaded(len(BODY), DIGEST)
    info = target.stat()
    assert target.read_bytes() == BODY
    assert (info.st_mode & 0o7777, info.st_mtime) == (0o600, 981173106)


def test_a_file_of_no_known_time_is_of_1970(server: ScriptedServer, target: Path) -> None:
    fetch(f"http://{server.host}/gzip", target)
    assert target.stat().st_mtime == 0


def test_a_transfer_encoded_without_being_asked_is_decoded(server: ScriptedServer, target: Path) -> None:
    assert fetch(f"http://{server.host}/gzip", target).digest == DIGEST


def test_the_umask_does_not_matter(server: ScriptedServer, target: Path) -> None:
    before = os.umask(0o777)
    try:
        fetch(f"http://{server.host}/a", target)
    finally:
        os.umask(before)
    assert target.stat().st_mode & 0o7777 == 0o600


def test_the_checksum_is_compared(server: ScriptedServer, target: Path) -> None:
    assert fetch(f"http://{server.host}/a", target, DIGEST).digest == DIGEST
    error = failing(f"http://{server.host}/a", target, "sha256:" + "0" * 64)
    assert "not what --checksum says" in error.message
    assert DIGEST in error.message
    assert not target.exists()


def test_redirects_are_followed(server: ScriptedServer, other: ScriptedServer, target: Path) -> None:
    assert fetch(f"http://{server.host}/to/http://{other.host}/a", target).digest == DIGEST


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://127.0.0.1/a", "//127.0.0.1:99999999/"])
def test_redirects_lead_to_http_only(server: ScriptedServer, target: Path, where: str) -> None:
    assert "no http or https address" in failing(f"http://{server.host}/to/{where}", target).message
    assert not target.exists()


def test_redirects_end(server: ScriptedServer, target: Path) -> None:
    server.script = lambda asked: Answer(302, {"Location": asked.path})
    assert "redirects more than 10 times" in failing(f"http://{server.host}/a", target).message
    assert len(server.asked) == 11


def test_a_login_stays_with_its_server(server: ScriptedServer, other: ScriptedServer, target: Path) -> None:
    fetch(f"http://{server.host}/to/http://{other.host}/a", target, login="Bearer t0ken")
    assert [asked.authorization for asked in server.asked] == ["Bearer t0ken"]
    assert [asked.authorization for asked in other.asked] == [""]


def test_a_login_in_the_address_is_sent_and_not_shown(server: ScriptedServer, target: Path) -> None:
    fetch(f"http://me:pa%3Ass@{server.host}/login", target)
    assert server.asked[0].authorization == "Basic bWU6cGE6c3M="
    error = failing(f"http://me:secret@{server.host}/status/404", target)
    assert "secret" not in error.render()


def test_a_signature_in_a_query_is_not_shown(server: ScriptedServer, target: Path) -> None:
    error = failing(f"http://{server.host}/to/http://{server.host}/status/403?signature=s1gned", target)
    assert "status 403" in error.message
    assert "s1gned" not in error.render()


def test_no_netrc_and_no_cookies(
    server: ScriptedServer, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    fetch(f"http://{server.host}/a", target)
    assert server.asked[0].authorization == ""


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (401, Reason.SOURCE_AUTH_FAILED, "HTTP_AUTH_TOKEN_127.0.0.1"),
        (404, Reason.FILE_NOT_FOUND, "there is no such file"),
        (418, Reason.SOURCE_FETCH_FAILED, "status 418"),
        (503, Reason.SOURCE_UNREACHABLE, "in trouble"),
    ],
)
def test_refusals_say_what_to_do(server: ScriptedServer, target: Path, status: int, reason: Reason, words: str) -> None:
    error = failing(f"http://{server.host}/status/{status}", target)
    assert error.reason is reason
    assert words in error.render()
    assert len(server.asked) == (3 if status == 503 else 1)
    assert not target.exists()


def test_a_server_in_trouble_is_asked_again(server: ScriptedServer, target: Path) -> None:
    server.script = lambda asked: Answer(503) if len(server.asked) < 3 else Answer(200, {}, BODY)
    assert fetch(f"http://{server.host}/a", target).digest == DIGEST


def test_a_file_that_is_cut_off_is_no_file(server: ScriptedServer, target: Path) -> None:
    error = failing(f"http://{server.host}/cut", target)
    assert error.reason is Reason.SOURCE_UNREACHABLE
    assert "broke before the file's end" in error.message
    assert len(server.asked) == 3


def test_no_more_than_the_limit_is_written(server: ScriptedServer, target: Path) -> None:
    error = failing(f"http://{server.host}/gzip", target, max_bytes=1000)
    assert error.reason is Reason.LIMIT_EXCEEDED


def test_nobody_is_there(server: ScriptedServer, target: Path) -> None:
    server.close()
    error = failing(f"http://{server.host}/a", target)
    assert error.reason is Reason.SOURCE_UNREACHABLE
    assert "Connection refused" in error.message


def test_a_trusted_server_is_read(secure: ScriptedServer, target: Path) -> None:
    assert fetch(f"https://{secure.host}/a", target).digest == DIGEST


def test_a_stranger_is_not_trusted(secure: ScriptedServer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    error = failing(f"https://{secure.host}/a", target)
    assert error.reason is Reason.SOURCE_CERTIFICATE_UNTRUSTED
    assert not secure.asked


def test_encryption_is_not_left_but_with_a_checksum(
    secure: ScriptedServer, server: ScriptedServer, target: Path
) -> None:
    url = f"https://{secure.host}/to/http://{server.host}/a"
    assert "out of encryption" in failing(url, target).message
    assert not server.asked
    assert fetch(url, target, DIGEST).digest == DIGEST


def test_a_proxy_is_asked(server: ScriptedServer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{server.host}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert fetch("http://elsewhere.example/a", target).digest == DIGEST
    assert server.asked[0].path == "http://elsewhere.example/a"
