"""Contexts in Azure Blob Storage.

Talks to the network through azure-storage-blob and azure-identity (extra ``azure``) and writes one file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from imagewright.context.buckets.failures import missing_sdk, not_there, refused, unreachable
from imagewright.context.job import FetchJob
from imagewright.context.mountedsecret import read_login
from imagewright.contract.sources import AzureBlobSource
from imagewright.errors import Reason, SourceError
from imagewright.logins import shown_url
from imagewright.urls import Url, parse_url

_HINT = (
    "Set AZURE_STORAGE_ACCESS_KEY, give the Pod's identity the role Storage Blob Data Reader, or name a Secret with accountKey, "
    "sasToken, or tenantId, clientId and clientSecret (ImageBuild: spec.source.azureBlob.secretRef)."
)
_HOSTS = (".blob.core.windows.net", ".blob.core.chinacloudapi.cn", ".blob.core.usgovcloudapi.net")
_APPLICATION = ("tenantId", "clientId", "clientSecret")


def parse(text: str, rest: str, environment: Mapping[str, str]) -> AzureBlobSource | None:
    """``https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB``; other web addresses do not name blobs."""
    try:
        return AzureBlobSource(url=text) if parse_url(text).host.endswith(_HOSTS) else None
    except ValueError:
        return None


def download(source: AzureBlobSource, path: str, job: FetchJob) -> str:
    """Download the blob to the new file ``path``.

    Raises:
        SourceError: reasons ``UsageInvalid``, ``FileNotFound``, ``SourceAuthFailed``, ``SourceUnreachable``.
    """
    what = shown_url(source.url)
    try:
        url = parse_url(source.url)
    except ValueError as error:
        raise SourceError(
            f'invalid address "{what}": {error}',
            reason=Reason.USAGE_INVALID,
            hint="Use https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB.",
        ) from error
    job.log(f"fetching {what}")
    try:
        import azure.identity  # noqa: F401, PLC0415 -- an extra
        from azure.core.exceptions import (  # noqa: PLC0415
            AzureError,
            ClientAuthenticationError,
            HttpResponseError,
            ResourceNotFoundError,
        )
        from azure.storage.blob import BlobClient  # noqa: PLC0415
    except ImportError:
        raise missing_sdk(what, "azure") from None
    login = _login(what, source, job.environment)
    secrets = [*login.values(), *parse_qs(url.query).get("sig", [])]
    try:
        credential = _credential(url, login)
        with BlobClient.from_blob_url(source.url, credential=credential) as client, open(path, "wb") as file:
            client.download_blob().readinto(file)
    except ResourceNotFoundError as error:
        raise not_there(what) from error
    except ClientAuthenticationError as error:
        raise refused(what, str(error), _HINT, secrets) from error
    except HttpResponseError as error:
        if error.status_code in (401, 403):
            raise refused(what, str(error), _HINT, secrets) from error
        raise unreachable(what, str(error), secrets) from error
    except (AzureError, ValueError) as error:
        raise unreachable(what, str(error), secrets) from error
    return what


def _login(what: str, source: AzureBlobSource, environment: Mapping[str, str]) -> dict[str, str]:
    """The Secret's keys, else kaniko's variable as ``accountKey``; empty without either."""
    if not source.credentials_dir:
        key = environment.get("AZURE_STORAGE_ACCESS_KEY", "")
        return {"accountKey": key} if key else {}
    secret = read_login(source)
    login = {name: value for name, value in secret.items() if value}
    if not ("accountKey" in login or "sasToken" in login or login.keys() >= set(_APPLICATION)):
        lacking = ", ".join(name for name in _APPLICATION if name not in login)
        raise refused(what, f"the Secret mounted at {source.credentials_dir} lacks {lacking}", _HINT)
    return login


def _credential(url: Url, login: Mapping[str, str]) -> Any:
    """A key, a signature or an identity; None if the address has a signature."""
    from azure.identity import ClientSecretCredential, DefaultAzureCredential  # noqa: PLC0415

    if "accountKey" in login:
        return {"account_name": _account(url), "account_key": login["accountKey"]}
    if "sasToken" in login:
        return login["sasToken"].removeprefix("?")
    if login:
        return ClientSecretCredential(*(login[name] for name in _APPLICATION))
    if "sig=" in url.query:
        return None
    return DefaultAzureCredential()


def _account(url: Url) -> str:
    """The account of ``https://ACCOUNT.blob.…``, or the first part of the path, as in emulators' addresses."""
    return url.host.partition(".")[0] if ".blob." in url.host else url.path.strip("/").partition("/")[0]
