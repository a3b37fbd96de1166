"""Logins over the wire: tokens are asked for once, renewed when they end, and go where they belong."""

from __future__ import annotations

import base64
import json
import os
import threading
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from servers.images import memory_image
from servers.registryclient import Client
from servers.scripted import Answer, Asked, ScriptedServer

from imagewright.contract.request import RegistrySettings
from imagewright.digest import Digest
from imagewright.errors import Reason, RegistryError
from imagewright.reference import Reference
from imagewright.registry.auth import Login
from imagewright.registry.clouds import CloudKeychain
from imagewright.registry.dockerconfig import ConfigFile, DockerConfig
from imagewright.registry.keychain import Keychain

IMAGE = memory_image([b"x" * 300_000])


class Guarded:
    """A registry with Bearer tokens, and its token server. A token is for its scopes and ends after ``uses`` uses.

    But a request that was refused is served with any token made since: an upload's threads share their tokens, and
    no real registry lets one end because another thread was faster with it.
    """

    def __init__(self, password: str = "", uses: int = 1000) -> None:
        self.password = password
        self.denial = 401
        self.uses = uses
        self.tokens: dict[str, tuple[set[str], int]] = {}
        self.refused: dict[tuple[str, str], set[str]] = {}
        self.scopes: list[list[str]] = []
        self.failures: list[Answer] = []
        self.blobs: dict[str, bytes] = {str(d): b for d, b in IMAGE.blobs.items()}
        self.accepts: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def __call__(self, asked: Asked) -> Answer:
        with self._lock:
            return self._answer(asked)

    def _answer(self, asked: Asked) -> Answer:
        url = urlsplit(asked.path)
        if url.path == "/token":
            return self._token(asked)
        repository = url.path.removeprefix("/v2/").partition("/manifests/")[0].partition("/blobs/")[0]
        wanted = "pull" if asked.method in ("GET", "HEAD") else "push"
        if not self._allowed(asked, f"repository:{repository}:", wanted):
            realm = f'Bearer realm="http://{asked.headers["host"]}/token",service="registry.test"'
            return Answer(401, {"WWW-Authenticate": realm, "Connection": "close"})
        return self._serve(asked, url.path)

    def _token(self, asked: Asked) -> Answer:
        if self.failures:
            return self.failures.pop(0)
        query = parse_qs(urlsplit(asked.path).query)
        expected = "Basic " + base64.b64encode(f"user:{self.password}".encode()).decode()
        if self.password and asked.authorization != expected:
            return Answer(self.denial)
        scopes = query.get("scope", [])
        assert query["service"] == ["registry.test"]
        self.scopes.append(scopes)
        token = f"token-{len(self.scopes)}"
        self.tokens[token] = (set(scopes), self.uses)
        return Answer(200, body=json.dumps({"token": token}).encode())

    def _allowed(self, asked: Asked, repository: str, action: str) -> bool:
        token = asked.authorization.removeprefix("Bearer ")
        request = (asked.method, asked.path)
        scopes, uses = self.tokens.get(token, (set(), 0))
        made_since_refusal = request in self.refused and token in self.tokens.keys() - self.refused[request]
        if not uses and not made_since_refusal:
            self.refused[request] = set(self.tokens)
            return False
        self.tokens[token] = (scopes, max(uses - 1, 0))
        return any(s.startswith(repository) and action in s.rpartition(":")[2].split(",") for s in scopes)

    def _serve(self, asked: Asked, path: str) -> Answer:
        name = path.rpartition("/")[2]
        if asked.method == "PUT" and "/manifests/" in path:
            return Answer(201)
        if "/manifests/" in path:
            return Answer(200, {"Content-Type": IMAGE.manifest.media_type}, IMAGE.manifest.raw)
        if asked.method == "POST":
            return Answer(202, {"Location": f"{path}1"})
        if asked.method == "PUT":
            digest = dict(parse_qsl(urlsplit(asked.path).query))["digest"]
            self.accepts[digest] = asked.body
            return Answer(201 if str(Digest.of(asked.body)) == digest else 400)
        if asked.method == "HEAD":
            return Answer(404)
        return Answer(200, body=self.blobs[name])


def test_an_anonymous_token_is_asked_for_once() -> None:
    registry = Guarded()
    with ScriptedServer(registry) as server:
        using = Client()
        assert using.pull(f"{server.host}/team/app:1") == IMAGE.blobs[IMAGE.manifest.layers[0].digest]
        using.pull(f"{server.host}/team/app:1")
    assert registry.scopes == [["repository:team/app:pull"]]


def test_pulling_asks_for_no_more_than_pulling() -> None:
    registry = Guarded("secret")
    with ScriptedServer(registry) as server:
        using = Client(logins={server.host: Login("user", "secret")})
        using.pull(f"{server.host}/team/app:1")
        using.push(IMAGE, f"{server.host}/team/app:1")
    first, *others = registry.scopes
    assert first == ["repository:team/app:pull"]
    assert others == [["repository:team/app:pull,push"]] * len(others), "threads may ask at the same time"
    assert registry.accepts == {str(digest): blob for digest, blob in IMAGE.blobs.items()}


@pytest.mark.parametrize("uses", [1, 2, 3])
def test_a_token_that_ends_is_renewed_even_before_a_body(uses: int) -> None:
    registry = Guarded("secret", uses)
    with ScriptedServer(registry) as server:
        using = Client(logins={server.host: Login("user", "secret")})
        using.pull(f"{server.host}/team/app:1")
        using.push(IMAGE, f"{server.host}/team/app:1")
    assert registry.accepts == {str(digest): blob for digest, blob in IMAGE.blobs.items()}


def test_a_wrong_password_is_said_to_be_one() -> None:
    with ScriptedServer(Guarded("secret")) as server:
        using = Client(logins={server.host: Login("user", "wrong-password")})
        with pytest.raises(RegistryError, match='denied the user "user"') as caught:
            using.pull(f"{server.host}/team/app:1")
    assert caught.value.reason is Reason.REGISTRY_AUTH_FAILED
    assert "wrong-password" not in caught.value.render()


@pytest.mark.parametrize("challenge", ["Basic realm=x", "Digest realm=x"])
def test_a_registry_that_refuses_is_named_with_the_repository(challenge: str) -> None:
    with (
        ScriptedServer(lambda _: Answer(401, {"WWW-Authenticate": challenge})) as server,
        pytest.raises(RegistryError, match=f"cannot log in to {server.host} for team/app: ") as caught,
    ):
        Client().pull(f"{server.host}/team/app:1")
    assert caught.value.reason is Reason.REGISTRY_AUTH_FAILED


@pytest.mark.parametrize("failure", [Answer(503), Answer(429, {"Retry-After": "0"}), Answer(raw=b"")])
def test_a_token_server_in_trouble_is_asked_again(failure: Answer) -> None:
    registry = Guarded()
    registry.failures = [failure, failure]
    with ScriptedServer(registry) as server:
        Client().pull(f"{server.host}/team/app:1")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"token": 7}', b'{"token": "a\\r\\nX: y"}', b"[" * 90_000])
def test_a_token_server_that_gives_no_token(body: bytes) -> None:
    registry = Guarded()
    registry.failures = [Answer(200, body=body)]
    with ScriptedServer(registry) as server, pytest.raises(RegistryError, match="has no token") as caught:
        Client().pull(f"{server.host}/team/app:1")
    assert caught.value.reason is Reason.REGISTRY_PROTOCOL_ERROR
    assert caught.value.hint


@pytest.mark.parametrize("realm", ["", "/token", "ftp://x/", "http://[::1/", "http://elsewhere.test/token"])
def test_a_login_is_not_sent_to_where_it_should_not(realm: str) -> None:
    challenge = f'Bearer realm="{realm}",service="x"'
    with ScriptedServer(lambda _: Answer(401, {"WWW-Authenticate": challenge})) as server:
        # As it is for a registry that isn't allowed plain HTTP: only the loopback address allows it here.
        using = Client(logins={server.host: Login("user", "secret")})
        with pytest.raises(RegistryError) as caught:
            using.pull(f"{server.host}/team/app:1")
    assert caught.value.reason in (
        Reason.REGISTRY_AUTH_FAILED,
        Reason.REGISTRY_PROTOCOL_ERROR,
        Reason.REGISTRY_UNAVAILABLE,
    )
    assert caught.value.hint
    assert not any(asked.authorization for asked in server.asked)


def test_an_endpoint_is_given_the_login_of_the_name_it_stands_for() -> None:
    registry = Guarded("secret")
    with ScriptedServer(registry) as server:
        logins = {"https://index.docker.io/v1/": Login("user", "secret"), server.host: Login("other", "login")}
        keychain = Keychain(DockerConfig(logins))
        hub = RegistrySettings(host="docker.io", endpoint=server.host)
        image = Client(hub, keychain=keychain).resolve("team/app:1")
        assert image.manifest.raw == IMAGE.manifest.raw


def test_a_mirror_is_given_its_own_login_only() -> None:
    registry = Guarded()
    with ScriptedServer(registry) as mirror:
        keychain = Keychain(DockerConfig({"docker.io": Login("user", "secret")}))
        hub = RegistrySettings(host="docker.io", mirrors=(mirror.host,))
        Client(hub, keychain=keychain).resolve("team/app:1")
        assert not any(asked.authorization.startswith("Basic") for asked in mirror.asked)


def test_public_images_need_no_helper_for_logins() -> None:
    with ScriptedServer(Guarded()) as server:
        Client(keychain=Keychain(DockerConfig(store="desktop"))).pull(f"{server.host}/team/app:1")
    with ScriptedServer(Guarded("secret")) as server, pytest.raises(RegistryError) as caught:
        Client(keychain=Keychain(DockerConfig(store="desktop"))).pull(f"{server.host}/team/app:1")
    assert caught.value.reason is Reason.REGISTRY_AUTH_FAILED
    assert "docker-credential-desktop not found in PATH" in caught.value.hint


def test_a_login_costs_no_connection() -> None:
    """Refusals and answers without content are read to their end: one connection serves them all."""
    registry = Guarded("secret")

    def script(asked: Asked) -> Answer:
        answer = registry(asked)
        if answer.status != 401:
            return answer
        headers = {name: value for name, value in answer.headers.items() if name != "Connection"}
        return Answer(401, headers, b'{"errors": [{"code": "UNAUTHORIZED", "message": "log in"}]}')

    with ScriptedServer(script) as server:
        using = Client(logins={server.host: Login("user", "secret")})
        using.pull(f"{server.host}/team/app:1")
        assert server.connections == 2, "one, and the probe for HTTPS"
        using.push(IMAGE, f"{server.host}/team/app:1")
    assert len(server.asked) > 10
    assert server.connections <= 4, "those of threads that upload at the same time"


# --- logins that are renewed while a build runs


class Amazon(Guarded):
    """A registry with Basic logins that refuses an expired one with 403, as Amazon's does."""

    def _answer(self, asked: Asked) -> Answer:
        if not asked.authorization:
            return Answer(401, {"WWW-Authenticate": 'Basic realm="https://amazon.test/",service="ecr"'})
        if asked.authorization != "Basic " + base64.b64encode(f"user:{self.password}".encode()).decode():
            words = {"code": "DENIED", "message": "Your authorization token has expired."}
            return Answer(403, body=json.dumps({"errors": [words]}).encode())
        return self._serve(asked, urlsplit(asked.path).path)


class Plain(Amazon):
    """A registry with Basic logins, as the distribution project's."""

    def _answer(self, asked: Asked) -> Answer:
        answer = super()._answer(asked)
        return Answer(401, {"WWW-Authenticate": "Basic realm=x"}) if answer.status == 403 else answer


def config(folder: Path, host: str, password: str) -> ConfigFile:
    """Write config.json as the kubelet replaces a mounted Secret: at once, by a link."""
    data = folder / f"..{password}"
    data.mkdir()
    login = base64.b64encode(f"user:{password}".encode()).decode()
    (data / "config.json").write_text(json.dumps({"auths": {host: {"auth": login}}}))
    (folder / "..new").symlink_to(data.name)
    (folder / "..new").rename(folder / "..data")
    if not (folder / "config.json").is_symlink():
        (folder / "config.json").symlink_to("..data/config.json")
    return ConfigFile(str(folder))


@pytest.mark.parametrize(
    ("kind", "denial"), [(Guarded, 400), (Guarded, 401), (Guarded, 403), (Amazon, 403), (Plain, 401)]
)
def test_a_login_that_expired_is_read_again_for_the_push(tmp_path: Path, kind: type[Guarded], denial: int) -> None:
    registry = kind("before")
    registry.denial = denial
    with ScriptedServer(registry) as server:
        config(tmp_path, server.host, "before")
        using = Client(keychain=Keychain.load(str(tmp_path)))
        using.pull(f"{server.host}/team/app:1")
        registry.password = "after"
        registry.tokens.clear()
        config(tmp_path, server.host, "after")
        using.push(IMAGE, f"{server.host}/team/app:1")
    assert registry.accepts == {str(digest): blob for digest, blob in IMAGE.blobs.items()}


@pytest.mark.parametrize(
    ("kind", "words"), [(Guarded, 'denied the user "user": status 401'), (Amazon, "access denied (status 403: DENIED")]
)
def test_a_login_that_expired_and_is_not_renewed_is_refused_once(
    tmp_path: Path, kind: type[Guarded], words: str
) -> None:
    registry = kind("before")
    with ScriptedServer(registry) as server:
        config(tmp_path, server.host, "before")
        using = Client(keychain=Keychain.load(str(tmp_path)))
        using.pull(f"{server.host}/team/app:1")
        registry.password = "after"
        registry.tokens.clear()
        server.asked.clear()
        with pytest.raises(RegistryError) as caught:
            using.pull(f"{server.host}/team/app:1")
    assert words in caught.value.message
    assert caught.value.reason is Reason.REGISTRY_AUTH_FAILED
    assert len(server.asked) <= 2, "the request, and the token server's refusal"


def test_a_new_login_that_is_refused_too_is_not_renewed_without_end(tmp_path: Path) -> None:
    with ScriptedServer(Amazon("correct")) as server:
        passwords = iter(f"wrong-{number}" for number in range(100))

        def refuse(asked: Asked) -> Answer:
            config(tmp_path, server.host, next(passwords))
            return Amazon("correct")(asked)

        config(tmp_path, server.host, "first")
        server.script = refuse
        with pytest.raises(RegistryError, match="access denied"):
            Client(keychain=Keychain.load(str(tmp_path))).pull(f"{server.host}/team/app:1")
    assert len(server.asked) == 4, "the probe for HTTPS, without a login, with the first, with a new one"


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_helper_is_asked_again_once_for_all_that_is_refused_at_once(tmp_path: Path) -> None:
    helper = tmp_path / "docker-credential-short"
    answer = '{"Username": "user", "Secret": "\'$(cat password)\'"}'
    helper.write_text(f"#!/bin/sh\ncd {tmp_path}; echo asked >>asked\necho '{answer}'\n")
    helper.chmod(0o755)
    (tmp_path / "password").write_text("before")
    image = memory_image([bytes([number]) * 30_000 for number in range(6)])
    registry, clock, barrier = Amazon("before"), Clock(), threading.Barrier(3)
    with ScriptedServer(registry) as server:
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        keychain = Keychain(
            DockerConfig(helpers={server.host: "short"}), CloudKeychain(environment, (), clock), clock=clock
        )
        using = Client(keychain=keychain)
        using.pusher.check_push(Reference.parse(f"{server.host}/team/app:1"))
        registry.password = "after"
        (tmp_path / "password").write_text("after")
        clock.now_s += 11

        def together(asked: Asked) -> Answer:
            if asked.authorization.endswith(base64.b64encode(b"user:before").decode()):
                barrier.wait(60)  # three threads upload at the same time, and are all refused
            with registry._lock:
                return registry._answer(asked)

        server.script = together
        using.push(image, f"{server.host}/team/app:1")
    assert (tmp_path / "asked").read_text().splitlines() == ["asked", "asked"]
    assert registry.accepts.keys() == {str(digest) for digest in image.blobs}


def test_a_helper_whose_login_is_fresh_is_not_asked_again(tmp_path: Path) -> None:
    helper = tmp_path / "docker-credential-wrong"
    helper.write_text(f'#!/bin/sh\necho asked >>{tmp_path}/asked\necho \'{{"Username": "user", "Secret": "x"}}\'\n')
    helper.chmod(0o755)
    with ScriptedServer(Guarded("secret")) as server:
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        keychain = Keychain(DockerConfig(helpers={server.host: "wrong"}), CloudKeychain(environment, ()))
        for _ in range(3):
            with pytest.raises(RegistryError, match='denied the user "user"'):
                Client(keychain=keychain).pull(f"{server.host}/team/app:1")
    assert (tmp_path / "asked").read_text().splitlines() == ["asked"]
