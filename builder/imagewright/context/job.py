"""What a source is fetched with, and what comes of it.

Makes one directory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Protocol

from imagewright.contract.sources import OciSource
from imagewright.http.retry import RetryPolicy
from imagewright.records import dataclass


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int = -1, /) -> bytes: ...


UnpackArchive = Callable[[Readable, str], None]  # (stream, directory): tar, plain or compressed
PullArtifact = Callable[[OciSource, str], None]  # (source, path): writes the artifact's layer into the new file


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a source is fetched.

    ``work_dir`` exists and is empty. ``environment`` holds logins, proxies and trusted certificates.
    ``retry`` says how often, and after how long, a server is asked again.
    """

    work_dir: str
    environment: Mapping[str, str]
    log: Callable[[str], None]
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchJob(Machine):
    """A machine with the engine's parts that some kinds need: ``unpack`` for archives, ``pull`` for a registry's."""

    unpack: UnpackArchive
    pull: PullArtifact | None = None

    def make_directory(self) -> str:
        """A new directory for the context, of mode 0755 whatever the umask is."""
        path = os.path.join(self.work_dir, "context")
        os.mkdir(path)
        os.chmod(path, 0o755)  # noqa: S103
        return path


@dataclass(frozen=True, slots=True)
class FetchedContext:
    """``path`` is the source's root directory.

    ``commit`` is set for git, ``digest`` for an archive, ``dockerfile`` for inline text. ``time_s`` is the source's own
    time in seconds since 1970, the commit's; None where it has none.
    """

    path: str
    commit: str = ""
    digest: str = ""
    dockerfile: bytes | None = None
    time_s: int | None = None
