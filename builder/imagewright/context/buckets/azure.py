"""A context in Azure Blob Storage.

Talks to the network through azure-storage-blob and azure-identity (extra ``azure``) and writes one file. Called by
``context.fetch``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from imagewright.context.buckets.credentials import missing_sdk, not_there, read_secret, refused, unreachable
from imagewright.contract import AzureBlobSource

_HINT = (
    "Set AZURE_STORAGE_ACCESS_KEY, give the Pod's identity the role Storage Blob Data Reader, or a Secret with accountKey, "
    "sasToken, or tenantId, clientId and clientSecret (ImageBuild: source.azureBlob.secretRef)."
)


def fetch_azure(source: AzureBlobSource, path: str, environment: Mapping[str, str]) -> None:
    """Download the blob into the new file ``path``.

    Raises:
        SourceError: reasons ``FileNotFound``, ``SourceAuthFailed``, ``SourceUnreachable``.
    """
    what = source.url.partition("?")[0]  # what follows may be a signature
    try:
        from azure.core.exceptions import (  # noqa: PLC0415
            AzureError,
            ClientAuthenticationError,
            HttpResponseError,
            ResourceNotFoundError,
        )
        from azure.storage.blob import BlobClient  # noqa: PLC0415
    except ImportError:
        raise missing_sdk(what, "azure") from None
    try:
        credential = _credential(source, environment)
        with BlobClient.from_blob_url(source.url, credential=credential) as client, open(path, "wb") as file:
            client.download_blob().readinto(file)
    except ResourceNotFoundError as error:
        raise not_there(what) from error
    except ClientAuthenticationError as error:
        raise refused(what, str(error), _HINT) from error
    except HttpResponseError as error:
        if error.status_code in (401, 403):
            raise refused(what, str(error), _HINT) from error
        raise unreachable(what, str(error)) from error
    except (AzureError, ValueError) as error:
        raise unreachable(what, str(error)) from error


def _credential(source: AzureBlobSource, environment: Mapping[str, str]) -> Any:
    """A key, a signature or an identity; None where the address carries a signature of its own."""
    from azure.identity import ClientSecretCredential, DefaultAzureCredential  # noqa: PLC0415

    secret = read_secret(source.credentials_dir)
    key = secret.get("accountKey") or ("" if secret else environment.get("AZURE_STORAGE_ACCESS_KEY", ""))
    if key:
        return {"account_name": _account(source.url), "account_key": key}
    if "sasToken" in secret:
        return secret["sasToken"].removeprefix("?")
    if {"tenantId", "clientId", "clientSecret"} <= secret.keys():
        return ClientSecretCredential(secret["tenantId"], secret["clientId"], secret["clientSecret"])
    if "sig=" in urlsplit(source.url).query:
        return None
    return DefaultAzureCredential()


def _account(url: str) -> str:
    """``https://ACCOUNT.blob.…``; an address without such a name has it first in its path, as emulators do."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return host.partition(".")[0] if ".blob." in host else parts.path.strip("/").partition("/")[0]
