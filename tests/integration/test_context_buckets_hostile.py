"""Buckets and clouds that answer what no real one can be made to, and broken logins."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from servers.scripted import Answer, Asked, ScriptedServer

from imagewright.contract.sources import AzureBlobSource, GcsSource, S3Source, Source
from imagewright.errors import ImagewrightError, Reason

pytestmark = pytest.mark.usefixtures("no_cloud_login")

PASSWORD = "hunter2/hunter2+hunter2"


FetchError = Callable[..., ImagewrightError]
Secret = Callable[..., str]


@pytest.fixture
def answers() -> list[Answer]:
    """What the server says to whatever it is asked; the last for ever."""
    return []


@pytest.fixture
def server(answers: list[Answer]) -> Iterator[ScriptedServer]:
    def script(asked: Asked) -> Answer:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    with ScriptedServer(script) as server:
        yield server


# --- S3


def s3(server: ScriptedServer, **more: str) -> S3Source:
    return S3Source(bucket="bucket", key="a.tar", endpoint=f"http://{server.host}", path_style=True, **more)


def said(code: str, message: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


@pytest.mark.parametrize("status", [301, 307])
def test_endless_region_redirects_of_s3(
    fetch_error: FetchError, server: ScriptedServer, answers: list[Answer], secret: Secret, status: int
) -> None:
    answers.append(Answer(status, {"x-amz-bucket-region": "us-east-1"}, said("PermanentRedirect", "elsewhere")))
    login = secret(accesskey="me", secretkey=PASSWORD)
    assert fetch_error(s3(server, credentials_dir=login)).reason is Reason.SOURCE_UNREACHABLE


def test_s3_server_that_echoes_the_login(
    fetch_error: FetchError, server: ScriptedServer, answers: list[Answer], secret: Secret
) -> None:
    # S3 itself does so for a wrong key: <AWSAccessKeyId>, and the signature that it expected.
    message = f"{PASSWORD} {quote(PASSWORD, safe='')} {base64.b64encode(PASSWORD.encode()).decode()}"
    answers.append(Answer(403, {}, said("SignatureDoesNotMatch", message)))
    # The object's HEAD comes first, whose answer has no body: this is what the SDK reads where there is one.
    server.script = lambda asked: (
        Answer(200, {"Content-Length": "9", "ETag": '"0"'}) if asked.method == "HEAD" else answers[0]
    )
    error = fetch_error(s3(server, credentials_dir=secret(accesskey="me", secretkey=PASSWORD)))
    assert error.reason is Reason.SOURCE_AUTH_FAILED
    assert "***" in error.message
    assert "hunter2" not in error.render()
    assert base64.b64encode(PASSWORD.encode()).decode()[4:12] not in error.render()


@pytest.mark.parametrize(
    ("environment", "written", "region"),
    [({}, "", "us-east-1"), ({"AWS_REGION": "eu-x-1"}, "", "eu-x-1"), ({"AWS_REGION": "eu-x-1"}, "af-y-2", "af-y-2")],
)
def test_the_region_is_the_source_s_else_the_environment_s(  # noqa: PLR0917
    fetch_error: FetchError,
    server: ScriptedServer,
    answers: list[Answer],
    secret: Secret,
    environment: dict[str, str],
    written: str,
    region: str,
) -> None:
    answers.append(Answer(404))
    login = secret(accesskey="me", secretkey=PASSWORD)
    source = s3(server, credentials_dir=login, region=written)
    assert fetch_error(source, environment).reason is Reason.FILE_NOT_FOUND
    assert f"/{region}/s3/" in server.asked[0].authorization


@pytest.mark.parametrize("values", [{"accesskey": "me"}, {"secretkey": PASSWORD}, {"accesskey": "me", "secretkey": ""}])
def test_incomplete_s3_login_is_refused(
    fetch_error: FetchError, server: ScriptedServer, answers: list[Answer], secret: Secret, values: dict[str, str]
) -> None:
    answers.append(Answer(404))
    error = fetch_error(s3(server, credentials_dir=secret(**values)))
    assert error.reason is Reason.SOURCE_AUTH_FAILED
    assert "lacks accesskey or secretkey" in error.message
    assert not server.asked


# --- Google


@pytest.mark.parametrize(
    "key", ["[]", "{}", "null", '"text"', "no JSON", '{"type": "service_account"}', '{"client_email": 1}']
)
def test_invalid_service_account_key(fetch_error: FetchError, secret: Secret, key: str) -> None:
    source = GcsSource(bucket="bucket", object="a.tar", credentials_dir=secret(serviceaccount=key))
    error = fetch_error(source)
    assert error.reason is Reason.SOURCE_AUTH_FAILED
    assert "cannot use the key serviceaccount of the Secret" in error.message


@pytest.mark.parametrize("text", [None, "[]", "no JSON", json.dumps({"type": "frobnicated"})])
def test_invalid_service_account_key_file(
    fetch_error: FetchError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    file = tmp_path / "key.json"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    source = GcsSource(bucket="bucket", object="a.tar")
    error = fetch_error(source, {"GOOGLE_APPLICATION_CREDENTIALS": str(file)})
    assert error.reason is Reason.SOURCE_AUTH_FAILED
    assert f"cannot use GOOGLE_APPLICATION_CREDENTIALS={file}" in error.message


# --- Azure


def test_an_invalid_address_is_refused_before_a_login_is_used(secret: Secret, fetch_error: FetchError) -> None:
    url = "http://evil.test\\@account.blob.core.windows.net/box/a.tar"
    error = fetch_error(AzureBlobSource(url=url, credentials_dir=secret(sasToken="?sv=2024&sig=hunter2")))
    assert error.reason is Reason.USAGE_INVALID
    assert "invalid character" in error.message


def test_blob_server_that_echoes_the_signature(
    fetch_error: FetchError, server: ScriptedServer, answers: list[Answer], secret: Secret
) -> None:
    url = f"http://{server.host}/account/box/a.tar"
    answers.append(
        Answer(403, {"x-ms-error-code": "AuthenticationFailed"}, said("AuthenticationFailed", f"{url}?sig=hunter2"))
    )
    for source in (
        AzureBlobSource(url=f"{url}?sv=2024&sig=hunter2"),
        AzureBlobSource(url=url, credentials_dir=secret(sasToken="?sv=2024&sig=hunter2")),
    ):
        error = fetch_error(source)
        assert error.reason is Reason.SOURCE_AUTH_FAILED
        assert "hunter2" not in error.render()


def test_an_application_s_login_without_its_tenant(fetch_error: FetchError, secret: Secret) -> None:
    login = secret(clientId="me", clientSecret=PASSWORD)
    error = fetch_error(AzureBlobSource(url="http://127.0.0.1:1/account/box/a.tar", credentials_dir=login))
    assert error.reason is Reason.SOURCE_AUTH_FAILED
    assert "lacks tenantId" in error.message


@pytest.mark.parametrize(
    ("module", "source", "extra"),
    [
        ("boto3", S3Source(bucket="bucket", key="a.tar"), "s3"),
        ("google.cloud.storage", GcsSource(bucket="bucket", object="a.tar"), "gcs"),
        ("azure.storage.blob", AzureBlobSource(url="http://127.0.0.1:1/account/box/a.tar"), "azure"),
        ("azure.identity", AzureBlobSource(url="http://127.0.0.1:1/account/box/a.tar"), "azure"),
    ],
)
def test_missing_sdk_is_named(
    fetch_error: FetchError, monkeypatch: pytest.MonkeyPatch, module: str, source: Source, extra: str
) -> None:
    __import__(module)
    parent, _, name = module.rpartition(".")
    if parent:
        monkeypatch.delattr(sys.modules[parent], name)
    monkeypatch.setitem(sys.modules, module, None)  # what Python itself does for an import that is forbidden
    error = fetch_error(source)
    assert error.reason is Reason.NOT_SUPPORTED
    assert f"pip install '.[{extra}]'" in error.hint


@pytest.mark.parametrize(
    "source",
    [
        S3Source(bucket="bucket", key="a.tar"),
        GcsSource(bucket="bucket", object="a.tar"),
        AzureBlobSource(url="http://127.0.0.1:1/account/box/a.tar"),
    ],
    ids=["s3", "gcs", "azure"],
)
def test_a_secret_for_something_else(fetch_error: FetchError, secret: Secret, source: Source) -> None:
    other = replace(source, credentials_dir=secret(token="hunter2"))
    error = fetch_error(other)
    assert error.reason is Reason.SOURCE_AUTH_FAILED
    assert "none of the keys" in error.message
    assert "it has token" in error.message
