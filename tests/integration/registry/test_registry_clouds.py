"""Logins of clouds by their own SDKs, which are sent to a server of the test in the cloud's place."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from servers.scripted import Answer, Asked, ScriptedServer

from imagewright.errors import Reason, RegistryError
from imagewright.registry.auth import Login
from imagewright.registry.clouds import CloudKeychain, exchange_azure, from_amazon, from_azure, from_google

ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


@pytest.fixture(autouse=True)
def no_login_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "CLOUDSDK_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_GCE_CHECK", "true")


def test_amazon(monkeypatch: pytest.MonkeyPatch) -> None:
    token = base64.b64encode(b"AWS:hunter2").decode()

    def answer(asked: Asked) -> Answer:
        assert asked.headers["x-amz-target"].endswith(".GetAuthorizationToken")
        assert "eu-west-1/ecr" in asked.authorization
        return Answer(200, {}, json.dumps({"authorizationData": [{"authorizationToken": token}]}).encode())

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with ScriptedServer(answer) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", f"http://{server.host}")
        assert from_amazon(ECR, {}) == Login("AWS", "hunter2")
        assert from_amazon("registry.example.com", {}) is None
        sources = CloudKeychain({})
        assert sources.find(ECR) == sources.find(ECR) == Login("AWS", "hunter2")
        assert len(server.asked) == 2, "asked once a host"


def test_amazon_without_credentials_is_said_to_who_is_refused() -> None:
    sources = CloudKeychain({}, ("ecr",))
    assert sources.find(ECR) is None
    (trouble,) = sources.errors(ECR)
    assert "no login from ecr" in trouble
    assert "credentials" in trouble


def test_google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

    def answer(asked: Asked) -> Answer:
        assert parse_qs(asked.body.decode())["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
        return Answer(200, {"Content-Type": "application/json"}, b'{"access_token": "hunter2", "expires_in": 3600}')

    with ScriptedServer(answer) as server:
        account = {
            "type": "service_account", "project_id": "p", "private_key_id": "k", "private_key": key.decode(),
            "client_email": "builder@p.iam.gserviceaccount.com", "token_uri": f"http://{server.host}/token",
        }  # fmt: skip
        (tmp_path / "account.json").write_text(json.dumps(account))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
        for host in ("gcr.io", "eu.gcr.io", "europe-west1-docker.pkg.dev"):
            assert from_google(host, {}) == Login("oauth2accesstoken", "hunter2")
        assert from_google("gcr.io.example.com", {}) is None


def test_azure_exchanges_its_token_for_the_registrys() -> None:
    def answer(asked: Asked) -> Answer:
        form = parse_qs(asked.body.decode())
        assert asked.path == "/oauth2/exchange"
        if form["access_token"] != ["of azure"]:
            return Answer(401)
        assert (form["grant_type"], form["service"]) == (["access_token"], ["team.azurecr.io"])
        return Answer(200, {"Content-Type": "application/json"}, b'{"refresh_token": "hunter2"}')

    with ScriptedServer(answer) as server:
        address = f"http://{server.host}"
        assert exchange_azure(address, "team.azurecr.io", "of azure") == "hunter2"
        with pytest.raises(RegistryError, match=r"cannot log in to team\.azurecr\.io") as caught:
            exchange_azure(address, "team.azurecr.io", "another")
    assert caught.value.reason is Reason.REGISTRY_AUTH_FAILED
    assert "AcrPull" in caught.value.hint
    assert from_azure("azurecr.io.example.com", {}) is None


@pytest.mark.parametrize(
    "host", ["evil.com/gcr.io", "notgcr.io", "123.dkr.ecr.eu-west-1.amazonaws.com.evil.com", "xazurecr.io"]
)
def test_no_cloud_gives_its_login_to_a_host_that_only_looks_like_its_own(host: str) -> None:
    assert from_amazon(host, {}) is from_google(host, {}) is from_azure(host, {}) is None
