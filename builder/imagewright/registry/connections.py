"""Connections with registries: TLS, proxies, keep-alive, and whether a host speaks HTTPS.

Talks to the network through ``requests``. Called by ``registry.transport``.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

from imagewright.errors import Reason, RegistryError
from imagewright.http.session import BROKEN, HttpsPool, TlsAdapter, WebAdapter, new_session
from imagewright.registry.endpoints import Endpoint, is_loopback
from imagewright.registry.failures import not_tls

_CONNECT_S = 10.0
_SILENCE_S = 60.0  # without a byte
# A registry may store and hash a large blob before it answers.
_SILENCE_AFTER_UPLOAD_S = 600.0
_CONNECTIONS_PER_HOST = 32  # kept open; more than there are threads
_REST_BYTES = 16384
_REST_S = 5.0
_NO_PROXY = {"no_proxy": "localhost,127.0.0.0/8,::1"}


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request as it goes out."""

    method: str
    url: str
    headers: Mapping[str, str]
    query: tuple[tuple[str, str], ...] = ()
    body: Any = None


def finish(response: requests.Response) -> None:
    """Done with an answer: what little is left of it is read, so that its connection can be used again."""
    deadline, left = time.monotonic() + _REST_S, _REST_BYTES
    try:
        while left > 0 and time.monotonic() < deadline and (data := response.raw.read1(left)):
            left -= len(data)
    except BROKEN:
        pass
    finally:
        response.close()


class Connections:
    """Keeps connections open and shares them between threads."""

    def __init__(self, user_agent: str) -> None:
        self._user_agent = user_agent
        self._sessions: dict[tuple[bool, str, str, str], requests.Session] = {}
        self._schemes: dict[str, str] = {}  # by host: what it answers
        self._lock = threading.Lock()

    def request(self, endpoint: Endpoint, call: Call) -> requests.Response:
        """Send one request; redirects are not followed and the body is not read.

        Raises:
            requests.RequestException, OSError: as ``session.BROKEN``.
            RegistryError: the endpoint's CA file can't be read.
        """
        host = call.url.partition("://")[2].partition("/")[0]
        silence = _SILENCE_AFTER_UPLOAD_S if call.body is not None else _SILENCE_S
        return self._session(endpoint).request(
            call.method,
            call.url,
            params=list(call.query) or None,
            headers={"Accept-Encoding": "identity", **call.headers},
            data=call.body,
            stream=True,
            allow_redirects=False,
            timeout=(_CONNECT_S, silence),
            proxies=dict(_NO_PROXY) if is_loopback(host) else None,
            verify=not endpoint.skip_tls_verify,
        )

    def scheme(self, endpoint: Endpoint) -> str:
        """https; http only where that is allowed and HTTPS is not answered.

        Raises:
            as ``request``, when neither is answered.
        """
        if not endpoint.plain_http:
            return "https"
        known = self._schemes.get(endpoint.host)
        if known is None:
            known = self._probe(endpoint)
            self._schemes[endpoint.host] = known
        return known

    def _probe(self, endpoint: Endpoint) -> str:
        try:
            finish(self.request(endpoint, Call("GET", f"https://{endpoint.host}/v2/", {})))
        except BROKEN as error:
            if isinstance(error, requests.exceptions.SSLError) and not not_tls(error):
                raise  # TLS is spoken, and something is wrong with it: going on without is not what was allowed
            # An answer is asked for, so that a registry which is just down is not taken for one without TLS.
            finish(self.request(endpoint, Call("GET", f"http://{endpoint.host}/v2/", {})))
            return "http"
        return "https"

    def _session(self, endpoint: Endpoint) -> requests.Session:
        key = (endpoint.skip_tls_verify, endpoint.ca_file, endpoint.client_cert_file, endpoint.client_key_file)
        with self._lock:
            if key not in self._sessions:
                self._sessions[key] = self._new_session(endpoint)
            return self._sessions[key]

    def _new_session(self, endpoint: Endpoint) -> requests.Session:
        kind = _UnverifiedAdapter if endpoint.skip_tls_verify else TlsAdapter
        adapter = kind(_context(endpoint), pool_maxsize=_CONNECTIONS_PER_HOST)
        session = new_session(self._user_agent, adapter)
        session.mount("http://", WebAdapter(pool_maxsize=_CONNECTIONS_PER_HOST))
        return session


class _UnverifiedPool(HttpsPool):
    """Connections that the user wants unverified: said once in a setting, it needs no warning at every request."""

    def _validate_conn(self, conn: Any) -> None:
        if conn.is_closed:
            conn.connect()


class _UnverifiedAdapter(TlsAdapter):
    https_pool = _UnverifiedPool


def _context(endpoint: Endpoint) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        if endpoint.ca_file:
            context.load_verify_locations(endpoint.ca_file)
    except (OSError, ssl.SSLError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RegistryError(
            f"the CA certificate {endpoint.ca_file} for {endpoint.host} can't be read: {why}",
            hint="It must be a file with certificates in PEM form.",
        ) from error
    if endpoint.client_cert_file:
        _show_certificate(context, endpoint)
    if endpoint.skip_tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _show_certificate(context: ssl.SSLContext, endpoint: Endpoint) -> None:
    """Our own certificate, for a registry that asks for one (mutual TLS)."""
    certificate, key = endpoint.client_cert_file, endpoint.client_key_file
    hint = "Both must be PEM files: the certificate with those above it, and its key without a passphrase."
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except (OSError, ssl.SSLError, ValueError) as error:
        if isinstance(error, ssl.SSLError) and "KEY_VALUES_MISMATCH" in str(error):
            why = "the key is of another certificate"
        elif isinstance(error, ValueError):
            why = str(error)
        else:
            why = error.strerror or str(error)
        raise RegistryError(
            f"the client certificate {certificate} for {endpoint.host}, with the key {key}, can't be used: {why}",
            reason=Reason.REGISTRY_AUTH_FAILED,
            hint=hint,
        ) from error


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase")
