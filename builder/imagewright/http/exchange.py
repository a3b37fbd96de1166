"""One HTTP exchange: TLS settings, proxies, redirects. A login stays with the origin that it is for.

Talks to the network. Keeps connections open and shares them between threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import field, replace
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urljoin

import requests

from imagewright.http.body import finish
from imagewright.http.failures import TlsFileError, clean
from imagewright.http.session import Tls, new_session
from imagewright.logins import shown_url
from imagewright.records import dataclass
from imagewright.urls import Origin, is_loopback, origin, parse_url

_CONNECT_S = 10.0
_SILENCE_S = 60.0  # without a byte
_SILENCE_AFTER_UPLOAD_S = 600.0  # a registry may store and hash a large blob before it answers
_MAX_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NO_PROXY = {"no_proxy": "*"}


class Body(Protocol):
    """A request's body of known length."""

    def __len__(self) -> int: ...

    def read(self, size: int = -1, /) -> bytes: ...


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
        self._sessions: dict[Tls, tuple[object, requests.Session]] = {}  # with the version of the files
        self._opened: list[requests.Session] = []
        self._lock = threading.Lock()
        self._may_read: Callable[[str], bool] = _any_file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for session in self._opened:
            session.close()

    def hold(self, certificates: Iterable[Tls], mounted: Callable[[str], bool]) -> None:
        """Read these certificates now. Afterwards only those whose files are all ``mounted`` are read again."""
        for tls in certificates:
            with suppress(TlsFileError):  # and again where they are needed
                self._session(tls)
        self._may_read = mounted

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
                proxies=dict(_NO_PROXY) if is_loopback(origin(request.url)[1]) else None,
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
        version = tls.version
        with self._lock:
            known = self._sessions.get(tls)
            if known is not None and (known[0] == version or not all(map(self._may_read, tls.files))):
                return known[1]
            try:
                session = new_session(self._user_agent, tls)
            except TlsFileError:
                if known is None:
                    raise
                return known[1]  # of a certificate and its key, one may not be replaced yet
            self._sessions[tls] = version, session
            self._opened.append(session)
            return session


def _any_file(path: str) -> bool:
    return True


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
        source, target = parse_url(response.url), parse_url(urljoin(response.url, written))
    except ValueError as error:
        raise RedirectError(f'"{clean(shown_url(written))}" is not a valid address: {error}') from None
    if source.scheme == "https" and target.scheme == "http":
        if target.netloc == source.netloc:
            return str(replace(target, scheme="https"))
        if not plain_http:
            raise RedirectError(f'"{clean(shown_url(str(target)))}" is not HTTPS', plain_http=True)
    return str(target)
