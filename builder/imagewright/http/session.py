"""Connections that send nothing of this machine's own and trust only what the caller says.

Opens connections through ``requests``.
"""

from __future__ import annotations

import http.client
import os
import ssl
import time
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from imagewright.http.failures import TlsFileError, TooSlow
from imagewright.records import dataclass

_MAX_HEADER_LINES = 500  # http.client allows 100 headers per response, but does not bound interim responses
_HEADERS_S = 120.0  # from the first byte to the last
_CONNECTIONS_PER_HOST = 32  # kept open; more than there are threads


@dataclass(frozen=True, slots=True)
class Tls:
    """How a server is verified, and the client certificate for servers that require one (mutual TLS).

    ``ca_file`` is trusted in addition to the system's certificates.
    """

    verify: bool = True
    ca_file: str = ""
    client_cert_file: str = ""
    client_key_file: str = ""

    @property
    def version(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Another one when a file has been replaced or rewritten: certificates are renewed while a build runs."""
        return tuple(_file_version(path) for path in self.files)

    @property
    def files(self) -> tuple[str, ...]:
        """Their paths."""
        return tuple(filter(None, (self.ca_file, self.client_cert_file, self.client_key_file)))


def _file_version(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


class _WholeHeaders(http.client.HTTPResponse):
    """A response with complete headers.

    Python treats a connection that closes among the headers as the end of the headers, and reads "100 Continue" without
    limit.
    """

    def begin(self) -> None:
        lines: Any = _Lines(self.fp)
        self.fp = lines
        super().begin()
        if lines.last not in (b"\r\n", b"\n"):
            raise http.client.HTTPException("the connection closed among the response headers")
        if self.fp is not None:  # closed already where there is no body
            self.fp = lines.stream


class _Lines:
    """Reads a bounded number of header lines in bounded time; remembers the last."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.last = b""
        self._count = 0
        self._deadline = 0.0

    def readline(self, limit: int = -1) -> bytes:
        self._count += 1
        if self._count > _MAX_HEADER_LINES:
            raise http.client.HTTPException(f"the response has more than {_MAX_HEADER_LINES} header lines")
        line = b""
        while not line.endswith(b"\n") and (limit < 0 or len(line) < limit):
            # Only what has arrived: one long readline() could not check the deadline.
            ready = self.stream.peek(1)
            if not ready:
                break
            now = time.monotonic()
            self._deadline = self._deadline or now + _HEADERS_S
            if now > self._deadline:
                raise TooSlow(f"the response headers took longer than {_HEADERS_S:g} seconds")
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
        """Report the TLS alert that the server sent before it closed the connection (certificate required, say)."""
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


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


class _UnverifiedPool(_HttpsPool):
    """Without the warning at every request: the user has turned verification off once and for all."""

    def _validate_conn(self, conn: Any) -> None:
        if conn.is_closed:
            conn.connect()


class _Adapter(HTTPAdapter):
    """Connections with complete headers, and TLS by a context of our own, without requests' bundled certificates."""

    def __init__(self, context: ssl.SSLContext, *, verify: bool) -> None:
        self._context = context
        self._https_pool = _HttpsPool if verify else _UnverifiedPool
        super().__init__(pool_maxsize=_CONNECTIONS_PER_HOST)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
        self._use_pools(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, ssl_context=self._context, **kwargs)
        self._use_pools(manager)
        return manager

    def _use_pools(self, manager: Any) -> None:
        manager.pool_classes_by_scheme = {"http": _HttpPool, "https": self._https_pool}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        conn.cert_reqs = "CERT_REQUIRED" if verify else "CERT_NONE"


def new_session(user_agent: str, tls: Tls) -> requests.Session:
    """A session without .netrc and cookies.

    Raises:
        TlsFileError: a certificate file cannot be used.
    """
    session = _Session()
    session.headers["User-Agent"] = user_agent
    session.auth = _no_netrc
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = _Adapter(_tls_context(tls), verify=tls.verify)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: requests parses the target even of redirects that it must not follow, with an error of its own."""
        return None

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Take proxies from the environment, but not certificates (REQUESTS_CA_BUNDLE)."""
        if proxies:  # without any proxy: requests would say so in the environment, which all threads share
            return {"proxies": {}, "stream": stream, "verify": verify, "cert": cert}
        return super().merge_environment_settings(url, proxies, stream, verify, cert) | {"verify": verify}


def _no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Sessions without an ``auth`` send the login that ~/.netrc has for the host."""
    return request


def _tls_context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if tls.ca_file:
        try:
            context.load_verify_locations(tls.ca_file)
        except (OSError, ssl.SSLError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise TlsFileError(f'cannot read the CA certificate "{tls.ca_file}": {why}') from error
    if tls.client_cert_file:
        _load_client_certificate(context, tls)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load_client_certificate(context: ssl.SSLContext, tls: Tls) -> None:
    try:
        context.load_cert_chain(tls.client_cert_file, tls.client_key_file, password=_no_passphrase)
    except (OSError, ssl.SSLError, ValueError) as error:
        if isinstance(error, ssl.SSLError) and "KEY_VALUES_MISMATCH" in str(error):
            why = "the key belongs to another certificate"
        else:
            why = str(error) if isinstance(error, ValueError) else error.strerror or str(error)
        what = f'cannot use the client certificate "{tls.client_cert_file}" with the key "{tls.client_key_file}"'
        raise TlsFileError(f"{what}: {why}", client=True) from error


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase")
