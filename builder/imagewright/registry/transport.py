"""Requests to registries: logins, retries, the choice of HTTPS or HTTP. Knows nothing of images.

Talks to the network through ``http``. Every response is bounded: by time without a byte, by redirects and attempts, and
by the size of what is read into memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TypeVar

import requests

from imagewright.errors import Reason, RegistryError
from imagewright.http.body import TooLarge, finish, read_body
from imagewright.http.exchange import (
    Authorization,
    Body,
    HttpClient,
    HttpRequest,
    RedirectError,
    location,
)
from imagewright.http.failures import BROKEN, FailureKind, TlsFileError, classify, clean
from imagewright.http.retry import RetryPolicy, StatusRefusal, is_idempotent, with_retries
from imagewright.logins import shown_url
from imagewright.records import dataclass
from imagewright.reference import Reference
from imagewright.registry.auth import Login, TokenAnswer, TokenRequest, authorize
from imagewright.registry.endpoints import Endpoint, Endpoints, RegistryOptions
from imagewright.registry.failures import (
    Attempted,
    Refused,
    protocol_error,
    refused,
    too_large,
    unreachable,
    unusable_file,
)
from imagewright.registry.keychain import Keychain
from imagewright.urls import Origin, is_loopback, is_this_machine, origin, parse_url

_T = TypeVar("_T")
_MAX_TOKEN_ANSWER = 1 << 20
_LOGIN_REFUSED = frozenset({400, 401, 403})  # by a token server; 400: an invalid refresh token (RFC 6749, section 5.2)


@dataclass(frozen=True, slots=True)
class Request:
    """``path`` is below ``/v2/``, or an absolute address that the registry gave.

    ``scopes`` are what the login must allow. ``expect`` are the statuses that the caller handles; others are errors.
    ``open_body`` opens a new body each time that the request is sent. ``repeatable``: may be repeated although its
    method is not idempotent (True), or must not be although it is (False).
    """

    method: str
    path: str
    scopes: tuple[str, ...]
    expect: frozenset[int]
    headers: Mapping[str, str] | None = None
    open_body: Callable[[], AbstractContextManager[Body | bytes]] | None = None
    repeatable: bool | None = None

    @property
    def pushes(self) -> bool:
        """Whether it needs the right to push."""
        return any(scope.endswith(",push") for scope in self.scopes)


@dataclass(frozen=True, slots=True)
class _Grant:
    """An ``Authorization`` header, with the challenge that it answers and the login that it was granted for."""

    challenge: str
    login: Login | None
    header: str


class Transport:
    """Sends requests. Safe to use from several threads."""

    def __init__(self, options: RegistryOptions, keychain: Keychain) -> None:
        self.endpoints = Endpoints(options)
        self._options = options
        self._keychain = keychain
        self._http = HttpClient(options.user_agent)
        self._grants: dict[tuple[str, str, tuple[str, ...]], _Grant] = {}
        self._schemes: dict[str, str] = {}  # by host: what it answers

    def hold(self, pulled: Iterable[Reference], pushed: Iterable[Reference], mounted: Callable[[str], bool]) -> None:
        """Find the logins and certificates for these images now, before an image that is built replaces what they are
        found by. Afterwards only files that are ``mounted`` are read again.
        """
        pairs = [(endpoint, each) for each in pulled for endpoint in self.endpoints.for_pull(each)]
        pairs += [(self.endpoints.for_push(each), each) for each in pushed]
        self._keychain.hold([_login_place(at, at.repository(each)) for at, each in pairs], mounted)
        self._http.hold({endpoint.tls for endpoint, _ in pairs}, mounted)

    @property
    def pull_policy(self) -> RetryPolicy:
        return self._options.retry.more(self._options.pull_retries)

    @property
    def push_policy(self) -> RetryPolicy:
        return self._options.retry.more(self._options.push_retries)

    def send(self, endpoint: Endpoint, repository: str, request: Request) -> requests.Response:
        """Send a request, repeatedly after failures that may pass; the body of the response is not read yet.

        Raises:
            RegistryError
        """
        return self._repeated(endpoint, repository, request, lambda response: response)

    def fetch(
        self, endpoint: Endpoint, repository: str, request: Request, limit: int
    ) -> tuple[Mapping[str, str], bytes]:
        """Send a request and read the whole response, repeatedly if it is interrupted: its headers and its body.

        Raises:
            RegistryError: also if it has more than ``limit`` bytes.
        """

        def read(response: requests.Response) -> tuple[Mapping[str, str], bytes]:
            try:
                return response.headers, read_body(response, limit)
            except TooLarge as error:
                raise too_large(response.url, str(error)) from None

        return self._repeated(endpoint, repository, request, read)

    def locate(self, endpoint: Endpoint, response: requests.Response) -> str:
        """Where the Location of a response leads, absolute; "" if it has none.

        Raises:
            RegistryError: it is invalid, or not encrypted where that is not allowed.
        """
        try:
            return location(response, plain_http=endpoint.plain_http)
        except RedirectError as error:
            raise _bad_redirect(endpoint, error) from error

    def _repeated(
        self, endpoint: Endpoint, repository: str, request: Request, read: Callable[[requests.Response], _T]
    ) -> _T:
        attempted = Attempted(endpoint, request.method, repository, request.pushes)

        def attempt() -> _T:
            response = self._authorized(endpoint, repository, request)
            if response.status_code in request.expect:
                return read(response)
            raise self._refusal(attempted, response)

        policy = self.push_policy if request.pushes else self.pull_policy
        if request.repeatable is False:
            policy = RetryPolicy(retries=0)
        try:
            return with_retries(attempt, policy, idempotent=request.repeatable or is_idempotent(request.method))
        except BROKEN as error:
            raise unreachable(endpoint, error) from error

    # --- one attempt

    def _authorized(self, endpoint: Endpoint, repository: str, request: Request) -> requests.Response:
        """The response to a request with a login, which is renewed once if the registry refuses it."""
        key = (endpoint.host, endpoint.login_host, request.scopes)
        grant = self._grants.get(key)
        response = self._follow(endpoint, request, grant)
        if self._refuses(endpoint, response, 401):
            challenge = response.headers.get("WWW-Authenticate", "")
            finish(response)
            grant = self._grants[key] = self._grant(endpoint, repository, challenge, request.scopes)
            response = self._follow(endpoint, request, grant)
        # Amazon's registry answers 403 if a login has expired, which has no challenge.
        if grant is not None and self._refuses(endpoint, response, 401, 403):
            login = self._keychain.renew(*_login_place(endpoint, repository), grant.login)
            if login is not None:
                challenge = response.headers.get("WWW-Authenticate", grant.challenge)
                finish(response)
                header = self._log_in(endpoint, repository, challenge, request.scopes, login)
                grant = self._grants[key] = _Grant(challenge, login, header)
                response = self._follow(endpoint, request, grant)
        return response

    def _refuses(self, endpoint: Endpoint, response: requests.Response, *statuses: int) -> bool:
        """Whether the registry itself wants a login: a host that it redirects to would have it sent where it likes."""
        return response.status_code in statuses and origin(response.url) == self._origin(endpoint)

    def _follow(self, endpoint: Endpoint, request: Request, grant: _Grant | None) -> requests.Response:
        absolute = "://" in request.path
        url = request.path if absolute else f"{self._scheme(endpoint)}://{endpoint.host}/v2/{request.path}"
        sent = HttpRequest(request.method, url, request.headers or {}, open_body=request.open_body)
        try:
            return self._http.follow(
                sent,
                endpoint.tls,
                Authorization(grant.header if grant is not None else "", self._origin(endpoint)),
                plain_http=endpoint.plain_http,
            )
        except RedirectError as error:
            raise _bad_redirect(endpoint, error) from error
        except TlsFileError as error:
            raise unusable_file(endpoint, error) from error

    def _origin(self, endpoint: Endpoint) -> Origin:
        return origin(f"{self._scheme(endpoint)}://{endpoint.host}/")

    def _scheme(self, endpoint: Endpoint) -> str:
        """https; http only where that is allowed and HTTPS is not answered."""
        if not endpoint.plain_http:
            return "https"
        known = self._schemes.get(endpoint.host)
        if known is None:
            known = self._find_scheme(endpoint)
            self._schemes[endpoint.host] = known
        return known

    def _find_scheme(self, endpoint: Endpoint) -> str:
        def ask(scheme: str) -> None:
            finish(self._http.send(HttpRequest("GET", f"{scheme}://{endpoint.host}/v2/"), endpoint.tls))

        try:
            ask("https")
        except BROKEN as error:
            kind = classify(error).kind
            if isinstance(error, requests.exceptions.SSLError) and kind is not FailureKind.NO_TLS:
                raise  # the host speaks TLS: falling back to HTTP because TLS fails is not what was allowed
            # HTTP must be answered: a registry that is down is not taken for one without TLS.
            ask("http")
            return "http"
        except TlsFileError as error:
            raise unusable_file(endpoint, error) from error
        return "https"

    # --- logins

    def _grant(self, endpoint: Endpoint, repository: str, challenge: str, scopes: tuple[str, ...]) -> _Grant:
        """Log in; again if the token server refuses the login, and there is a new one."""
        place = _login_place(endpoint, repository)
        login = self._keychain.find(*place)
        try:
            header = self._log_in(endpoint, repository, challenge, scopes, login)
        except RegistryError as error:
            if error.status not in _LOGIN_REFUSED:
                raise
            renewed = self._keychain.renew(*place, login)
            if renewed is None:
                raise
            login, header = renewed, self._log_in(endpoint, repository, challenge, scopes, renewed)
        return _Grant(challenge, login, header)

    def _log_in(
        self, endpoint: Endpoint, repository: str, challenge: str, scopes: tuple[str, ...], login: Login | None
    ) -> str:
        """The ``Authorization`` header that a login leads to."""
        steps = authorize(challenge, scopes, login)
        try:
            wanted = next(steps)
            while True:
                wanted = steps.send(self._token(endpoint, wanted))
        except StopIteration as done:
            return str(done.value)
        except RegistryError as error:
            if error.reason is Reason.REGISTRY_AUTH_FAILED:
                self._add_keychain_errors(endpoint, error)
            if endpoint.host in error.message:
                raise
            words = f"cannot log in to {endpoint.host} for {repository}: {error.message}"
            raise RegistryError(words, status=error.status, reason=error.reason, hint=error.hint) from error

    def _token(self, endpoint: Endpoint, request: TokenRequest) -> TokenAnswer:
        try:
            server = parse_url(request.url)
        except ValueError as error:
            raise protocol_error(
                f'cannot log in to {endpoint}: it names the invalid token server "{clean(shown_url(request.url))}": {error}'
            ) from None
        if is_this_machine(server.host) and not is_loopback(endpoint.host):
            raise RegistryError(
                f'cannot log in to {endpoint}: its token server "{clean(shown_url(request.url))}" is this machine',
                reason=Reason.REGISTRY_AUTH_FAILED,
                hint="Check the realm that the registry is configured with.",
            )
        if server.scheme != "https" and not endpoint.plain_http:
            raise RegistryError(
                f'cannot log in to {endpoint}: its token server "{clean(shown_url(request.url))}" is not HTTPS',
                reason=Reason.REGISTRY_AUTH_FAILED,
                hint="Allow it with --insecure-registry (ImageBuild: spec.registries[].insecure) if you trust the network.",
            )
        method = "GET" if request.form is None else "POST"
        sent = HttpRequest(method, request.url, request.headers, request.query, request.form)

        def attempt() -> TokenAnswer:
            response = self._http.send(sent, endpoint.tls)
            body = read_body(response, _MAX_TOKEN_ANSWER)
            if response.status_code != 200:
                raise StatusRefusal(response, body)
            return TokenAnswer(response.status_code, body)

        try:
            # A token that is issued twice harms nobody, so that POST counts as idempotent too.
            return with_retries(attempt, self._options.retry, idempotent=True)
        except StatusRefusal as error:
            return TokenAnswer(error.status, error.body)
        except TooLarge as error:
            raise too_large(request.url, str(error)) from None
        except BROKEN as error:
            failure = unreachable(endpoint, error)
            failure.message = f"cannot log in to {endpoint.host}: {failure.message}"
            raise failure from error

    def _refusal(self, attempted: Attempted, response: requests.Response) -> Refused:
        error = refused(attempted, response)
        if error.reason is Reason.REGISTRY_AUTH_FAILED:
            self._add_keychain_errors(attempted.endpoint, error)
        return error

    def _add_keychain_errors(self, endpoint: Endpoint, error: RegistryError) -> None:
        """A helper or a cloud may have a login that it failed to give, or gave one that no registry can accept."""
        error.hint = " ".join(filter(None, (error.hint, *self._keychain.errors(endpoint.login_host))))


def _login_place(endpoint: Endpoint, repository: str) -> tuple[str, str]:
    """Under which registry and repository the login is kept."""
    return endpoint.login_host, endpoint.login_repository(repository)


def _bad_redirect(endpoint: Endpoint, error: RedirectError) -> RegistryError:
    hint = "Allow it with --insecure-registry (ImageBuild: spec.registries[].insecure) if you trust the network."
    return protocol_error(f"invalid redirect from {endpoint}: {error}", hint if error.plain_http else "")
