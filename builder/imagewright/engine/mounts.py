"""What a RUN mounts: names of the plan become folders and files of this machine for the sandbox.

Reads stages, contexts, images and secrets. Called by ``engine.run``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from imagewright.engine.session import Session
from imagewright.plan import BindMount, CacheMount, Mount, RunStep, SecretMount, SshMount, TmpfsMount
from imagewright.sandbox import FileMount, SandboxMount
from imagewright.sandbox import TmpfsMount as SandboxTmpfs


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the sandbox mounts, in order, and the variables that come with it."""

    mounts: tuple[SandboxMount, ...]
    env: dict[str, str]


@contextmanager
def prepared(session: Session, step: RunStep) -> Iterator[Prepared]:
    """Everything that a RUN mounts, until its command has ended.

    Raises:
        ImagewrightError: a source that isn't there, a secret that is required and wasn't given.
    """
    env: dict[str, str] = {}
    with ExitStack() as stack:
        mounts = [each for mount in step.mounts for each in _mount(session, step, mount, (stack, env))]
        if step.script is not None:
            mounts.append(FileMount(step.script.path, step.script.content.encode("utf-8", "surrogateescape"), 0o755))
        yield Prepared(tuple(mounts), env)


def _mount(
    session: Session, step: RunStep, mount: Mount, held: tuple[ExitStack, dict[str, str]]
) -> Iterator[SandboxMount]:
    match mount:
        case TmpfsMount(target=target, size_bytes=size):
            yield SandboxTmpfs(target, size)
        case BindMount() | CacheMount() | SecretMount() | SshMount():
            raise NotImplementedError
