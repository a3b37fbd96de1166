"""Logins, and how a registry's 401 is answered with one: the request for a token, and the header that it leads to.

No I/O: ``authorize`` is a generator that yields requests and is sent their responses.
Follows the distribution token specification ("Bearer") and RFC 7617 ("Basic").
"""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Generator, Mapping

from imagewright import jsontext
from imagewright.errors import Reason, RegistryError
from imagewright.http.failures import clean
from imagewright.records import dataclass
from imagewright.registry.challenges import parse_challenges

_MAX_TOKEN_BYTES = 64 * 1024
_LOGIN = (
    "docker login (ImageBuild: spec.output.pushSecretRef, the name of a Secret as kubectl create secret docker-registry "
    "makes it)"
)


@dataclass(frozen=True, slots=True)
class Login:
    """A login with a registry.

    ``identity_token`` is an OAuth2 refresh token used instead of a password; ``username`` may then be empty.
    """

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    @property
    def flaw(self) -> str:
        """Why no registry can accept it: control characters (RFC 7617, section 2); ``""`` if there are none."""
        parts = {
            "user name": self.username,
            "password": self.password,
            "identity token": self.identity_token,
            "registry token": self.registry_token,
        }
        for name, text in parts.items():
            if text.endswith("\n"):
                return f"the {name} ends with a newline"
            if any(unicodedata.category(character) == "Cc" for character in text):
                return f"the {name} contains a control character"
        return ""

    def __repr__(self) -> str:
        return f"Login({self.username!r}, …)"  # so that no password is ever logged by accident


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A request to a token server. ``form`` is None for GET, else what a POST sends."""

    url: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    form: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    status: int
    body: bytes


def pull_scope(repository: str) -> str:
    """What a login must allow to pull (distribution token specification, "scope")."""
    return f"repository:{repository}:pull"


def push_scope(repository: str) -> str:
    """The same to push; looking for a blob needs the right to pull."""
    return f"repository:{repository}:pull,push"


def authorize(
    challenge: str, scopes: tuple[str, ...], login: Login | None
) -> Generator[TokenRequest, TokenAnswer, str]:
    """The value of the Authorization header that satisfies a WWW-Authenticate header.

    Args:
        challenge: the header, with one or more challenges; Bearer is preferred.
        scopes: what is wanted, ``repository:name:pull,push``.

    Raises:
        RegistryError: reason ``RegistryAuthFailed``.
    """
    schemes = parse_challenges(challenge)
    if "bearer" in schemes:
        if login is not None and login.registry_token:
            if login.flaw:  # it would not be a valid header
                raise RegistryError(
                    f"the registry requires a token, and {login.flaw}",
                    status=401,
                    reason=Reason.REGISTRY_AUTH_FAILED,
                    hint="Check registrytoken in config.json.",
                )
            return f"Bearer {login.registry_token}"
        token = yield from _bearer(schemes["bearer"], scopes, login)
        return f"Bearer {token}"
    if "basic" in schemes:
        if login is None or not login.username:
            raise RegistryError(
                "the registry requires a user name and a password, and none is configured",
                status=401,
                reason=Reason.REGISTRY_AUTH_FAILED,
                hint=f"Add a login with {_LOGIN}.",
            )
        return _basic(login)
    raise RegistryError(
        f'the registry requires the unsupported authentication "{clean(challenge)}"',
        status=401,
        reason=Reason.REGISTRY_AUTH_FAILED,
        hint="Use a registry with Bearer or Basic authentication.",
    )


def _bearer(
    parameters: Mapping[str, str], scopes: tuple[str, ...], login: Login | None
) -> Generator[TokenRequest, TokenAnswer, str]:
    realm = parameters.get("realm", "")
    if not realm.startswith(("https://", "http://")):
        raise RegistryError(
            f'the registry names the invalid token server "{clean(realm)}"',
            status=401,
            reason=Reason.REGISTRY_AUTH_FAILED,
            hint="Check the registry's configuration, and whether a proxy answers in its place.",
        )
    service = parameters.get("service", "")
    if login is not None and login.identity_token:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": login.identity_token,
            "service": service,
            "scope": " ".join(scopes),
            "client_id": "imagewright",
        }
        answer = yield TokenRequest(realm, (), {}, form)
    else:
        query = (("service", service),) if service else ()
        headers = {"Authorization": _basic(login)} if login is not None and login.username else {}
        answer = yield TokenRequest(realm, (*query, *(("scope", scope) for scope in scopes)), headers)
    if answer.status != 200:
        known = login is not None and (login.username or login.identity_token)
        who = f'the user "{clean(login.username)}"' if login is not None and login.username else "anonymous access"
        advice = (
            "Check the user name and the password in config.json."
            if known
            else f"Check the image's name; if it is private, add a login with {_LOGIN}."
        )
        raise RegistryError(
            f"the token server denied {who}: status {answer.status}",
            status=answer.status,
            reason=Reason.REGISTRY_AUTH_FAILED if answer.status < 500 else Reason.REGISTRY_UNAVAILABLE,
            hint=advice if answer.status < 500 else "Try again later.",
        )
    try:
        value = jsontext.loads(answer.body[:_MAX_TOKEN_BYTES])
        token = value.get("token") or value.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        token = None
    if not isinstance(token, str) or not token or not token.isprintable():
        raise RegistryError(
            "the token server's response has no token",
            reason=Reason.REGISTRY_PROTOCOL_ERROR,
            hint="Check for a proxy or a login page that answers in its place.",
        )
    return token


def _basic(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
