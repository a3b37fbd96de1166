"""Sources on this machine: directories, mounted ConfigMaps, inline Dockerfiles, archives.

Reads files or standard input; writes below the job's work directory.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Mapping

from imagewright.context.archives import unpack_stream
from imagewright.context.job import FetchedContext, FetchJob
from imagewright.contract.sources import ConfigMapSource, DirectorySource, InlineSource, TarSource
from imagewright.errors import Reason, SourceError
from imagewright.streams import own_descriptor

_STDIN = "-"


def parse_directory(text: str, rest: str, environment: Mapping[str, str]) -> DirectorySource:
    """``dir://PATH``."""
    return DirectorySource(path=rest)


def fetch_directory(source: DirectorySource, job: FetchJob) -> FetchedContext:
    """The directory itself: nothing is copied."""
    if not os.path.isdir(source.path):
        raise SourceError(
            f"cannot read the context {source.path}: "
            + ("not a directory" if os.path.exists(source.path) else "no such directory"),
            reason=Reason.FILE_NOT_FOUND,
            hint="Name a directory, or another source such as tar://FILE or https://HOST/PATH.git.",
        )
    return FetchedContext(os.path.abspath(source.path))


def parse_tar(text: str, rest: str, environment: Mapping[str, str]) -> TarSource:
    """``tar://FILE``; ``tar://stdin`` and the paths that lead there are standard input."""
    return TarSource(path=_STDIN if rest == "stdin" or own_descriptor(rest) == 0 else rest)


def fetch_tar(source: TarSource, job: FetchJob) -> FetchedContext:
    """Unpack a file or what standard input sends."""
    path = source.path
    name = "on standard input" if path == _STDIN else path
    try:
        stream = sys.stdin.buffer if path == _STDIN else open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise SourceError(
            f"cannot read the context archive {path}: {error.strerror}",
            reason=Reason.FILE_NOT_FOUND,
            hint="Name a tar archive with --context=tar://FILE, or read standard input with tar://stdin.",
        ) from error
    with stream:
        hint = "Give the container a standard input: stdin: true, kubectl run --stdin or docker run --interactive."
        return unpack_stream(stream, name, job, hint if path == _STDIN else "Create the archive again.")


def fetch_inline(source: InlineSource, job: FetchJob) -> FetchedContext:
    """The Dockerfile, with an empty context."""
    return FetchedContext(job.make_directory(), dockerfile=source.dockerfile.encode())


def fetch_config_map(source: ConfigMapSource, job: FetchJob) -> FetchedContext:
    """Copy the keys to plain files: the kubelet mounts links through ``..data``, which COPY would copy as links."""
    target = job.make_directory()
    try:
        _copy_keys(source.path, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # by the work directory, which the keys are copied to
        raise SourceError(
            f"cannot read the ConfigMap mounted at {source.path}: {error.strerror}",
            reason=Reason.FILE_NOT_FOUND if isinstance(error, FileNotFoundError) else None,
            hint="Let the user that the build runs as read it."
            if isinstance(error, PermissionError)
            else "Build again; it may have been deleted or changed while the build started.",
        ) from error
    return FetchedContext(target)


def _copy_keys(path: str, target: str) -> None:
    waiting = [(path, target)]
    while waiting:
        mounted, directory = waiting.pop()
        for name in sorted(os.listdir(mounted)):
            if name.startswith(".."):  # the kubelet's own: keys can't start with it
                continue
            key, copy = os.path.join(mounted, name), os.path.join(directory, name)
            if os.path.isdir(key):  # a volume's items may have paths with directories
                os.mkdir(copy)
                os.chmod(copy, 0o755)  # noqa: S103 - whatever the umask is
                waiting.append((key, copy))
            else:
                shutil.copyfile(key, copy)
                os.chmod(copy, 0o644)
