"""Contexts in Google Cloud Storage.

Talks to the network through google-cloud-storage (extra ``gcs``) and writes one file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from imagewright.context.buckets.failures import missing_sdk, not_there, refused, split_address, unreachable
from imagewright.context.job import FetchJob
from imagewright.context.mountedsecret import read_login
from imagewright.contract.sources import GcsSource

_HINT = (
    "Give the Pod's service account the role Storage Object Viewer (workload identity), set GOOGLE_APPLICATION_CREDENTIALS, "
    "or name a Secret with serviceaccount (ImageBuild: spec.source.gcs.secretRef)."
)
_KEY = "serviceaccount"
_KEY_FILE = "GOOGLE_APPLICATION_CREDENTIALS"


def parse(text: str, rest: str, environment: Mapping[str, str]) -> GcsSource:
    """``gs://BUCKET/OBJECT``.

    Raises:
        UsageError: no bucket.
    """
    bucket, name = split_address(rest)
    return GcsSource(bucket=bucket, object=name)


def download(source: GcsSource, path: str, job: FetchJob) -> str:
    """Download the object to the new file ``path``; the SDK verifies its checksum, and reads STORAGE_EMULATOR_HOST.

    Raises:
        SourceError: reasons ``FileNotFound``, ``SourceAuthFailed``, ``SourceUnreachable``.
    """
    what = f"gs://{source.bucket}/{source.object}"
    job.log(f"fetching {what}")
    try:
        from google.api_core.exceptions import Forbidden, GoogleAPIError, NotFound, Unauthorized  # noqa: PLC0415
        from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415
        from google.cloud import storage  # noqa: PLC0415
        from google.resumable_media import DataCorruption  # noqa: PLC0415
        from requests import RequestException  # noqa: PLC0415
    except ImportError:
        raise missing_sdk(what, "gcs") from None
    try:
        client = _client(what, storage, source, job.environment)
        client.bucket(source.bucket).blob(source.object).download_to_filename(path)
    except NotFound as error:
        raise not_there(what) from error
    except (Forbidden, Unauthorized, GoogleAuthError) as error:
        raise refused(what, str(error), _HINT) from error
    except (GoogleAPIError, DataCorruption, RequestException, ValueError) as error:
        raise unreachable(what, str(error)) from error
    return what


def _client(what: str, storage: Any, source: GcsSource, environment: Mapping[str, str]) -> Any:
    """With the Secret's key, else the SDK's chain, else anonymous: public buckets need no login."""
    from google.auth.exceptions import DefaultCredentialsError  # noqa: PLC0415

    named = environment.get(_KEY_FILE, "")
    origin = f"the key {_KEY} of the Secret" if source.credentials_dir else f"{_KEY_FILE}={named}"
    try:
        if source.credentials_dir:
            return storage.Client.from_service_account_info(json.loads(read_login(source)[_KEY]), project=None)
        return storage.Client(project=None)  # objects don't need a project, and not every identity has one
    except DefaultCredentialsError as error:
        if not named and not source.credentials_dir:
            return storage.Client.create_anonymous_client()
        raise refused(what, f"cannot use {origin}: {error}", _HINT) from error
    except (ValueError, TypeError, AttributeError, KeyError, OSError) as error:  # other JSON
        raise refused(what, f"cannot use {origin}: not a service account's key", _HINT) from error
