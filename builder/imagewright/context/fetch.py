"""A source becomes a folder.

Reads files, standard input or a git repository; writes below the work folder it is given. Called by the engine.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from imagewright.context import git
from imagewright.contract import (
    ConfigMapSource,
    DirectorySource,
    GitSource,
    InlineSource,
    Source,
    TarSource,
)
from imagewright.errors import Reason, SourceError

UnpackArchive = Callable[[BinaryIO, str], None]  # (stream, folder): tar, plain or compressed
_STDIN = "-"


@dataclass(frozen=True, slots=True)
class FetchedContext:
    """``path`` is the source's root folder. ``commit`` is of git, ``digest`` of an archive, ``dockerfile`` inline text."""

    path: str
    commit: str = ""
    digest: str = ""
    dockerfile: bytes | None = None


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches sources below ``work_dir``, which exists and is empty.

    ``log`` tells people what happens; ``unpack`` unpacks archives, which layers beside this one can do; ``environment``
    holds kaniko's GIT_USERNAME and its kin.
    """

    work_dir: str
    log: Callable[[str], None]
    unpack: UnpackArchive
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

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
            for name in sorted(os.listdir(path)):
                if not name.startswith(".."):
                    shutil.copyfile(os.path.join(path, name), os.path.join(target, name))
        except OSError as error:
            raise SourceError(f"the ConfigMap mounted at {path} can't be read: {error.strerror}") from error
        return FetchedContext(target)

    def _tar(self, path: str) -> FetchedContext:
        try:
            stream = sys.stdin.buffer if path == _STDIN else open(path, "rb")  # noqa: SIM115
        except OSError as error:
            raise SourceError(
                f"the context archive {path} can't be read: {error.strerror}",
                reason=Reason.FILE_NOT_FOUND,
                hint="--context=tar://FILE takes a tar archive, compressed or not; tar://stdin reads standard input.",
            ) from error
        target = self._folder()
        with stream:
            hashed = _Hashed(stream)
            self.unpack(hashed, target)  # type: ignore[arg-type]
            while hashed.read(1 << 20):
                pass
        self.log(f"context archive sha256:{hashed.digest}")
        return FetchedContext(target, digest=f"sha256:{hashed.digest}")

    def _git(self, source: GitSource) -> FetchedContext:
        checkout = git.clone(source, self.work_dir, self.log, self.environment)
        return FetchedContext(checkout.path, commit=checkout.commit)


class _Hashed:
    """Hashes an archive while it is read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hasher = hashlib.sha256()

    @property
    def digest(self) -> str:
        return self._hasher.hexdigest()

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._hasher.update(data)
        return data
