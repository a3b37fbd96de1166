"""One HTTP exchange: TLS settings, proxies, redirects. A login stays with the origin that it is for.

Talks to the network. Keeps connections open and shares them between threads.
"""

from __future__ import annotations

import ipaddress
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests

from imagewright.http.body import finish
from imagewright.http.failures import clean
from imagewright.http.session import Tls, new_session

_CONNECT_S = 10.0
_SILENCE_S = 60.0  # without a byte
_SILENCE_AFTER_UPLOAD_S = 600.0  # a registry may store and hash a large blob before it answers
_MAX_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NO_PROXY = {"no_proxy": "*"}
_DEFAULT_PORTS = {"https": 443, "http": 80}
_USERINFO = re.compile(r"//[^/]*@")


class Body(Protocol):
    """A request's body of known length."""

    def __len__(self) -> int: ...

    def read(self, size: int = -1, /) -> bytes: ...


Origin = tuple[str, str, int]  # scheme, host, port (RFC 9110, section 4.3.1)


@dataclass(frozen=True, slots=True)
class Authorization:
    """An ``Authorization`` header, ``""`` for none, and the only origin that it is sent to."""

    value: str = field(default="", repr=False)
    origin: Origin = ("", "", 0)

    def headers(self, url: str) -> dict[str, str]:
        """The header for a request to ``url``."""
        return {"Authorization": self.value} if self.value and origin(url) == self.origin else {}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """``open_body`` opens a new body each time that the request is sent: again after a login or a redirect.

    ``form`` is sent URL-encoded instead.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    query: tuple[tuple[str, str], ...] = ()
    form: Mapping[str, str] | None = None
    open_body: Callable[[], AbstractContextManager[Body | bytes]] | None = None


class RedirectError(Exception):
    """A redirect, or another ``Location``, that cannot be followed.

    ``plain_http``: only because it is not encrypted.
    """

    def __init__(self, why: str, *, plain_http: bool = False) -> None:
        super().__init__(why)
        self.plain_http = plain_http


class HttpClient:
    """Sends requests. Safe to use from several threads. A context manager, which closes all connections."""

    def __init__(self, user_agent: str = "imagewright") -> None:
        self._user_agent = user_agent
        self._sessions: dict[Tls, requests.Session] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for session in self._sessions.values():
            session.close()

    def send(self, request: HttpRequest, tls: Tls) -> requests.Response:
        """Send one request; redirects are not followed and the body of the response is not read.

        Raises:
            failures.BROKEN: there is no response.
            TlsFileError: a certificate file cannot be used.
        """
        upload = request.open_body is not None
        with request.open_body() if request.open_body else nullcontext() as body:
            data: Any = request.form if request.form is not None else body
            return self._session(tls).request(
                request.method,
                request.url,
                params=list(request.query) or None,
                headers={"Accept-Encoding": "identity", **request.headers},
                data=data,
                stream=True,
                allow_redirects=False,
                timeout=(_CONNECT_S, _SILENCE_AFTER_UPLOAD_S if upload else _SILENCE_S),
                proxies=dict(_NO_PROXY) if is_loopback(request.url.partition("://")[2].partition("/")[0]) else None,
                verify=tls.verify,
            )

    def follow(
        self, request: HttpRequest, tls: Tls, authorization: Authorization, *, plain_http: bool
    ) -> requests.Response:
        """Send a request and follow redirects. ``plain_http``: also from https to http.

        Raises:
            RedirectError, and as ``send``.
        """
        url = request.url
        for _ in range(_MAX_REDIRECTS + 1):
            headers = {**request.headers, **authorization.headers(url)}
            response = self.send(replace(request, url=url, headers=headers), tls)
            if response.status_code not in _REDIRECTS:
                return response
            finish(response)
            url = location(response, plain_http=plain_http)
            if not url:
                raise RedirectError("it does not say where to")
        raise RedirectError(f"more than {_MAX_REDIRECTS} redirects")

    def _session(self, tls: Tls) -> requests.Session:
        with self._lock:
            if tls not in self._sessions:
                self._sessions[tls] = new_session(self._user_agent, tls)
            return self._sessions[tls]


def location(response: requests.Response, *, plain_http: bool) -> str:
    """Where a response's Location leads, absolute, without login and fragment; ``""`` if it has none.

    A server that names itself with http, reached by https, does not know of the TLS in front of it: that stays https.

    Raises:
        RedirectError: not an http or https address; from https to http, unless ``plain_http`` allows that.
    """
    written = response.headers.get("Location", "")
    if not written:
        return ""
    try:
        source, target = urlsplit(response.url), urlsplit(urljoin(response.url, written))
        target.port  # noqa: B018 -- raises for an invalid port
    except ValueError:
        raise RedirectError(f'"{clean(shown_url(written))}" is not a valid address') from None
    if target.scheme not in _DEFAULT_PORTS or not target.hostname:
        raise RedirectError(f'"{clean(shown_url(urlunsplit(target)))}" is not an http or https address')
    host = target.netloc.rpartition("@")[2]
    scheme = target.scheme
    if source.scheme == "https" and scheme == "http":
        if host == source.netloc:
            scheme = "https"
        elif not plain_http:
            raise RedirectError(f'"{clean(shown_url(urlunsplit(target)))}" is not HTTPS', plain_http=True)
    return urlunsplit((scheme, host, target.path, target.query, ""))


def origin(url: str) -> Origin:
    """Scheme, host and port of a URL, to compare; an invalid URL has one of its own."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:
        return "", url, 0


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, where plain HTTP is harmless and no proxy is needed."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False  # a name, even one that begins with 127.


def shown_url(url: str) -> str:
    """A URL for messages: without its login, and without its query, which may be a signature that grants access."""
    return without_userinfo(url).partition("?")[0]


def without_userinfo(url: str) -> str:
    """A URL without its login: all before the last @ of what should be the authority, however wrong the URL is."""
    return _USERINFO.sub("//", url, count=1)
