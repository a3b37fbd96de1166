"""Files at a URL: a server that really answers, wrongly too, and what is left on disk."""

from __future__ import annotations

import gzip
import hashlib
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster.certificates import Authority, Identity
from servers.scripted import Answer, Asked, ScriptedServer

from imagewright.context.download import Downloaded, HttpOptions, download
from imagewright.errors import ImagewrightError, Reason, SourceError
from imagewright.http.retry import RetryPolicy

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
    options = HttpOptions(log.append, lambda host: login, retry=RetryPolicy(2, 0.0), max_bytes=max_bytes)
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
    assert "does not match --checksum" in error.message
    assert DIGEST in error.message
    assert not target.exists()


def test_redirects_are_followed(server: ScriptedServer, other: ScriptedServer, target: Path) -> None:
    assert fetch(f"http://{server.host}/to/http://{other.host}/a", target).digest == DIGEST


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://127.0.0.1/a", "//127.0.0.1:99999999/"])
def test_redirects_lead_to_http_only(server: ScriptedServer, target: Path, where: str) -> None:
    assert "invalid redirect" in failing(f"http://{server.host}/to/{where}", target).message
    assert not target.exists()


def test_redirects_end(server: ScriptedServer, target: Path) -> None:
    server.script = lambda asked: Answer(302, {"Location": asked.path})
    assert "more than 10 redirects" in failing(f"http://{server.host}/a", target).message
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
        (404, Reason.FILE_NOT_FOUND, "no such file"),
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
    assert "interrupted 3 times" in error.message
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
    assert "is not HTTPS" in failing(url, target).message
    assert not server.asked
    assert fetch(url, target, DIGEST).digest == DIGEST


def test_a_proxy_is_asked(server: ScriptedServer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{server.host}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert fetch("http://elsewhere.example/a", target).digest == DIGEST
    assert server.asked[0].path == "http://elsewhere.example/a"


# --- resuming

LARGE = bytes(range(256)) * 4000
HALF = len(LARGE) // 2


def versioned(body: bytes, etag: str, cut: bool) -> Callable[[Asked], Answer]:
    """A server with ranges (RFC 9110, section 13.1.5); if ``cut``, a response from the beginning breaks in the
    middle.
    """

    def script(asked: Asked) -> Answer:
        headers = {"ETag": etag} if etag else {}
        if "range" in asked.headers and asked.headers.get("if-range") == etag:
            begin = int(asked.headers["range"].removeprefix("bytes=").removesuffix("-"))
            headers["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
            return Answer(206, headers, body[begin:])
        return Answer(200, headers, body[:HALF], length=len(body)) if cut else Answer(200, headers, body)

    return script


def test_a_download_with_an_etag_is_resumed(server: ScriptedServer, target: Path) -> None:
    server.script = versioned(LARGE, '"v1"', cut=True)
    assert fetch(f"http://me:hunter2@{server.host}/a", target).size == len(LARGE)
    assert target.read_bytes() == LARGE
    assert [(a.headers.get("range"), a.headers.get("if-range")) for a in server.asked] == [
        (None, None),
        (f"bytes={HALF}-", '"v1"'),
    ]
    assert len({asked.authorization for asked in server.asked}) == 1, "the login is sent again"


@pytest.mark.parametrize("etag", ["", 'W/"v1"'])
def test_a_download_without_a_strong_etag_starts_over(server: ScriptedServer, target: Path, etag: str) -> None:
    whole, cut = versioned(LARGE, etag, cut=False), versioned(LARGE, etag, cut=True)
    server.script = lambda asked: cut(asked) if len(server.asked) == 1 else whole(asked)
    assert fetch(f"http://{server.host}/a", target).digest == "sha256:" + hashlib.sha256(LARGE).hexdigest()
    assert target.read_bytes() == LARGE
    assert ["range" in asked.headers for asked in server.asked] == [False, False]


def test_a_file_that_changes_during_the_download_starts_over(server: ScriptedServer, target: Path) -> None:
    other = LARGE[::-1] + b"longer"
    before, after = versioned(LARGE, '"v1"', cut=True), versioned(other, '"v2"', cut=False)
    server.script = lambda asked: before(asked) if len(server.asked) == 1 else after(asked)
    assert fetch(f"http://{server.host}/a", target).size == len(other)
    assert target.read_bytes() == other, "nothing of the version before"


def test_another_version_sent_as_the_rest_is_not_appended(server: ScriptedServer, target: Path) -> None:
    def script(asked: Asked) -> Answer:
        if "range" in asked.headers:
            headers = {"ETag": '"v2"', "Content-Range": f"bytes {HALF}-{len(LARGE) - 1}/{len(LARGE)}"}
            return Answer(206, headers, b"x" * HALF)
        return Answer(200, {"ETag": '"v1"'}, LARGE[:HALF], length=len(LARGE))

    server.script = script
    error = failing(f"http://{server.host}/a", target)
    assert error.reason is Reason.SOURCE_UNREACHABLE
    assert "the file changed during the download" in error.message
    assert not target.exists()


def test_a_server_that_ignores_ranges_sends_the_same_version_again(server: ScriptedServer, target: Path) -> None:
    cut = Answer(200, {"ETag": '"v1"'}, LARGE[:HALF], length=len(LARGE))
    server.script = lambda asked: cut if len(server.asked) == 1 else Answer(200, {"ETag": '"v1"'}, LARGE)
    fetch(f"http://{server.host}/a", target)
    assert target.read_bytes() == LARGE


def test_a_download_that_broke_after_its_last_byte_starts_over(server: ScriptedServer, target: Path) -> None:
    """There is nothing from that byte on: status 416 (RFC 9110, section 15.5.17), whatever the answer has in it."""

    def script(asked: Asked) -> Answer:
        if "range" in asked.headers:
            return Answer(416, {"ETag": '"v1"'}, b"x" * 2 * len(LARGE))
        return Answer(200, {"ETag": '"v1"'}, LARGE, length=len(LARGE) + (len(server.asked) == 1))

    server.script = script
    fetch(f"http://{server.host}/a", target)
    assert target.read_bytes() == LARGE
    assert ["range" in asked.headers for asked in server.asked] == [False, True, False]


def test_a_login_that_no_header_can_hold_is_not_shown(server: ScriptedServer, target: Path) -> None:
    with pytest.raises(SourceError) as caught:
        fetch(f"http://{server.host}/a", target, login="Bearer hun\nter2")
    assert caught.value.reason is Reason.SOURCE_AUTH_FAILED
    assert "ter2" not in caught.value.render()
    assert not server.asked


def test_a_refusal_after_a_redirect_names_who_refused(
    server: ScriptedServer, other: ScriptedServer, target: Path
) -> None:
    server.script = lambda asked: Answer(302, {"Location": f"http://{other.host}/a"})
    other.script = lambda asked: Answer(403)
    with pytest.raises(SourceError) as caught:
        fetch(f"http://{server.host}/a", target, login="Bearer t0ken")
    assert "status 403 from 127.0.0.1" in caught.value.message
    assert "login is valid" not in caught.value.hint, "it was not sent there"


def test_a_later_range_than_requested_is_refused(server: ScriptedServer, target: Path) -> None:
    def script(asked: Asked) -> Answer:
        if "range" in asked.headers:
            headers = {"ETag": '"v1"', "Content-Range": f"bytes {HALF + 1}-{len(LARGE) - 1}/{len(LARGE)}"}
            return Answer(206, headers, LARGE[HALF + 1 :])
        return Answer(200, {"ETag": '"v1"'}, LARGE[:HALF], length=len(LARGE))

    server.script = script
    assert f"sent bytes from {HALF + 1} on" in failing(f"http://{server.host}/a", target).message
    assert not target.exists()


def test_a_decoded_download_starts_over(server: ScriptedServer, target: Path) -> None:
    """Its position in the file says nothing of the position in what was sent."""
    packed = gzip.compress(BODY)
    headers = {"ETag": '"v1"', "Content-Encoding": "gzip"}
    cut = Answer(200, headers, packed[:-20], length=len(packed))
    server.script = lambda asked: cut if len(server.asked) == 1 else Answer(200, headers, packed)
    assert fetch(f"http://{server.host}/a", target).digest == DIGEST
    assert ["range" in asked.headers for asked in server.asked] == [False, False]


def test_a_resumed_download_sends_no_login_to_where_it_is_redirected(
    server: ScriptedServer, other: ScriptedServer, target: Path
) -> None:
    server.script = lambda asked: Answer(302, {"Location": f"http://{other.host}/a"})
    other.script = versioned(LARGE, '"v1"', cut=True)
    fetch(f"http://{server.host}/a", target, login="Bearer t0ken")
    assert target.read_bytes() == LARGE
    assert [asked.authorization for asked in server.asked] == ["Bearer t0ken"] * 2
    assert [asked.authorization for asked in other.asked] == [""] * 2


def test_the_limit_holds_for_a_resumed_download_too(server: ScriptedServer, target: Path) -> None:
    server.script = versioned(LARGE, '"v1"', cut=True)
    error = failing(f"http://{server.host}/a", target, max_bytes=len(LARGE) - 1)
    assert error.reason is Reason.LIMIT_EXCEEDED
    assert not target.exists()


def test_a_server_that_does_not_know_of_its_tls_is_still_asked_by_https(secure: ScriptedServer, target: Path) -> None:
    assert fetch(f"https://{secure.host}/to/http://{secure.host}/a", target).digest == DIGEST


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:99999/a", "http://[::1/a", "http://host:port/a", "http://me:hun?ter2@host/a"]
)
def test_an_invalid_address_is_an_error_of_usage(target: Path, url: str) -> None:
    error = failing(url, target)
    assert error.reason is Reason.USAGE_INVALID
    assert "hun" not in error.render()
    assert not target.exists()


def test_a_download_that_is_stopped_does_not_wait_for_its_next_attempt(server: ScriptedServer, target: Path) -> None:
    stopped = threading.Event()
    log: list[str] = []

    def note(text: str) -> None:
        log.append(text)
        stopped.set()

    server.script = lambda asked: Answer(503, {"Retry-After": "60"})
    with pytest.raises(ImagewrightError) as caught:
        download(f"http://{server.host}/a", str(target), "", HttpOptions(note, stopped=stopped))
    assert caught.value.reason is Reason.CANCELLED
    assert log == [f"cannot fetch http://{server.host}/a: status 503; retrying in 60.0 s"]
    assert len(server.asked) == 1
