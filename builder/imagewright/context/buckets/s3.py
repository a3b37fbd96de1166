"""Contexts in S3 buckets, of Amazon or any compatible server.

Talks to the network through boto3 (extra ``s3``) and writes one file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagewright.context.buckets.failures import missing_sdk, not_there, refused, split_address, unreachable
from imagewright.context.job import FetchJob
from imagewright.context.mountedsecret import read_login
from imagewright.contract.sources import S3Source
from imagewright.errors import SourceError
from imagewright.plan.gotext import parse_bool

_DEFAULT_REGION = "us-east-1"  # expected by servers without regions
_HINT = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, give the service account a role, or name a Secret with accesskey and "
    "secretkey (ImageBuild: spec.source.s3.secretRef)."
)
_KEYS = {
    "aws_access_key_id": ("accesskey", "AWS_ACCESS_KEY_ID"),
    "aws_secret_access_key": ("secretkey", "AWS_SECRET_ACCESS_KEY"),
    "aws_session_token": ("sessiontoken", "AWS_SESSION_TOKEN"),
}


def parse(text: str, rest: str, environment: Mapping[str, str]) -> S3Source:
    """``s3://BUCKET/KEY``, at the server that kaniko's variables name.

    Raises:
        UsageError: no bucket.
    """
    bucket, key = split_address(rest)
    return S3Source(
        bucket=bucket,
        key=key,
        endpoint=environment.get("S3_ENDPOINT", ""),
        region=environment.get("AWS_REGION", ""),
        path_style=parse_bool(environment.get("S3_FORCE_PATH_STYLE", "")) is True,
    )


def download(source: S3Source, path: str, job: FetchJob) -> str:
    """Download the object to the new file ``path``, several ranges at a time, each retried after a transient failure.

    Without credentials the request is anonymous: there are public buckets.

    Raises:
        SourceError: reasons ``FileNotFound``, ``SourceAuthFailed``, ``SourceUnreachable``.
    """
    what = f"s3://{source.bucket}/{source.key}"
    job.log(f"fetching {what}")
    try:
        import boto3  # noqa: PLC0415 -- an extra
        from boto3.exceptions import Boto3Error  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
    except ImportError:
        raise missing_sdk(what, "s3") from None
    login = _login(what, source)
    anonymous = False
    try:
        session = boto3.session.Session(**login)
        anonymous = session.get_credentials() is None
        region = source.region or job.environment.get("AWS_REGION") or session.region_name or _DEFAULT_REGION
        client = session.client(
            "s3", endpoint_url=source.endpoint or None, region_name=region, config=_config(source, anonymous=anonymous)
        )
        client.download_file(source.bucket, source.key, path)
    except ClientError as error:
        raise _refusal(what, error, login, anonymous=anonymous) from error
    except RecursionError as error:  # boto3 follows such a server forever
        raise unreachable(what, "the server redirects to another region without end") from error
    except (BotoCoreError, Boto3Error, ValueError) as error:
        raise unreachable(what, str(error), login.values()) from error
    return what


def _login(what: str, source: S3Source) -> dict[str, str]:
    """The Secret's login as arguments of boto3's session; empty to use boto3's own chain."""
    secret = read_login(source)
    found = {
        argument: next((secret[name] for name in names if secret.get(name)), "") for argument, names in _KEYS.items()
    }
    login = {argument: value for argument, value in found.items() if value}
    if source.credentials_dir and not {"aws_access_key_id", "aws_secret_access_key"} <= login.keys():
        raise refused(
            what, f"the Secret mounted at {source.credentials_dir} lacks accesskey or secretkey, or one is empty", _HINT
        )
    return login


def _config(source: S3Source, *, anonymous: bool) -> Any:
    from botocore import UNSIGNED  # noqa: PLC0415 -- an extra
    from botocore.config import Config  # noqa: PLC0415

    return Config(
        s3={"addressing_style": "path"} if source.path_style else {},
        retries={"mode": "standard", "max_attempts": 5},
        connect_timeout=10,
        read_timeout=60,
        signature_version=UNSIGNED if anonymous else None,
    )


def _refusal(what: str, error: Any, login: Mapping[str, str], *, anonymous: bool) -> SourceError:
    """The error for boto3's ClientError: an answer of the server."""
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(error.response.get("Error", {}).get("Code", ""))
    said = str(error)
    if status == 404 or code in ("NoSuchKey", "NoSuchBucket"):
        return not_there(what)
    if status in (400, 401, 403):
        if anonymous:
            said = f"no credentials found, and the object is not public ({said})"
        return refused(what, said, _HINT, login.values())
    return unreachable(what, said, login.values())
