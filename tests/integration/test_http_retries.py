"""One table of what is retried, for every client: registry, token server, download, cloud.

Each asks a scripted server.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers.scripted import Answer, Asked, ScriptedServer

from imagewright.context.download import HttpOptions, download
from imagewright.errors import ImagewrightError, RegistryError
from imagewright.http.retry import STATUSES, RetryPolicy
from imagewright.registry.auth import Login
from imagewright.registry.clouds import exchange_azure
from imagewright.registry.dockerconfig import DockerConfig
from imagewright.registry.endpoints import Endpoint, RegistryOptions
from imagewright.registry.keychain import Keychain
from imagewright.registry.transport import Request, Transport

POLICY = RetryPolicy(retries=2, backoff_s=0)


@dataclass(frozen=True, slots=True)
class Client:
    """``run`` makes one exchange; it asks at ``path`` and succeeds with ``answer``."""

    path: str
    answer: Answer
    run: Callable[[ScriptedServer], object]

    def attempts(self, failures: list[Answer]) -> tuple[int, ImagewrightError | None]:
        """How often a server is asked that answers with ``failures`` first, and the final error."""
        left = list(failures)

        def script(asked: Asked) -> Answer:
            if not asked.path.startswith(self.path):
                return Answer(401, {"WWW-Authenticate": f'Bearer realm="http://{asked.headers["host"]}/token"'})
            return left.pop(0) if left else self.answer

        with ScriptedServer(script) as server:
            try:
                self.run(server)
                error = None
            except ImagewrightError as caught:
                error = caught
            return sum(asked.path.startswith(self.path) for asked in server.asked), error


@pytest.fixture(params=["registry", "token server", "download", "azure"])
def client(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    def registry(server: ScriptedServer) -> object:
        transport = Transport(
            RegistryOptions(retry=POLICY), Keychain(DockerConfig({server.host: Login("user", "secret")}))
        )
        endpoint = Endpoint(server.host, "", server.host, plain_http=True)
        return transport.fetch(endpoint, "app", Request("GET", "app/tags/list", (), frozenset({200, 401})), 1000)

    def context(server: ScriptedServer) -> object:
        return download(f"http://{server.host}/file", str(tmp_path / "file"), "", HttpOptions(print, retry=POLICY))

    def azure(server: ScriptedServer) -> object:
        monkeypatch.setattr("imagewright.registry.clouds.RetryPolicy", lambda: POLICY)
        return exchange_azure(f"http://{server.host}", "team.azurecr.io", "token")

    token = Answer(200, body=json.dumps({"token": "t", "refresh_token": "r"}).encode())
    return {
        "registry": Client("/v2/app/", Answer(200, body=b"fine"), registry),
        "token server": Client("/token", token, registry),
        "download": Client("/file", Answer(200, body=b"fine"), context),
        "azure": Client("/oauth2/exchange", token, azure),
    }[request.param]


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_a_status_that_may_pass_is_retried_by_every_client(client: Client, status: int) -> None:
    assert client.attempts([Answer(status)] * 2) == (3, None)
    attempts, error = client.attempts([Answer(status)] * 3)
    assert attempts == 3, "as often as the policy says"
    assert error is not None


@pytest.mark.parametrize("status", [400, 404, 410, 418, 501, 505])
def test_a_final_status_is_retried_by_no_client(client: Client, status: int) -> None:
    attempts, error = client.attempts([Answer(status)])
    assert attempts == 1
    assert error is not None


@pytest.mark.parametrize(
    "failure",
    [
        Answer(raw=b""),
        Answer(raw=b"SSH-2.0-OpenSSH_9.9\r\n"),
        Answer(raw=b"HTTP/1.1 200 OK\r\nX: "),
        Answer(200, body=b"fi", length=1000),
    ],
    ids=["closed", "not HTTP", "cut among the headers", "cut in the body"],
)
def test_an_interrupted_response_is_retried_by_every_client(client: Client, failure: Answer) -> None:
    assert client.attempts([failure] * 2) == (3, None)
    attempts, error = client.attempts([failure] * 3)
    assert attempts == 3
    assert error is not None


def send(method: str, status: int, repeatable: bool | None) -> int:
    """How often a request to a registry is sent that is answered with ``status``."""
    with ScriptedServer(lambda asked: Answer(status)) as server:
        transport = Transport(RegistryOptions(retry=POLICY), Keychain(DockerConfig()))
        endpoint = Endpoint(server.host, "", server.host, plain_http=True)
        request = Request(method, "app/x", (), frozenset({200}), repeatable=repeatable)
        with pytest.raises(RegistryError):
            transport.send(endpoint, "app", request)
        return server.log.count(f"{method} /v2/app/x")


@pytest.mark.parametrize(
    ("method", "status", "repeatable", "attempts"),
    [
        ("POST", 500, None, 1),
        ("PATCH", 502, None, 1),
        ("POST", 503, None, 3),
        ("PATCH", 429, None, 3),
        ("PUT", 500, None, 3),
        ("DELETE", 504, None, 3),
        ("POST", 500, True, 3),
        ("PUT", 503, False, 1),
        ("GET", 503, False, 1),
    ],
)
def test_what_a_server_may_have_processed_is_not_repeated_unless_harmless(
    method: str, status: int, repeatable: bool | None, attempts: int
) -> None:
    assert send(method, status, repeatable) == attempts


def test_a_post_whose_connection_breaks_is_not_repeated() -> None:
    def script(asked: Asked) -> Answer:
        return Answer(raw=b"") if asked.method == "POST" else Answer(200)

    with ScriptedServer(script) as server:
        transport = Transport(RegistryOptions(retry=POLICY), Keychain(DockerConfig()))
        endpoint = Endpoint(server.host, "", server.host, plain_http=True)
        with pytest.raises(RegistryError):
            transport.send(endpoint, "app", Request("POST", "app/x", (), frozenset({200})))
        assert server.log.count("POST /v2/app/x") == 1


def test_retries_of_a_response_and_of_its_body_count_together() -> None:
    failures = [Answer(503), Answer(200, body=b"fi", length=100), Answer(raw=b"")]
    left = list(failures)

    def script(asked: Asked) -> Answer:
        return left.pop(0) if left and asked.path == "/v2/app/x" else Answer(200, body=b"fine")

    with ScriptedServer(script) as server:
        transport = Transport(RegistryOptions(retry=POLICY), Keychain(DockerConfig()))
        endpoint = Endpoint(server.host, "", server.host, plain_http=True)
        with pytest.raises(RegistryError):
            transport.fetch(endpoint, "app", Request("GET", "app/x", (), frozenset({200})), 100)
        assert server.log.count("GET /v2/app/x") == 3
