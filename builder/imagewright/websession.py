"""HTTP sessions that send nothing of this machine's own and trust whom they are told to, and what their failures say.

Makes sessions; who uses them talks to the network. Used by ``registry`` and ``context``, which know nothing of each other.
"""

from __future__ import annotations

import http.client
import ssl
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

# What a connection can end with.
BROKEN = (requests.RequestException, HTTPError, OSError)


class _WholeHeaders(http.client.HTTPResponse):
    """An answer whose headers are all there. Python takes a connection's end among them for the end of the headers, and what
    is missing for what was not sent."""

    def begin(self) -> None:
        lines: Any = _LastLine(self.fp)
        self.fp = lines
        super().begin()
        if lines.last not in (b"\r\n", b"\n"):
            raise http.client.HTTPException("the answer ended among its headers")
        if self.fp is not None:  # closed already where there is no body
            self.fp = lines.stream


class _LastLine:
    """Remembers the last line that was read of a stream."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.last = b""

    def readline(self, limit: int = -1) -> bytes:
        self.last = self.stream.readline(limit)
        return self.last

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
