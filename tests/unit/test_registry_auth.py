"""Challenges and tokens, without a network: the generator is asked and answered by hand."""

from __future__ import annotations

import pytest

from imagewright.errors import Reason, RegistryError
from imagewright.registry.auth import Login, TokenAnswer, TokenRequest, authorize
from imagewright.remedies import for_imagebuild

SCOPES = ("repository:team/app:pull,push", "repository:base:pull")
BEARER = 'Bearer realm="https://auth.test/token",service="registry.test",scope="repository:other:pull"'


def first(challenge: str, login: Login | None = None) -> TokenRequest:
    return next(authorize(challenge, SCOPES, login))


def outcome(challenge: str, login: Login | None, answer: TokenAnswer) -> str:
    steps = authorize(challenge, SCOPES, login)
    next(steps)
    with pytest.raises(StopIteration) as done:
        steps.send(answer)
    return str(done.value.value)


def at_once(challenge: str, login: Login | None) -> str:
    with pytest.raises(StopIteration) as done:
        first(challenge, login)
    return str(done.value.value)


def test_a_token_is_asked_for_by_our_scopes_not_by_those_of_the_challenge() -> None:
    request = first(BEARER)
    assert request.url == "https://auth.test/token"
    assert request.query == (("service", "registry.test"), ("scope", SCOPES[0]), ("scope", SCOPES[1]))
    assert (dict(request.headers), request.form) == ({}, None)


def test_a_user_name_goes_to_the_token_server() -> None:
    request = first(BEARER, Login("user", "p\u00e4ss:word"))
    assert request.headers == {"Authorization": "Basic dXNlcjpww6Rzczp3b3Jk"}


def test_an_identity_token_is_traded_by_post() -> None:
    request = first(BEARER, Login(identity_token="refresh"))
    assert request.form is not None
    assert request.form["grant_type"] == "refresh_token"
    assert request.form["refresh_token"] == "refresh"
    assert request.form["scope"] == " ".join(SCOPES)
    assert not request.headers


def test_a_registry_token_needs_no_token_server() -> None:
    assert at_once(BEARER, Login(registry_token="ready")) == "Bearer ready"


@pytest.mark.parametrize("key", ["token", "access_token"])
def test_the_answer_is_a_token(key: str) -> None:
    assert outcome(BEARER, None, TokenAnswer(200, b'{"%s": "abc"}' % key.encode())) == "Bearer abc"


def test_basic() -> None:
    assert at_once('Basic realm="x"', Login("user", "secret")) == "Basic dXNlcjpzZWNyZXQ="


@pytest.mark.parametrize("login", [None, Login(identity_token="only")])
def test_basic_without_a_login(login: Login | None) -> None:
    with pytest.raises(RegistryError, match="requires a user name") as caught:
        first('Basic realm="x"', login)
    assert caught.value.reason is Reason.REGISTRY_AUTH_FAILED
    assert for_imagebuild(caught.value.hint).startswith("Add a login with spec.output.pushSecretRef, ")


def test_a_token_server_that_refuses_without_a_login() -> None:
    steps = authorize(BEARER, SCOPES, None)
    next(steps)
    with pytest.raises(RegistryError, match="denied anonymous access") as caught:
        steps.send(TokenAnswer(401, b""))
    hint = "Check the image's name; if it is private, add a login with spec.output.pushSecretRef, "
    assert for_imagebuild(caught.value.hint).startswith(hint)


@pytest.mark.parametrize(
    "challenge",
    [
        f'Basic realm="x", {BEARER}',
        f'{BEARER}, Basic realm="x"',
        BEARER.replace("Bearer", "bEARER"),
        'Bearer  realm = "https://auth.test/token" , service=registry.test',
        'Negotiate, Bearer service="registry.test",realm="https://auth.test/token"',
        'Bearer error="invalid_token, Basic",realm="https://auth.test/token",service="registry.test"',
    ],
)
def test_bearer_is_found_among_challenges(challenge: str) -> None:
    request = first(challenge, Login("user", "secret"))
    assert (request.url, request.query[0]) == ("https://auth.test/token", ("service", "registry.test"))


@pytest.mark.parametrize("challenge", ["", "Negotiate", "Digest realm=x", "Basically", "\x00\xff", "Bearer" * 10_000])
def test_a_challenge_that_is_not_understood(challenge: str) -> None:
    with pytest.raises(RegistryError) as caught:
        first(challenge, Login("user", "secret"))
    assert caught.value.reason is Reason.REGISTRY_AUTH_FAILED
    assert caught.value.hint
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("realm", ["", "auth.test", "file:///etc/passwd", "javascript:1"])
def test_an_invalid_realm(realm: str) -> None:
    with pytest.raises(RegistryError, match="invalid token server"):
        first(f'Bearer realm="{realm}"')


@pytest.mark.parametrize(("status", "reason"), [(401, Reason.REGISTRY_AUTH_FAILED), (503, Reason.REGISTRY_UNAVAILABLE)])
def test_a_token_server_that_refuses(status: int, reason: Reason) -> None:
    steps = authorize(BEARER, SCOPES, Login("user", "secret"))
    next(steps)
    with pytest.raises(RegistryError, match=f"status {status}") as caught:
        steps.send(TokenAnswer(status, b""))
    assert caught.value.reason is reason
    assert "secret" not in caught.value.render()
