"""Contexts that are archives, of web servers and registries: a download becomes a file, then a directory.

Talks to the network, writes below the job's work directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from typing import BinaryIO, TypeVar

from imagewright.context.download import HttpOptions, basic, download
from imagewright.context.job import FetchedContext, FetchJob
from imagewright.context.mountedsecret import read_login
from imagewright.contract.sources import HttpArchiveSource, OciSource
from imagewright.errors import FileSystemError, Reason, SourceError, UsageError
from imagewright.http.session import Tls
from imagewright.logins import shown_url
from imagewright.reference import Reference

_CA = "ca.crt"
_LOGIN_HINT = (
    "Write https://USER:PASSWORD@…, or name a Secret with username and password, or bearerToken "
    "(ImageBuild: spec.source.http.secretRef)."
)
_SNIFFED_BYTES = 1024

_Archive = TypeVar("_Archive")


def archived(download: Callable[[_Archive, str, FetchJob], str]) -> Callable[[_Archive, FetchJob], FetchedContext]:
    """The fetcher for a kind whose ``download(source, path, job)`` writes the archive to the new file ``path``.

    It returns what messages call the archive. Downloading to a file first, a transfer that breaks leaves nothing
    behind.
    """

    def fetch(source: _Archive, job: FetchJob) -> FetchedContext:
        path = os.path.join(job.work_dir, "context.archive")
        try:
            name = download(source, path, job)
            with open(path, "rb") as stream:
                _refuse_web_page(name, stream.read(_SNIFFED_BYTES))
                stream.seek(0)
                return unpack_stream(stream, name, job, "Create and upload the archive again.")
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    return fetch


def unpack_stream(stream: BinaryIO, name: str, job: FetchJob, empty_hint: str) -> FetchedContext:
    """Unpack an archive into the job's context directory; ``empty_hint`` tells what to do about one without a byte.

    Raises:
        SourceError: it is damaged, too large or empty.
    """
    target = job.make_directory()
    hashed = HashedStream(stream)
    try:
        job.unpack(hashed, target)
        while hashed.read(1 << 20):
            pass
    except FileSystemError as error:
        damaged = error.reason is Reason.LAYER_INVALID
        raise SourceError(
            f"cannot unpack the context archive {name}: {error.why}",
            reason=Reason.SOURCE_FETCH_FAILED if damaged else error.reason,
            hint=error.hint,
        ) from error
    if not hashed.size:
        raise SourceError(f"cannot unpack the context archive {name}: it is empty", hint=empty_hint)
    job.log(f"context archive sha256:{hashed.digest}")
    return FetchedContext(target, digest=f"sha256:{hashed.digest}")


def _refuse_web_page(name: str, beginning: bytes) -> None:
    """A server that wants a login often answers with a page for people and status 200."""
    if beginning.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html")):
        raise SourceError(
            f"cannot unpack the context archive {name}: it is a web page",
            hint="Name the file itself, not the page that links to it, and check whether the server wants a login.",
        )


class HashedStream:
    """Hashes and counts an archive's bytes while it is read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hasher = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return self._hasher.hexdigest()

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._hasher.update(data)
        self.size += len(data)
        return data


# --- web servers


def parse_http(text: str, rest: str, environment: Mapping[str, str]) -> HttpArchiveSource:
    """``https://HOST/PATH``."""
    return HttpArchiveSource(url=text)


def download_http(source: HttpArchiveSource, path: str, job: FetchJob) -> str:
    """Download from a web server.

    Raises:
        SourceError, UsageError: as ``context.download.download``; the checksum is malformed.
    """
    name = shown_url(source.url)
    checksum = _checksum(source)
    job.log(f"fetching {name}")
    download(source.url, path, checksum, _options(source, job))
    return name


def _checksum(source: HttpArchiveSource) -> str:
    digest = source.sha256.removeprefix("sha256:").lower()
    if digest and (len(digest) != 64 or not set(digest) <= set("0123456789abcdef")):
        raise UsageError(
            f'invalid SHA-256 "{source.sha256}": not 64 hexadecimal digits', hint="Copy what sha256sum FILE prints."
        )
    return f"sha256:{digest}" if digest else ""


def _options(source: HttpArchiveSource, job: FetchJob) -> HttpOptions:
    secret = read_login(source)
    login = ""
    if "bearerToken" in secret:
        login = f"Bearer {secret['bearerToken']}"
    elif "username" in secret or "password" in secret:
        login = basic(secret.get("username", ""), secret.get("password", ""))
    return HttpOptions(
        job.log,
        lambda host: login,
        job.retry,
        tls=Tls(
            verify=not source.insecure_skip_tls_verify,
            ca_file=os.path.join(source.credentials_dir, _CA) if _CA in secret else "",
        ),
        login_hint=_LOGIN_HINT,
        checksum_option="spec.source.http.sha256",
    )


# --- registries


def parse_oci(text: str, rest: str, environment: Mapping[str, str]) -> OciSource:
    """``oci://REFERENCE``.

    Raises:
        ImagewrightError: reason ``ReferenceInvalid``.
    """
    return OciSource(image=str(Reference.parse(rest)))


def download_oci(source: OciSource, path: str, job: FetchJob) -> str:
    """Pull an artifact's only layer.

    Raises:
        RegistryError, SourceError: as ``job.pull``.
    """
    if job.pull is None:
        raise SourceError(f"cannot pull the context {source.image}: no registry client", hint="Use another source.")
    job.log(f"pulling the context {source.image}")
    job.pull(source, path)
    return source.image
