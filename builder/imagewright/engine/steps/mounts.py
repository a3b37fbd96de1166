"""What a RUN mounts: names of the plan become folders and files of this machine for the sandbox.

Reads stages, contexts, images and secrets. Called by ``engine.run``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from imagewright.engine.steps.session import Session
from imagewright.errors import FileSystemError, ImagewrightError, Reason
from imagewright.fs.rootfs.root import Rootfs
from imagewright.plan.origins import ContextOrigin, Origin
from imagewright.plan.steps import BindMount, CacheMount, Mount, RunStep, SecretMount, SshMount, TmpfsMount
from imagewright.sandbox.model import DirectoryMount, FileMount, SandboxMount, SocketMount
from imagewright.sandbox.model import TmpfsMount as SandboxTmpfs

_AGENT_VARIABLE = "SSH_AUTH_SOCK"


@dataclass(slots=True)
class Prepared:
    """What the sandbox mounts, in order, and the variables that come with it."""

    mounts: list[SandboxMount] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)


@contextmanager
def prepared(session: Session, step: RunStep) -> Iterator[Prepared]:
    """Everything that a RUN mounts, until its command has ended.

    Raises:
        ImagewrightError: a source that isn't there, a secret that can't be a variable.
    """
    result = Prepared()
    wanted = [(mount, _seed(session, mount)) for mount in step.mounts if isinstance(mount, CacheMount)]
    with ExitStack() as stack:
        caches = session.caches.saying(step.text.substitutions.as_written)
        held = _Held(stack, iter(stack.enter_context(caches.hold(wanted))))
        for mount in step.mounts:
            _prepare(session, mount, result, held)
        if _AGENT_VARIABLE in dict(step.env):
            result.env.pop(_AGENT_VARIABLE, None)  # the Dockerfile's own ENV wins
        if step.script is not None:
            content = step.script.content.encode("utf-8", "surrogateescape")
            result.mounts.append(FileMount(step.script.path, content, 0o755))
        # Those above first, as in BuildKit, whatever was written first.
        result.mounts.sort(key=lambda mount: mount.target)
        yield result


def covered(rootfs: Rootfs, step: RunStep) -> tuple[bytes, ...]:
    """Where the mounts of a RUN lie over the image, root-relative, links followed. What is there is none of its changes.

    Only where the sandbox has to move it aside and back do times tell that it was there.
    """
    targets = [mount.target for mount in step.mounts] + ([step.script.path] if step.script is not None else [])
    return tuple(rootfs.resolve(os.fsencode(target).strip(b"/")) for target in targets if target.strip("/"))


@dataclass(frozen=True, slots=True)
class _Held:
    """What lasts as long as the command: ``caches`` are the folders of the RUN's cache mounts, in order."""

    stack: ExitStack
    caches: Iterator[str]


def _prepare(session: Session, mount: Mount, result: Prepared, held: _Held) -> None:
    match mount:
        case TmpfsMount(target=target, size_bytes=size):
            result.mounts.append(SandboxTmpfs(target, size))
        case BindMount():
            source = _source(session, mount.origin, mount.source)
            result.mounts.append(DirectoryMount(mount.target, source, discard=mount.writable))
        case SecretMount():
            _secret(session, mount, result)
        case CacheMount():
            result.mounts.append(DirectoryMount(mount.target, next(held.caches), writable=mount.writable))
        case SshMount():
            _ssh(mount, held.stack.enter_context(session.agents.socket(mount)), result)


def _seed(session: Session, mount: CacheMount) -> Rootfs | None:
    return None if mount.origin is None else Rootfs(_source(session, mount.origin, mount.source))


def _ssh(mount: SshMount, socket: str | None, result: Prepared) -> None:
    """As in BuildKit, the variable names the first socket of a RUN, whether there is an agent behind it or not."""
    result.env.setdefault(_AGENT_VARIABLE, mount.target)
    if socket is not None:
        result.mounts.append(SocketMount(mount.target, socket, mount.mode, mount.uid, mount.gid))


def _secret(session: Session, mount: SecretMount, result: Prepared) -> None:
    value = session.secrets.get(mount.id)
    if value is None:
        return  # ``engine.secrets`` has refused the build where it is required
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
        root = session.views.of(origin.context, root, ignore if ignore and ignore.patterns else None, path)
    try:
        return os.path.join(root.path, os.fsdecode(root.realpath(os.fsencode(path.lstrip("/")))))
    except OSError as error:
        where = "the build context" if origin == ContextOrigin() else "what from= names"
        raise FileSystemError(
            f"{path} is not in {where}, so it can't be mounted: {error.strerror}",
            reason=Reason.FILE_NOT_FOUND,
            hint="Look at source=; it is relative to the root of the context, stage or image.",
        ) from error
