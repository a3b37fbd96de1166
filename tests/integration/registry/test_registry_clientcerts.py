"""Client certificates: sent where one is requested; each way in which a file can be wrong is an error."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster.certificates import Authority, Identity
from cryptography.hazmat.primitives import serialization
from servers.scripted import Answer, ScriptedServer

from imagewright.contract.request import RegistrySettings
from imagewright.errors import Reason, RegistryError
from imagewright.http.body import finish
from imagewright.http.exchange import HttpClient, HttpRequest
from imagewright.http.failures import BROKEN
from imagewright.http.session import Tls

Ask = Callable[..., bytes]
Issue = Callable[..., Path]


@pytest.fixture(scope="module")
def authority(issue: Issue) -> Path:
    """A folder with ca.crt, server.crt for localhost, client.crt and other.crt."""
    return issue("server", "client", "other", hosts=("localhost",))


@pytest.fixture(scope="module")
def server(authority: Path) -> Iterator[ScriptedServer]:
    """Answers who shows a certificate of the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.crt", authority / "server.key")
    context.load_verify_locations(authority / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    with ScriptedServer(lambda _: Answer(200, body=b"fine"), context) as running:
        yield running


def at(server: ScriptedServer, authority: Path, client: Path | None = None) -> RegistrySettings:
    """The server's address, and the certificate in the folder ``client`` for it."""
    return RegistrySettings(
        host=f"localhost:{server.port}",
        ca_file=str(authority / "ca.crt"),
        client_cert_file=str(client / "client.crt") if client else "",
        client_key_file=str(client / "client.key") if client else "",
    )


def test_a_client_certificate_is_shown(ask: Ask, server: ScriptedServer, authority: Path) -> None:
    assert ask(at(server, authority, authority)) == b"fine"


def test_a_registry_that_asks_for_a_client_certificate_is_said_to(
    ask: Ask, server: ScriptedServer, authority: Path
) -> None:
    with pytest.raises(RegistryError, match="requires a client certificate") as caught:
        ask(at(server, authority))
    assert caught.value.reason is Reason.REGISTRY_AUTH_FAILED
    assert "--registry-client-cert" in caught.value.hint


def test_a_client_certificate_of_somebody_else_is_said_to_be_refused(
    ask: Ask, server: ScriptedServer, authority: Path, tmp_path: Path
) -> None:
    Authority(tmp_path, "somebody else").issue(Identity("client", "client"))
    with pytest.raises(RegistryError, match="rejected the client certificate") as caught:
        ask(at(server, authority, tmp_path))
    assert caught.value.reason is Reason.REGISTRY_AUTH_FAILED


def encrypt(path: Path) -> None:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    kind = serialization.PrivateFormat.PKCS8
    secret = serialization.BestAvailableEncryption(b"passphrase")
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, secret))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (Path.unlink, "No such file"),
        (encrypt, "the key has a passphrase"),
        (lambda path: path.write_text("no PEM"), "cannot use the client certificate"),
        (
            lambda path: path.write_bytes((path.parent / "other.key").read_bytes()),
            "the key belongs to another certificate",
        ),
    ],
)
def test_a_key_that_can_not_be_used(
    ask: Ask, server: ScriptedServer, authority: Path, tmp_path: Path, spoil: Callable[[Path], object], why: str
) -> None:
    for name in ("client.crt", "client.key", "other.key"):
        (tmp_path / name).write_bytes((authority / name).read_bytes())
    spoil(tmp_path / "client.key")
    with pytest.raises(RegistryError, match=why) as caught:
        ask(at(server, authority, tmp_path))
    assert caught.value.reason is Reason.REGISTRY_AUTH_FAILED
    assert "PEM" in caught.value.hint


def test_a_certificate_that_is_renewed_is_shown_from_then_on(
    server: ScriptedServer, authority: Path, tmp_path: Path
) -> None:
    """While it is being replaced, the last one that could be used is shown."""
    Authority(tmp_path / "else", "somebody else").issue(Identity("client", "client"))
    tls = Tls(True, str(authority / "ca.crt"), str(tmp_path / "client.crt"), str(tmp_path / "client.key"))

    def replace(name: str, source: Path) -> None:
        (tmp_path / "new").write_bytes(source.read_bytes())
        (tmp_path / "new").rename(tmp_path / name)

    def status() -> int:
        response = client.send(HttpRequest("GET", f"https://localhost:{server.port}/v2/"), tls)
        finish(response)
        return response.status_code

    for name in ("client.crt", "client.key"):
        replace(name, authority / name)
    with HttpClient() as client:
        assert status() == 200
        replace("client.crt", tmp_path / "else/client.crt")
        assert status() == 200, "the key does not belong to it yet"
        replace("client.key", tmp_path / "else/client.key")
        with pytest.raises(BROKEN):
            status()
        (tmp_path / "client.key").unlink()
        with pytest.raises(BROKEN):
            status()
        for name in ("client.crt", "client.key"):
            replace(name, authority / name)
        assert status() == 200


def test_a_ca_that_is_renewed_is_trusted_from_then_on(server: ScriptedServer, authority: Path, tmp_path: Path) -> None:
    ca = tmp_path / "ca.crt"
    Authority(tmp_path, "somebody else")
    tls = Tls(True, str(ca), str(authority / "client.crt"), str(authority / "client.key"))
    request = HttpRequest("GET", f"https://localhost:{server.port}/v2/")
    with HttpClient() as client:
        with pytest.raises(BROKEN):
            client.send(request, tls)
        ca.write_bytes((authority / "ca.crt").read_bytes())
        finish(client.send(request, tls))
