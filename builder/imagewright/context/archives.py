"""An archive that is elsewhere becomes a file: behind an address, in a bucket, in a registry.

Talks to the network and writes one file. Called by ``context.fetch``.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from imagewright.context.buckets.azure import fetch_azure
from imagewright.context.buckets.gcs import fetch_gcs
from imagewright.context.buckets.s3 import fetch_s3
from imagewright.context.download import HttpOptions, basic, download
from imagewright.context.gitaddress import without_login
from imagewright.context.gitprogram import Machine
from imagewright.context.mountedsecret import read_login
from imagewright.contract.sources import AzureBlobSource, GcsSource, HttpArchiveSource, OciSource, S3Source
from imagewright.errors import SourceError, UsageError

ArchiveSource = HttpArchiveSource | S3Source | GcsSource | AzureBlobSource | OciSource
PullArtifact = Callable[[OciSource, str], None]  # (source, path): writes the artifact's layer into the new file
_CA = "ca.crt"
_LOGIN_HINT = (
    "Write https://USER:PASSWORD@…, or give a Secret with username and password or bearerToken (ImageBuild: "
    "source.http.secretRef)."
)


def download_archive(source: ArchiveSource, path: str, machine: Machine, pull: PullArtifact | None) -> str:
    """Write the archive into the new file ``path``; what it is called in messages.

    Raises:
        SourceError: what ``context.download`` and ``context.buckets`` raise.
        RegistryError: what ``pull`` raises.
    """
    match source:
        case HttpArchiveSource():
            name = without_login(source.url).partition("?")[0]
            machine.log(f"fetching {name}")
            download(source.url, path, _checksum(source), _options(source, machine))
            return name
        case S3Source():
            machine.log(f"fetching s3://{source.bucket}/{source.key}")
            fetch_s3(source, path, machine.environment)
            return f"s3://{source.bucket}/{source.key}"
        case GcsSource():
            machine.log(f"fetching gs://{source.bucket}/{source.object}")
            fetch_gcs(source, path, machine.environment)
            return f"gs://{source.bucket}/{source.object}"
        case AzureBlobSource():
            name = source.url.partition("?")[0]
            machine.log(f"fetching {name}")
            fetch_azure(source, path, machine.environment)
            return name
        case OciSource():
            if pull is None:
                raise SourceError(f"{source.reference}: there is no registry to ask here", hint="Use another source.")
            machine.log(f"pulling the context {source.reference}")
            pull(source, path)
            return source.reference


def _checksum(source: HttpArchiveSource) -> str:
    digest = source.sha256.removeprefix("sha256:").lower()
    if digest and (len(digest) != 64 or not set(digest) <= set("0123456789abcdef")):
        raise UsageError(
            f"{source.sha256!r} is no SHA-256: not 64 hexadecimal digits", hint="sha256sum FILE prints it."
        )
    return f"sha256:{digest}" if digest else ""


def _options(source: HttpArchiveSource, machine: Machine) -> HttpOptions:
    secret = read_login(source.credentials_dir, ("username", "password", "bearerToken", _CA))
    login = ""
    if "bearerToken" in secret:
        login = f"Bearer {secret['bearerToken']}"
    elif "username" in secret or "password" in secret:
        login = basic(secret.get("username", ""), secret.get("password", ""))
    return HttpOptions(
        machine.log,
        lambda host: login,
        machine.retry_delays_s,
        ca_file=os.path.join(source.credentials_dir, _CA) if _CA in secret else "",
        verify=not source.insecure_skip_tls_verify,
        login_hint=_LOGIN_HINT,
        checksum_option="spec.source.http.sha256",
    )
