"""Prepares the mounts of a RUN: maps those of the plan to directories, files and sockets for the sandbox.

Reads contexts, stages, images and secrets.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import field

from imagewright.engine.source.sshagents import SshAgents
from imagewright.engine.steps.bindsources import BindSources
from imagewright.engine.steps.cachemounts import CacheMounts, CacheRequest
from imagewright.engine.steps.origins import Origins
from imagewright.errors import FileSystemError, ImagewrightError, Reason
from imagewright.fs.rootfs.root import Rootfs
from imagewright.plan.origins import ContextOrigin, Origin
from imagewright.plan.steps import BindMount, CacheMount, Mount, RunStep, SecretMount, SshMount, TmpfsMount
from imagewright.records import dataclass
from imagewright.sandbox.model import DirectoryMount, FileMount, SandboxMount, SocketMount
from imagewright.sandbox.model import TmpfsMount as SandboxTmpfs

_AGENT_VARIABLE = "SSH_AUTH_SOCK"


@dataclass(slots=True)
class RunMounts:
    """The mounts of the sandbox, in order, and the variables that they set."""

    mounts: list[SandboxMount] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Resources:
    """Resources that last as long as the command. ``caches`` are the directories of its cache mounts, in order."""

    stack: ExitStack
    caches: Iterator[str]


@dataclass(frozen=True, slots=True)
class MountSources:
    """The sources of the mounts of a build. ``secrets`` are by id."""

    origins: Origins
    bind_sources: BindSources
    caches: CacheMounts
    secrets: Mapping[str, bytes] = field(repr=False)
    agents: SshAgents

    @contextmanager
    def prepared(self, step: RunStep) -> Iterator[RunMounts]:
        """Everything that a RUN mounts, until its command has ended.

        Raises:
            ImagewrightError: a missing source, a secret that cannot be a variable.
        """
        result = RunMounts()
        requests = [CacheRequest(mount, self._seed(mount)) for mount in step.mounts if isinstance(mount, CacheMount)]
        with ExitStack() as stack:
            caches = self.caches.rewording(step.text.substitutions.as_written)
            resources = _Resources(stack, iter(stack.enter_context(caches.hold(requests))))
            for mount in step.mounts:
                self._prepare(mount, result, resources)
            if _AGENT_VARIABLE in dict(step.env):
                result.env.pop(_AGENT_VARIABLE, None)  # the Dockerfile's own ENV wins
            if step.script is not None:
                content = step.script.content.encode("utf-8", "surrogateescape")
                result.mounts.append(FileMount(step.script.path, content, 0o755))
            # Parents first, as in BuildKit, in whatever order they were written.
            result.mounts.sort(key=lambda mount: mount.target)
            yield result

    def _prepare(self, mount: Mount, result: RunMounts, resources: _Resources) -> None:
        match mount:
            case TmpfsMount(target=target, size_bytes=size):
                result.mounts.append(SandboxTmpfs(target, size))
            case BindMount():
                source = self._source(mount.origin, mount.source)
                result.mounts.append(DirectoryMount(mount.target, source, discard=mount.writable))
            case SecretMount():
                self._add_secret(mount, result)
            case CacheMount():
                result.mounts.append(DirectoryMount(mount.target, next(resources.caches), writable=mount.writable))
            case SshMount():
                _add_agent(mount, resources.stack.enter_context(self.agents.socket(mount)), result)

    def _seed(self, mount: CacheMount) -> Rootfs | None:
        return None if mount.origin is None else Rootfs(self._source(mount.origin, mount.source))

    def _add_secret(self, mount: SecretMount, result: RunMounts) -> None:
        value = self.secrets.get(mount.id)
        if value is None:
            return  # where it is required, the build was refused before it began
        if mount.target:
            result.mounts.append(FileMount(mount.target, value, mount.mode, mount.uid, mount.gid))
        if mount.env:
            if b"\0" in value:
                raise ImagewrightError(
                    f'cannot set variable "{mount.env}" to secret "{mount.id}": it contains a zero byte',
                    reason=Reason.USAGE_INVALID,
                    hint="Mount the secret as a file, without env.",
                )
            result.env[mount.env] = value.decode("utf-8", "surrogateescape")

    def _source(self, origin: Origin, path: str) -> str:
        """Where the sandbox finds ``path`` of an origin. Symbolic links are resolved inside the origin.

        Raises:
            FileSystemError: reason ``FileNotFound``.
        """
        files = self.origins.files(origin, path)
        root, ignore = files.rootfs, files.ignore
        if isinstance(origin, ContextOrigin):
            root = self.bind_sources.of(origin.context, root, ignore if ignore and ignore.patterns else None, path)
        try:
            return os.path.join(root.path, os.fsdecode(root.realpath(os.fsencode(path.lstrip("/")))))
        except OSError as error:
            where = "the build context" if origin == ContextOrigin() else "the source that from= names"
            raise FileSystemError(
                f'cannot mount "{path}" of {where}: {error.strerror}',
                reason=Reason.FILE_NOT_FOUND,
                hint="Write source= relative to the root of the context, stage or image.",
            ) from error


def mount_points(rootfs: Rootfs, step: RunStep) -> tuple[bytes, ...]:
    """Paths that the mounts of a RUN cover, root-relative, links followed: the image's entries there are unchanged.

    A sandbox that moves them aside and back changes their times.
    """
    targets = [mount.target for mount in step.mounts] + ([step.script.path] if step.script is not None else [])
    return tuple(rootfs.resolve(os.fsencode(target).strip(b"/")) for target in targets if target.strip("/"))


def _add_agent(mount: SshMount, socket: str | None, result: RunMounts) -> None:
    """As in BuildKit, the variable names the first socket of a RUN, whether an agent is behind it or not."""
    result.env.setdefault(_AGENT_VARIABLE, mount.target)
    if socket is not None:
        result.mounts.append(SocketMount(mount.target, socket, mount.mode, mount.uid, mount.gid))
