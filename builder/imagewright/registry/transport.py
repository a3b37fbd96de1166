"""HTTP with registries: connections, TLS, redirects, logins, retries. Knows nothing of images.

Talks to the network through ``requests``. Called by ``registry.client``. Every answer is bounded: by time without a
byte, by a number of redirects, by the size of what is read into memory.
"""

from __future__ import annotations

import json
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from imagewright.errors import Reason, RegistryError
from imagewright.registry.auth import TokenAnswer, TokenRequest, authorize
from imagewright.registry.credentials import Credentials
from imagewright.registry.endpoints import Endpoint, RegistryOptions, is_loopback

_TIMEOUT_S = (10.0, 60.0)  # to connect; without a byte
_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_MAX_WAIT_S = 60.0
_FAILURES = (requests.RequestException, HTTPError, OSError)


class Body(Protocol):
    """A request's body of known length."""

    def __len__(self) -> int: ...

    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Request:
    """``path`` is below ``/v2/``, or an absolute address that the registry gave. ``body`` makes a new body for each try.

    ``scopes`` are what the login must allow. ``expect`` are the statuses that are answers; others are errors.
    """

    method: str
    path: str
    scopes: tuple[str, ...]
    expect: frozenset[int]
    headers: Mapping[str, str] | None = None
    body: Callable[[], Body | bytes] | None = None
    again: bool = True  # whether it may simply be repeated


class Transport:
    """Makes requests. Safe to use from several threads: each has connections of its own."""

    def __init__(self, options: RegistryOptions, credentials: Credentials) -> None:
        self._options = options
        self._credentials = credentials
        self._local = threading.local()
        self._schemes: dict[str, str] = {}  # host -> what it answers
        self._tokens: dict[tuple[str, tuple[str, ...]], str] = {}
        self._contexts: dict[tuple[bool, str], ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def send(self, endpoint: Endpoint, repository: str, request: Request) -> requests.Response:
        """Make a request; the answer's body is not read yet.

        Raises:
            RegistryError
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                response = self._authorized(endpoint, repository, request)
            except _FAILURES as error:
                if (
                    attempt > self._options.retries
                    or not request.again
                    or isinstance(error, requests.exceptions.SSLError)
                ):
                    raise _unreachable(endpoint, error) from error
                self._wait(attempt, None)
                continue
            if response.status_code in request.expect:
                return response
            if response.status_code in _AGAIN and request.again and attempt <= self._options.retries:
                wait = response.headers.get("Retry-After")
                response.close()
                self._wait(attempt, wait)
                continue
            raise _refused(endpoint, repository, request, response)

    def read(self, response: requests.Response, limit: int) -> bytes:
        """An answer's whole body.

        Raises:
            RegistryError: when it has more than ``limit`` bytes, or is cut off.
        """
        try:
            data = bytearray()
            while chunk := response.raw.read(65536, decode_content=True):
                data += chunk
                if len(data) > limit:
                    raise RegistryError(
                        f"{response.url.partition('?')[0]} answered with more than {limit} bytes",
                        reason=Reason.REGISTRY_PROTOCOL_ERROR,
                    )
            return bytes(data)
        except _FAILURES as error:
            raise RegistryError(f"the answer of {response.url.partition('?')[0]} was cut off: {error}") from error
        finally:
            response.close()

    # --- one try

    def _authorized(self, endpoint: Endpoint, repository: str, request: Request) -> requests.Response:
        key = (endpoint.host, request.scopes)
        token = self._tokens.get(key, "")
        response = self._follow(endpoint, request, token)
        if response.status_code != 401:
            return response
        challenge = response.headers.get("WWW-Authenticate", "")
        response.close()
        login = self._credentials.find(endpoint.login_host, repository)
        steps = authorize(challenge, request.scopes, login)
        try:
            wanted = next(steps)
            while True:
                wanted = steps.send(self._token(endpoint, wanted))
        except StopIteration as done:
            token = str(done.value)
        with self._lock:
            self._tokens[key] = token
        return self._follow(endpoint, request, token)

    def _follow(self, endpoint: Endpoint, request: Request, token: str) -> requests.Response:
        """Make the request and follow redirects; the login goes to the registry's own host alone."""
        absolute = request.path.startswith(("https://", "http://"))
        url = request.path if absolute else f"{self._scheme(endpoint)}://{endpoint.host}/v2/{request.path}"
        home = self._origin(endpoint)
        for _ in range(_MAX_REDIRECTS + 1):
            headers = dict(request.headers or {})
            if token and _origin(url) == home:
                headers["Authorization"] = token
            response = self._once(endpoint, request, url, headers)
            if response.status_code not in _REDIRECTS:
                return response
            target = urljoin(url, response.headers.get("Location", ""))
            response.close()
            if urlsplit(target).scheme != "https" and not endpoint.plain_http:
                raise RegistryError(
                    f"{endpoint} redirects to {target[:200]}, which is not HTTPS",
                    reason=Reason.REGISTRY_PROTOCOL_ERROR,
                    hint="Allow it with --insecure-registry if you trust the network.",
                )
            url = target
        raise RegistryError(
            f"{endpoint} redirects more than {_MAX_REDIRECTS} times", reason=Reason.REGISTRY_PROTOCOL_ERROR
        )

    def _once(self, endpoint: Endpoint, request: Request, url: str, headers: dict[str, str]) -> requests.Response:
        headers.setdefault("Accept-Encoding", "identity")
        body: Any = request.body() if request.body else None
        return self._session(endpoint).request(
            request.method, url, headers=headers, data=body, stream=True, allow_redirects=False, timeout=_TIMEOUT_S
        )

    def _token(self, endpoint: Endpoint, request: TokenRequest) -> TokenAnswer:
        scheme, host = urlsplit(request.url)[:2]
        if scheme != "https" and not (endpoint.plain_http or is_loopback(host)):
            raise RegistryError(
                f"{endpoint} wants the login to be sent to {request.url[:200]} without encryption",
                reason=Reason.REGISTRY_AUTH_FAILED,
                hint="Allow it with --insecure-registry if you trust the network.",
            )
        response = self._session(endpoint).request(
            "GET" if request.form is None else "POST",
            request.url,
            params=list(request.query),
            data=request.form,
            headers=dict(request.headers),
            stream=True,
            allow_redirects=False,
            timeout=_TIMEOUT_S,
        )
        return TokenAnswer(response.status_code, self.read(response, 1 << 20))

    # --- connections

    def _origin(self, endpoint: Endpoint) -> tuple[str, str]:
        return _origin(f"{self._scheme(endpoint)}://{endpoint.host}/")

    def _scheme(self, endpoint: Endpoint) -> str:
        """https; http only where that is allowed and HTTPS is not answered."""
        if not endpoint.plain_http:
            return "https"
        known = self._schemes.get(endpoint.host)
        if known is None:
            known = "https"
            try:
                self._session(endpoint).get(
                    f"https://{endpoint.host}/v2/", stream=True, allow_redirects=False, timeout=_TIMEOUT_S
                ).close()
            except requests.exceptions.SSLError as error:
                # "wrong version number" and its like: no TLS is spoken there. A bad certificate is TLS.
                known = "https" if "CERTIFICATE_VERIFY_FAILED" in str(error) else "http"
            except _FAILURES:
                known = "http"
            self._schemes[endpoint.host] = known
        return known

    def _session(self, endpoint: Endpoint) -> requests.Session:
        sessions: dict[tuple[bool, str], requests.Session] = self._local.__dict__.setdefault("sessions", {})
        key = (endpoint.skip_tls_verify, endpoint.ca_file)
        if key not in sessions:
            session = requests.Session()
            session.headers["User-Agent"] = self._options.user_agent
            session.auth = _no_netrc
            session.verify = not endpoint.skip_tls_verify
            session.mount("https://", _Adapter(self._context(endpoint)))
            sessions[key] = session
        return sessions[key]

    def _context(self, endpoint: Endpoint) -> ssl.SSLContext:
        key = (endpoint.skip_tls_verify, endpoint.ca_file)
        with self._lock:
            if key not in self._contexts:
                context = ssl.create_default_context()
                try:
                    if endpoint.ca_file:
                        context.load_verify_locations(endpoint.ca_file)
                except (OSError, ssl.SSLError) as error:
                    raise RegistryError(
                        f"the CA certificate {endpoint.ca_file} for {endpoint.host} can't be read: {error}",
                        hint="It must be a file with certificates in PEM form.",
                    ) from error
                if endpoint.skip_tls_verify:
                    context.check_hostname = False
                    context.verify_mode = ssl.CERT_NONE
                self._contexts[key] = context
            return self._contexts[key]

    def _wait(self, attempt: int, retry_after: str | None) -> None:
        seconds = min(_MAX_WAIT_S, 0.25 * 2**attempt) * random.uniform(0.75, 1.25)  # noqa: S311 -- jitter, not a secret
        if retry_after:
            seconds = max(seconds, min(_MAX_WAIT_S, _retry_after(retry_after)))
        time.sleep(seconds)


class _Adapter(HTTPAdapter):
    """Connections with a TLS context of our own: the system's certificates and the registry's."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(pool_connections=8, pool_maxsize=8)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        return super().proxy_manager_for(*args, ssl_context=self._context, **kwargs)


def _no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Without an ``auth``, requests would send what ~/.netrc holds for the host."""
    return request


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    default = {"https": ":443", "http": ":80"}.get(parts.scheme, "")
    return parts.scheme, parts.netloc.lower().removesuffix(default)


def _retry_after(value: str) -> float:
    """Seconds, or a date (RFC 9110, 10.2.3)."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def _unreachable(endpoint: Endpoint, error: BaseException) -> RegistryError:
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return RegistryError(
            f"the certificate of {endpoint.host} can't be verified",
            hint="Name its CA with --registry-certificate HOST=FILE (ImageBuild: registries[].caBundleRef).",
        )
    if isinstance(error, requests.exceptions.SSLError):
        return RegistryError(
            f"{endpoint.host} does not speak TLS",
            hint="For a registry with plain HTTP use --insecure-registry HOST (ImageBuild: registries[].insecure).",
        )
    why = "no answer in time" if isinstance(error, requests.exceptions.Timeout) else _root_cause(error)
    return RegistryError(
        f"{endpoint.host} can't be reached: {why}", hint="Check the host's name, port and the network."
    )


def _root_cause(error: BaseException) -> str:
    cause: BaseException = error
    for _ in range(8):
        following = cause.__cause__ or cause.__context__
        if following is None:
            break
        cause = following
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause)[:200]


def _refused(endpoint: Endpoint, repository: str, request: Request, response: requests.Response) -> RegistryError:
    status = response.status_code
    try:
        body = response.raw.read(8192, decode_content=True) or b""
    except _FAILURES:
        body = b""
    response.close()
    said = _said(body)
    what = f"{request.method} {repository} at {endpoint.host}"
    if status in (401, 403):
        return RegistryError(
            f"{endpoint.host} does not let us {'push to' if 'push' in ''.join(request.scopes) else 'pull'} {repository}: "
            f"status {status}{said}",
            status=status,
            reason=Reason.REGISTRY_AUTH_FAILED,
            hint="Check user name, password and rights, and that the repository exists.",
        )
    if status == 429:
        return RegistryError(
            f"{endpoint.host} limits our rate{said}", status=status, hint="Log in, or try again later."
        )
    if status >= 500 or status == 408:
        return RegistryError(
            f"{what}: status {status}{said}", status=status, hint="The registry is in trouble; try again."
        )
    return RegistryError(f"{what}: status {status}{said}", status=status, reason=Reason.REGISTRY_PROTOCOL_ERROR)


def _said(body: bytes) -> str:
    """The registry's own words, as the distribution specification's error document has them."""
    try:
        first = json.loads(body)["errors"][0]
        code, message = first.get("code", ""), first.get("message", "")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    return f" ({str(code)[:60]}: {str(message)[:300]})"
