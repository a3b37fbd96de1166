"""A context in an S3 bucket, of Amazon or of any server that speaks its protocol.

Talks to the network through boto3 (extra ``s3``) and writes one file. Called by ``context.fetch``.
"""

from __future__ import annotations

from typing import Any

from imagewright.context.buckets.credentials import missing_sdk, not_there, read_secret, refused, unreachable
from imagewright.contract import S3Source

_DEFAULT_REGION = "us-east-1"  # what servers that have no regions expect
_HINT = (
    "Give credentials by the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), a role of the service account, or a "
    "Secret with accesskey and secretkey (ImageBuild: source.s3.secretRef)."
)
_KEYS = {
    "aws_access_key_id": ("accesskey", "AWS_ACCESS_KEY_ID"),
    "aws_secret_access_key": ("secretkey", "AWS_SECRET_ACCESS_KEY"),
    "aws_session_token": ("sessiontoken", "AWS_SESSION_TOKEN"),
}


def fetch_s3(source: S3Source, path: str) -> None:
    """Download the object into the new file ``path``; several ranges at a time, each again after a failure that may pass.

    Raises:
        SourceError: reasons ``FileNotFound``, ``SourceAuthFailed``, ``SourceUnreachable``.
    """
    what = f"s3://{source.bucket}/{source.key}"
    try:
        import boto3  # noqa: PLC0415 -- an extra
        from boto3.exceptions import Boto3Error  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError  # noqa: PLC0415
    except ImportError:
        raise missing_sdk(what, "s3") from None
    try:
        _client(boto3, source).download_file(source.bucket, source.key, path)
    except NoCredentialsError as error:
        raise refused(what, str(error), _HINT) from error
    except ClientError as error:
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        code = str(error.response.get("Error", {}).get("Code", ""))
        if status == 404 or code in ("NoSuchKey", "NoSuchBucket"):
            raise not_there(what) from error
        if status in (400, 401, 403):
            raise refused(what, str(error), _HINT) from error
        raise unreachable(what, str(error)) from error
    except (BotoCoreError, Boto3Error, ValueError) as error:
        raise unreachable(what, str(error)) from error


def _client(boto3: Any, source: S3Source) -> Any:
    from botocore.config import Config  # noqa: PLC0415 -- an extra

    secret = read_secret(source.credentials_dir)
    login = {
        argument: next((secret[name] for name in names if name in secret), None) for argument, names in _KEYS.items()
    }
    session = boto3.session.Session(**{name: value for name, value in login.items() if value})
    style = {"addressing_style": "path"} if source.path_style else {}
    return session.client(
        "s3",
        endpoint_url=source.endpoint or None,
        region_name=source.region or session.region_name or _DEFAULT_REGION,
        config=Config(s3=style, retries={"mode": "standard", "max_attempts": 5}, connect_timeout=10, read_timeout=60),
    )
