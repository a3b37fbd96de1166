"""What a RUN mounts: names of the plan become folders and files of this machine for the sandbox.

Reads stages, contexts, images and secrets. Called by ``engine.run``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from imagewright.engine.session import Session
from imagewright.errors import FileSystemError, ImagewrightError, Reason
from imagewright.plan import (
    BindMount,
    CacheMount,
    ContextOrigin,
    Mount,
    Origin,
    RunStep,
    SecretMount,
    SshMount,
    TmpfsMount,
)
from imagewright.sandbox import FileMount, FolderMount, SandboxMount
from imagewright.sandbox import TmpfsMount as SandboxTmpfs


@dataclass(slots=True)
class Prepared:
    """What the sandbox mounts, in order, and the variables that come with it."""

    mounts: list[SandboxMount] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)


@contextmanager
def prepared(session: Session, step: RunStep) -> Iterator[Prepared]:
    """Everything that a RUN mounts, until its command has ended.

    Raises:
        ImagewrightError: a source that isn't there, a secret that is required and wasn't given.
    """
    result = Prepared()
    for mount in step.mounts:
        _prepare(session, mount, result)
    if step.script is not None:
        content = step.script.content.encode("utf-8", "surrogateescape")
        result.mounts.append(FileMount(step.script.path, content, 0o755))
    yield result


def _prepare(session: Session, mount: Mount, result: Prepared) -> None:
    match mount:
        case TmpfsMount(target=target, size_bytes=size):
            result.mounts.append(SandboxTmpfs(target, size))
        case BindMount():
            source = _source(session, mount.origin, mount.source)
            result.mounts.append(FolderMount(mount.target, source, throw_away=mount.writable))
        case SecretMount():
            _secret(session, mount, result)
        case CacheMount() | SshMount():
            raise AssertionError("refused by plan.support")


def _secret(session: Session, mount: SecretMount, result: Prepared) -> None:
    value = session.secrets.get(mount.id)
    if value is None:
        if mount.required:
            raise ImagewrightError(
                f"the secret {mount.id} is required and was not given",
                reason=Reason.SECRET_NOT_FOUND,
                hint=f"Give it with --secret id={mount.id},src=FILE; in an ImageBuild: spec.secrets.",
            )
        return
    if mount.target:
        result.mounts.append(FileMount(mount.target, value, mount.mode, mount.uid, mount.gid))
    if mount.env:
        if b"\0" in value:
            raise ImagewrightError(
                f"the secret {mount.id} holds a zero byte, which no variable can",
                reason=Reason.USAGE_INVALID,
                hint="Mount it as a file: leave env out.",
            )
        result.env[mount.env] = value.decode("utf-8", "surrogateescape")


# --- folders and files


def _source(session: Session, origin: Origin, path: str) -> str:
    """Where the sandbox finds ``path`` of an origin: links are followed inside it, and none leads out.

    Raises:
        FileSystemError: reason ``FileNotFound``.
    """
    root, ignore = session.origin(origin)
    if isinstance(origin, ContextOrigin):
        root = session.views.of(origin.context, root, ignore if ignore and ignore.patterns else None)
    try:
        fd = root.open(os.fsencode(path.lstrip("/")), os.O_PATH)
    except OSError as error:
        where = "the build context" if origin == ContextOrigin() else "what from= names"
        raise FileSystemError(
            f"{path} is not in {where}, so it can't be mounted: {error.strerror}",
            reason=Reason.FILE_NOT_FOUND,
            hint="Look at source=; it is relative to the root of the context, stage or image.",
        ) from error
    try:
        return os.fsdecode(os.path.join(os.fsencode(root.path), root.path_of(fd)))
    finally:
        os.close(fd)
