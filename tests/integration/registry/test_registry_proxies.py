"""Proxies of the environment: what goes through them, what does not, and the error where one refuses."""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers.scripted import Answer, Asked, ScriptedServer
from servers.tunnelproxy import TunnelProxy

from imagewright.contract.request import RegistrySettings
from imagewright.errors import RegistryError
from imagewright.registry.auth import Login

NAME = "registry.proxied.test"  # no resolver knows it: what reaches it went through the proxy
Ask = Callable[..., bytes]
Issue = Callable[..., Path]


@pytest.fixture(autouse=True)
def nothing_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the environment's own proxies, and with every address being this machine's port 1, where nobody is."""
    real = socket.getaddrinfo

    def find(host: str, port: int, *more: int) -> object:
        return real("127.0.0.1", 1 if host in (NAME, "10.9.8.7") else port, *more)

    monkeypatch.setattr(socket, "getaddrinfo", find)
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def authority(issue: Issue) -> Path:
    return issue("server", hosts=(NAME, "10.9.8.7"))


@pytest.fixture
def server(authority: Path) -> Iterator[ScriptedServer]:
    """Over TLS, for the name that only the proxy finds, with a login."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.crt", authority / "server.key")

    def script(asked: Asked) -> Answer:
        if not asked.authorization:
            return Answer(401, {"WWW-Authenticate": 'Basic realm="test"'})
        return Answer(200, body=asked.authorization.encode())

    with ScriptedServer(script, context) as running:
        yield running


@pytest.fixture
def home(server: ScriptedServer, authority: Path) -> RegistrySettings:
    """The server, by that name."""
    return RegistrySettings(host=f"{NAME}:{server.port}", ca_file=str(authority / "ca.crt"))


LOGIN = Login("user", "secret")
SENT = b"Basic " + base64.b64encode(b"user:secret")


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
def test_a_registry_is_reached_through_a_tunnel(
    ask: Ask, server: ScriptedServer, home: RegistrySettings, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with TunnelProxy() as proxy:
        monkeypatch.setenv(variable, f"http://{proxy.host}")
        assert ask(home, LOGIN) == SENT
    assert proxy.asked == [f"CONNECT {NAME}:{server.port}"], (
        "one tunnel for both requests, and nothing of them in the open"
    )
    assert len(server.asked) == 2
    assert not any(name.startswith("proxy-") for asked in server.asked for name in asked.headers)


def test_a_proxy_has_a_login_of_its_own(ask: Ask, home: RegistrySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    login = "Basic " + base64.b64encode(b"me:p@ss").decode()
    with TunnelProxy(login) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%40ss@{proxy.host}")
        assert ask(home, LOGIN) == SENT
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:hunter2@{proxy.host}")
        with pytest.raises(RegistryError, match="407") as caught:
            ask(home, LOGIN)
    assert "proxy" in caught.value.render().lower()
    assert "hunter2" not in caught.value.render()


def test_a_proxy_that_is_not_there(
    ask: Ask, server: ScriptedServer, home: RegistrySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hunter2@127.0.0.1:1")
    with pytest.raises(RegistryError, match="proxy") as caught:
        ask(home, LOGIN)
    assert "hunter2" not in caught.value.render()
    assert not server.asked


def test_plain_http_goes_through_the_proxy_too(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(lambda _: Answer(200, body=b"fine")) as server, TunnelProxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.host}")
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.host}")
        assert ask(RegistrySettings(host=f"{NAME}:{server.port}", insecure=True)) == b"fine"
    assert proxy.asked[0] == f"CONNECT {NAME}:{server.port}", "whether HTTPS is spoken"
    assert f"GET http://{NAME}:{server.port}/v2/app/tags/list" in proxy.asked


@pytest.mark.parametrize(
    ("host", "no_proxy", "through"),
    [
        (NAME, "proxied.test", False),
        (NAME, ".proxied.test", False),
        (NAME, "other.test, registry.proxied.test", False),
        (NAME, "*", False),
        (NAME, "ied.test", True),
        (NAME, "other.test", True),
        ("10.9.8.7", "10.0.0.0/8", False),
        ("10.9.8.7", "10.9.8.7", False),
        ("10.9.8.7", "10.9.9.0/24", True),
        ("127.0.0.1", "", False),
        ("localhost", "", False),
    ],
)
def test_no_proxy(ask: Ask, monkeypatch: pytest.MonkeyPatch, host: str, no_proxy: str, through: bool) -> None:
    """Nobody is at the port, and only the proxy tells: what doesn't come by it, went past it."""
    with TunnelProxy(authorization="nobody has it") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.host}")
        monkeypatch.setenv("NO_PROXY", no_proxy)
        monkeypatch.setattr("imagewright.http.exchange._CONNECT_S", 0.2)
        with pytest.raises(RegistryError, match="through the proxy" if through else "cannot reach [^ ]*: "):
            ask(RegistrySettings(host=f"{host}:1"))
    assert bool(proxy.asked) is through
