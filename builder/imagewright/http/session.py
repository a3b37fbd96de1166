"""HTTP sessions that send nothing of this machine's own and trust whom they are told to, and what their failures say.

Makes sessions; who uses them talks to the network. Used by ``registry`` and ``context``, which know nothing of each other.
"""

from __future__ import annotations

import http.client
import ssl
import time
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

# What a connection can end with.
BROKEN = (requests.RequestException, HTTPError, OSError)
SLOW_BYTES, SLOW_S = 60_000, 60.0  # as git's http.lowSpeedLimit: what sends less has stopped
_MAX_HEADER_LINES = 500  # http.client takes 100 headers an answer; some answers have others before them
_HEADERS_S = 120.0  # from the first byte to the last


class TooSlow(TimeoutError):
    """An answer comes so slowly that it would never end."""


class Pace:
    """Reads what there is of an answer, and sees that it comes fast enough: who sends a byte now and then never is silent, and
    never ends. Only the time that is waited counts, not what the reader takes between two reads."""

    def __init__(self, response: requests.Response, *, decode: bool) -> None:
        self._raw: Any = response.raw
        self._decode = decode
        self._waited_s = 0.0
        self._bytes = 0

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, b"" at the end.

        Raises:
            TooSlow: less than SLOW_BYTES came in SLOW_S seconds. And whatever else BROKEN names.
        """
        begin = time.monotonic()
        data: bytes = self._raw.read1(size, decode_content=self._decode) or b""
        self._waited_s += time.monotonic() - begin
        self._bytes += len(data)
        if self._waited_s >= SLOW_S:
            if data and self._bytes < SLOW_BYTES:
                raise TooSlow(f"less than {SLOW_BYTES} bytes came in {SLOW_S:g} seconds")
            self._waited_s, self._bytes = 0.0, 0
        return data


class _WholeHeaders(http.client.HTTPResponse):
    """An answer whose headers are all there. Python takes a connection's end among them for the end of the headers, and what
    is missing for what was not sent; and it reads "100 Continue" for as long as that comes."""

    def begin(self) -> None:
        lines: Any = _Lines(self.fp)
        self.fp = lines
        super().begin()
        if lines.last not in (b"\r\n", b"\n"):
            raise http.client.HTTPException("the answer ended among its headers")
        if self.fp is not None:  # closed already where there is no body
            self.fp = lines.stream


class _Lines:
    """Lines of a stream, a bounded number of them and in bounded time; remembers the last."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.last = b""
        self._count = 0
        self._deadline = 0.0

    def readline(self, limit: int = -1) -> bytes:
        self._count += 1
        if self._count > _MAX_HEADER_LINES:
            raise http.client.HTTPException("the answer's headers don't end")
        line = b""
        while not line.endswith(b"\n") and (limit < 0 or len(line) < limit):
            # What has arrived, and no more: inside one long readline() nobody could look at the clock.
            ready = self.stream.peek(1)
            if not ready:
                break
            now = time.monotonic()
            self._deadline = self._deadline or now + _HEADERS_S
            if now > self._deadline:
                raise TooSlow(f"the answer's headers take more than {_HEADERS_S:g} seconds")
            end = ready.find(b"\n") + 1
            wanted = end or len(ready)
            line += self.stream.read(wanted if limit < 0 else min(wanted, limit - len(line)))
        self.last = line
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _HttpConnection(HTTPConnection):
    response_class = _WholeHeaders


class _HttpsConnection(HTTPSConnection):
    response_class = _WholeHeaders

    def send(self, data: Any) -> None:
        """What the other side said before it hung up (that it wants a certificate, say) tells more than that it did."""
        try:
            super().send(data)
        except (ssl.SSLEOFError, ConnectionResetError) as error:
            try:
                if self.sock is not None:
                    self.sock.recv(1)
            except ssl.SSLError as alert:
                raise alert from None
            except OSError:
                pass
            raise error


class HttpPool(HTTPConnectionPool):
    """Connections without TLS."""

    ConnectionCls = _HttpConnection


class HttpsPool(HTTPSConnectionPool):
    """Connections with TLS."""

    ConnectionCls = _HttpsConnection


class WebAdapter(HTTPAdapter):
    """Connections whose answers are whole or fail."""

    https_pool: type[HttpsPool] = HttpsPool

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._use_pools(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        self._use_pools(manager)
        return manager

    def _use_pools(self, manager: Any) -> None:
        manager.pool_classes_by_scheme = {"http": HttpPool, "https": self.https_pool}


class TlsAdapter(WebAdapter):
    """TLS with a context of our own, not with the certificates that come with requests."""

    def __init__(self, context: ssl.SSLContext, **pools: Any) -> None:
        self.context = context
        super().__init__(**pools)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self.context, **kwargs)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        return super().proxy_manager_for(*args, ssl_context=self.context, **kwargs)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        conn.cert_reqs = "CERT_REQUIRED" if verify else "CERT_NONE"


def new_session(user_agent: str, adapter: TlsAdapter) -> requests.Session:
    """A session without .netrc and cookies. Each request says by ``verify`` whether the other side must prove who it is."""
    session = _Session()
    session.headers["User-Agent"] = user_agent
    session.auth = _no_netrc
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.mount("https://", adapter)
    session.mount("http://", WebAdapter())
    return session


def certificate_fault(error: BaseException) -> str:
    """Why a certificate was refused, as OpenSSL says it; ``""`` where it says nothing."""
    _, _, rest = str(error).partition("certificate verify failed: ")
    return rest.partition(" (_ssl.c")[0]


def root_cause(error: BaseException) -> BaseException:
    """The first of the failures that led to this one."""
    for _ in range(8):
        following = error.__cause__ or error.__context__
        if following is None:
            break
        error = following
    return error


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: even where it is to follow no redirect, requests would parse where one leads, and fail in its own words."""
        return None

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Proxies come from the environment; whom to trust does not (REQUESTS_CA_BUNDLE): the request says that."""
        return super().merge_environment_settings(url, proxies, stream, verify, cert) | {"verify": verify}


def _no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Without an ``auth``, requests would send what ~/.netrc holds for the host."""
    return request
