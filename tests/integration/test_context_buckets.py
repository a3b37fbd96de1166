"""Contexts in buckets: a real S3 server, and Google's and Azure's emulators, by the clouds' own SDKs."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from archives.tars import tar_of
from cluster.certificates import Authority, Identity
from servers.buckets import AZURE_ACCOUNT, AZURE_KEY, S3_KEY, S3_SECRET, azure_server, gcs_server, s3_server

from imagewright.contract.sources import AzureBlobSource, GcsSource, S3Source
from imagewright.errors import ImagewrightError, Reason, exit_code

pytestmark = pytest.mark.usefixtures("no_cloud_login")


Fetch = Callable[..., Path]
FetchError = Callable[..., ImagewrightError]
Secret = Callable[..., str]


CONTENT = b"FROM scratch\n"
ARCHIVE = gzip.compress(tar_of({"Dockerfile": CONTENT}))


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[str]:
    bucket = tmp_path / "s3" / "bucket" / "deep"
    bucket.mkdir(parents=True)
    (bucket / "context.tar.gz").write_bytes(ARCHIVE)
    # More than one range of the SDK's.
    (bucket / "large.tar").write_bytes(tar_of({"Dockerfile": CONTENT + b"#" * (20 << 20)}))
    (bucket / "page.html").write_bytes(b"<html>Log in</html>")
    with s3_server(tmp_path / "s3") as address:
        yield address


def test_context_in_s3(fetch_archive: Fetch, s3: str, secret: Secret, monkeypatch: pytest.MonkeyPatch) -> None:
    login = secret(accesskey=S3_KEY, secretkey=S3_SECRET)
    source = S3Source(bucket="bucket", key="deep/context.tar.gz", endpoint=s3, path_style=True, credentials_dir=login)
    assert (fetch_archive(source) / "Dockerfile").read_text() == "FROM scratch\n"
    large = replace(source, key="deep/large.tar")
    assert (fetch_archive(large) / "Dockerfile").stat().st_size > 20 << 20
    # The SDK's own chain, as a Pod's environment has it.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", S3_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", S3_SECRET)
    fetch_archive(replace(source, credentials_dir=""))


def test_refusals_of_s3_have_a_reason(fetch_error: FetchError, s3: str, secret: Secret) -> None:
    login = secret(accesskey=S3_KEY, secretkey=S3_SECRET)
    source = S3Source(bucket="bucket", key="deep/none.tar", endpoint=s3, path_style=True, credentials_dir=login)
    assert fetch_error(source).reason is Reason.FILE_NOT_FOUND
    assert fetch_error(replace(source, bucket="nobucket")).reason is Reason.FILE_NOT_FOUND
    anonymous = fetch_error(replace(source, credentials_dir=""))
    assert anonymous.reason is Reason.SOURCE_AUTH_FAILED
    wrong = secret(accesskey=S3_KEY, secretkey="hunter3hunter3", sessiontoken="")
    refused = fetch_error(replace(source, credentials_dir=wrong))
    assert refused.reason is Reason.SOURCE_AUTH_FAILED
    assert "hunter" not in refused.render()
    page = fetch_error(replace(source, key="deep/page.html"))
    assert "it is a web page" in page.message
    nobody = fetch_error(replace(source, endpoint="http://127.0.0.1:1"))
    assert nobody.reason is Reason.SOURCE_UNREACHABLE


def test_public_s3_bucket_needs_no_login(fetch_archive: Fetch, s3: str) -> None:
    import boto3

    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::bucket/*",
    }
    login = {"aws_access_key_id": S3_KEY, "aws_secret_access_key": S3_SECRET, "region_name": "us-east-1"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    boto3.client("s3", endpoint_url=s3, **login).put_bucket_policy(Bucket="bucket", Policy=policy)
    source = S3Source(bucket="bucket", key="deep/context.tar.gz", endpoint=s3, path_style=True)
    assert (fetch_archive(source) / "Dockerfile").exists()


def test_s3_server_with_a_private_ca(tmp_path: Path) -> None:
    """SSL_CERT_FILE is one setting for all, and the SDK has its own: only the whole program shows whether it is
    told.
    """
    bucket = tmp_path / "s3" / "bucket"
    bucket.mkdir(parents=True)
    (bucket / "context.tar.gz").write_bytes(ARCHIVE)
    Authority(tmp_path / "tls", "a bucket's").issue(Identity("server", "127.0.0.1", hosts=("127.0.0.1",)))
    with s3_server(tmp_path / "s3", tmp_path / "tls") as address:
        environment = {
            "PATH": os.environ["PATH"],
            "AWS_ACCESS_KEY_ID": S3_KEY,
            "AWS_SECRET_ACCESS_KEY": S3_SECRET,
            "S3_ENDPOINT": address,
            "S3_FORCE_PATH_STYLE": "true",
        }
        command = [sys.executable, "-m", "imagewright", "plan", "--context=s3://bucket"]
        refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        environment["SSL_CERT_FILE"] = str(tmp_path / "tls" / "ca.crt")
        planned = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == exit_code(Reason.SOURCE_UNREACHABLE)
    assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr
    assert planned.returncode == 0, planned.stderr


def test_context_in_a_bucket_of_google(
    fetch_archive: Fetch, fetch_error: FetchError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = tmp_path / "gcs" / "bucket" / "deep"
    bucket.mkdir(parents=True)
    (bucket / "context.tar.gz").write_bytes(ARCHIVE)
    with gcs_server(tmp_path / "gcs") as address:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        source = GcsSource(bucket="bucket", object="deep/context.tar.gz")
        assert (fetch_archive(source) / "Dockerfile").exists()
        missing = fetch_error(replace(source, object="none"))
        assert missing.reason is Reason.FILE_NOT_FOUND


def test_context_in_azure(fetch_archive: Fetch, fetch_error: FetchError, secret: Secret, tmp_path: Path) -> None:
    from azure.storage.blob import BlobServiceClient

    with azure_server(tmp_path / "azure") as address:
        credential = {"account_name": AZURE_ACCOUNT, "account_key": AZURE_KEY}
        with BlobServiceClient(address, credential=credential) as service, service.create_container("box") as box:
            box.upload_blob("context.tar.gz", ARCHIVE)
        source = AzureBlobSource(url=f"{address}/box/context.tar.gz")
        # kaniko's variable, and a Secret.
        assert (fetch_archive(source, {"AZURE_STORAGE_ACCESS_KEY": AZURE_KEY}) / "Dockerfile").exists()
        login = secret(accountKey=AZURE_KEY)
        fetch_archive(replace(source, credentials_dir=login))
        missing = replace(source, url=f"{address}/box/none", credentials_dir=login)
        assert fetch_error(missing).reason is Reason.FILE_NOT_FOUND
        wrong = secret(accountKey="aHVudGVyMg==")
        refused = fetch_error(replace(source, credentials_dir=wrong))
        assert refused.reason is Reason.SOURCE_AUTH_FAILED
