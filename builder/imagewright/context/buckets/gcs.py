"""A context in a bucket of Google Cloud Storage.

Talks to the network through google-cloud-storage (extra ``gcs``) and writes one file. Called by ``context.fetch``.
"""

from __future__ import annotations

import os
from typing import Any

from imagewright.context.buckets.credentials import missing_sdk, not_there, read_secret, refused, unreachable
from imagewright.contract import GcsSource

_HINT = (
    "Give the Pod's service account the role Storage Object Viewer (workload identity), GOOGLE_APPLICATION_CREDENTIALS, or a "
    "Secret with the key serviceaccount (ImageBuild: source.gcs.secretRef)."
)
_KEY = "serviceaccount"


def fetch_gcs(source: GcsSource, path: str) -> None:
    """Download the object into the new file ``path``; its checksum is verified by the SDK. STORAGE_EMULATOR_HOST is read.

    Raises:
        SourceError: reasons ``FileNotFound``, ``SourceAuthFailed``, ``SourceUnreachable``.
    """
    what = f"gs://{source.bucket}/{source.object}"
    try:
        from google.api_core.exceptions import Forbidden, GoogleAPIError, NotFound, Unauthorized  # noqa: PLC0415
        from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415
        from google.cloud import storage  # noqa: PLC0415
        from google.resumable_media import DataCorruption  # noqa: PLC0415
        from requests import RequestException  # noqa: PLC0415
    except ImportError:
        raise missing_sdk(what, "gcs") from None
    try:
        client = _client(storage, source)
        client.bucket(source.bucket).blob(source.object).download_to_filename(path)
    except NotFound as error:
        raise not_there(what) from error
    except (Forbidden, Unauthorized, GoogleAuthError) as error:
        raise refused(what, str(error), _HINT) from error
    except (GoogleAPIError, DataCorruption, RequestException, ValueError) as error:
        raise unreachable(what, str(error)) from error


def _client(storage: Any, source: GcsSource) -> Any:
    from google.auth.exceptions import DefaultCredentialsError  # noqa: PLC0415

    if _KEY in read_secret(source.credentials_dir):
        return storage.Client.from_service_account_json(os.path.join(source.credentials_dir, _KEY))
    try:
        return storage.Client()
    except (DefaultCredentialsError, OSError):
        return storage.Client.create_anonymous_client()  # public buckets ask for no login
