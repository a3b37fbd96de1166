"""A file at an http or https address, for ADD: streamed to disk, counted, hashed, and never trusted.

Talks to the network and writes one file. Called by ``engine.remote``. Nothing of this machine's logins goes out (no
.netrc, no cookies); what a build is given for a host goes to that host alone. Where a server may lead to is not looked at:
a RUN of the same Dockerfile reaches the same network, and a network policy is what bounds both.
"""

from __future__ import annotations

import base64
import hashlib
import os
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit

import requests

from imagewright.context.git.address import without_login
from imagewright.errors import ImagewrightError, Reason, SourceError
from imagewright.http.session import BROKEN, Pace, TlsAdapter, TooSlow, certificate_fault, new_session, root_cause

_USER_AGENT = "imagewright"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 10
_MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONNECT_S, _SILENCE_S = 10.0, 60.0
_MAX_WAIT_S = 60.0
_CHUNK = 1 << 20
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """``authorization`` gives what is sent to a host name as ``Authorization``, ``""`` for nothing.

    ``retry_delays_s`` are the seconds before each further attempt. ``stopped`` ends a download early. ``ca_file`` is
    trusted beside the system's certificates; without ``verify`` any certificate is accepted. ``login_hint`` tells who is
    refused how to give a login, ``checksum_option`` is what says the checksum.
    """

    log: Callable[[str], None]
    authorization: Callable[[str], str] = field(default=lambda host: "", repr=False)
    retry_delays_s: tuple[float, ...] = (1.0, 4.0)
    max_bytes: int = 64 << 30
    stopped: threading.Event = field(default_factory=threading.Event)
    ca_file: str = ""
    verify: bool = True
    login_hint: str = ""
    checksum_option: str = "--checksum"


@dataclass(frozen=True, slots=True)
class Downloaded:
    """``digest`` is ``sha256:…`` of the file; its time is the server's Last-Modified, or 1970."""

    size: int
    digest: str


class _Again(SourceError):
    """A failure that may pass. ``wait_s`` is what the server asks for."""

    wait_s = 0.0


def download(url: str, path: str, checksum: str, options: HttpOptions) -> Downloaded:
    """Write what is at ``url`` into the new file ``path``, of mode 0600; ``checksum`` is ``sha256:…`` or ``""``.

    Raises:
        SourceError: reasons ``FileNotFound``, ``SourceUnreachable``, ``SourceCertificateUntrusted``, ``LimitExceeded``,
            ``SourceFetchFailed`` (a refusal, another checksum), ``DiskFull``.
    """
    shown = _shown(url)
    for attempt in range(len(options.retry_delays_s) + 1):
        try:
            done = _attempt(url, path, options, pinned=bool(checksum))
            break
        except _Again as error:
            if attempt == len(options.retry_delays_s):
                raise SourceError(error.message, reason=error.reason, hint=error.hint) from error
            delay_s = max(options.retry_delays_s[attempt], min(_MAX_WAIT_S, error.wait_s))
            options.log(f"{error.message}: trying again in {delay_s:g} s")
            options.stopped.wait(delay_s)
    if checksum and done.digest != checksum:
        os.unlink(path)
        raise SourceError(
            f"{shown} is not what {options.checksum_option} says: it has {done.digest}, not {checksum}",
            hint="Find out why the file changed before you write the new checksum.",
        )
    return done


def _attempt(url: str, path: str, options: HttpOptions, *, pinned: bool) -> Downloaded:
    with new_session(_USER_AGENT, TlsAdapter(_trust(options))) as session:
        try:
            response = _follow(session, url, options, pinned=pinned)
            with response:
                return _save(response, path, options)
        except BROKEN as error:
            if isinstance(error, OSError) and not isinstance(error, requests.RequestException) and error.filename:
                raise  # of this machine's disk
            raise _unreachable(url, error, options.checksum_option) from error


def _trust(options: HttpOptions) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if options.ca_file:
        try:
            context.load_verify_locations(options.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise SourceError(
                f"the CA certificate {options.ca_file} can't be read: {getattr(error, 'strerror', None) or error}",
                hint="It must be a file with certificates in PEM form.",
            ) from error
    if not options.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _follow(session: requests.Session, url: str, options: HttpOptions, *, pinned: bool) -> requests.Response:
    """Ask for ``url`` and where it leads to; the login goes to the server that was written alone, whoever leads back to it
    from elsewhere or away from it."""
    first = urlsplit(url)
    login = _written_login(first) or options.authorization(first.hostname or "")
    url = _bare(first)
    for _ in range(_MAX_REDIRECTS + 1):
        parts = urlsplit(url)
        headers = {"Accept-Encoding": "identity"}
        if login and _origin(parts) == _origin(first):
            headers["Authorization"] = login
        response = session.get(
            url,
            headers=headers,
            stream=True,
            allow_redirects=False,
            timeout=(_CONNECT_S, _SILENCE_S),
            verify=options.verify,
            proxies={"no_proxy": "*"} if parts.hostname in _LOOPBACK else None,
        )
        if response.status_code not in _REDIRECTS:
            if not 200 <= response.status_code < 300:
                raise _refused(url, response, options, logged_in="Authorization" in headers)
            return response
        location = response.headers.get("Location", "")
        response.close()
        url = _next(url, location, "" if pinned else options.checksum_option)
    raise SourceError(f"{_shown(url)} redirects more than {_MAX_REDIRECTS} times", hint="Name the file itself.")


def _next(url: str, location: str, checksum_option: str) -> str:
    """Where a redirect leads; ``checksum_option`` is what would pin the file, ``""`` where something does.

    Raises:
        SourceError: to no address, or out of encryption where nothing else says what the file must be.
    """
    try:
        target = urlsplit(urljoin(url, location))
        target.port  # noqa: B018 -- raises for a port that is none
    except ValueError:
        target = urlsplit("")
    if not location or target.scheme not in ("http", "https") or not target.hostname:
        where = "".join(c if c.isprintable() else " " for c in _shown(location))[:200]
        raise SourceError(
            f"{_shown(url)} redirects to {where!r}, which is no http or https address", hint="Name the file itself."
        )
    if target.scheme == "http" and url.startswith("https:") and checksum_option:
        raise SourceError(
            f"{_shown(url)} redirects to {_shown(_bare(target))[:200]}, out of encryption",
            hint=f"Give {checksum_option}: then it doesn't matter who sends the file. Or write the http address yourself.",
        )
    return _bare(target)


def _save(response: requests.Response, path: str, options: HttpOptions) -> Downloaded:
    hasher = hashlib.sha256()
    size, pace = 0, Pace(response, decode=True)
    shown = _shown(response.url)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        # Decoded, as Go's client does it: the file is what was encoded, not the encoding of one transfer.
        while chunk := _read(pace, shown):
            hasher.update(chunk)
            size += len(chunk)
            if size > options.max_bytes:
                raise SourceError(f"{shown} is larger than {options.max_bytes} bytes", reason=Reason.LIMIT_EXCEEDED)
            _write(file, chunk, path)
            if options.stopped.is_set():
                raise ImagewrightError(f"fetching {shown} was stopped", reason=Reason.CANCELLED)
        os.fchmod(file.fileno(), 0o600)
    modified_s = _modified_s(response.headers.get("Last-Modified", ""))
    os.utime(path, (modified_s, modified_s))
    return Downloaded(size, f"sha256:{hasher.hexdigest()}")


def _read(pace: Pace, shown: str) -> bytes:
    try:
        return pace.read(_CHUNK)
    except TooSlow as error:
        raise _again(f"{shown} sends too slowly: {error}", "The network or the server is in trouble.") from None


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


# --- failures


def _again(message: str, hint: str, wait_s: float = 0.0) -> _Again:
    error = _Again(message, reason=Reason.SOURCE_UNREACHABLE, hint=hint)
    error.wait_s = wait_s
    return error


def _refused(url: str, response: requests.Response, options: HttpOptions, *, logged_in: bool) -> SourceError:
    status = response.status_code
    wait = response.headers.get("Retry-After", "")
    response.close()
    host = urlsplit(url).hostname
    message = f"{_shown(url)} can't be fetched: the server answers with status {status}"
    if status in _MAY_PASS:
        return _again(message, "The server is in trouble, or limits the rate: try again later.", _seconds(wait))
    if status in (404, 410):
        return SourceError(f"{message}: there is no such file", reason=Reason.FILE_NOT_FOUND, hint="Check the address.")
    if status in (401, 403, 407):
        hint = f"Give a token with --secret id=HTTP_AUTH_TOKEN_{host},src=FILE (ImageBuild: spec.secrets)."
        advice = "Check the login's rights." if logged_in else options.login_hint or hint
        return SourceError(message, reason=Reason.SOURCE_AUTH_FAILED, hint=advice)
    return SourceError(message, hint="Check the address; a browser or curl shows what the server says.")


def _unreachable(url: str, error: BaseException, checksum_option: str) -> SourceError:
    shown, said = _shown(url), str(error)
    if "CERTIFICATE_VERIFY_FAILED" in said:
        why = certificate_fault(error) or "it is not trusted"
        return SourceError(
            f"{shown}: the server's certificate can't be verified: {why[:200]}",
            reason=Reason.SOURCE_CERTIFICATE_UNTRUSTED,
            hint=f"Give the CA that signed it by SSL_CERT_FILE; {checksum_option} doesn't replace it.",
        )
    if isinstance(error, requests.RequestException) and isinstance(error, ValueError):
        return SourceError(f"{shown} is no address that can be asked for", reason=Reason.USAGE_INVALID)
    if isinstance(error, requests.exceptions.SSLError):
        return SourceError(
            f"{shown}: no encrypted connection can be made", hint="Is it a server without TLS? Then write http://."
        )
    if isinstance(error, requests.exceptions.Timeout) or "timed out" in said:
        why = "no answer in time"
    elif "IncompleteRead" in said:
        why = "the connection broke before the file's end"
    else:
        why = _root_cause(error)
    return _again(f"{shown} can't be fetched: {why}", "Check the address, the network policy and the proxy.")


def _root_cause(error: BaseException) -> str:
    error = root_cause(error)
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return "".join(c if c.isprintable() else " " for c in text)[:200]


def _seconds(retry_after: str) -> float:
    """Retry-After, a number or a date (RFC 9110, 10.2.3); 0 for anything else."""
    if retry_after.isascii() and retry_after.isdecimal():
        return float(retry_after)
    return max(0.0, _modified_s(retry_after) - time.time())


# --- addresses


def _written_login(parts: SplitResult) -> str:
    """What an address with ``user:password@`` has sent, as Go's client does it (RFC 7617)."""
    if "@" not in parts.netloc:
        return ""
    return basic(unquote(parts.username or ""), unquote(parts.password or ""))


def basic(username: str, password: str) -> str:
    """What goes out as ``Authorization`` for a user (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode("utf-8", "surrogateescape")).decode()


def _bare(parts: SplitResult) -> str:
    """Without login and fragment."""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query, ""))


def _shown(url: str) -> str:
    """An address for messages: a query may be a signature that opens the file, as in what download pages redirect to."""
    return without_login(url).partition("?")[0]


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
