"""HTTP with registries: redirects, logins, retries. Knows nothing of images.

Talks to the network through ``registry.connections``. Called by ``registry.pull``, ``blob``, ``push`` and ``upload``. Every answer is
bounded: by time without a byte, by a number of redirects and of tries, by the size of what is read into memory.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urljoin, urlsplit

import requests

from imagewright.errors import Reason, RegistryError
from imagewright.http.session import BROKEN, Pace
from imagewright.registry.auth import TokenAnswer, TokenRequest, authorize
from imagewright.registry.connections import Call, Connections, finish
from imagewright.registry.endpoints import Endpoint, RegistryOptions, is_loopback
from imagewright.registry.failures import (
    Refused,
    clean,
    is_lasting,
    protocol_error,
    refused,
    retry_after_s,
    unreachable,
)
from imagewright.registry.keychain import Keychain

_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAY_PASS = frozenset({408, 429, 500, 502, 503, 504})  # statuses that are worth another try
_MAX_WAIT_S = 60.0
_MAX_TOKEN_ANSWER = 1 << 20


class Body(Protocol):
    """A request's body of known length."""

    def __len__(self) -> int: ...

    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Request:
    """``path`` is below ``/v2/``, or an absolute address that the registry gave.

    ``scopes`` are what the login must allow. ``expect`` are the statuses that are answers; others are errors.
    ``body`` opens a new body for each time that the request goes out: after a login, after a redirect.
    ``again``: whether it may be repeated when it fails.
    """

    method: str
    path: str
    scopes: tuple[str, ...]
    expect: frozenset[int]
    headers: Mapping[str, str] | None = None
    body: Callable[[], AbstractContextManager[Body | bytes]] | None = None
    again: bool = True

    @property
    def pushes(self) -> bool:
        """Whether it needs the right to push."""
        return any(scope.endswith(",push") for scope in self.scopes)


class Transport:
    """Makes requests. Safe to use from several threads."""

    def __init__(self, options: RegistryOptions, keychain: Keychain) -> None:
        self._options = options
        self._keychain = keychain
        self._connections = Connections(options.user_agent)
        self._authorizations: dict[tuple[str, str, tuple[str, ...]], str] = {}
        self._lock = threading.Lock()

    @property
    def push_retries(self) -> int:
        """Further tries of an upload, beside its own."""
        return self._options.push_retries

    @property
    def pull_retries(self) -> int:
        """Further cuts that a download bears."""
        return self._options.pull_retries

    def send(self, endpoint: Endpoint, repository: str, request: Request) -> requests.Response:
        """Make a request, again after failures that may pass; the answer's body is not read yet.

        Raises:
            RegistryError
        """
        retries = self._retries(request)
        for attempt in range(1, retries + 2):
            wait = 0.0
            try:
                response = self._authorized(endpoint, repository, request)
            except BROKEN as error:
                if attempt > retries or is_lasting(error):
                    raise unreachable(endpoint, error) from error
            else:
                if response.status_code in request.expect:
                    return response
                if response.status_code not in MAY_PASS or attempt > retries:
                    raise self._refusal(endpoint, repository, request, response)
                wait = retry_after_s(response.headers.get("Retry-After", ""))
                finish(response)
            self.pause(attempt, wait)
        raise AssertionError("the last try returns or raises")

    def fetch(
        self, endpoint: Endpoint, repository: str, request: Request, limit: int
    ) -> tuple[Mapping[str, str], bytes]:
        """Make a request and read the whole answer, again when it is cut off: its headers and its body.

        Raises:
            RegistryError: also when it has more than ``limit`` bytes.
        """
        retries = self._retries(request)
        for attempt in range(1, retries + 2):
            response = self.send(endpoint, repository, request)
            try:
                return response.headers, _read(response, limit)
            except BROKEN as error:
                if attempt > retries:
                    raise RegistryError(
                        f"{endpoint.host} cuts its answer to {request.method} {request.path} off",
                        hint="The network or the registry is in trouble; try again later.",
                    ) from error
            self.pause(attempt)
        raise AssertionError("the last try returns or raises")

    def _retries(self, request: Request) -> int:
        if not request.again:
            return 0
        return self._options.retries + (self._options.push_retries if request.pushes else self._options.pull_retries)

    def pause(self, attempt: int, retry_after: float = 0.0) -> None:
        """Wait before the next try: twice as long each time, and at least as long as we were asked to (in seconds)."""
        jitter = random.uniform(0.75, 1.25)  # noqa: S311 -- no secret
        seconds = min(_MAX_WAIT_S, self._options.backoff_s * 2**attempt) * jitter
        time.sleep(max(seconds, min(_MAX_WAIT_S, retry_after)))

    def locate(self, endpoint: Endpoint, response: requests.Response) -> str:
        """Where an answer's Location leads, absolute; "" where it has none.

        Raises:
            RegistryError: it is no address, or one without encryption where that is not allowed.
        """
        location = response.headers.get("Location", "")
        if not location:
            return ""
        try:
            url = urljoin(response.url, location)
            parts = urlsplit(url)
            parts.port  # noqa: B018 -- raises for a port that is none
            home = urlsplit(response.url)
        except ValueError:
            raise protocol_error(f"{endpoint} leads to {clean(location)!r}, which is no address") from None
        if parts.scheme == "http" and home.scheme == "https" and parts.netloc == home.netloc:
            return "https" + url.removeprefix("http")  # a registry that doesn't know of the TLS before it
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise protocol_error(f"{endpoint} leads to {clean(url)!r}, which is no address")
        if parts.scheme == "http" and not endpoint.plain_http:
            raise protocol_error(
                f"{endpoint} leads to {clean(url)}, which is not HTTPS",
                "Allow it with --insecure-registry (ImageBuild: registries[].insecure) if you trust the network.",
            )
        return url

    # --- one try

    def _authorized(self, endpoint: Endpoint, repository: str, request: Request) -> requests.Response:
        key = (endpoint.host, endpoint.login_host, request.scopes)
        response = self._follow(endpoint, request, self._authorizations.get(key, ""))
        # Only the registry itself may ask for its login: a host that it leads to would get it sent to where it likes.
        if response.status_code != 401 or _origin(response.url) != self._home(endpoint):
            return response
        challenge = response.headers.get("WWW-Authenticate", "")
        finish(response)
        authorization = self._login(endpoint, repository, challenge, request.scopes)
        with self._lock:
            self._authorizations[key] = authorization
        return self._follow(endpoint, request, authorization)

    def _login(self, endpoint: Endpoint, repository: str, challenge: str, scopes: tuple[str, ...]) -> str:
        login = self._keychain.find(endpoint.login_host, endpoint.login_repository(repository))
        steps = authorize(challenge, scopes, login)
        try:
            wanted = next(steps)
            while True:
                wanted = steps.send(self._token(endpoint, wanted))
        except StopIteration as done:
            return str(done.value)
        except RegistryError as error:
            if error.reason is Reason.REGISTRY_AUTH_FAILED:
                self._say_who_was_asked(endpoint, error)
            if endpoint.host in error.message:
                raise
            words = f"{endpoint.host}/{repository}: {error.message}"  # a build may talk to several registries
            raise RegistryError(words, status=error.status, reason=error.reason, hint=error.hint) from error

    def _refusal(self, endpoint: Endpoint, repository: str, request: Request, response: requests.Response) -> Refused:
        error = refused(endpoint, f"{request.method} {repository}", request.pushes, response)
        if error.reason is Reason.REGISTRY_AUTH_FAILED:
            self._say_who_was_asked(endpoint, error)
        return error

    def _say_who_was_asked(self, endpoint: Endpoint, error: RegistryError) -> None:
        """A login may be where we couldn't get it, so that we came without one; or be one that nobody takes."""
        error.hint = " ".join(filter(None, (error.hint, *self._keychain.errors(endpoint.login_host))))

    def _follow(self, endpoint: Endpoint, request: Request, authorization: str) -> requests.Response:
        """Make the request and follow redirects; the login goes to the registry's own host alone."""
        absolute = "://" in request.path
        url = request.path if absolute else f"{self._connections.scheme(endpoint)}://{endpoint.host}/v2/{request.path}"
        home = self._home(endpoint)
        for _ in range(_MAX_REDIRECTS + 1):
            headers = dict(request.headers or {})
            if authorization and _origin(url) == home:
                headers["Authorization"] = authorization
            with request.body() if request.body else nullcontext() as body:
                response = self._connections.request(endpoint, Call(request.method, url, headers, body=body))
            if response.status_code not in _REDIRECTS:
                return response
            finish(response)
            url = self.locate(endpoint, response)
            if not url:
                raise protocol_error(f"{endpoint} redirects {request.path} without saying where to")
        raise protocol_error(f"{endpoint} redirects {request.path} more than {_MAX_REDIRECTS} times")

    def _token(self, endpoint: Endpoint, request: TokenRequest) -> TokenAnswer:
        try:
            parts = urlsplit(request.url)
            scheme, host = parts.scheme, parts.netloc
        except ValueError:
            raise protocol_error(f"{endpoint} names the token server {clean(request.url)!r}, no address") from None
        if scheme != "https" and not (endpoint.plain_http or is_loopback(host)):
            raise RegistryError(
                f"{endpoint} wants the login to be sent to {clean(request.url)} without encryption",
                reason=Reason.REGISTRY_AUTH_FAILED,
                hint="Allow it with --insecure-registry if you trust the network.",
            )
        method = "GET" if request.form is None else "POST"
        call = Call(method, request.url, request.headers, request.query, request.form)
        for attempt in range(1, self._options.retries + 2):
            wait = 0.0
            try:
                response = self._connections.request(endpoint, call)
                if response.status_code not in MAY_PASS or attempt > self._options.retries:
                    return TokenAnswer(response.status_code, _read(response, _MAX_TOKEN_ANSWER))
                wait = retry_after_s(response.headers.get("Retry-After", ""))
                response.close()
            except BROKEN as error:
                if attempt > self._options.retries or is_lasting(error):
                    failure = unreachable(endpoint, error)
                    failure.message = f"the token server of {endpoint.host}: {failure.message}"
                    raise failure from error
            self.pause(attempt, wait)
        raise AssertionError("the last try returns or raises")

    def _home(self, endpoint: Endpoint) -> tuple[str, str]:
        return _origin(f"{self._connections.scheme(endpoint)}://{endpoint.host}/")


def _read(response: requests.Response, limit: int) -> bytes:
    """A whole body. Raises what ``BROKEN`` names when it is cut off."""
    data, pace = bytearray(), Pace(response, decode=True)
    try:
        while chunk := pace.read(65536):
            data += chunk
            if len(data) > limit:
                raise protocol_error(f"{clean(response.url.partition('?')[0])} answers with more than {limit} bytes")
    finally:
        response.close()
    return bytes(data)


def _origin(url: str) -> tuple[str, str]:
    """Scheme and host with its port, to compare."""
    parts = urlsplit(url)
    default = {"https": ":443", "http": ":80"}.get(parts.scheme, "")
    return parts.scheme, parts.netloc.lower().removesuffix(default)
