"""Downloads a file by http or https, for ADD and for contexts: streamed to disk, counted, hashed, never trusted.

Talks to the network and writes one file. No login of this machine is sent (no .netrc, no cookies); a login that a build
has for a host goes to that host alone. Where a server redirects to is not restricted: a RUN of the same Dockerfile
reaches the same network, and a network policy is what limits both.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import field
from email.utils import parsedate_to_datetime
from typing import Any

import requests

from imagewright.errors import ImagewrightError, Reason, SourceError
from imagewright.http.body import RANGE_NOT_SATISFIABLE, Interrupted, Restarted, ResumingReader, WrongRange
from imagewright.http.exchange import Authorization, HttpClient, HttpRequest, RedirectError
from imagewright.http.failures import BROKEN, FailureKind, TlsFileError, classify
from imagewright.http.retry import RetryPolicy, StatusRefusal, with_retries
from imagewright.http.session import Tls
from imagewright.logins import shown_url
from imagewright.records import dataclass
from imagewright.urls import Url, origin, parse_url

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """``authorization`` returns the ``Authorization`` header for a host name, ``""`` for none.

    ``stopped`` ends a download early. ``login_hint`` tells users who are refused how to give a login,
    ``checksum_option`` names the option for the checksum.
    """

    log: Callable[[str], None]
    authorization: Callable[[str], str] = field(default=lambda host: "", repr=False)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    max_bytes: int = 64 << 30
    stopped: threading.Event = field(default_factory=threading.Event)
    tls: Tls = field(default_factory=Tls)
    login_hint: str = ""
    checksum_option: str = "--checksum"


@dataclass(frozen=True, slots=True)
class Downloaded:
    """``digest`` is ``sha256:…`` of the file; its modification time is the server's Last-Modified, or 1970."""

    size: int
    digest: str


def download(url: str, path: str, checksum: str, options: HttpOptions) -> Downloaded:
    """Write what is at ``url`` into the new file ``path``, of mode 0600; ``checksum`` is ``sha256:…`` or ``""``.

    Raises:
        SourceError: reasons ``FileNotFound``, ``SourceUnreachable``, ``SourceCertificateUntrusted``, ``LimitExceeded``,
            ``SourceFetchFailed`` (a refusal, another checksum), ``DiskFull``.
    """
    with HttpClient() as client:
        source = _Source(client, url, options, pinned=bool(checksum))
        done = _save(source, path, options)
    if checksum and done.digest != checksum:
        os.unlink(path)
        raise SourceError(
            f"{source.shown} does not match {options.checksum_option}: it has {done.digest}, not {checksum}",
            hint="Find out why the file changed before you write the new checksum.",
        )
    return done


class _Source:
    """A file at an address (``http.body.Source``); its login goes to the origin of that address alone."""

    def __init__(self, client: HttpClient, url: str, options: HttpOptions, *, pinned: bool) -> None:
        try:
            parts = parse_url(url)
        except ValueError as error:
            raise SourceError(
                f'invalid address "{shown_url(url)}": {error}',
                reason=Reason.USAGE_INVALID,
                hint="Use https://host/path.",
            ) from error
        login = _written_login(parts) or options.authorization(parts.host.strip("[]"))
        self._client = client
        self._options = options
        self._pinned = pinned
        self._url = str(parts)
        self._authorization = Authorization(login, parts.origin)
        self.shown = shown_url(url)

    def open(self, position: int, etag: str) -> requests.Response:
        headers = {"Range": f"bytes={position}-", "If-Range": etag} if position else {}
        request = HttpRequest("GET", self._url, headers)

        def attempt() -> requests.Response:
            response = self._client.follow(request, self._options.tls, self._authorization, plain_http=self._pinned)
            if 200 <= response.status_code < 300 or (position and response.status_code == RANGE_NOT_SATISFIABLE):
                return response
            response.close()
            raise StatusRefusal(response)

        try:
            return with_retries(attempt, self._options.retry, idempotent=True, wait=self.wait)
        except StatusRefusal as error:
            raise self._refused(error) from error
        except RedirectError as error:
            option = self._options.checksum_option
            hint = f"Pin the file with {option}, or use the http address itself." if error.plain_http else ""
            raise SourceError(
                f"cannot fetch {self.shown}: invalid redirect: {error}",
                hint=hint or "Use the address of the file itself.",
            ) from error
        except TlsFileError as error:
            raise SourceError(
                f"cannot fetch {self.shown}: {error}", hint="Give a file with certificates in PEM form."
            ) from error
        except BROKEN as error:
            raise self._unreachable(error) from error

    def switch(self) -> bool:
        return False

    def wait(self, seconds: float, error: BaseException) -> None:
        """Before the next attempt; ``stopped`` ends it early."""
        why = error if isinstance(error, StatusRefusal) else classify(error).why
        self._options.log(f"cannot fetch {self.shown}: {why}; retrying in {seconds:.1f} s")
        self._options.stopped.wait(seconds)
        self.check_stopped()

    def check_stopped(self) -> None:
        if self._options.stopped.is_set():
            raise ImagewrightError(f"the download of {self.shown} was stopped", reason=Reason.CANCELLED)

    def read(self, reader: ResumingReader, size: int) -> bytes:
        """What ``reader`` reads of this source.

        Raises:
            Restarted, SourceError
        """
        try:
            return reader.read(size)
        except Interrupted as error:
            raise self._interrupted(str(error)) from error
        except WrongRange as error:
            hint = "Report it to the operator of the server."
            raise SourceError(f"cannot fetch {self.shown}: {error}", hint=hint) from error

    def _interrupted(self, why: str) -> SourceError:
        hint = "Check the address, the network policy and the proxy."
        return SourceError(f"cannot fetch {self.shown}: {why}", reason=Reason.SOURCE_UNREACHABLE, hint=hint)

    def _refused(self, refusal: StatusRefusal) -> SourceError:
        status, host = refusal.status, origin(refusal.url)[1].strip("[]")
        by = f" from {host}" if host and origin(refusal.url) != origin(self._url) else ""
        message = f"cannot fetch {self.shown}: status {status}{by}"
        if status in (404, 410):
            return SourceError(f"{message}: no such file", reason=Reason.FILE_NOT_FOUND, hint="Check the address.")
        if status in (401, 403, 407):
            hint = f"Give a token with --secret id=HTTP_AUTH_TOKEN_{host},src=FILE (ImageBuild: spec.secrets)."
            if self._authorization.headers(refusal.url):
                hint = "Check that the login is valid for this file."
            elif self._options.login_hint:
                hint = self._options.login_hint
            return SourceError(message, reason=Reason.SOURCE_AUTH_FAILED, hint=hint)
        if status >= 500 or status in (408, 425, 429):
            hint = "The server is in trouble or limits the rate of requests; try again later."
            return SourceError(message, reason=Reason.SOURCE_UNREACHABLE, hint=hint)
        return SourceError(message, hint="Check the address with a browser or curl.")

    def _unreachable(self, error: BaseException) -> SourceError:
        failure = classify(error)
        host = failure.host or parse_url(self._url).netloc
        match failure.kind:
            case FailureKind.UNTRUSTED_CERTIFICATE:
                return SourceError(
                    f"cannot fetch {self.shown}: cannot verify the certificate of {host}: {failure.why}",
                    reason=Reason.SOURCE_CERTIFICATE_UNTRUSTED,
                    hint=f"Give the CA that signed it in SSL_CERT_FILE; {self._options.checksum_option} does not replace it.",
                )
            case FailureKind.INVALID_HEADER:
                return SourceError(
                    f"cannot send the login to fetch {self.shown}: {failure.why}",
                    reason=Reason.SOURCE_AUTH_FAILED,
                    hint="Give the token, or the value of the header, without line breaks and without blanks around it.",
                )
            case FailureKind.INVALID_URL:
                return SourceError(f"invalid address {self.shown}: {failure.why}", reason=Reason.USAGE_INVALID)
            case FailureKind.NO_TLS:
                hint = "If the server has no TLS, use http://."
                return SourceError(f"cannot fetch {self.shown}: {host} does not speak TLS", hint=hint)
            case FailureKind.CLIENT_CERTIFICATE:
                why = f"{host} requires a client certificate"
                return SourceError(f"cannot fetch {self.shown}: {why}", hint="Use a server that does not.")
            case FailureKind.PROXY | FailureKind.NOT_CONNECTED | FailureKind.INTERRUPTED:
                return self._interrupted(failure.why)


def _save(source: _Source, path: str, options: HttpOptions) -> Downloaded:
    reader = ResumingReader(source, options.retry, decode=True, verified=False, wait=source.wait)
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            hasher = hashlib.sha256()
            while True:
                try:
                    # Decoded, as Go's client does: the file is what was encoded, not the encoding of one transfer.
                    chunk = source.read(reader, _CHUNK)
                except Restarted:
                    file.seek(0)
                    file.truncate()
                    hasher = hashlib.sha256()
                    continue
                if not chunk:
                    break
                hasher.update(chunk)
                if reader.position > options.max_bytes:
                    why = f"larger than {options.max_bytes} bytes"
                    raise SourceError(f"cannot fetch {source.shown}: {why}", reason=Reason.LIMIT_EXCEEDED)
                _write(file, chunk, path)
                source.check_stopped()
            os.fchmod(file.fileno(), 0o600)
        modified_s = _modified_s(reader.headers.get("Last-Modified", ""))
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        raise
    finally:
        reader.close()
    os.utime(path, (modified_s, modified_s))
    return Downloaded(reader.position, f"sha256:{hasher.hexdigest()}")


def _write(file: Any, chunk: bytes, path: str) -> None:
    try:
        file.write(chunk)
    except OSError as error:
        error.filename = error.filename or path
        raise


def _modified_s(text: str) -> int:
    try:
        return max(0, int(parsedate_to_datetime(text).timestamp()))
    except (ValueError, TypeError, OverflowError):
        return 0


def _written_login(url: Url) -> str:
    """The header for an address with ``user:password@``, as Go's client sends it (RFC 7617)."""
    return basic(*url.login) if url.userinfo else ""


def basic(username: str, password: str) -> str:
    """The ``Authorization`` header for a user (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode("utf-8", "surrogateescape")).decode()
