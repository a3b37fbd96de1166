"""Encryption: where it is asked for there is no way around it, and what the user's environment says changes nothing."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from servers.scripted import Answer, Asked, ScriptedServer

from imagewright.errors import Reason, RegistryError
from imagewright.http.retry import RetryPolicy
from imagewright.http.session import Tls
from imagewright.registry.auth import Login
from imagewright.registry.dockerconfig import DockerConfig
from imagewright.registry.endpoints import Endpoint, RegistryOptions
from imagewright.registry.keychain import Keychain
from imagewright.registry.transport import Request, Transport

Ask = Callable[..., bytes]
Issue = Callable[..., Path]


@pytest.fixture(scope="module")
def authority(issue: Issue) -> Path:
    """A folder with ca.crt, and server.crt for localhost but not for 127.0.0.1."""
    return issue("server", hosts=("localhost",))


def context(authority: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(authority / "server.crt", authority / "server.key")
    return made


def at(host: str, *, plain_http: bool = False, skip: bool = False, ca: Path | None = None) -> Endpoint:
    return Endpoint(host, "", host, plain_http, Tls(verify=not skip, ca_file=str(ca / "ca.crt") if ca else ""))


def ok(_: Asked) -> Answer:
    return Answer(200, body=b"fine")


def test_plain_http_is_not_spoken_unless_allowed(ask: Ask) -> None:
    with ScriptedServer(ok) as server:
        with pytest.raises(RegistryError, match="does not speak TLS") as caught:
            ask(at(server.host))
        assert "--insecure-registry" in caught.value.hint
        assert not server.asked
        assert ask(at(server.host, plain_http=True)) == b"fine"


def test_allowing_plain_http_does_not_excuse_a_bad_certificate(ask: Ask, authority: Path) -> None:
    with ScriptedServer(ok, context(authority)) as server:
        with pytest.raises(RegistryError, match=r"cannot verify the certificate of localhost") as caught:
            ask(at(f"localhost:{server.port}", plain_http=True))
        assert "--registry-certificate" in caught.value.hint
        assert not server.asked


def test_a_certificate_for_another_name(ask: Ask, authority: Path) -> None:
    with ScriptedServer(ok, context(authority)) as server:
        assert ask(at(f"localhost:{server.port}", ca=authority)) == b"fine"
        with pytest.raises(RegistryError, match=r"cannot verify the certificate of 127\.0\.0\.1:\d+"):
            ask(at(server.host, ca=authority))


def test_a_ca_file_that_is_none(ask: Ask, authority: Path, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("not PEM")
    for folder, why in ((tmp_path, "cannot read the CA certificate"), (tmp_path / "none", "No such file")):
        with pytest.raises(RegistryError, match=why) as caught:
            ask(at("localhost:1", ca=folder))
        assert "PEM" in caught.value.hint


def test_skipping_verification_holds_whatever_the_environment_says(
    ask: Ask, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority / "none.crt"))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(authority / "none.crt"))
    with ScriptedServer(ok, context(authority)) as server:
        assert ask(at(server.host, skip=True)) == b"fine"
        assert ask(at(f"localhost:{server.port}", ca=authority)) == b"fine"


def test_a_registry_that_is_down_is_not_taken_for_one_without_tls(authority: Path) -> None:
    transport = Transport(RegistryOptions(retry=RetryPolicy(0)), Keychain(DockerConfig()))
    request = Request("GET", "app/tags/list", (), frozenset({200}))
    with ScriptedServer(lambda _: Answer(raw=b"")) as broken:
        endpoint = at(f"localhost:{broken.port}", plain_http=True, ca=authority)
        with pytest.raises(RegistryError, match="cannot reach"):
            transport.send(endpoint, "app", request)
        broken._server.context = context(authority)
        broken.script = ok
        assert transport.fetch(endpoint, "app", request, 100)[1] == b"fine"


def test_an_encrypted_registry_leads_to_no_unencrypted_place(ask: Ask, authority: Path) -> None:
    with ScriptedServer(ok) as plain:
        redirect = Answer(307, {"Location": f"http://{plain.host}/stolen"})
        with ScriptedServer(lambda _: redirect, context(authority)) as server:
            with pytest.raises(RegistryError, match="not HTTPS") as caught:
                ask(at(f"localhost:{server.port}", ca=authority))
            assert caught.value.reason is Reason.REGISTRY_PROTOCOL_ERROR
        assert not plain.asked


def test_a_registry_that_does_not_know_of_the_tls_before_it(ask: Ask, authority: Path) -> None:
    def script(asked: Asked) -> Answer:
        if asked.path == "/v2/app/tags/list":
            return Answer(307, {"Location": f"http://{asked.headers['host']}/v2/other"})
        return Answer(200, body=asked.authorization.encode())

    with ScriptedServer(script, context(authority)) as server:
        assert ask(at(f"localhost:{server.port}", ca=authority)) == b""


@pytest.mark.parametrize("host", ["127.evil.test", "127.0.0.1@evil.test", "localhost.evil.test", "evil.test"])
def test_a_login_is_not_sent_unencrypted_to_names_that_look_like_this_machine(
    ask: Ask, authority: Path, host: str
) -> None:
    challenge = Answer(401, {"WWW-Authenticate": f'Bearer realm="http://{host}/token"'})
    with (
        ScriptedServer(lambda _: challenge, context(authority)) as server,
        pytest.raises(RegistryError, match="not HTTPS") as caught,
    ):
        ask(at(f"localhost:{server.port}", ca=authority), login=Login("user", "secret"))
    assert caught.value.reason is Reason.REGISTRY_AUTH_FAILED


@pytest.mark.parametrize(
    "written", ["http://{host}/token", "http://evil.test\\@{host}/token", "http://{host}\\@evil.test/"]
)
def test_a_login_is_not_sent_unencrypted_to_this_machine(ask: Ask, authority: Path, written: str) -> None:
    with ScriptedServer(ok) as thief:
        challenge = Answer(401, {"WWW-Authenticate": f'Bearer realm="{written.format(host=thief.host)}"'})
        with (
            ScriptedServer(lambda _: challenge, context(authority)) as server,
            pytest.raises(RegistryError, match="cannot log in") as caught,
        ):
            ask(at(f"localhost:{server.port}", ca=authority), login=Login("user", "secret"))
    assert not thief.asked
    assert caught.value.reason in (Reason.REGISTRY_AUTH_FAILED, Reason.REGISTRY_PROTOCOL_ERROR)


def test_neither_netrc_nor_cookies_nor_proxies_come_into_it(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login stray password stray\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    def script(asked: Asked) -> Answer:
        if asked.path == "/v2/app/tags/list":
            return Answer(307, {"Location": "/v2/again", "Set-Cookie": "id=7; Path=/"})
        return Answer(200, body=b"fine")

    with ScriptedServer(script) as server:
        assert ask(at(server.host, plain_http=True)) == b"fine"
        assert len(server.asked) >= 2
        assert not any("cookie" in a.headers or a.authorization for a in server.asked)


@pytest.mark.parametrize("machine", ["127.0.0.1", "localhost", "127.1", "2130706433", "0.0.0.0"])
def test_a_remote_registry_has_no_local_token_server(ask: Ask, machine: str) -> None:
    """``127.1`` stands for a remote registry: it is none of the names by which a registry counts as on this machine."""
    with ScriptedServer(lambda _: Answer(200, body=b'{"token": "granted"}')) as tokens:
        realm = f'Bearer realm="http://{machine}:{tokens.port}/token"'

        def script(asked: Asked) -> Answer:
            return ok(asked) if asked.authorization else Answer(401, {"WWW-Authenticate": realm})

        with ScriptedServer(script) as server:
            with pytest.raises(RegistryError, match=r"its token server .* is this machine") as caught:
                ask(at(f"127.1:{server.port}", plain_http=True))
            assert caught.value.reason is Reason.REGISTRY_AUTH_FAILED
            assert not tokens.asked
            assert ask(at(server.host, plain_http=True)) == b"fine"
