"""A source becomes a folder.

Reads files, standard input or a git repository; writes below the work folder it is given. Called by the engine.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from imagewright.context import git
from imagewright.context.archives import ArchiveSource, PullArtifact, download_archive
from imagewright.context.gitprogram import Machine
from imagewright.contract.sources import (
    AzureBlobSource,
    ConfigMapSource,
    DirectorySource,
    GcsSource,
    GitSource,
    HttpArchiveSource,
    InlineSource,
    OciSource,
    S3Source,
    Source,
    TarSource,
)
from imagewright.errors import FileSystemError, Reason, SourceError

UnpackArchive = Callable[["HashedStream", str], None]  # (stream, folder): tar, plain or compressed
_STDIN = "-"
_SNIFFED_BYTES = 1024


@dataclass(frozen=True, slots=True)
class FetchedContext:
    """``path`` is the source's root folder. ``commit`` is of git, ``digest`` of an archive, ``dockerfile`` inline text.

    ``time_s`` is the source's own time in seconds since 1970: the commit's; None where it has none.
    """

    path: str
    commit: str = ""
    digest: str = ""
    dockerfile: bytes | None = None
    time_s: int | None = None


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches sources below ``work_dir``, which exists and is empty.

    ``log`` tells people what happens; ``unpack`` unpacks archives and ``pull`` brings one out of a registry, which layers
    beside this one can do; ``environment``
    holds kaniko's GIT_USERNAME and its kin, proxies and trusted certificates; ``retry_delays_s`` are the seconds before
    each further attempt at a server that isn't reached.
    """

    work_dir: str
    log: Callable[[str], None]
    unpack: UnpackArchive
    environment: Mapping[str, str] = field(default_factory=dict)
    retry_delays_s: tuple[float, ...] = (1.0, 4.0)
    pull: PullArtifact | None = None

    @property
    def machine(self) -> Machine:
        """What fetching from elsewhere needs of this machine."""
        return Machine(self.work_dir, self.environment, self.log, self.retry_delays_s)

    def fetch(self, source: Source) -> FetchedContext:
        """Fetch a source.

        Raises:
            SourceError
        """
        match source:
            case DirectorySource(path=path):
                return self._directory(path)
            case ConfigMapSource(path=path):
                return self._config_map(path)
            case InlineSource(dockerfile=text):
                return FetchedContext(self._folder(), dockerfile=text.encode())
            case TarSource(path=path):
                return self._tar(path)
            case GitSource():
                return self._git(source)
            case HttpArchiveSource() | S3Source() | GcsSource() | AzureBlobSource() | OciSource():
                return self._archive(source)

    def _folder(self) -> str:
        path = os.path.join(self.work_dir, "context")
        os.mkdir(path)
        os.chmod(path, 0o755)  # noqa: S103 - whatever the umask is
        return path

    def _directory(self, path: str) -> FetchedContext:
        if not os.path.isdir(path):
            raise SourceError(
                f"the context {path} is {'no folder' if os.path.exists(path) else 'not there'}",
                reason=Reason.FILE_NOT_FOUND,
                hint="--context takes a folder, or tar://, git:// and https://….git.",
            )
        return FetchedContext(os.path.abspath(path))

    def _config_map(self, path: str) -> FetchedContext:
        """Keys as plain files: the kubelet mounts links through ``..data``, which COPY would copy as links."""
        target = self._folder()
        try:
            self._copy_keys(path, target)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise  # of the work folder, which the keys are copied into
            raise SourceError(
                f"the ConfigMap mounted at {path} can't be read: {error.strerror}",
                reason=Reason.FILE_NOT_FOUND if isinstance(error, FileNotFoundError) else None,
                hint="The user that the build runs as must be able to read it."
                if isinstance(error, PermissionError)
                else "Was it deleted or changed while the build began? Build again.",
            ) from error
        return FetchedContext(target)

    def _copy_keys(self, path: str, target: str) -> None:
        waiting = [(path, target)]
        while waiting:
            mounted, folder = waiting.pop()
            for name in sorted(os.listdir(mounted)):
                if name.startswith(".."):  # the kubelet's own; no key begins so
                    continue
                key, copy = os.path.join(mounted, name), os.path.join(folder, name)
                if os.path.isdir(key):  # a volume's items may have paths with folders
                    os.mkdir(copy)
                    os.chmod(copy, 0o755)  # noqa: S103 - whatever the umask is
                    waiting.append((key, copy))
                else:
                    shutil.copyfile(key, copy)
                    os.chmod(copy, 0o644)

    def _tar(self, path: str) -> FetchedContext:
        name = "on standard input" if path == _STDIN else path
        try:
            stream = sys.stdin.buffer if path == _STDIN else open(path, "rb")  # noqa: SIM115
        except OSError as error:
            raise SourceError(
                f"the context archive {path} can't be read: {error.strerror}",
                reason=Reason.FILE_NOT_FOUND,
                hint="--context=tar://FILE takes a tar archive, compressed or not; tar://stdin reads standard input.",
            ) from error
        with stream:
            hint = "A container reads standard input only with stdin: true (kubectl run --stdin, docker run --interactive)."
            return self._unpacked(stream, name, hint if path == _STDIN else "Pack it again.")

    def _archive(self, source: ArchiveSource) -> FetchedContext:
        """An archive that is elsewhere, by way of a file: a download that was cut begins anew, and is whole or nothing."""
        place = os.path.join(self.work_dir, "context.archive")
        name = download_archive(source, place, self.machine, self.pull)
        try:
            with open(place, "rb") as stream:
                _refuse_page(name, stream.read(_SNIFFED_BYTES))
                stream.seek(0)
                return self._unpacked(stream, name, "Pack and store it again.")
        finally:
            os.unlink(place)

    def _unpacked(self, stream: BinaryIO, name: str, empty_hint: str) -> FetchedContext:
        target = self._folder()
        hashed = HashedStream(stream)
        try:
            self.unpack(hashed, target)
            while hashed.read(1 << 20):
                pass
        except FileSystemError as error:
            damaged = error.reason is Reason.LAYER_INVALID
            raise SourceError(
                f"the context archive {name} can't be unpacked: {error.message}",
                reason=Reason.SOURCE_FETCH_FAILED if damaged else error.reason,
                hint=error.hint,
            ) from error
        if not hashed.size:
            raise SourceError(f"the context archive {name} is empty: not a single byte", hint=empty_hint)
        self.log(f"context archive sha256:{hashed.digest}")
        return FetchedContext(target, digest=f"sha256:{hashed.digest}")

    def _git(self, source: GitSource) -> FetchedContext:
        checkout = git.clone(source, self.machine)
        return FetchedContext(checkout.path, commit=checkout.commit, time_s=checkout.time_s)


def _refuse_page(name: str, beginning: bytes) -> None:
    """Who asks without a login, or for the wrong address, often gets a page for people, with status 200."""
    if beginning.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html")):
        raise SourceError(
            f"the context archive {name} is a web page, no archive",
            hint="Name the file itself, not the page that shows it. A server that wants a login may answer so too.",
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
